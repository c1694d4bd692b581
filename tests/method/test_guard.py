"""Signs of collapse: none while all is well, each named when it shows."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from neuron_opsd.config import GuardConfig
from neuron_opsd.method import guard
from neuron_opsd.method.guard import WINDOW, Guard, best_step, collapses
from neuron_opsd.records import Collapse, Look, Reading, StepMetrics

LIMITS = GuardConfig()
HEALTHY = StepMetrics(
    step=0,
    loss=0.2,
    grad_norm=1.0,
    learning_rate=1e-4,
    num_tokens=100,
    mean_length=10.0,
    truncated=0.1,
    entropy=0.5,
    top_answer_share=0.25,
    repetition=0.1,
    agreement=0.6,
)
READING = Reading(
    mean_length=10.0,
    truncated=0.1,
    repetition=0.1,
    entropy=0.5,
    agreement=0.6,
    top_answer_share=0.4,
    information=0.5,
    base_agreement=0.5,
    divergence=0.1,
    surprise=0.1,
)


def course(num_steps: int, **last: Any) -> list[StepMetrics]:
    """Return healthy steps of which the last `WINDOW` differ as told."""
    healthy = [replace(HEALTHY, step=step) for step in range(num_steps)]
    return healthy[:-WINDOW] + [replace(step, **last) for step in healthy[-WINDOW:]]


def looked_at(*students: Reading, base: Reading = READING) -> list[StepMetrics]:
    """Return steps after each of which there was a look."""
    return [
        replace(HEALTHY, step=step, look=Look(student, base))
        for step, student in enumerate(students)
    ]


def changed(**fields: Any) -> Reading:
    return replace(READING, **fields)


def seen(steps: Iterable[StepMetrics]) -> list[Collapse]:
    return collapses(steps, LIMITS)


def test_a_healthy_course_shows_no_sign() -> None:
    assert seen(course(50)) == []
    assert seen(looked_at(READING, READING)) == []


@pytest.mark.parametrize(
    ("field", "limit", "sign"),
    [
        ("mean_length", 30.0, "rollouts grow long"),
        ("truncated", 0.6, "rollouts are cut at the longest length"),
        ("repetition", 0.4, "rollouts repeat themselves"),
        ("entropy", 1.5, "the entropy explodes"),
        ("loss", 0.6, "the loss grows"),
    ],
)
def test_each_sign_of_the_steps_shows_above_its_limit_and_not_below(
    field: str, limit: float, sign: str
) -> None:
    assert seen(course(25, **{field: 0.99 * limit})) == []
    (found,) = seen(course(25, **{field: 1.01 * limit}))
    assert found.sign.startswith(sign)
    assert found.step == 24
    assert found.value == pytest.approx(1.01 * limit)
    assert found.limit == pytest.approx(limit)


def test_unanimity_and_lost_entropy_of_the_steps_show_below_their_limits() -> None:
    assert seen(course(25, entropy=0.011, agreement=0.991)) == []
    assert [one.sign.partition(" in ")[0] for one in seen(course(25, entropy=0.009))]
    (found,) = seen(course(25, agreement=0.993))
    assert found.sign == "all rollouts of a question agree in the last steps"


@pytest.mark.parametrize(
    ("field", "healthy", "collapsed", "sign"),
    [
        ("mean_length", 29.0, 31.0, "rollouts grow long"),
        ("truncated", 0.59, 0.61, "rollouts are cut at the longest length"),
        ("repetition", 0.39, 0.41, "rollouts repeat themselves"),
        ("entropy", 0.011, 0.009, "the entropy is gone"),
        ("entropy", 1.49, 1.51, "the entropy explodes"),
        ("agreement", 0.991, 0.993, "all rollouts of a question agree"),
        ("top_answer_share", 0.84, 0.86, "one answer is given to nearly all questions"),
        ("information", 0.13, 0.12, "answers hardly depend on the question"),
        ("surprise", 1.19, 1.21, "the student rules out what the base model says"),
        ("divergence", 2.9, 3.1, "the student is far from the base model"),
    ],
)
def test_each_sign_of_a_look_shows_at_once_beyond_its_limit(
    field: str, healthy: float, collapsed: float, sign: str
) -> None:
    less: dict[str, float] = {"base_agreement": 0.4}  # than the base with itself
    if field == "surprise":
        less["entropy"] = 0.29  # surer than the base
    fine, bad = changed(**less | {field: healthy}), changed(**less | {field: collapsed})
    (found,) = seen(looked_at(READING, fine, bad, bad))
    assert found.sign == f"{sign} on the guard's questions"
    assert found.step == 2, "told once, as it is first seen"


def test_every_sign_has_a_test() -> None:
    """Counted, so that a sign that is added is tested too."""
    assert len(guard.SIGNS) == 10


def test_few_rollouts_that_agree_are_not_yet_unanimous() -> None:
    """Of 64 rollouts none may dissent though one of twenty would."""
    unanimous = replace(READING, agreement=1.0, num_rollouts=64)
    assert seen(looked_at(unanimous)) == []
    assert len(seen(looked_at(replace(unanimous, num_rollouts=1000)))) == 1


def test_a_base_that_is_unanimous_or_of_one_answer_already_shows_nothing() -> None:
    sure = replace(READING, agreement=1.0, top_answer_share=1.0, entropy=0.0)
    sure = replace(sure, information=0.0)
    assert seen(looked_at(sure, base=sure)) == []


def test_a_student_surer_of_what_the_base_says_may_surprise_it() -> None:
    sure = changed(surprise=9.0, entropy=0.29)
    assert seen(looked_at(replace(sure, base_agreement=0.51))) == []
    assert len(seen(looked_at(replace(sure, base_agreement=0.49)))) == 1


def test_a_student_that_is_no_surer_may_contradict_the_base() -> None:
    """It has learned another form; 84 of 350 healthy models looked like that."""
    other = changed(surprise=9.0, base_agreement=0.1)
    assert seen(looked_at(replace(other, entropy=0.31))) == []
    assert len(seen(looked_at(replace(other, entropy=0.29)))) == 1


def test_one_bad_step_is_no_sign() -> None:
    steps = course(25)
    steps[-1] = replace(steps[-1], mean_length=99.0, truncated=1.0, loss=0.9)
    assert seen(steps) == []


def test_several_signs_are_all_named() -> None:
    assert len(seen(course(20, mean_length=99, loss=9, truncated=1))) == 3


def test_a_loss_weighed_by_rewards_is_no_sign() -> None:
    assert seen([replace(m, loss=-0.2, reward=0.5) for m in course(30)]) == []
    assert seen([replace(m, reward=0.5) for m in course(30, loss=9)]) == []


def test_a_skipped_step_says_nothing() -> None:
    skipped = [replace(HEALTHY, skipped="nan", mean_length=0.0)] * 3
    assert seen([*skipped, *course(25)]) == []


def test_two_windows_are_needed() -> None:
    assert seen(course(2 * WINDOW - 1, loss=9)) == []
    assert seen([]) == []


def test_a_high_loss_among_the_first_steps_raises_the_limit() -> None:
    steps = course(20, loss=0.9)
    steps[0] = replace(steps[0], loss=0.4)
    assert seen(steps) == []


def test_a_guard_that_is_shown_earlier_steps_comes_to_the_same() -> None:
    steps = course(30, mean_length=99) + course(30, truncated=1.0)
    steps = [replace(step, step=place) for place, step in enumerate(steps)]
    steps[40] = replace(steps[40], look=Look(replace(READING, entropy=0.0), READING))
    whole = seen(steps)
    assert len(whole) == 3
    for cut in (25, 40, 41, 55):
        resumed = Guard(LIMITS)
        for step in steps[:cut]:
            resumed.add(step)
        later = [sign for step in steps[cut:] for sign in resumed.add(step)]
        assert later == [sign for sign in whole if sign.step >= cut]
        assert list(resumed.seen.values()) == whole


def test_each_step_costs_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing looks at more than two windows a step, and no more is held."""
    looked: list[int] = []

    def counted(values: Iterable[float]) -> float:
        found = list(values)
        looked.append(len(found))
        return fmean(found)

    monkeypatch.setattr(guard, "fmean", counted)
    totals = []
    for count in (100, 400):
        looked.clear()
        assert seen(course(count)) == []
        totals.append(sum(looked))
    assert totals[1] < 5 * totals[0]


def test_the_best_step_is_the_earliest_with_the_highest_score() -> None:
    assert best_step(course(20), LIMITS) is None
    scores = [0.6, 0.8, 0.8, 0.2]
    steps = looked_at(*(replace(READING, base_agreement=score) for score in scores))
    best = best_step(steps, LIMITS)
    assert best is not None
    assert (best.num_steps, best.score, best.last) == (2, 0.8, 0.2)


def test_the_untrained_model_is_best_where_every_step_is_worse() -> None:
    worse = replace(READING, base_agreement=0.1)
    best = best_step(looked_at(worse, worse), LIMITS)
    assert best is not None
    assert (best.num_steps, best.score) == (0, READING.base_agreement)


RECORDED = json.loads(
    (Path(__file__).parents[1] / "cases/recorded_steps.json").read_text("utf-8")
)
"""What 30 steps of every method of the comparison measured on the demo's model, seed 0,
without labels: loss, entropy, length, truncation, agreement and reward of each step. Of
some there is a look after the last step, at 64 questions of the pool."""


def recorded(kind: str) -> list[str]:
    return [name for name, run in RECORDED.items() if run["kind"] == kind]


def replayed(name: str) -> list[StepMetrics]:
    run = RECORDED[name]
    fields = "loss", "entropy", "mean_length", "truncated", "agreement", "reward"
    steps = [
        replace(HEALTHY, step=step, **dict(zip(fields, values, strict=True)))
        for step, values in enumerate(run["steps"])
    ]
    if "look" in run:
        models = {model: Reading(**table) for model, table in run["look"].items()}
        steps[-1] = replace(steps[-1], look=Look(**models))
    return steps


def test_the_recorded_runs_are_as_many_as_are_counted() -> None:
    assert (len(recorded("healthy")), len(recorded("collapsed"))) == (13, 5)


@pytest.mark.parametrize("name", recorded("healthy"))
def test_recorded_healthy_runs_leave_it_silent(name: str) -> None:
    assert seen(replayed(name)) == []


@pytest.mark.parametrize("name", recorded("collapsed"))
def test_recorded_collapsed_runs_make_it_fire(name: str) -> None:
    assert seen(replayed(name)) != []
