"""What vLLM could not follow is refused before a model is loaded."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from neuron_opsd.config.tables import load_config
from neuron_opsd.errors import ConfigError, ModelError
from neuron_opsd.models import load
from neuron_opsd.models.load import load_answering
from neuron_opsd.models.vllm.adapters import room_for
from neuron_opsd.models.vllm.refusals import check_engine
from neuron_opsd.runs.resolution import with_method
from tiny import tiny_model
from vllm_stand_in import Calls


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("distill.tuning=full", r"vLLM only takes adapters; set dist"),
        ("distill.lora_rank=513", r"up to rank 512, but this one has 513; lower"),
        ("rollouts.min_p=0.1", r"rollouts\.top_p is 0\.95 and rollouts\.min_p is 0\.1"),
        ("rollouts.temperature=0.001", r"would raise to 0\.01; set it to that or more"),
        ("evaluation.temperature=0.001", r"evaluation\.temperature is 0\.001"),
        ("distill.temperature=0.001", r"distill\.temperature is 0\.001"),
        ("model.device=cuda:1", r"choose the GPU with CUDA_VISIBLE_DEVICES"),
    ],
)
@pytest.mark.usefixtures("calls")
def test_settings_that_it_could_not_follow(setting: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        with_method(load_config(None, ["engine.rollouts=vllm", setting]))
    with_method(load_config(None, [setting]))


@pytest.mark.usefixtures("calls")
def test_both_cuts_of_training_rollouts() -> None:
    both = ["distill.sampling_min_p=0.1", "distill.sampling_top_p=0.9"]
    with pytest.raises(ConfigError, match=r"distill\.sampling_top_p is 0\.9 and dist"):
        check_engine(load_config(None, ["engine.rollouts=vllm", *both]))
    check_engine(load_config(None, ["engine.rollouts=vllm", both[0]]))


@pytest.mark.usefixtures("calls")
def test_weights_that_are_rounded_here_alone() -> None:
    rounded = ["engine.rollouts=vllm", "model.quantization=nf4"]
    with pytest.raises(
        ConfigError, match=r"is nf4, but vLLM would answer with unrounded"
    ):
        check_engine(load_config(None, rounded))


@pytest.mark.usefixtures("calls")
def test_a_gguf_file(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")
    with pytest.raises(ConfigError, match=r"model\.gguf is a GGUF file"):
        check_engine(load_config(None, ["engine.rollouts=vllm", f"model.name={path}"]))


def test_a_family_that_it_does_not_know(
    calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_model(tmp_path, "mistral")
    monkeypatch.setattr(load, "load_model", None)  # no weight is read before
    config = load_config(None, ["engine.rollouts=vllm", f"model.name={folder}"])
    with pytest.raises(ModelError, match=r"does not know MistralForCausalLM of model"):
        load_answering(config)
    assert calls.made == []


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed")
def test_a_package_that_is_missing() -> None:
    config = load_config(None, ["engine.rollouts=vllm"])
    with pytest.raises(ModelError, match=r"not installed; install it with pip"):
        with_method(config)


def test_ranks_that_it_makes_room_for() -> None:
    assert [room_for(rank) for rank in (1, 2, 8, 9, 300, 512)] == [
        1,
        8,
        8,
        16,
        320,
        512,
    ]
