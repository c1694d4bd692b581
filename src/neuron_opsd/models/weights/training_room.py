"""Whether memory has room for training all weights, asked before anything is done."""

from __future__ import annotations

from typing import Final

from neuron_opsd.config import DistillConfig
from neuron_opsd.errors import ModelError
from neuron_opsd.models.roles import ModelFacts
from neuron_opsd.processes.memory import free_memory

FLOAT: Final = 4
TRAINED: Final = 4 * FLOAT
"""Bytes of a weight that is trained: itself, its gradient and AdamW's two moments."""

LORA: Final = "distill.tuning=lora (about 2 bytes a parameter of a bfloat16 file)"


def full_bytes(teacher: str) -> int:
    """Return the bytes a parameter that `full` tuning holds between passes.

    A live teacher is the student itself; each other has weights of its own.
    """
    return TRAINED + (0 if teacher == "live" else FLOAT)


def check_training_room(facts: ModelFacts, tuning: DistillConfig) -> None:
    """Refuse `full` tuning that memory has no room for.

    Raises:
        ModelError: Saying what it needs, what is free and what to take instead.
    """
    if tuning.tuning != "full":
        return
    each, free = full_bytes(tuning.teacher), free_memory(facts.device)
    needed = each * facts.num_parameters
    if needed <= free:
        return
    instead = LORA
    live = full_bytes("live") * facts.num_parameters
    if live <= free:
        instead += f", or distill.teacher=live, which needs {gigabytes(live)}"
    raise ModelError(
        f"distill.tuning=full trains all {facts.num_parameters:,} weights of the "
        f"model, which takes {gigabytes(needed)} ({each} bytes a parameter: weight, "
        f"gradient, two moments{'' if each == TRAINED else ' and a teacher'}), but "
        f"{gigabytes(free)} are free on {facts.device}, and weights are not split over "
        f"GPUs (FSDP); take {instead}, or a smaller model"
    )


def gigabytes(count: int) -> str:
    """Return a number of bytes in GB."""
    return f"{count / 1e9:,.1f} GB"
