"""Adapters of tiny models in which every number is away from its start."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM


def shifted_adapter(
    model: Path, folder: Path, *, size: float = 0.1, **settings: Any
) -> Path:
    """Write an adapter as PEFT's users do, all its weights drawn.

    Args:
        model: The base.
        folder: Where to.
        size: Standard deviation of what is added to each weight.
        settings: Of the adapter, in PEFT's words.
    """
    usual: dict[str, Any] = {
        "target_modules": "all-linear",
        "r": 4,
        "task_type": "CAUSAL_LM",
    }
    generator = torch.Generator().manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        base: Any = AutoModelForCausalLM.from_pretrained(model, local_files_only=True)
        network = get_peft_model(base, LoraConfig(**(usual | settings)))
        with torch.no_grad():
            for weight in network.parameters():
                if weight.requires_grad:
                    drawn = torch.randn(weight.shape, generator=generator)
                    weight.add_(size * drawn.to(weight.dtype))
        network.save_pretrained(str(folder))
    return folder
