"""Keeping how much room a run found for its passes, so that it resumes with as much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from neuron_opsd.models.roles import Capturer
from neuron_opsd.models.room import GB
from neuron_opsd.runs.context import RunContext
from neuron_opsd.stages.splitting import Split, Splits

ROOM: Final = "tokens_per_batch"
"""The fact of a manifest that says to how many tokens passes had to be lowered."""
SPLITS: Final = "splits"
"""The fact that says how the batches of each training had to be split, by step."""


def keep_room(run: RunContext, model: Capturer) -> None:
    """Give a model the room that a run has found, and keep what it finds."""
    usual = run.config.model.tokens_per_batch
    model.room.memory = round(run.config.engine.decoding_memory * GB)
    model.room.tokens = min(usual, run.directory.manifest.facts.get(ROOM, usual))

    def keep(text: str) -> None:
        if model.room.tokens < run.directory.manifest.facts.get(ROOM, usual):
            run.directory.note(ROOM, model.room.tokens)
        run.directory.warn(text)

    model.room.told = keep


def splits_of(run: RunContext, name: str) -> Splits:
    """Return how the batches of a training were split so far; keep what is found."""
    rows = run.directory.manifest.facts.get(SPLITS, {}).get(name, [])
    known = [Split(**row) for row in rows]
    for split in known[1:]:
        run.directory.warn(split_text(split))

    def keep(splits: Sequence[Split], said: str) -> None:
        run.directory.note(SPLITS, {name: [asdict(split) for split in splits]})
        if said:
            run.directory.warn(split_text(splits[-1]))

    return Splits(known, keep)


def split_text(split: Split) -> str:
    """Say in one line how batches are split, and since when."""
    return (
        f"step {split.step}: memory ran out; from here on training passes hold at most "
        f"{split.micro_batch_size} completions and others {split.tokens} tokens, which "
        "changes no gradient but by rounding; a run that resumes does the same"
    )
