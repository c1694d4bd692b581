"""Refuse early what vLLM cannot do as our own decoder does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from neuron_opsd.config import Config
from neuron_opsd.errors import ConfigError, ModelError
from neuron_opsd.models.gguf import is_gguf
from neuron_opsd.models.vllm.adapters import room_for
from neuron_opsd.models.vllm.library import OURS, check_installed, library

LEAST_TEMPERATURE: Final = 0.01
"""vLLM raises lower temperatures, other than 0, to this."""


def check_engine(config: Config) -> None:
    """Refuse settings that vLLM cannot follow.

    Raises:
        ConfigError: Naming the setting and what to use instead.
        ModelError: If vLLM is not installed.
    """
    if config.engine.rollouts != "vllm":
        return
    for problem in problems(config):
        raise ConfigError(f"engine.rollouts is vllm, but {problem}")
    room_for(config.distill.lora_rank)
    check_installed()


def problems(config: Config) -> Iterator[str]:
    """Yield what vLLM cannot follow, and what to use instead."""
    if config.distill.tuning == "full":
        yield (
            "distill.tuning is full, but vLLM only takes adapters; set "
            f"distill.tuning=lora, or {OURS}"
        )
    if config.model.quantization != "none":
        yield (
            f"model.quantization is {config.model.quantization}, but vLLM would answer "
            f"with unrounded weights; set model.quantization=none, or {OURS}"
        )
    if is_gguf(Path(config.model.name).expanduser()):
        yield (
            f"{config.model.name} is a GGUF file, which it cannot read as we do; give "
            f"the model as a folder in transformers' form, or {OURS}"
        )
    if config.model.device not in ("auto", "cpu", "cuda"):
        yield (
            f"model.device is {config.model.device}, and it takes the first GPU; set "
            "model.device=cuda, and choose the GPU with CUDA_VISIBLE_DEVICES"
        )
    yield from sampling_problems(config)


def sampling_problems(config: Config) -> Iterator[str]:
    """Yield sampling settings that vLLM interprets differently.

    It applies `min_p` before `top_p`, we after; with both, the nucleus would differ.
    """
    rollouts, tuning = config.rollouts, config.distill
    temperatures = {
        "rollouts.temperature": rollouts.temperature,
        "distill.temperature": tuning.temperature,
        "evaluation.temperature": config.evaluation.temperature,
    }
    for name, value in temperatures.items():
        if value < LEAST_TEMPERATURE:
            yield (
                f"{name} is {value}, which it would raise to {LEAST_TEMPERATURE}; set "
                f"it to that or more, or {OURS}"
            )
    cuts = (
        ("rollouts.", rollouts.top_p, rollouts.min_p),
        ("distill.sampling_", tuning.sampling_top_p, tuning.sampling_min_p),
    )
    for start, top_p, min_p in cuts:
        nucleus, least = f"{start}top_p", f"{start}min_p"
        if top_p < 1.0 and min_p > 0.0:
            yield (
                f"{nucleus} is {top_p} and {least} is {min_p}, which it would apply in "
                f"the other order; set {nucleus}=1 or {least}=0, or {OURS}"
            )


def check_family(name: str, architectures: list[str]) -> None:
    """Refuse a model if vLLM knows none of its architectures."""
    known = set(library().ModelRegistry.get_supported_archs())
    if known.isdisjoint(architectures):
        names = ", ".join(architectures) or "no architecture"
        raise ModelError(
            f"engine.rollouts is vllm, which does not know {names} of model {name}; "
            f"{OURS}, or take a model of another family"
        )
