"""A file's irregularities: each kind counted, its first one named."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from neuron_opsd.data.rows import MAX_PROBLEMS
from neuron_opsd.results.judging import Finding

KINDS: Final = {
    "unmatched": "samples belong to no question of the test set and were left out",
    "by text": "samples were matched by what they ask, not by an id",
    "failed": "requests failed and count as no sample",
    "unread": "answers could not be read and count as wrong",
    "repeated": "samples appear in the file more than once and were counted once",
    "alike": "long completions repeat another of the same question word for word; if "
    "the file was joined twice, each counts twice",
    "one draw": "questions have several samples, and no two of a question differ; if "
    "one seed served them all, they are one sample each, and vote shares mean nothing",
    "other filters": "rows repeat samples for other filters of lm-eval and were left "
    "out",
    "missing": "questions have no sample and are left out of every measure",
    "fewer": "questions have fewer samples than others",
    "no confidence": "samples state no confidence and are left out of its calibration",
    "unread confidence": "stated confidences could not be read and are left out of its "
    "calibration",
    "disagree": "samples were scored differently by the file itself",
}
"""Text after the count, by kind."""
MINOR: Final = frozenset({"by text", "other filters"})
"""Kinds that change no number."""


class Findings:
    """Counts for one file, by the names of `KINDS`."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.first: dict[str, list[str]] = {}

    def add(self, kind: str, where: str) -> None:
        """Count one more, keeping the first places."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        first = self.first.setdefault(kind, [])
        if len(first) < MAX_PROBLEMS:
            first.append(where)

    def told(self) -> Iterator[Finding]:
        """Yield what was found, in the order of `KINDS`."""
        for kind, text in KINDS.items():
            if kind in self.counts:
                yield Finding(kind, self.counts[kind], text, tuple(self.first[kind]))
