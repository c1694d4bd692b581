"""What more steps of training change: every arm after each number of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.factorial.answers import (
    Table,
    arms_of,
    by_source,
    mean_ece,
    own_scores,
)
from benchmarks.factorial.design import RIVALS
from benchmarks.factorial.effects import (
    POOLED,
    Hypothesis,
    Scores,
    difference,
    results_of,
)
from benchmarks.factorial.writing import percent, points
from neuron_opsd.method.statistics import FloatArray
from neuron_opsd.results.comparison import BASE
from neuron_opsd.results.run import PROMPTED
from neuron_opsd.seeds import generator

ByStep: TypeAlias = Mapping[int, Mapping[str, Table]]
"""The tables of all sources, by steps of training, ascending."""
RIVAL: Final = RIVALS["lmsi"]


def steps_of(scores: pa.Table, parts: Sequence[str]) -> list[int]:
    """Return the numbers of steps after which models of some parts were tested."""
    steps = scores.filter(pc.field("part").isin(parts))["steps"].unique().to_pylist()
    return sorted(step for step in steps if step)


def along_headings(by_step: ByStep) -> list[str]:
    """Name the columns of `along_rows`."""
    return [
        *(f"after {step}" for step in by_step),
        *changes_after([*by_step]),
        *(f"ECE after {step}" for step in by_step),
    ]


def along_rows(by_step: ByStep) -> Iterator[list[str]]:
    """Yield a row for every trained arm: means over sources, by steps."""
    own = {step: own_scores(tables) for step, tables in by_step.items()}
    sources = joined(own)
    pooled = POOLED if len(sources) > 1 else next(iter(sources))
    arms = [arm for arm in arms_of(own[max(own)]) if arm not in (BASE, PROMPTED)]
    found = {
        (one.family, one.name): result
        for one, where, result in results_of(
            changes(arms, [*by_step]), sources, generator(0, "factorial", "along")
        )
        if where == pooled
    }
    for arm in arms:
        means = [float(np.mean(by_source(scores, arm))) for scores in own.values()]
        eces = [mean_ece(by_step[step], own[step], arm) for step in by_step]
        yield [
            arm,
            *map(percent, means),
            *(points(found.get((name, arm))) for name in changes_after([*by_step])),
            *(f"{value:.3f}" for value in eces),
        ]


def changes_after(steps: Sequence[int]) -> list[str]:
    """Name what `changes` yields of an arm."""
    before, last = steps[-2:]
    rival = (f"above {RIVAL}, {step} steps" for step in (before, last))
    return [f"{last} steps above {before}", *rival]


def changes(arms: Sequence[str], steps: Sequence[int]) -> Iterator[Hypothesis]:
    """Yield what the last steps change, and where each arm stands beside the rival."""
    before, last = steps[-2:]
    more, rival_before, rival_last = changes_after(steps)
    for arm in arms:
        own = after(arm, last)
        yield Hypothesis(more, arm, difference(own, after(arm, before)))
        if arm != RIVAL:
            rival = difference(after(arm, before), after(RIVAL, before))
            yield Hypothesis(rival_before, arm, rival)
            yield Hypothesis(rival_last, arm, difference(own, after(RIVAL, last)))


def joined(own: Mapping[int, Mapping[str, Scores]]) -> dict[str, Scores]:
    """Return the scores of all steps by source, each arm named by its steps too."""
    found: dict[str, dict[str, Mapping[int, FloatArray]]] = defaultdict(dict)
    for step, sources in own.items():
        for source, scores in sources.items():
            found[source] |= {after(arm, step): row for arm, row in scores.items()}
    return dict(found)


def after(arm: str, step: int) -> str:
    """Name an arm after some steps."""
    return f"{arm} after {step}"
