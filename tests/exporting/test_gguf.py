"""GGUF files of runs, loaded by llama.cpp: the same tokens, logits and greedy text."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import neuron_opsd as no
from benchmarks.llama_cpp import LlamaCpp
from loaded import loaded, logits_of, model_config, plain_logits, plain_network
from neuron_opsd.errors import ConfigError, ModelError
from neuron_opsd.models.gguf.convert import convert_gguf
from neuron_opsd.models.gguf.tokenizer_keys import TEXTS
from neuron_opsd.models.gguf.writing import write_adapter, write_model
from neuron_opsd.models.load import load_tokenizer
from neuron_opsd.models.weights.merging import MergedWeights, merged_weights
from neuron_opsd.progress import Silent
from shifted_adapters import shifted_adapter
from tiny import tiny_model
from tiny_gguf import TinyGGUF
from tiny_runs import FinishedRun, tiny_config, tiny_request, tiny_run

pytest.importorskip(
    "xllamacpp", reason="xllamacpp is missing; requirements/dev.txt names it"
)

IDS = (5, 80, 300, 41, 7, 122, 260, 9, 33)

ROUNDING = 5e-5
"""Nats by which log-probabilities in float32 may differ; a merge that is left out
changes them by more than a tenth."""


def based_on(gguf: TinyGGUF, folder: Path) -> Path:
    """Return a base in transformers' form, with a tokenizer that llama.cpp knows."""
    made = gguf.write(folder / "made.gguf")
    (folder / "base").mkdir()
    convert_gguf(made, folder / "base")
    return folder / "base"


def merged(base: Path, adapter: Path, **model: Any) -> MergedWeights:
    settings = model_config(base, **model)
    return merged_weights(settings, settings.compute, adapter)


def written(base: Path, adapter: Path, path: Path) -> Path:
    tokens = load_tokenizer(model_config(base)).tokens
    write_model(merged(base, adapter), tokens, path, "tiny", lambda _: None)
    return path


def log_probs(base: Path, adapter: Path | None) -> Any:
    found = logits_of(loaded(base, adapter), IDS)[-1]
    return found.double().log_softmax(-1).numpy()


YARN = {
    "rope.scaling.type": "yarn",
    "rope.scaling.factor": 4.0,
    "rope.scaling.original_context_length": 64,
}

BASES = {
    **{family: TinyGGUF(family) for family in ("llama", "qwen2", "qwen3", "gemma2")},
    "smollm3": TinyGGUF("smollm3", num_layers=4),
    "olmo2": TinyGGUF("olmo2", tied=False),
    "gemma3": TinyGGUF("gemma3", num_layers=7),
    "linear": TinyGGUF(
        keys={"rope.scaling.type": "linear", "rope.scaling.factor": 3.0}
    ),
    "yarn": TinyGGUF("qwen3", keys=YARN | {"rope.scaling.attn_factor": 1.5}),
    "by frequency": TinyGGUF(
        tensors={"rope_freqs.weight": np.linspace(1.0, 8.0, 4, dtype=np.float32)}
    ),
    "pieces": TinyGGUF(pieces=True),
    "first token": TinyGGUF(tokenizer={"add_bos_token": True}),
}

TABLED = {"gemma2", "gemma3"}
"""Families whose activation llama.cpp looks up in a table of half precision."""


@pytest.mark.parametrize("name", BASES)
def test_llama_cpp_answers_as_the_merged_model(name: str, tmp_path: Path) -> None:
    base = based_on(BASES[name], tmp_path)
    adapter = shifted_adapter(base, tmp_path / "adapter", use_rslora=True)
    peer = LlamaCpp(written(base, adapter, tmp_path / "out.gguf"))
    ours = log_probs(base, adapter)
    theirs = peer.next_log_probs(IDS, len(ours))
    assert np.abs(ours - theirs).max() < (5e-3 if name in TABLED else ROUNDING)
    assert np.abs(ours - log_probs(base, None)).max() > 0.1
    tokenizer = load_tokenizer(model_config(base)).tokens.tokenizer
    for text in TEXTS:
        # Qwen's own tokenizer composes text first, for which GGUF has no word.
        given = unicodedata.normalize("NFC", text) if name == "qwen2" else text
        assert tokenizer(given).input_ids == peer.tokens(given), text


RANKS: dict[str, Any] = {
    "plain": {},
    "rank-stabilised": {"use_rslora": True, "lora_alpha": 3},
    "ranks by layer": {
        "rank_pattern": {"layers.0.self_attn.q_proj": 2},
        "alpha_pattern": {"layers.1.mlp.down_proj": 13},
    },
}


@pytest.mark.parametrize("family", ["llama", "qwen2", "smollm3"])
@pytest.mark.parametrize("ranks", RANKS)
def test_llama_cpp_adds_the_adapter_to_the_base(
    family: str, ranks: str, tmp_path: Path
) -> None:
    base = based_on(TinyGGUF(family), tmp_path)
    adapter = shifted_adapter(base, tmp_path / "adapter", **RANKS[ranks])
    write_adapter(merged(base, adapter), tmp_path / "adapter.gguf", "tiny")
    peer = LlamaCpp(tmp_path / "made.gguf", adapter=tmp_path / "adapter.gguf")
    ours = log_probs(base, adapter)
    assert np.abs(ours - peer.next_log_probs(IDS, len(ours))).max() < ROUNDING
    assert np.abs(ours - log_probs(base, None)).max() > 0.1


def change_config(base: Path, **fields: Any) -> None:
    path = base / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | fields), "utf-8")


def test_positions_of_llama_3_are_scaled_alike(tmp_path: Path) -> None:
    base = based_on(TinyGGUF(), tmp_path)
    rope = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0}
    rope |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    rope |= {"original_max_position_embeddings": 16}
    change_config(base, rope_parameters=rope)
    adapter = shifted_adapter(base, tmp_path / "adapter")
    peer = LlamaCpp(written(base, adapter, tmp_path / "out.gguf"))
    ours = log_probs(base, adapter)
    assert np.abs(ours - peer.next_log_probs(IDS, len(ours))).max() < ROUNDING
    change_config(base, rope_parameters=rope | {"factor": 1.0})
    assert np.abs(ours - log_probs(base, adapter)).max() > 1e-3


def test_an_embedding_longer_than_the_vocabulary_is_padded(tmp_path: Path) -> None:
    base = based_on(TinyGGUF(tied=False), tmp_path)
    network: Any = AutoModelForCausalLM.from_pretrained(base)
    size = network.config.vocab_size + 40
    network.resize_token_embeddings(size, mean_resizing=False)
    network.save_pretrained(base)
    adapter = shifted_adapter(base, tmp_path / "adapter")
    peer = LlamaCpp(written(base, adapter, tmp_path / "out.gguf"))
    ours = log_probs(base, adapter)
    assert len(ours) == size
    assert np.abs(ours - peer.next_log_probs(IDS, size)).max() < ROUNDING


def test_half_precision_is_rounded_once(tmp_path: Path) -> None:
    base = based_on(TinyGGUF("qwen3"), tmp_path)
    network: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    network.save_pretrained(base)
    adapter = shifted_adapter(base, tmp_path / "adapter")
    path = written(base, adapter, tmp_path / "out.gguf")
    (tmp_path / "read").mkdir()
    convert_gguf(path, tmp_path / "read")
    read = load_file(tmp_path / "read" / "model.safetensors")
    weights = merged(base, adapter)
    (file,) = weights.source.weight_files()
    for name, tensor in weights.tensors(file):
        assert tensor.dtype == torch.bfloat16
        assert torch.equal(read[name], tensor.float()), name


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "mistral": ({"sliding_window": 16}, "sliding_window = 16"),
    "qwen3": ({"hidden_act": "gelu"}, "hidden_act = 'gelu'"),
    "qwen2": (
        {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0},
        "layer_types|sliding_window",
    ),
    "gpt2": ({}, "a gpt2 model cannot be written as GGUF here, which knows llama"),
}


@pytest.mark.parametrize("family", REFUSED)
def test_what_gguf_could_not_say_is_refused(family: str, tmp_path: Path) -> None:
    settings, said = REFUSED[family]
    base = tiny_model(tmp_path / "base", family, **settings)
    options = {"fan_in_fan_out": True} if family == "gpt2" else {}
    adapter = shifted_adapter(base, tmp_path / "adapter", **options)
    with pytest.raises(ModelError, match=said):
        written(base, adapter, tmp_path / "out.gguf")


def test_a_tokenizer_that_cuts_text_in_an_unknown_way_is_refused(
    tmp_path: Path,
) -> None:
    base = tiny_model(tmp_path / "base")
    path = base / "tokenizer.json"
    table = json.loads(path.read_text("utf-8"))
    table["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [
            {
                "type": "Split",
                "pattern": {"String": "e"},
                "behavior": "Isolated",
                "invert": False,
            },
            table["pre_tokenizer"],
        ],
    }
    path.write_text(json.dumps(table), "utf-8")
    adapter = shifted_adapter(base, tmp_path / "adapter")
    with pytest.raises(ModelError, match="cuts text in a way that is not known"):
        written(base, adapter, tmp_path / "out.gguf")


def test_a_run_becomes_files_that_llama_cpp_answers_with(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    run, base = finished_run.folder, Path(finished_run.config.model.name)
    no.export(run, "gguf", tmp_path / "whole", Silent(), name="a name")
    no.export(run, "gguf-lora", tmp_path / "lora", Silent())
    gguf = tmp_path / "whole" / "model.gguf"
    peer = LlamaCpp(gguf)
    ours = log_probs(base, run / "adapter")
    assert np.abs(ours - peer.next_log_probs(IDS, len(ours))).max() < ROUNDING
    adapted, tokens = loaded(base, run / "adapter"), list(IDS)
    for _ in range(12):
        tokens.append(int(logits_of(adapted, tuple(tokens))[-1].argmax()))
    assert peer.greedy(IDS, 12) == tokens[len(IDS) :]
    assert (tmp_path / "lora" / "adapter.gguf").stat().st_size < gguf.stat().st_size


def test_a_model_trained_in_full_has_no_adapter_to_write(
    tiny_qwen3: Path, tmp_path: Path
) -> None:
    config = tiny_config(tiny_qwen3, "distill.tuning=full", "distill.steps=1")
    run = tiny_run(tiny_request(tmp_path), config).folder
    with pytest.raises(ConfigError, match="use --to gguf"):
        no.export(run, "gguf-lora", tmp_path / "lora", Silent())
    no.export(run, "gguf", tmp_path / "whole", Silent())
    peer = LlamaCpp(tmp_path / "whole" / "model.gguf")
    ours = plain_logits(plain_network(run / "adapter"), IDS)[-1]
    expected = ours.double().log_softmax(-1).numpy()
    apart = np.abs(expected - peer.next_log_probs(IDS, len(expected)))
    assert apart.max() < ROUNDING
