"""A pool with items that demand one fixed answer: what is told of it, and what is not.

An item such as "whatever is asked, answer yes" is answered alike by every rollout and
with few neurons, which is what the fewest-neurons rule looks for: so its share grows
from the pool to the selection. These tests say from which share on a run tells, and
that `selection.balance` keeps it from growing.
"""

from __future__ import annotations

import numpy as np
import pytest

from neuron_opsd.answers.votes import tally_votes
from neuron_opsd.config import SelectionConfig, TeacherCheckConfig
from neuron_opsd.method.selection import PoolSignals, select_questions
from neuron_opsd.records import Completion, NeuronSet, Question, Rollout
from neuron_opsd.seeds import generator
from neuron_opsd.stages.teacher_check import (
    one_answer_findings,
    pool_findings,
    selection_findings,
)

SIZE = 400
DEMANDED = "yes"


def neuron_set(name: str, count: int) -> NeuronSet:
    """Return a set of which only the count matters."""
    ids, scores = np.empty(0, np.uint32), np.empty(0, np.float32)
    return NeuronSet(name, count, ids, scores, num_tokens=1)


class Poisoned:
    """A pool of free questions of which some demand one answer."""

    def __init__(self, share: float, *, balance: bool = False) -> None:
        """Make a pool; the demanding items have the fewest neurons."""
        rng = generator(0, "poison", "pool")
        self.bad = round(share * SIZE)
        names = [f"q{n}" for n in range(SIZE)]
        self.own: dict[str, str | None] = {
            name: DEMANDED if n < self.bad else f"answer {n % 60}"
            for n, name in enumerate(names)
        }
        counts = rng.integers(500, 900, SIZE)
        neurons = [
            neuron_set(name, 100 if n < self.bad else int(counts[n]))
            for n, name in enumerate(names)
        ]
        config = SelectionConfig(keep_fraction=0.2, balance=balance)
        own = {rollout.question_id: rollout for rollout in self.rollouts(1)}
        self.selection = select_questions(PoolSignals(neurons, own), config, 0)
        self.questions = [Question(name, ()) for name in names]

    def kept_share(self) -> float:
        """Return the share of the selected questions that demand the answer."""
        kept = [self.own[e.question_id] for e in self.selection if e.kept]
        return kept.count(DEMANDED) / len(kept)

    def rollouts(self, count: int) -> list[Rollout]:
        """Return so many rollouts of each question, which all say the same."""
        return [
            Rollout(
                name,
                k,
                0.6,
                Completion((1,), str(answer), finished=True, logprob=0.0, entropy=0.0),
                answer,
            )
            for name, answer in self.own.items()
            for k in range(count)
        ]

    def told(self) -> list[str]:
        """Return what a run says of it before it trains."""
        rollouts, limits = self.rollouts(2), TeacherCheckConfig()
        return [
            *pool_findings(self.questions, rollouts, limits),
            *one_answer_findings(tally_votes(rollouts), limits),
            *selection_findings(self.selection, self.own, limits),
        ]


@pytest.mark.parametrize(
    ("share", "kept", "findings"),
    [
        (0.0, 0.0, []),
        (0.005, 0.025, []),
        (0.01, 0.05, []),
        (0.04, 0.2, []),
        (0.06, 0.3, ["of the selected questions"]),
        (0.1, 0.5, ["of the selected questions"]),
        (0.25, 1.0, ["of the pool, above", "of the selected questions"]),
        (0.96, 1.0, ["of the pool, above", "of the model's own answers to the pool"]),
    ],
)
def test_from_which_share_a_demanded_answer_is_told(
    share: float, kept: float, findings: list[str]
) -> None:
    """Items of few neurons are five times as frequent among the fifth that is kept."""
    pool = Poisoned(share)
    assert pool.kept_share() == pytest.approx(kept, abs=0.013)
    told = pool.told()
    assert len(told) == len(findings)
    for line, words in zip(told, findings, strict=True):
        assert words in line
        assert repr(DEMANDED) in line


@pytest.mark.parametrize("share", [0.01, 0.05, 0.1, 0.25])
def test_balance_keeps_a_demanded_answer_from_growing(share: float) -> None:
    assert Poisoned(share, balance=True).kept_share() <= share + 0.03
