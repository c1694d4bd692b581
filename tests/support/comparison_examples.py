"""Comparisons for tests and for looking at the page: plausible numbers from a seed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from neuron_opsd.method.labels import OF_LABELS
from neuron_opsd.records.scores import Interval
from neuron_opsd.results.comparison import (
    ALL_SOURCES,
    BASE,
    CROSS_DOMAIN,
    FORM,
    IN_DOMAIN,
    SPECIFICITY,
    BudgetLine,
    ComparisonData,
    Contrast,
    Failure,
    Measurement,
    MethodLine,
    Place,
)
from neuron_opsd.results.run import ModelSummary
from neuron_opsd.seeds import generator

SOURCES = ("sst2", "arc_easy", "sciq", "commonsense_qa", "edu_feedback", "piqa")
EXTRA_TARGETS = ("social_iqa", "openbook_qa")
METHODS = (
    MethodLine(BASE, "the model as training finds it", trained=False),
    MethodLine(
        "prompted",
        "the untrained model with its own demonstrations in the prompt",
        trained=False,
    ),
    MethodLine(FORM, "imitates random choices", {"method": '"form-only"'}),
    MethodLine(
        "neuron-opsd",
        "distils a teacher that sees the demonstrations with the nearest neurons",
        {"contexts.answer": '"greedy"', "contexts.num_demonstrations": "5"},
    ),
    MethodLine("random-opsd", "neuron-opsd with random demonstrations"),
    MethodLine("lmsi", "imitates rollouts that give the majority's answer"),
    MethodLine("ttrl", "reinforces rollouts that give the majority's answer"),
    MethodLine("intuitor", "reinforces rollouts of whose tokens the model is certain"),
)
ORACLE = MethodLine(
    "oracle-grpo", "reinforces rollouts that give the gold answer", oracle=True
)

IN_GAIN = {FORM: 0.035, "neuron-opsd": 0.085, "oracle-grpo": 0.15, "prompted": 0.03}
CROSS_GAIN = {"lmsi": -0.04, "intuitor": -0.02, "neuron-opsd": 0.01}
SURER = {"lmsi": 0.06, "ttrl": 0.05, "intuitor": 0.09, "neuron-opsd": -0.05}

Values = NDArray[np.float64]
"""``(targets, seeds, 2)``: accuracy and calibration error."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What an example compares."""

    sources: tuple[str, ...] = SOURCES
    extra_targets: tuple[str, ...] = EXTRA_TARGETS
    methods: tuple[MethodLine, ...] = METHODS
    starts: tuple[str, ...] = (BASE, FORM)
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: tuple[int, ...] = tuple(range(10, 160, 10))

    @property
    def targets(self) -> tuple[str, ...]:
        """All test sets, the sources' first."""
        return self.sources + self.extra_targets


def model_values(plan: Plan, arm: tuple[str, str, str], step: int) -> Values:
    """Return what the models of a start, source and method measure, by target."""
    start, source, method = arm
    places = np.arange(len(plan.targets))
    accuracy = 0.48 + 0.05 * places
    error = 0.30 - 0.025 * places
    share = 1.0 if method == "prompted" else 1 - math.exp(-step / 40)
    own = np.array([target == source for target in plan.targets])
    gain = np.where(own, IN_GAIN.get(method, 0.06), CROSS_GAIN.get(method, 0.004))
    warm = 0.02 if start == FORM and step else 0.0
    trained = method != BASE
    noise = generator(0, "example", *arm, step if trained else 0).normal(
        size=(len(plan.targets), len(plan.seeds), 2)
    )
    accuracy = accuracy + warm + trained * share * gain
    error = error + trained * share * SURER.get(method, -0.01) * (0.4 + 0.6 * own)
    levels = np.stack([accuracy, error], axis=-1)[:, None, :]
    return np.asarray(np.clip(levels + 0.006 * noise, 0.01, 0.99))


def measured(pair: Sequence[float]) -> dict[str, float]:
    """Return every measure of a model from its accuracy and calibration error."""
    accuracy, error = pair
    return {
        "avg_at_k": accuracy,
        "maj_at_k": accuracy + 0.015,
        "pass_at_k": min(1.0, accuracy + 0.18),
        "balanced_accuracy": accuracy - 0.04,
        "macro_f1": accuracy - 0.05,
        "baseline": 0.55,
        "top_answer_share": 0.62,
        "ece": error,
        "adaptive_ece": error - 0.004,
        "brier": 0.2 * (1 - accuracy) + 0.4 * error,
        "auroc": 0.5 + 0.4 * accuracy,
        "overconfidence": error - 0.01,
        "unanimity": 0.25 + error,
        "parse_failure": 0.002,
        "truncation": 0.0,
        "mean_length": 2.4 + accuracy,
    }


Rows = Mapping[tuple[str, str], Values]
"""Source and target to ``(seeds, 2)``."""


def target_rows(plan: Plan, start: str, method: str, step: int) -> Rows:
    """Return accuracy and error by source and target, sums over them as well."""
    rows: dict[tuple[str, str], Values] = {}
    for source in plan.sources:
        values = model_values(plan, (start, source, method), step)
        others = [i for i, name in enumerate(plan.targets) if name != source]
        own = plan.targets.index(source)
        rows |= {(source, name): values[i] for i, name in enumerate(plan.targets)}
        rows[source, IN_DOMAIN] = values[own]
        if others:
            rows[source, CROSS_DOMAIN] = values[others].mean(axis=0)
    for target in (IN_DOMAIN, CROSS_DOMAIN):
        known = [rows[s, target] for s in plan.sources if (s, target) in rows]
        if known:
            rows[ALL_SOURCES, target] = np.mean(known, axis=0)
    if method == "prompted":
        own_only = {(s, t) for s, t in rows if t in (s, IN_DOMAIN)}
        return {place: rows[place] for place in rows if place in own_only}
    return rows


def arms(plan: Plan) -> Iterator[tuple[str, str, int]]:
    """Yield start, method and step of all models, untrained ones of start `BASE`."""
    for line in plan.methods:
        if not line.trained:
            yield BASE, line.name, 0
            continue
        for start in plan.starts:
            for step in plan.steps:
                yield start, line.name, step


def measurements(plan: Plan) -> Iterator[Measurement]:
    """Yield all measures; before the last step only what is drawn along the steps."""
    for start, method, step in arms(plan):
        for (source, target), values in target_rows(plan, start, method, step).items():
            last = step in (0, plan.steps[-1])
            if not last and target != IN_DOMAIN:
                continue
            by_seed = [measured([float(a), float(e)]) for a, e in values]
            if not has_labels(source, target):
                by_seed = [one | dict.fromkeys(OF_LABELS, math.nan) for one in by_seed]
            for metric in measured([0.5, 0.5]) if last else ("avg_at_k", "ece"):
                seeds = tuple(one[metric] for one in by_seed)
                place = Place(start, source, method, step, target, metric)
                yield Measurement(place, sum(seeds) / len(seeds), seeds)


def has_labels(source: str, target: str) -> bool:
    """Say whether the gold answers of a target repeat."""
    return (source if target == IN_DOMAIN else target) in {"sst2", "edu_feedback"}


def contrasts(plan: Plan) -> Iterator[Contrast]:
    """Yield differences after the last step to base, form-only and one rival."""
    last = plan.steps[-1]
    names = {line.name for line in plan.methods}
    base = target_rows(plan, BASE, BASE, 0)
    form = target_rows(plan, BASE, FORM, last)
    for start, method, step in arms(plan):
        if step not in (0, last) or method == BASE:
            continue
        rows = target_rows(plan, start, method, step)
        yield from differences(rows, base, (start, method, step, BASE))
        if FORM in names and (start, method) != (BASE, FORM):
            yield from differences(rows, form, (start, method, step, FORM))
        if method == "neuron-opsd" and "ttrl" in names:
            rival = target_rows(plan, start, "ttrl", step)
            yield from differences(rows, rival, (start, method, step, "ttrl"))
        if len(plan.sources) > 1 and step:
            yield from specificity(plan, rows, base, (start, method, step))


def differences(
    rows: Rows, reference: Rows, of: tuple[str, str, int, str]
) -> Iterator[Contrast]:
    """Yield the differences of two models in the measures that are compared."""
    start, method, step, name = of
    for (source, target), values in rows.items():
        labels = ("balanced_accuracy",) if has_labels(source, target) else ()
        for metric in ("avg_at_k", "maj_at_k", *labels, "ece", "brier", "auroc"):
            after, before = (
                measured([float(x) for x in one.mean(axis=0)])[metric]
                for one in (values, reference[source, target])
            )
            place = Place(start, source, method, step, target, metric)
            yield contrast(place, name, after - before)


def specificity(
    plan: Plan, rows: Rows, base: Rows, of: tuple[str, str, int]
) -> Iterator[Contrast]:
    """Yield the in-domain gain less the mean gain of models of other sources."""
    start, method, step = of
    gain = {key: float((rows[key] - base[key])[:, 0].mean()) for key in rows}
    for source in plan.sources:
        others = [gain[other, source] for other in plan.sources if other != source]
        place = Place(start, source, method, step, SPECIFICITY, "avg_at_k")
        value = gain[source, source] - sum(others) / len(others)
        yield contrast(place, BASE, value)


def contrast(place: Place, reference: str, value: float) -> Contrast:
    """Return a difference with an interval as wide as such ones are."""
    wide = place.source != ALL_SOURCES and place.target != CROSS_DOMAIN
    half = 0.028 if wide else 0.012
    p_value = math.erfc(1.96 * abs(value) / half / math.sqrt(2))
    interval = Interval(value, value - half, value + half)
    return Contrast(place, reference, interval, p_value, min(1.0, 6 * p_value))


def budgets(plan: Plan) -> Iterator[BudgetLine]:
    """Yield budgets that are equal in prompts and nearly so in generated tokens."""
    for start in plan.starts:
        for i, source in enumerate(plan.sources):
            for j, line in enumerate(plan.methods):
                if line.trained:
                    tokens = 19_200.0 + 400 * i
                    yield BudgetLine(
                        start,
                        source,
                        line.name,
                        2400,
                        tokens + 7 * j,
                        tokens,
                        271.0 + j,
                    )


def comparison(plan: Plan) -> ComparisonData:
    """Return a comparison as planned."""
    return ComparisonData(
        title="SmolLM2-135M-Instruct teaches itself, eight ways",
        model=ModelSummary(
            "SmolLM2-135M-Instruct", "llama", 134_515_008, 30, 1536, "cpu", "bfloat16"
        ),
        sources=plan.sources,
        targets=plan.targets,
        methods=plan.methods,
        starts=plan.starts,
        seeds=plan.seeds,
        steps=plan.steps,
        num_samples=8,
        num_questions={name: 500 - 10 * i for i, name in enumerate(plan.targets)},
        measurements=tuple(measurements(plan)),
        contrasts=tuple(contrasts(plan)),
        budgets=tuple(budgets(plan)),
        settings={"distill.steps": "150", "seed": "3"},
        versions={"neuron-opsd": "0.1.0", "torch": "2.13.0+cpu"},
        data_hashes={"sst2": "60303ae2" * 8},
        command="neuron-opsd compare --methods neuron-opsd,lmsi --out compare",
    )


@cache
def full_comparison() -> ComparisonData:
    """Return six trained methods on six sources and eight test sets, two starts."""
    return comparison(Plan())


@cache
def small_comparison() -> ComparisonData:
    """Return one source, one seed, one tested step and one start."""
    return comparison(
        Plan(
            sources=("sst2",),
            extra_targets=("arc_easy",),
            methods=METHODS[:4],
            starts=(BASE,),
            seeds=(0,),
            steps=(60,),
        )
    )


@cache
def troubled_comparison() -> ComparisonData:
    """Return two sources with failures, cells to be run, an oracle and a warning."""
    data = comparison(
        Plan(
            sources=("sst2", "arc_easy"),
            methods=(*METHODS[:6], ORACLE),
            starts=(BASE,),
            steps=(50, 100, 150),
        )
    )
    lost = ("arc_easy", "lmsi")
    return replace(
        data,
        measurements=tuple(
            row
            for row in data.measurements
            if (row.place.source, row.place.method) != lost
            and (row.place.source, row.place.method) != (ALL_SOURCES, "lmsi")
        ),
        contrasts=tuple(
            row
            for row in data.contrasts
            if (row.place.source, row.place.method) != lost
            and (row.place.source, row.place.method) != (ALL_SOURCES, "lmsi")
        ),
        failures=(Failure(BASE, "arc_easy", "lmsi", 2, "the loss was not a number"),),
        missing=3,
        warnings=("seed 1 of ttrl was run with another version",),
    )


def empty_comparison() -> ComparisonData:
    """Return a comparison of which nothing has been run."""
    data = small_comparison()
    return replace(
        data, measurements=(), contrasts=(), budgets=(), missing=12, settings={}
    )
