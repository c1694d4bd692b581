"""How a step's batch is split into passes, which halve where memory runs out.

The gradient is that of the whole batch whatever the split, up to the order in which it
is added up. So a step in which memory ran out is started again; its split is kept, and
a run that resumes takes the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from neuron_opsd.models.roles import Learner
from neuron_opsd.models.room import attempt, in_halves, refuse_single
from neuron_opsd.processes.ranks import ALONE, Ranks
from neuron_opsd.records import Pair
from neuron_opsd.stages.together import done_by_all, told

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Split:
    """How the batches of a training are split into passes, from a step on."""

    step: int
    micro_batch_size: int
    """Completions of a pass with gradient."""
    tokens: int
    """Tokens of a pass without."""


class Splits:
    """The splits of a training by step, as they are found or were found before."""

    def __init__(
        self,
        known: Sequence[Split] = (),
        note: Callable[[Sequence[Split], str], None] = lambda *_: None,
    ) -> None:
        """Take what was found before.

        Args:
            known: In the order of their steps.
            note: Called with all splits before the first step with a new one is taken,
                and what was said when memory ran out.
        """
        self.known = list(known)
        self.note = note

    def at(self, step: int, usual: Split) -> Split:
        """Return the split of a step, which is the usual one before any was found."""
        earlier = [split for split in self.known if split.step <= step]
        return earlier[-1] if earlier else usual

    def change(self, before: Split, after: Split, said: str) -> None:
        """Split otherwise from a step on."""
        if not self.known:
            self.known.append(replace(before, step=0))
        earlier = [split for split in self.known if split.step < max(after.step, 1)]
        self.known = [*earlier, after]
        self.note(self.known, said)


class StepSplit:
    """The split of one step, which may have to be changed while it is taken."""

    def __init__(
        self,
        learner: Learner,
        step: int,
        usual: int,
        splits: Splits,
        ranks: Ranks = ALONE,
    ) -> None:
        """Give the learner the room that the step has."""
        self.learner = learner
        self.ranks = ranks
        self.splits = splits
        found = splits.at(step, Split(step, usual, learner.room.tokens))
        self.now = replace(found, step=step)
        learner.room.tokens = self.now.tokens

    def shrank(self) -> bool:
        """Whether passes without gradient have found less room in this step.

        All ranks take the least that one has found.
        """
        tokens = min(told(self.ranks, "room", self.learner.room.tokens))
        if tokens >= self.now.tokens:
            return False
        self.learner.room.tokens = tokens
        self._change(replace(self.now, tokens=tokens), "")
        return True

    def gather(
        self, gather: Callable[[int], float], largest: Callable[[int], int]
    ) -> float:
        """Gather a batch's gradient with parts of so many completions; return its loss.

        Where memory runs out on one rank, all gather theirs again in smaller parts;
        `largest` says how many completions the largest of these has.

        Raises:
            TryAgainError: If a single completion has no room.
        """
        while True:
            losses: list[float] = []
            said = done_by_all(
                self.ranks,
                lambda: attempt(
                    lambda: losses.append(gather(self.now.micro_batch_size))  # noqa: B023 - called at once
                ),
            )
            used = largest(self.now.micro_batch_size) if said else 0
            short = [one for one in told(self.ranks, "memory", (used, said)) if one[1]]
            if not short:
                return losses[0]
            self.learner.drop_gradients()
            used, said = min(short)
            refuse_single(used, "the training pass of a completion", said)
            self._change(replace(self.now, micro_batch_size=used // 2), said)

    def _change(self, after: Split, said: str) -> None:
        self.splits.change(self.now, after, said)
        self.now = after


def in_passes(
    learner: Learner,
    items: Sequence[T],
    pairs: Sequence[Pair],
    work: Callable[[Sequence[T]], list[R]],
    what: str,
    max_rows: int = 0,
) -> list[R]:
    """Work without gradient on items, by their pairs, in passes that have room.

    `what` is as in `in_halves`; a pass has any number of rows where `max_rows` is 0.
    """
    found: list[R] = []
    with torch.no_grad():
        rows = max_rows or len(pairs)
        for part in consecutive(pairs, rows, learner.room.tokens):
            found += in_halves(items[part], work, what)
    return found


def consecutive(
    pairs: Sequence[Pair], max_rows: int, max_tokens: int
) -> Iterator[slice]:
    """Cut pairs, in their order, into parts of at most so many rows and tokens.

    A prompt that follows an equal one counts once, since both are read in one row. A
    longer pair has a part of its own.
    """
    start = tokens = 0
    for place, (prompt, completion) in enumerate(pairs):
        repeated = place > start and prompt == pairs[place - 1][0]
        more = len(completion) + (0 if repeated else len(prompt))
        if place - start == max_rows or (place > start and tokens + more > max_tokens):
            yield slice(start, place)
            start, tokens, more = place, 0, len(prompt) + len(completion)
        tokens += more
    if start < len(pairs):
        yield slice(start, len(pairs))
