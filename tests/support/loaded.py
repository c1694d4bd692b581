"""Tiny models behind the doorway, computed in float32 on the processor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from neuron_opsd.config import DistillConfig, ModelConfig
from neuron_opsd.models.hf import HFModel
from neuron_opsd.models.learner import HFLearner
from neuron_opsd.models.load import learner_of, load_model
from neuron_opsd.records import Pair, TokenIds


def model_config(folder: Path, **settings: Any) -> ModelConfig:
    """Return the settings of a model on the processor, in float32."""
    defaults: dict[str, Any] = {"device": "cpu", "compute": "float32"}
    return ModelConfig(name=str(folder), **(defaults | settings))


def loaded(folder: Path, adapter: Path | None = None, **settings: Any) -> HFModel:
    """Return a frozen model, with an adapter merged if one is given."""
    return load_model(model_config(folder, **settings), *([adapter] if adapter else []))


def learning(
    folder: Path, seed: int = 0, *, on: Mapping[str, Any] | None = None, **tuning: Any
) -> HFLearner:
    """Return a model that learns, with a small adapter unless told otherwise.

    Args:
        folder: Of the model.
        seed: Of the adapter.
        on: Settings of the model, such as another device.
        tuning: Settings of the training.
    """
    small: dict[str, Any] = {"lora_rank": 4, "lora_alpha": 8}
    config = model_config(folder, **(on or {}))
    return learner_of(load_model(config), DistillConfig(**(small | tuning)), seed)


def plain_network(folder: Path) -> Any:
    """Return the network as transformers alone loads it."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def plain_logits(network: Any, token_ids: TokenIds) -> Tensor:
    """Return ``(T, V)``: transformers' own logits of one sequence, nothing padded."""
    with torch.no_grad():
        logits: Tensor = network(input_ids=torch.tensor([token_ids])).logits[0]
    return logits


def logits_of(model: HFModel, token_ids: TokenIds) -> Tensor:
    """Return ``(T, V)``: what our own passes give, adapters included."""
    with torch.no_grad():
        states = model.states([(token_ids[:1], token_ids[1:])], after=1)
        return model.next_logits(states)


def random_pairs(
    lengths: list[tuple[int, int]], vocab_size: int, seed: int = 0
) -> list[Pair]:
    """Return pairs of random tokens with these lengths of prompt and completion."""
    gen = torch.Generator().manual_seed(seed)

    def tokens(count: int) -> TokenIds:
        return tuple(torch.randint(vocab_size, (count,), generator=gen).tolist())

    return [(tokens(before), tokens(after)) for before, after in lengths]
