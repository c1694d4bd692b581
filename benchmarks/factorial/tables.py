"""Print the tables of the factorial experiment as Markdown, for the lab notebook.

    python -m benchmarks.factorial.tables runs/factorial

Reads what every part's comparison left of every question, writes all of it to one
`scores.parquet` and every effect to `effects.json`. What the families hold, and what
counts as an effect that matters, was written down before the run.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.factorial.design import (
    chosen_recipe,
    every_second,
    hypotheses,
    of_forgetting,
    of_recipe,
)
from benchmarks.factorial.effects import (
    Estimate,
    Hypothesis,
    Scores,
    difference,
    results_of,
    verdict,
)
from benchmarks.factorial.sources import CROSS_DOMAIN, SOURCES
from neuron_opsd.method.calibration import binned_gap
from neuron_opsd.method.resampling import Resampled, over_seeds
from neuron_opsd.method.statistics import FloatArray, bootstrap_weights
from neuron_opsd.probing.files import JSON
from neuron_opsd.records.scores import Interval
from neuron_opsd.results.comparison import BASE
from neuron_opsd.results.probe import ACCURACY
from neuron_opsd.seeds import generator
from neuron_opsd.storage.codecs import without_nan
from neuron_opsd.storage.files import write_atomic
from neuron_opsd.storage.score_rows import SCORES

NUM_BINS: Final = 15
NUM_ECE_RESAMPLES: Final = 2000
CROSS: Final = "other sets"


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
    scores: pa.Table, part: str, steps: int | None = None
) -> dict[str, Table]:
    """Return how the models of a part answered, by source.

    Untrained models, and those after a number of steps, the most if none is named.
    Questions ascend by id, so that those of all models stand in one order.
    """
    rows: dict[str, dict[Key, dict[str, dict[str, Any]]]] = {}
    own = scores.filter(pc.field("part") == part).to_pylist()
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


def arm_rows(table: Table, source: str) -> Iterator[list[str]]:
    """Yield a row for every arm of a source: accuracy, calibration and other sets."""
    own, other = accuracies(table, [source]), accuracies(table, [*CROSS_DOMAIN])
    listed = [Hypothesis("", arm, difference(arm, BASE)) for arm in own if arm != BASE]
    found = {
        (kind, one.name): result
        for kind, scores in (("own", own), ("other", other))
        for one, _, result in results_of(
            listed, {source: scores}, draws("arms", source)
        )
    }
    for arm, seeds in own.items():
        means = [seeds[seed].mean() for seed in sorted(seeds)]
        eces = [ece(table[source, arm, seed]) for seed in sorted(seeds)]
        calibration = ece_difference(table, source, arm, BASE) if arm != BASE else None
        yield [
            arm,
            percent(float(np.mean(means))),
            " ".join(map(percent, means)),
            points(found.get(("own", arm))),
            f"{np.mean(eces):.3f}",
            interval_text(calibration),
            points(found.get(("other", arm))),
        ]


HEADINGS: Final = (
    "Avg@32",
    "by seed",
    "against base",
    "ECE",
    "ECE against base",
    "other sets against base",
)


def effect_rows(
    results: Sequence[tuple[Hypothesis, str, Estimate]], family: str
) -> Iterator[list[str]]:
    """Yield a row for every effect of a family, pooled first and then by source."""
    names = dict.fromkeys(one.name for one, _, _ in results if one.family == family)
    for name in names:
        own = [
            (w, e, h.least)
            for h, w, e in results
            if (h.family, h.name) == (family, name)
        ]
        for where, result, least in sorted(own, key=lambda row: row[0] in SOURCES):
            yield [
                name,
                where,
                points(result),
                f"{result.p_value:.3f}",
                f"{result.p_adjusted:.3f}",
                verdict(result, least),
            ]


def lead_rows(
    probes: Path,
    own: Mapping[str, Scores],
    results: Sequence[tuple[Hypothesis, str, Estimate]],
) -> Iterator[list[str]]:
    """Yield how far a teacher is above that of random demonstrations, and its student.

    The teacher is asked questions of the pool before training, the student those of
    the test after it, so the two are independent.
    """
    found = {(one.name, where): result for one, where, result in results}
    for source in own:
        path = probes / source / JSON
        if not path.is_file():
            continue
        contexts = json.loads(path.read_text(encoding="utf-8"))["contexts"]
        for context in contexts:
            lead = context["over_random"].get(ACCURACY)
            name = NAME_OF_RULE.get(context["rule"])
            student = found.get((f"{name} above random", source))
            if lead is not None and student is not None:
                before = Interval(lead["value"], lead["low"], lead["high"])
                yield [source, str(name), *lead_cells(before, student)]


LEADS: Final = ("source", "contexts", "teacher's lead", "student's", "lost in training")
NAME_OF_RULE: Final = {
    "nearest": "nearest",
    "question-neurons": "question",
    "same-answer": "same-answer",
    "words": "words",
    "fixed": "fixed",
}
"""Of context rules, as the arms' names have them."""


def lead_cells(before: Interval, student: Estimate) -> list[str]:
    """Write the teacher's lead, the student's, and by how much the first is larger."""
    error = (before.high - before.low) / (2.0 * NORMAL)
    both = NORMAL * float(np.hypot(error, student.error))
    lost = before.value - student.value
    leads = (
        (before.value, before.low, before.high),
        (student.value, student.low, student.high),
    )
    return [
        *(in_points(*lead) for lead in leads),
        in_points(lost, lost - both, lost + both),
    ]


NORMAL: Final = 1.96
"""Half of a 95 % interval in standard errors."""


def in_points(value: float, low: float, high: float) -> str:
    """Write a difference in points with its interval."""
    return f"{100 * value:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def points(result: Estimate | None) -> str:
    """Write an effect in points with its interval."""
    return "" if result is None else in_points(result.value, result.low, result.high)


def interval_text(interval: Interval | None) -> str:
    """Write a difference of calibration errors."""
    if interval is None:
        return ""
    return f"{interval.value:+.3f} ({interval.low:+.3f} to {interval.high:+.3f})"


def percent(share: float) -> str:
    """Write a share in per cent."""
    return f"{100 * share:.1f}"


def draws(*purpose: str) -> np.random.Generator:
    """Return the random numbers of a purpose, always the same."""
    return generator(0, "factorial", *purpose)


def print_table(headings: Iterable[str], rows: Iterable[Sequence[str]]) -> None:
    """Print one Markdown table, if it has a row."""
    body = list(rows)
    if not body:
        return
    columns = list(headings)
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in body:
        print("| " + " | ".join(row) + " |")
    print()


def main() -> None:
    """Print every table and write the files."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.factorial.tables")
    parser.add_argument("out", type=Path)
    parser.add_argument("--part", default="main")
    parser.add_argument("--steps", type=int, help="of training; else the most")
    options = parser.parse_args()
    scores = read_scores(options.out)
    pq.write_table(scores, options.out / SCORES, compression="zstd")
    tables = tables_of(scores, options.part, options.steps)
    for source, table in tables.items():
        print_table((f"trained on {source}", *HEADINGS), arm_rows(table, source))
    own = {source: accuracies(table, [source]) for source, table in tables.items()}
    results = results_of(hypotheses(), own, draws("effects"))
    arm = chosen_recipe(every_second(own, 0))
    others = every_second(own, 1)
    results += results_of(of_recipe(arm), others, draws("recipe"))
    other = {name: accuracies(table, [*CROSS_DOMAIN]) for name, table in tables.items()}
    results += results_of(of_forgetting(), other, draws("other sets"))
    for family in dict.fromkeys(one.family for one, _, _ in results):
        headings = (family, "source", "points", "p", "p, Holm", "reading")
        print_table(headings, effect_rows(results, family))
    print_table(LEADS, lead_rows(options.out / "probe", own, results))
    rows = [
        {"family": one.family, "name": one.name, "source": where, **asdict(result)}
        for one, where, result in results
    ]
    text = json.dumps([without_nan(row) for row in rows], indent=1)
    write_atomic(options.out / "effects.json", text.encode())


if __name__ == "__main__":
    main()
