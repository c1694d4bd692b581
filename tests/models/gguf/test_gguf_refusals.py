"""What a GGUF file says and cannot be followed is refused, with its name and value."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFEndian, GGUFWriter

import places
from neuron_opsd.errors import ModelError, TryAgainError
from neuron_opsd.models.gguf import convert_gguf, unpacked
from neuron_opsd.models.gguf.families import FAMILIES, configuration
from neuron_opsd.models.gguf.file import read_gguf
from neuron_opsd.models.gguf.tokens import ENDS
from tiny_gguf import HEAD_WIDTH, WIDTH, TinyGGUF, byte_vocabulary

WINDOW = {"attention.sliding_window": 4}
FACTORS = np.ones(HEAD_WIDTH // 2, np.float32)
TOKENS, MERGES = byte_vocabulary()

REFUSED: dict[str, tuple[TinyGGUF, str]] = {
    "unknown key": (
        TinyGGUF(keys={"attention.wobble": 3}),
        "sets llama.attention.wobble = 3: it is not known here what that changes",
    ),
    "experts": (TinyGGUF(keys={"expert_count": 8}), "sets llama.expert_count = 8"),
    "logits": (TinyGGUF(keys={"logit_scale": 8.0}), "sets llama.logit_scale = 8.0"),
    "softcap": (
        TinyGGUF(keys={"final_logit_softcapping": 30.0}),
        "sets llama.final_logit_softcapping = 30.0",
    ),
    "window": (TinyGGUF(keys=WINDOW), "sets llama.attention.sliding_window = 4"),
    "window of qwen": (TinyGGUF("qwen2", keys=WINDOW), "sets qwen2.attention.sliding"),
    "pattern": (
        TinyGGUF("gemma3", keys={"attention.sliding_window_pattern": 3}),
        "sets gemma3.attention.sliding_window_pattern = 3",
    ),
    "values of another width": (
        TinyGGUF(keys={"attention.value_length": 4}),
        "sets llama.attention.value_length = 4: heads are 8 wide",
    ),
    "half turned": (
        TinyGGUF(keys={"rope.dimension_count": 4}),
        "sets llama.rope.dimension_count = 4: heads are 8 wide",
    ),
    "heads by layer": (
        TinyGGUF(keys={"attention.head_count_kv": [2, 1]}),
        "sets llama.attention.head_count_kv = [2, 1]: one number for all layers",
    ),
    "no norm": (
        TinyGGUF(keys={"attention.layer_norm_rms_epsilon": None}),
        "has no key llama.attention.layer_norm_rms_epsilon",
    ),
    "vocabulary": (
        TinyGGUF(keys={"vocab_size": 9}),
        f"sets llama.vocab_size = 9: the tokenizer has {len(TOKENS)} tokens",
    ),
    "scaling": (
        TinyGGUF(keys={"rope.scaling.type": "longrope", "rope.scaling.factor": 2.0}),
        "sets llama.rope.scaling.type = 'longrope'",
    ),
    "scaling of attention": (
        TinyGGUF(keys={"rope.scaling.attn_factor": 2.0}),
        "sets llama.rope.scaling.attn_factor = 2.0",
    ),
    "factors twice": (
        TinyGGUF(
            keys={"rope.scaling.factor": 2.0}, tensors={"rope_freqs.weight": FACTORS}
        ),
        "rope_freqs.weight scales them already",
    ),
    "factors of qwen": (
        TinyGGUF("qwen2", tensors={"rope_freqs.weight": FACTORS}),
        "has the tensor rope_freqs.weight, for which a qwen2 model has no place",
    ),
    "tensor too many": (
        TinyGGUF(tensors={"blk.0.attn_sinks": np.ones(4, np.float32)}),
        "has the tensor blk.0.attn_sinks, for which a llama model has no place",
    ),
    "tensor missing": (
        TinyGGUF(tensors={"blk.1.ffn_gate.weight": None}),
        "has no tensor blk.1.ffn_gate.weight, so model.layers.1.mlp.gate_proj.weight",
    ),
    "bias missing": (
        TinyGGUF("qwen2", tensors={"blk.1.attn_k.bias": None}),
        "has no tensor blk.1.attn_k.bias",
    ),
    "layer missing": (
        TinyGGUF(keys={"block_count": 3}),
        "has no tensor blk.2.attn_q.weight",
    ),
    "layer too many": (
        TinyGGUF(keys={"block_count": 1}),
        "has the tensor blk.1.attn_norm.weight",
    ),
    "another shape": (
        TinyGGUF(tensors={"blk.0.ffn_up.weight": np.ones((7, WIDTH), np.float32)}),
        "tensor blk.0.ffn_up.weight has the shape (7, 32), but its keys ask for",
    ),
    "not finite": (
        TinyGGUF(tensors={"output_norm.weight": np.full(WIDTH, np.nan, np.float32)}),
        "tensor output_norm.weight holds values that are not finite",
    ),
    "pre-tokenizer": (
        TinyGGUF(pre="no-such"),
        "sets tokenizer.ggml.pre = 'no-such': this pre-tokenizer is not known",
    ),
    "kind of tokenizer": (
        TinyGGUF(tokenizer={"model": "bert"}),
        "sets tokenizer.ggml.model = 'bert': gpt2 and llama",
    ),
    "key of the tokenizer": (
        TinyGGUF(tokenizer={"normalizer.lowercase": True}),
        "sets tokenizer.ggml.normalizer.lowercase = True",
    ),
    "separator": (
        TinyGGUF(tokenizer={"add_sep_token": True}),
        "sets tokenizer.ggml.add_sep_token = True",
    ),
    "kept from sampling": (
        TinyGGUF(tokenizer={"suppress_tokens": [5]}),
        "sets tokenizer.ggml.suppress_tokens = [5]",
    ),
    "first token that is none": (
        TinyGGUF(tokenizer={"add_bos_token": True, "bos_token_id": None}),
        "sets tokenizer.ggml.add_bos_token = True: there is no bos_token_id",
    ),
    "end beyond the vocabulary": (
        TinyGGUF(tokenizer={"eot_token_id": 1500}),
        f"sets tokenizer.ggml.eot_token_id = 1500: there are {len(TOKENS)} tokens",
    ),
    "token twice": (
        TinyGGUF(tokenizer={"tokens": [*TOKENS[:-1], TOKENS[5]]}),
        f"sets tokenizer.ggml.tokens = {TOKENS[5]!r}: this token appears twice",
    ),
    "merge of what is none": (
        TinyGGUF(tokenizer={"merges": [*MERGES, "q q"]}),
        "sets tokenizer.ggml.merges = 'q q'",
    ),
    "pieces without scores": (
        TinyGGUF(pieces=True, tokenizer={"scores": None}),
        "has no key tokenizer.ggml.scores",
    ),
    "part": (
        TinyGGUF(other={"split.count": 3, "split.no": 1}),
        "is part 2 of 3 of a split GGUF file (split.count = 3); join the parts with",
    ),
    "adapter": (
        TinyGGUF(other={"general.type": "adapter", "adapter.type": "lora"}),
        "is not a whole language model (general.type = 'adapter', keys of adapter)",
    ),
    "architecture": (
        TinyGGUF("mamba"),
        "of architecture 'mamba'; as GGUF, llama, qwen2, qwen3, smollm3, olmo2,",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_followed_is_refused(name: str, tmp_path: Path) -> None:
    gguf, said = REFUSED[name]
    path = gguf.write(tmp_path / "tiny.gguf")
    with pytest.raises(ModelError) as caught:
        convert_gguf(path, tmp_path)
    assert str(caught.value).startswith(f"{path}")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("*.safetensors"))


HARMLESS: dict[str, TinyGGUF] = {
    "where it comes from": TinyGGUF(
        other={
            "general.name": "Tiny",
            "general.file_type": 0,
            "general.quantization_version": 2,
            "quantize.imatrix.file": "x",
            "mradermacher.quantized_by": "somebody",
            "tokenizer.chat_templates": ["tool"],
        },
        keys={"tensor_data_layout": "Meta AI original pth"},
    ),
    "neutral values": TinyGGUF(
        keys={
            "expert_count": 0,
            "attention.causal": True,
            "attention.key_length": HEAD_WIDTH,
            "attention.value_length": HEAD_WIDTH,
            "rope.dimension_count": HEAD_WIDTH,
            "rope.scaling.type": "none",
            "vocab_size": len(TOKENS),
        }
    ),
    "a window as long as the context": TinyGGUF(
        "qwen3", keys={"attention.sliding_window": 256}
    ),
    "tokens for other work": TinyGGUF(
        tokenizer={"fim_pre_token_id": 5, "mask_token_id": 6, "add_space_prefix": True}
    ),
    "a split of one": TinyGGUF(other={"split.count": 1}),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_changes_nothing_is_let_through(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    convert_gguf(HARMLESS[name].write(tmp_path / "tiny.gguf"), folder)
    assert (folder / "model.safetensors").exists()


def test_every_family_is_tried_with_an_unknown_key(tmp_path: Path) -> None:
    for family in FAMILIES:
        gguf = TinyGGUF(family, tied=family != "olmo2", keys={"wobble": 1})
        path = gguf.write(tmp_path / f"{family}.gguf")
        with pytest.raises(ModelError, match=rf"{family}\.wobble = 1"):
            convert_gguf(path, tmp_path)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_page_about_gguf_names_every_key_that_is_taken(
    family: str, tmp_path: Path
) -> None:
    page = (places.DOCS / "reference" / "gguf.md").read_text(encoding="utf-8")
    yarn = {"rope.scaling.type": "yarn", "rope.scaling.factor": 2.0}
    whole = read_gguf(TinyGGUF(family, keys=yarn).write(tmp_path / "tiny.gguf"))
    configuration(whole, len(TOKENS))
    taken = whole.settings.taken
    assert len(taken) > 20
    assert [name for name in sorted(taken) if f"`{name}`" not in page] == []


def test_the_other_byte_order_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "big.gguf"
    writer = GGUFWriter(path, "llama", endianess=GGUFEndian.BIG)
    writer.add_tensor("x", np.ones(4, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelError, match=r"another byte order.*gguf-convert-endian"):
        convert_gguf(path, tmp_path)


def test_a_kind_of_number_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dequantize(data: Any, kind: GGMLQuantizationType) -> Any:
        raise NotImplementedError(kind)

    path = TinyGGUF().write(tmp_path / "tiny.gguf")
    monkeypatch.setattr("neuron_opsd.models.gguf.file.dequantize", dequantize)
    with pytest.raises(ModelError, match=r"tensor token_embd\.weight is stored as F32"):
        convert_gguf(path, tmp_path)


@pytest.mark.parametrize("share", [0.001, 0.05, 0.3, 0.6, 0.99])
def test_a_cut_file_is_refused_wherever_it_is_cut(share: float, tmp_path: Path) -> None:
    path = TinyGGUF().write(tmp_path / "tiny.gguf")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ModelError, match=r"tiny\.gguf"):
        convert_gguf(path, tmp_path)


def test_all_tokens_that_end_a_completion_are_kept(tmp_path: Path) -> None:
    ids = dict(zip(ENDS, (2, 0, 41), strict=True))
    folder = tmp_path / "model"
    folder.mkdir()
    convert_gguf(TinyGGUF(tokenizer=ids).write(tmp_path / "tiny.gguf"), folder)
    kept = json.loads((folder / "generation_config.json").read_text())
    assert kept["eos_token_id"] == [2, 0, 41]


# --- the folder that is kept ---


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NEURON_OPSD_CACHE", str(tmp_path / "cache"))
    unpacked.cache_clear()
    return tmp_path / "cache"


def test_a_file_is_converted_once_whatever_its_place(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = TinyGGUF().write(tmp_path / "tiny.gguf")
    folder = unpacked(path)
    assert folder.parent == cache / "gguf"
    (tmp_path / "other").mkdir()
    moved = Path(shutil.copy(path, tmp_path / "other" / "tiny.gguf"))
    unpacked.cache_clear()
    stamp = (folder / "config.json").stat().st_mtime_ns
    assert unpacked(moved) == folder
    assert (folder / "config.json").stat().st_mtime_ns == stamp
    assert [one.name for one in folder.parent.iterdir()] == [folder.name]

    changed = TinyGGUF(keys={"rope.freq_base": 7.0}).write(tmp_path / "tiny.gguf")
    unpacked.cache_clear()
    assert unpacked(changed) != folder
    monkeypatch.setattr("neuron_opsd.models.gguf.convert.CONVERSION", 99)
    unpacked.cache_clear()
    assert unpacked(moved).name == folder.name.rpartition("-")[0] + "-v99"


@pytest.mark.usefixtures("cache")
def test_a_failed_conversion_leaves_nothing(cache: Path, tmp_path: Path) -> None:
    path = TinyGGUF(pre="no-such").write(tmp_path / "tiny.gguf")
    with pytest.raises(ModelError, match="no-such"):
        unpacked(path)
    assert not list((cache / "gguf").iterdir())


def test_a_cache_that_takes_nothing_is_named(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = TinyGGUF().write(tmp_path / "tiny.gguf")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("neuron_opsd.models.gguf.convert.save_file", full)
    with pytest.raises(TryAgainError, match=r"No space left.*NEURON_OPSD_CACHE"):
        unpacked(path)
    cache.joinpath("gguf").rmdir()
    cache.joinpath("gguf").write_text("in the way")
    with pytest.raises(TryAgainError, match="cannot be kept in"):
        unpacked(path)


def faster(gguf: Path, folder: Path, then: Callable[[Path, Path], None]) -> None:
    """Convert as another process would that finishes first."""
    then(gguf, folder)
    name = next(one for one in folder.name.split(".") if one)
    shutil.copytree(folder, folder.parent / name)


def test_two_processes_may_convert_the_same_file(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = TinyGGUF().write(tmp_path / "tiny.gguf")
    monkeypatch.setattr(
        "neuron_opsd.models.gguf.convert.convert_gguf",
        lambda gguf, folder: faster(gguf, folder, convert_gguf),
    )
    folder = unpacked(path)
    assert [one.name for one in (cache / "gguf").iterdir()] == [folder.name]
