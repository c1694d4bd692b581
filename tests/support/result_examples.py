"""Small tested models for the tests of a comparison's numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from neuron_opsd.comparison.measuring import Arm, Tested
from neuron_opsd.config import EvaluationConfig
from neuron_opsd.records.scores import QuestionScore, TestResult
from neuron_opsd.results.comparison import BASE
from neuron_opsd.stages.scoring import summarise

CONFIG = EvaluationConfig(num_resamples=200)

OURS = "neuron-opsd"

Counts = Sequence[int]
"""How many of 8 rollouts are correct, for each question of a set."""


def result(name: str, counts: Counts) -> TestResult:
    """Return a result of 8 rollouts a question, so many of them correct."""
    scores = [score(f"{name}-{place}", num, place) for place, num in enumerate(counts)]
    return summarise(name, scores, CONFIG)


def score(question_id: str, num: int, place: int) -> QuestionScore:
    """Return a score with so many of 8 right; every third gold answer is ``b``."""
    gold, other = ("b", "a") if place % 3 == 2 else ("a", "b")
    return QuestionScore(
        question_id,
        num,
        8,
        gold if num > 4 else other,
        num > 4,
        max(num, 8 - num) / 8,
        0,
        0,
        2.0,
        gold,
        tuple((name, n) for name, n in ((gold, num), (other, 8 - num)) if n),
    )


def model(
    source: str,
    method: str,
    tests: Mapping[str, Counts],
    *,
    seed: int = 0,
    start: str = BASE,
    step: int | None = None,
) -> Tested:
    """Return a model; unless said otherwise after 10 steps, the base after none."""
    if step is None:
        step = 0 if method == BASE else 10
    results = {name: result(name, counts) for name, counts in tests.items()}
    return Tested(Arm(start, source, method, step), seed, results)
