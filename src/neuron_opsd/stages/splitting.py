"""How a step's batch is split into passes, which are halved if memory runs out.

The gradient stays the whole batch's, up to the order of summing. So a step that ran out
of memory starts again; a resumed run uses the same splits.
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
    """How batches are split into passes, from a step on."""

    step: int
    micro_batch_size: int
    """Completions per pass with gradient."""
    tokens: int
    """Tokens per pass without."""


class Splits:
    """The splits of a training by step, new or from before."""

    def __init__(
        self,
        known: Sequence[Split] = (),
        note: Callable[[Sequence[Split], str], None] = lambda *_: None,
    ) -> None:
        """Take the splits from before.

        Args:
            known: In order of steps.
            note: Called before the first step with a new split, with all splits and the
                out-of-memory message.
        """
        self.known = list(known)
        self.note = note

    def at(self, step: int, usual: Split) -> Split:
        """Return a step's split: the last found, or the usual one."""
        earlier = [split for split in self.known if split.step <= step]
        return earlier[-1] if earlier else usual

    def change(self, before: Split, after: Split, said: str) -> None:
        """Split differently from a step on."""
        if not self.known:
            self.known.append(replace(before, step=0))
        earlier = [split for split in self.known if split.step < max(after.step, 1)]
        self.known = [*earlier, after]
        self.note(self.known, said)


class StepSplit:
    """The split of one step, which may change while it is taken."""

    def __init__(
        self,
        learner: Learner,
        step: int,
        usual: int,
        splits: Splits,
        ranks: Ranks = ALONE,
    ) -> None:
        """Set the learner's room for the step."""
        self.learner = learner
        self.ranks = ranks
        self.splits = splits
        found = splits.at(step, Split(step, usual, learner.room.tokens))
        self.now = replace(found, step=step)
        learner.room.tokens = self.now.tokens

    def shrank(self) -> bool:
        """Whether passes without gradient have found less room in this step.

        All ranks take the least that any has found.
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
        """Gather a batch's gradient in parts of some completions; return its loss.

        If memory runs out on one rank, all start again with parts smaller than the
        `largest` there.

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
    """Work on items without gradient, by their pairs, in passes that have room.

    `what` is as in `in_halves`; `max_rows` of 0 sets no limit.
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
    """Cut pairs, in order, into parts limited in rows and tokens.

    Consecutive equal prompts count once, since they are read in one row. A longer pair
    gets its own part.
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
