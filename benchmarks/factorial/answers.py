"""What the models of the experiment scored, question by question."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.factorial.effects import Scores
from neuron_opsd.method.calibration import binned_gap
from neuron_opsd.method.resampling import Resampled, over_seeds
from neuron_opsd.method.statistics import FloatArray, bootstrap_weights
from neuron_opsd.records.scores import Interval
from neuron_opsd.results.comparison import BASE
from neuron_opsd.seeds import generator
from neuron_opsd.storage.score_rows import SCORES

NUM_BINS: Final = 15
NUM_ECE_RESAMPLES: Final = 2000


@dataclass(frozen=True, slots=True)
class Answers:
    """How one model answered the questions of a test set; every array is ``(Q,)``."""

    accuracy: FloatArray
    confidence: FloatArray
    correct: NDArray[np.bool_]


Key: TypeAlias = tuple[str, str, int]
"""Test set, arm and seed."""
Table: TypeAlias = Mapping[Key, Answers]
"""Of one source."""


def read_scores(out: Path) -> pa.Table:
    """Return the rows of all parts, with the part's name; of `second` too."""
    tables = []
    for path in sorted(out.glob(f"*/*/{SCORES}")):
        table = pq.read_table(path)
        part = pa.array([path.parent.parent.name] * len(table))
        tables.append(table.append_column("part", part))
    if not tables:
        raise SystemExit(
            f"no comparison in {out} has ended; run python -m benchmarks.factorial"
        )
    return pa.concat_tables(tables)


def tables_of(
    scores: pa.Table, parts: Sequence[str], steps: int | None = None
) -> dict[str, Table]:
    """Return how the models of some parts answered, by source.

    Untrained models, and those after a number of steps, the most if none is named.
    Questions ascend by id, so that those of all models stand in one order. A model
    that several parts trained is the same in each.
    """
    rows: dict[str, dict[Key, dict[str, dict[str, Any]]]] = {}
    own = scores.filter(pc.field("part").isin(parts)).to_pylist()
    last = max((row["steps"] for row in own), default=0) if steps is None else steps
    for row in own:
        if row["start"] != BASE or row["steps"] not in (0, last):
            continue
        found = rows.setdefault(row["source"], {})
        key = (row["test"], row["method"], row["seed"])
        found.setdefault(key, {})[row["question_id"]] = row
    return {
        source: {key: answers_of(own) for key, own in found.items()}
        for source, found in rows.items()
    }


def answers_of(rows: Mapping[str, Mapping[str, Any]]) -> Answers:
    """Return the answers of one model to one test set."""
    own = [rows[name] for name in sorted(rows)]
    return Answers(
        np.array([row["num_correct"] / row["num_rollouts"] for row in own]),
        np.array([row["agreement"] for row in own], dtype=np.float64),
        np.array([row["majority_correct"] for row in own], dtype=np.bool_),
    )


def accuracies(table: Table, tests: Sequence[str]) -> Scores:
    """Return what every arm scored, by seed, on all questions of some test sets."""
    arms: dict[str, dict[int, FloatArray]] = defaultdict(dict)
    for _, arm, seed in table:
        parts = [table.get((test, arm, seed)) for test in tests]
        known = [part.accuracy for part in parts if part is not None]
        if len(known) == len(tests):
            arms[arm][seed] = np.concatenate(known)
    return arms


def own_scores(tables: Mapping[str, Table]) -> dict[str, Scores]:
    """Return what every arm scored in the domain of each source."""
    return {source: accuracies(table, [source]) for source, table in tables.items()}


def arms_of(own: Mapping[str, Scores]) -> list[str]:
    """Return the arms that all sources have."""
    first = next(iter(own.values()))
    return [arm for arm in first if all(arm in scores for scores in own.values())]


def by_source(own: Mapping[str, Scores], arm: str) -> list[float]:
    """Return an arm's accuracy on each source, the mean over seeds."""
    return [
        float(np.mean([row.mean() for row in scores[arm].values()]))
        for scores in own.values()
    ]


def mean_ece(tables: Mapping[str, Table], own: Mapping[str, Scores], arm: str) -> float:
    """Return an arm's calibration error, the mean over seeds and then sources."""
    found = [
        np.mean([ece(table[source, arm, seed]) for seed in own[source][arm]])
        for source, table in tables.items()
    ]
    return float(np.mean(found))


def ece_difference(
    table: Table, test: str, arm: str, reference: str
) -> Interval | None:
    """Return how the calibration error of an arm differs, over questions and seeds."""
    seeds = [s for t, a, s in table if t == test and a == arm]
    common = [s for s in sorted(seeds) if (test, reference, s) in table]
    if not common:
        return None
    size = len(table[test, arm, common[0]].accuracy)
    rng = generator(0, "ece", test)
    drawn = bootstrap_weights(size, NUM_ECE_RESAMPLES, rng)
    weights = np.vstack([np.ones(size), drawn])

    def gaps(who: str, seed: int) -> FloatArray:
        own = table[test, who, seed]
        return binned_gap(own.confidence, own.correct, weights, NUM_BINS)

    by_seed = []
    for seed in common:
        both = gaps(arm, seed) - gaps(reference, seed)
        by_seed.append(Resampled(both[:1], both[1:, None]))
    (interval,) = over_seeds(by_seed, generator(0, "ece seeds", test)).intervals()
    return interval


def ece(answers: Answers) -> float:
    """Return the calibration error of a model."""
    once = np.ones((1, len(answers.accuracy)))
    gap = binned_gap(answers.confidence, answers.correct, once, NUM_BINS)
    return float(gap[0])
