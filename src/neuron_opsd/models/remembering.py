"""An answerer that never asks its model twice for the same thing.

A run stopped in a block thus resumes with the unfinished questions. Results are keyed
by prompt, seeds and sampling, or by pairs and columns, but not by model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from neuron_opsd.errors import NotFiniteError
from neuron_opsd.models.roles import Answerer, Finished, Sampling, ignore
from neuron_opsd.records import Completion, Pair, TokenIds
from neuron_opsd.storage.journal import Notes

FIELDS: Final = frozenset(field.name for field in fields(Completion))


class Remembering:
    """Replaces an `Answerer` while one block is answered."""

    def __init__(self, model: Answerer, notes: Notes) -> None:
        self._model = model
        self._notes = notes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def sample(
        self,
        prompts: Sequence[TokenIds],
        seeds: Sequence[Sequence[int]],
        sampling: Sampling,
        finished: Finished = ignore,
    ) -> list[list[Completion]]:
        """See `Sampler`."""
        keys = [
            key_of("completions", prompt, list(own), asdict(sampling))
            for prompt, own in zip(prompts, seeds, strict=True)
        ]
        kept = [known(self._notes.get(key)) for key in keys]
        groups = [[completion_from(row) for row in rows or ()] for rows in kept]
        left = [i for i, rows in enumerate(kept) if rows is None]
        for i in range(len(prompts)):
            if kept[i] is not None:
                finished(i, groups[i])

        def keep(place: int, completions: Sequence[Completion]) -> None:
            i = left[place]
            self._notes.add(keys[i], [asdict(one) for one in completions])
            finished(i, completions)

        some = [prompts[i] for i in left], [seeds[i] for i in left]
        try:
            found = self._model.sample(*some, sampling, keep)
        except NotFiniteError as error:
            places = [left[place] for place in error.places]
            raise NotFiniteError(error.what, places) from error
        for i, group in zip(left, found, strict=True):
            groups[i] = group
        return groups

    def logits_at(
        self, pairs: Sequence[Pair], columns: Sequence[Sequence[TokenIds]]
    ) -> list[list[NDArray[np.float32]]]:
        """See `Scorer`.

        All or none are kept: grouping into passes may change the last bits.
        """
        key = key_of("logits", pairs, columns)
        kept = self._notes.get(key)
        if kept is not None:
            return [[np.array(row, np.float32) for row in rows] for rows in kept]
        found = self._model.logits_at(pairs, columns)
        self._notes.add(key, [[row.tolist() for row in rows] for rows in found])
        return found


def remembering(model: Any, notes: Notes) -> Any:
    """Return a `Remembering` of a model."""
    return Remembering(model, notes)


def key_of(*parts: Any) -> str:
    """Return a key for JSON values."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def known(rows: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
    """Return noted completions, unless a later version added fields."""
    return rows if rows is None or all(row.keys() <= FIELDS for row in rows) else None


def completion_from(row: dict[str, Any]) -> Completion:
    """Return a completion from its fields in JSON."""
    lists = {name: tuple(v) for name, v in row.items() if isinstance(v, list)}
    return Completion(**(row | lists))
