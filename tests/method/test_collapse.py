"""Signs of collapse: none while all is well, each named when it shows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from statistics import fmean
from typing import Any

import pytest

from neuron_opsd.method import watches as collapse
from neuron_opsd.method.watches import WINDOW, CollapseWatch, collapse_signs
from neuron_opsd.records import StepMetrics

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
)


def course(num_steps: int, **last: Any) -> list[StepMetrics]:
    """Return healthy steps of which the last `WINDOW` differ as told."""
    healthy = [replace(HEALTHY, step=step) for step in range(num_steps)]
    return healthy[:-WINDOW] + [replace(step, **last) for step in healthy[-WINDOW:]]


def test_a_healthy_course_shows_no_sign() -> None:
    assert collapse_signs(course(50)) == []


@pytest.mark.parametrize(
    ("field", "limit", "sign"),
    [
        ("mean_length", 30.0, "rollouts grow long"),
        ("truncated", 0.6, "rollouts are cut at the longest length"),
        ("top_answer_share", 0.75, "one rollout takes over"),
        ("loss", 0.6, "the loss grows"),
    ],
)
def test_each_sign_shows_above_its_limit_and_not_below(
    field: str, limit: float, sign: str
) -> None:
    assert collapse_signs(course(25, **{field: 0.99 * limit})) == []
    (found,) = collapse_signs(course(25, **{field: 1.01 * limit}))
    assert found.sign == sign
    assert found.step == 24
    assert found.value == pytest.approx(1.01 * limit)
    assert found.limit == pytest.approx(limit)


def test_one_bad_step_is_no_sign() -> None:
    steps = course(25)
    steps[-1] = replace(steps[-1], mean_length=99.0, truncated=1.0, loss=0.9)
    assert collapse_signs(steps) == []


def test_several_signs_are_all_named() -> None:
    assert len(collapse_signs(course(20, mean_length=99, loss=9, truncated=1))) == 3


def test_a_loss_weighed_by_rewards_is_no_sign() -> None:
    assert collapse_signs([replace(m, loss=-0.2, reward=0.5) for m in course(30)]) == []
    assert collapse_signs([replace(m, reward=0.5) for m in course(30, loss=9)]) == []


def test_two_windows_are_needed() -> None:
    assert collapse_signs(course(2 * WINDOW - 1, loss=9)) == []
    assert collapse_signs([]) == []


def test_a_high_loss_among_the_first_steps_raises_the_limit() -> None:
    steps = course(20, loss=0.9)
    steps[0] = replace(steps[0], loss=0.4)
    assert collapse_signs(steps) == []


def test_signs_after_every_step_are_those_of_the_steps_so_far() -> None:
    steps = course(30, mean_length=99) + course(30, truncated=1.0)
    steps = [replace(step, step=place) for place, step in enumerate(steps)]
    watch = CollapseWatch()
    for place, step in enumerate(steps):
        watch.add(step)
        assert watch.signs() == collapse_signs(steps[: place + 1])


def test_each_step_costs_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither watching nor replaying looks at more than two windows a step."""
    looked: list[int] = []

    def counted(values: Iterable[float]) -> float:
        found = list(values)
        looked.append(len(found))
        return fmean(found)

    monkeypatch.setattr(collapse, "fmean", counted)
    totals = []
    for count in (100, 400):
        looked.clear()
        watch = CollapseWatch()
        for step in course(count):
            watch.add(step)
            watch.signs()
        totals.append(sum(looked))
    assert totals[1] < 5 * totals[0]
