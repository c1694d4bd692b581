"""The merged model: equal to PEFT's, in one matrix's memory, and honest about loss."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import neuron_opsd as no
from loaded import loaded, logits_of, model_config, plain_logits, plain_network
from neuron_opsd.errors import ConfigError, ModelError
from neuron_opsd.exporting.merged import write_model
from neuron_opsd.models.weights.merging import MergedWeights, merged_weights
from neuron_opsd.progress import Silent
from shifted_adapters import shifted_adapter
from tiny import tiny_model
from tiny_runs import FinishedRun, tiny_config, tiny_request, tiny_run

IDS = (5, 9, 40, 77, 8)


def exported(
    base: Path, adapter: Path, out: Path, dtype: torch.dtype | None = None, **model: Any
) -> MergedWeights:
    """Merge an adapter into a base; return what was counted on the way."""
    settings = model_config(base, **model)
    weights = merged_weights(settings, settings.compute, adapter, dtype)
    out.mkdir()
    write_model(weights, out, Silent())
    return weights


def merged_by_peft(base: Path, adapter: Path) -> dict[str, torch.Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network: Any = PeftModel.from_pretrained(plain_network(base), str(adapter))
        return dict(network.merge_and_unload().state_dict())


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3", "gpt2"])
def test_weights_are_those_that_peft_merges(family: str, tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base", family)
    options = {"fan_in_fan_out": True} if family == "gpt2" else {}
    adapter = shifted_adapter(base, tmp_path / "adapter", **options)
    weights = exported(base, adapter, tmp_path / "out")
    ours = dict(plain_network(tmp_path / "out").state_dict())
    theirs = merged_by_peft(base, adapter)
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-6, atol=1e-6)
    stored = load_file(base / "model.safetensors")
    assert sum(not torch.equal(ours.get(n, stored[n]), stored[n]) for n in stored) == (
        len(weights.changes)
    )
    assert weights.arrival.share == pytest.approx(1.0, abs=1e-5)


def test_a_sharded_base_of_half_precision_keeps_shards_and_type(tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base", "qwen3")
    network: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    (base / "model.safetensors").unlink()
    network.save_pretrained(base, max_shard_size="40KB")
    adapter = shifted_adapter(base, tmp_path / "adapter", size=0.3)
    exported(base, adapter, tmp_path / "out")
    for file in sorted(base.glob("*.safetensors")):
        old, new = load_file(file), load_file(tmp_path / "out" / file.name)
        assert {n: (t.dtype, t.shape) for n, t in new.items()} == {
            n: (t.dtype, t.shape) for n, t in old.items()
        }
    assert len(list(base.glob("*.safetensors"))) > 2
    exact = merged_by_peft(base, adapter)
    ours = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, exact[name].bfloat16()), name


def test_another_type_is_written_into_the_configuration(tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base")
    adapter = shifted_adapter(base, tmp_path / "adapter")
    exported(base, adapter, tmp_path / "out", torch.float16)
    found: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    assert found.dtype == torch.float16
    tokenizers = [AutoTokenizer.from_pretrained(f) for f in (base, tmp_path / "out")]
    texts = [one("Which gas?").input_ids for one in tokenizers]
    assert texts[0] == texts[1]
    assert tokenizers[0].chat_template == tokenizers[1].chat_template


def test_values_beyond_float16_are_refused(tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base")
    network: Any = plain_network(base)
    network.model.norm.weight.data[3] = 1e5
    network.save_pretrained(base)
    adapter = shifted_adapter(base, tmp_path / "adapter")
    with pytest.raises(ModelError, match=r"norm\.weight holds values that float16"):
        exported(base, adapter, tmp_path / "out", torch.float16)
    exported(base, adapter, tmp_path / "wide", torch.bfloat16)


def test_rounding_that_loses_the_change_is_counted(tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base")
    network: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    network.save_pretrained(base)
    # A factor of 1e-4 squared is far below a step of bfloat16 beside 0.15.
    adapter = shifted_adapter(base, tmp_path / "small", size=1e-4)
    assert exported(base, adapter, tmp_path / "a").arrival.share < 0.9
    weights = exported(base, adapter, tmp_path / "b", torch.float32)
    assert weights.arrival.share > 0.99


def test_a_base_in_four_bits_is_merged_as_it_was_trained_on(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="the extra qlora is not installed")
    base = tiny_model(tmp_path / "base", "qwen3")
    adapter = shifted_adapter(base, tmp_path / "adapter", size=0.05)
    exported(base, adapter, tmp_path / "out", quantization="nf4")
    ours = plain_logits(plain_network(tmp_path / "out"), IDS)
    trained = logits_of(loaded(base, adapter, quantization="nf4"), IDS)
    torch.testing.assert_close(ours, trained, rtol=1e-4, atol=1e-4)
    unrounded = logits_of(loaded(base, adapter), IDS)
    assert (ours - unrounded).abs().max() > 0.01


def test_an_adapter_that_is_more_than_low_rank_is_refused(tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base", "qwen3")
    beyond: dict[str, dict[str, Any]] = {
        "dora": {"use_dora": True},
        "norm": {"modules_to_save": ["input_layernorm"]},
    }
    for name, settings in beyond.items():
        adapter = shifted_adapter(base, tmp_path / name, **settings)
        with pytest.raises(ModelError, match="is not a low-rank change"):
            exported(base, adapter, tmp_path / f"out-{name}")


def test_a_run_is_merged_as_it_was_tested(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    run = finished_run.folder
    no.export(run, "merged", tmp_path / "out", Silent())
    base = Path(finished_run.config.model.name)
    tested = logits_of(loaded(base, run / "adapter"), IDS)
    ours = plain_logits(plain_network(tmp_path / "out"), IDS)
    torch.testing.assert_close(ours, tested, rtol=1e-4, atol=1e-4)
    assert (ours - plain_logits(plain_network(base), IDS)).abs().max() > 0.01


def test_a_model_trained_in_full_is_copied(tiny_qwen3: Path, tmp_path: Path) -> None:
    config = tiny_config(tiny_qwen3, "distill.tuning=full", "distill.steps=1")
    run = tiny_run(tiny_request(tmp_path), config)
    no.export(run.folder, "merged", tmp_path / "out", Silent())
    trained = load_file(run.folder / "adapter" / "model.safetensors")
    ours = load_file(tmp_path / "out" / "model.safetensors")
    assert trained.keys() == ours.keys()
    assert all(torch.equal(trained[name], ours[name]) for name in trained)
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template


def test_another_base_is_refused_and_a_moved_one_found(
    finished_run: FinishedRun, tiny_qwen2: Path, tmp_path: Path
) -> None:
    run, base = finished_run.folder, Path(finished_run.config.model.name)
    with pytest.raises(ConfigError, match="is not the one that the run trained"):
        no.export(run, "merged", tmp_path / "a", Silent(), base=str(tiny_qwen2))
    with pytest.raises(ConfigError, match="was not found; give its folder"):
        no.export(run, "merged", tmp_path / "b", Silent(), base="/nowhere/at/all")
    shutil.copytree(base, tmp_path / "moved")
    moved = str(tmp_path / "moved")
    no.export(run, "merged", tmp_path / "c", Silent(), base=moved)
