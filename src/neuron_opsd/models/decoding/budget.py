"""How much memory decoding takes for keys and values, and what that holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from neuron_opsd.models.decoding.growing import Decoder
from neuron_opsd.models.decoding.scheduling import Limits
from neuron_opsd.models.forward.layers import head_width, heads_of
from neuron_opsd.processes.memory import free_memory

SHARES: Final[Mapping[str, float]] = {"cpu": 0.25, "cuda": 0.9}
"""Share of the free memory that keys and values may take, by device; the rest is for
passes over prompts, for logits, and on a processor for others."""

PAGES: Final[Mapping[str, int]] = {"cpu": 32, "cuda": 256}
"""Positions of a page, by device. A GPU is quicker with fewer and longer ones."""


def page_of(kind: str) -> int:
    """Return the positions of a page on a kind of device."""
    return PAGES.get(kind, PAGES["cuda"])


def position_bytes(config: Any, number_bytes: int) -> int:
    """Return what one position of one sample takes in all layers of a decoder."""
    _, groups = heads_of(config)
    numbers = 2 * int(config.num_hidden_layers) * groups * head_width(config)
    return numbers * number_bytes


def kept_bytes(model: Decoder) -> int:
    """Return what one position takes as a model keeps it."""
    # On a processor keys and values are kept in float32 whatever products are in.
    rounded = model.device.type != "cpu" and model.facts.compute == "bfloat16"
    return position_bytes(model.decoder.config, 2 if rounded else 4)


def decoding_bytes(model: Decoder) -> int:
    """Return the bytes that keys and values of a model may take."""
    kind = model.device.type
    share = SHARES.get(kind, SHARES["cpu"])
    return model.room.memory or int(share * free_memory(str(model.device)))


def pages_within(
    memory: int, page_bytes: int, limits: Limits, asked: Sequence[tuple[int, int]]
) -> int:
    """Return how many pages to take for samples of some prompts.

    As many as so many bytes have room for, but no more than could ever be filled, and
    no fewer than one sample of the longest prompt takes. `asked` has the tokens of each
    prompt, and how many samples are wanted of it.
    """
    most = min(memory // page_bytes, limits.most_pages(asked))
    return max(most, *(limits.least_pages(length) for length, _ in asked))
