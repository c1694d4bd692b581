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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow.parquet as pq

from benchmarks.factorial.along import along_headings, along_rows, steps_of
from benchmarks.factorial.answers import (
    Table,
    accuracies,
    arms_of,
    by_source,
    ece,
    ece_difference,
    mean_ece,
    own_scores,
    read_scores,
    tables_of,
)
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
from benchmarks.factorial.guarding import HEADINGS as GUARD
from benchmarks.factorial.guarding import (
    changes_of,
    guard_rows,
    signs_in,
    signs_today,
)
from benchmarks.factorial.keeping import COMPARISON
from benchmarks.factorial.sources import CROSS_DOMAIN, SOURCES
from benchmarks.factorial.writing import (
    in_points,
    interval_text,
    percent,
    points,
    print_table,
)
from neuron_opsd.probing.summary import JSON
from neuron_opsd.records.scores import Interval
from neuron_opsd.results.comparison import BASE
from neuron_opsd.results.probe import ACCURACY
from neuron_opsd.seeds import generator
from neuron_opsd.storage.codecs import without_nan
from neuron_opsd.storage.files import write_atomic
from neuron_opsd.storage.score_rows import SCORES


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


def mean_rows(tables: Mapping[str, Table]) -> Iterator[list[str]]:
    """Yield a row for every arm: accuracy by source, and the means over sources."""
    own = own_scores(tables)
    for arm in arms_of(own):
        means = by_source(own, arm)
        yield [
            arm,
            str(min(len(scores[arm]) for scores in own.values())),
            *map(percent, means),
            percent(float(np.mean(means))),
            f"{mean_ece(tables, own, arm):.3f}",
        ]


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


COSTS: Final = (
    "training of",
    "blocks",
    "minutes",
    "prompts",
    "tokens written",
    "tokens trained on",
)


def cost_rows(out: Path, parts: Sequence[str]) -> Iterator[list[str]]:
    """Yield what trainings of every arm took, the mean over sources and seeds."""
    spent: dict[str, list[dict[str, float]]] = defaultdict(list)
    paths = [sorted(out.glob(f"{part}/*/{COMPARISON}")) for part in parts]
    for path in chain.from_iterable(paths):
        for line in json.loads(path.read_text(encoding="utf-8"))["budgets"]:
            spent[line["method"]].append(line)
    for arm, lines in spent.items():

        def average(name: str, lines: Sequence[dict[str, float]] = lines) -> float:
            return float(np.mean([line[name] for line in lines]))

        yield [
            arm,
            str(len(lines)),
            f"{average('seconds') / 60:.1f}",
            *(
                f"{average(name):,.0f}"
                for name in ("prompts", "generated_tokens", "trained_tokens")
            ),
        ]


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


def draws(*purpose: str) -> np.random.Generator:
    """Return the random numbers of a purpose, always the same."""
    return generator(0, "factorial", *purpose)


def main() -> None:
    """Print every table and write the files."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.factorial.tables")
    parser.add_argument("out", type=Path)
    parser.add_argument("--parts", nargs="+", default=["main"])
    parser.add_argument("--steps", type=int, help="of training; else the most")
    options = parser.parse_args()
    scores = read_scores(options.out)
    pq.write_table(scores, options.out / SCORES, compression="zstd")
    tables = tables_of(scores, options.parts, options.steps)
    for source, table in tables.items():
        print_table((f"trained on {source}", *HEADINGS), arm_rows(table, source))
    print_table(("arm", "seeds", *tables, "mean", "ECE"), mean_rows(tables))
    own = own_scores(tables)
    results = results_of(hypotheses(), own, draws("effects"))
    arm = chosen_recipe(every_second(own, 0))
    others = every_second(own, 1)
    results += results_of(of_recipe(arm), others, draws("recipe"))
    other = {name: accuracies(table, [*CROSS_DOMAIN]) for name, table in tables.items()}
    results += results_of(of_forgetting(), other, draws("other sets"))
    for family in dict.fromkeys(one.family for one, _, _ in results):
        headings = (family, "source", "points", "p", "p, Holm", "reading")
        print_table(headings, effect_rows(results, family))
    steps = steps_of(scores, options.parts)
    if len(steps) > 1:
        by_step = {step: tables_of(scores, options.parts, step) for step in steps}
        print_table(("along training", *along_headings(by_step)), along_rows(by_step))
    print_table(COSTS, cost_rows(options.out, options.parts))
    changes = changes_of(tables)
    for limits, read in (("as it was", signs_in), ("with today's limits", signs_today)):
        found = [read(options.out, part) for part in options.parts]
        signs = {case: own for one in found for case, own in one.items()}
        print_table((f"guard, {limits}", *GUARD), guard_rows(signs, changes))
    if "main" in options.parts:  # the probes are of its model
        print_table(LEADS, lead_rows(options.out / "probe", own, results))
    rows = [
        {"family": one.family, "name": one.name, "source": where, **asdict(result)}
        for one, where, result in results
    ]
    text = json.dumps([without_nan(row) for row in rows], indent=1)
    write_atomic(options.out / "effects.json", text.encode())


if __name__ == "__main__":
    main()
