"""Differences between the models of a comparison, with bootstrap intervals.

Both models of a difference share source, seed and questions. Models of one start and
step are measured with their references, one test set at a time. For N of them, R
resamples and M measures this holds about 4 x N x R x M numbers of 8 bytes: 240 MB, and
20 seconds, for 100 models, five sets of 500 questions and 10,000 resamples.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, replace

from neuron_opsd.comparison import measuring
from neuron_opsd.comparison.measuring import CONTRASTED, Drawn, Frame, target_draws
from neuron_opsd.method.calibration import columns_of
from neuron_opsd.method.labels import OF_LABELS, baseline_answer
from neuron_opsd.method.resampling import Resampled, over_seeds, resample
from neuron_opsd.method.statistics import bootstrap_p_values, holm, percentile_intervals
from neuron_opsd.results.comparison import (
    ALL_SOURCES,
    BASE,
    BASELINE,
    FORM,
    IN_DOMAIN,
    SPECIFICITY,
    SUMMARIES,
    Contrast,
)
from neuron_opsd.seeds import generator
from neuron_opsd.stages.scoring import constant_scores, mean_accuracy


@dataclass(frozen=True, slots=True, order=True)
class Pair:
    """An arm and its reference, from one source."""

    arm: measuring.Arm
    reference: measuring.Arm


def contrasts(
    tested: Sequence[measuring.Tested],
    frame: Frame,
    rivals: Sequence[tuple[str, str]] = (),
) -> tuple[Contrast, ...]:
    """Compare every model with its references.

    References are the untrained and the form-only model of the same source and seed,
    always of start `BASE`. The form-only one has the same number of steps, or its last
    if it was not tested then or the model started from it. Models that differ only in
    their seed make one contrast: their mean over the seeds for which both sides
    answered the target's test sets; without one there is no row. Intervals resample
    questions within each test set, the same for all models, and seeds within each
    source. A mean over sources needs every source. `adjusted` adjusts the p-values.

    Args:
        tested: In any order; models of other sources are ignored.
        frame: Results on other test sets are ignored. Draws depend on its seed and on
            the names of sets and sources.
        rivals: Further pairs (method, reference) to compare at the same start, source
            and step.
    """
    arms = measuring.by_arm(tested, frame.sources)
    groups: dict[tuple[str, int], list[Pair]] = defaultdict(list)
    for pair in pairs_of(arms, rivals):
        groups[pair.arm.start, pair.arm.step].append(pair)
    rows = [
        row for pairs in groups.values() for row in contrasts_at(pairs, arms, frame)
    ]
    rows = with_own_sets(adjusted(rows))
    order = measuring.place_order(frame.sources, frame.targets)
    return tuple(sorted(rows, key=lambda row: (*order(row.place), row.reference)))


def pairs_of(arms: measuring.ByArm, rivals: Sequence[tuple[str, str]]) -> list[Pair]:
    """List every arm with each existing reference, ascending."""
    found = {
        Pair(arm, reference)
        for arm in arms
        if arm.method != BASE
        for reference in (*controls_of(arm, arms), *rivals_of(arm, rivals))
    }
    return sorted(p for p in found if p.arm != p.reference and p.reference in arms)


def controls_of(arm: measuring.Arm, arms: measuring.ByArm) -> Iterator[measuring.Arm]:
    """Yield the untrained and the form-only reference of an arm."""
    for method in (BASE, FORM):
        wanted = (BASE, arm.source, method)
        steps = [a.step for a in arms if (a.start, a.source, a.method) == wanted]
        if steps:
            # A warm start begins from the end of form-only training.
            same = arm.step in steps and arm.start == BASE
            step = arm.step if same else max(steps)
            yield measuring.Arm(*wanted, step)


def rivals_of(
    arm: measuring.Arm, rivals: Sequence[tuple[str, str]]
) -> Iterator[measuring.Arm]:
    """Yield the rival methods of an arm."""
    for method, reference in rivals:
        if method == arm.method and reference not in {BASE, FORM}:
            yield replace(arm, method=reference)


def contrasts_at(
    pairs: Sequence[Pair], arms: measuring.ByArm, frame: Frame
) -> Iterator[Contrast]:
    """Yield the contrasts of one start and step, with raw p-values."""
    models = {arm: arms[arm] for pair in pairs for arm in (pair.arm, pair.reference)}
    sums: dict[tuple[measuring.Arm, str, str], Resampled] = {}
    counts: Counter[tuple[measuring.Arm, str, str]] = Counter()
    for target, drawn in target_draws(models, frame):
        for pair in pairs:
            difference = mean_difference(pair, target, drawn, frame.seed)
            if difference is None:
                continue
            name = IN_DOMAIN if target == pair.arm.source else target
            yield from rows_of(pair.arm, name, pair.reference.method, difference)
            if name in SUMMARIES:
                everywhere = replace(pair.arm, source=ALL_SOURCES)
                key = (everywhere, name, pair.reference.method)
                sums[key] = sums[key] + difference if key in sums else difference
                counts[key] += 1
    for key, total in sums.items():
        if counts[key] == len(frame.sources):
            yield from rows_of(*key, total / len(frame.sources))


def mean_difference(
    pair: Pair, target: str, drawn: Drawn, seed: int
) -> Resampled | None:
    """Return the mean difference of two arms on a target over their common seeds.

    `None` without a common seed, and for specificity against any but the untrained
    model. Seeds are resampled per source, as their trainings are independent; but
    jointly for specificity, which compares sources seed by seed.
    """
    if target == SPECIFICITY and pair.reference.method != BASE:
        return None
    by_seed = [
        drawn[pair.arm, number] - drawn[pair.reference, number]
        for arm, number in drawn
        if arm == pair.arm and (pair.reference, number) in drawn
    ]
    if not by_seed:
        return None
    purpose = SPECIFICITY if target == SPECIFICITY else pair.arm.source
    return over_seeds(by_seed, generator(seed, "bootstrap seeds", purpose))


def rows_of(
    arm: measuring.Arm, target: str, reference: str, difference: Resampled
) -> Iterator[Contrast]:
    """Yield one row per measure of the target, with raw p-values."""
    values, draws = difference.values, difference.draws
    intervals = percentile_intervals(values, draws)
    p_values = bootstrap_p_values(values, draws)
    for metric, interval, p in zip(CONTRASTED, intervals, p_values, strict=True):
        if metric in OF_LABELS and math.isnan(interval.value):
            continue  # the target's gold answers do not repeat
        place = measuring.place_of(arm, target, metric)
        yield Contrast(place, reference, interval, p, math.nan)


def adjusted(rows: Sequence[Contrast]) -> list[Contrast]:
    """Adjust p-values by Holm's correction.

    A family holds the contrasts of all methods, starts and sources with the same
    measure, reference and kind of target (in-domain, cross-domain, specificity, other
    single sets) at their methods' last step. Each earlier step has its own families,
    and so have means over sources. Rows without a p-value stay out.
    """
    last: dict[tuple[str, str], int] = {}
    for row in rows:
        key = (row.place.start, row.place.method)
        last[key] = max(row.place.step, last.get(key, 0))
    families: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        if not math.isnan(row.p_value):
            is_last = row.place.step == last[row.place.start, row.place.method]
            families[family_of(row, is_last=is_last)].append(number)
    found = list(rows)
    for numbers in families.values():
        p_values = holm([rows[number].p_value for number in numbers])
        for number, p_value in zip(numbers, p_values, strict=True):
            found[number] = replace(rows[number], p_adjusted=p_value)
    return found


def family_of(row: Contrast, *, is_last: bool) -> tuple[object, ...]:
    """Return the key of contrasts that are adjusted together."""
    place = row.place
    step = "last" if is_last else row.place.step
    kind = place.target if place.target in SUMMARIES else "single sets"
    return (place.metric, row.reference, kind, place.source == ALL_SOURCES, step)


def with_own_sets(rows: Sequence[Contrast]) -> list[Contrast]:
    """Repeat every in-domain row under the name of its test set.

    After the correction, so that a difference with two names is tested once.
    """
    return [
        *rows,
        *(
            replace(row, place=replace(row.place, target=row.place.source))
            for row in rows
            if row.place.target == IN_DOMAIN and row.place.source != ALL_SOURCES
        ),
    ]


def baseline_contrasts(
    tested: Sequence[measuring.Tested], frame: Frame
) -> tuple[Contrast, ...]:
    """Return how far models exceed the most frequent gold answer in-domain.

    Includes the untrained model. Intervals are as in `contrasts`. There are no
    p-values, as the only claim made is that a model is not above the baseline. Sources
    whose gold answers never repeat have no row.
    """
    rows = []
    for arm, seeds in measuring.by_arm(tested, frame.sources).items():
        above = above_baseline_of(arm, list(seeds.values()), frame)
        if above is not None:
            (interval,) = percentile_intervals(above.values, above.draws)
            place = measuring.place_of(arm, IN_DOMAIN, "avg_at_k")
            rows.append(Contrast(place, BASELINE, interval, math.nan, math.nan))
    rows.sort(key=lambda row: (row.place.start != BASE, astuple(row.place)))
    return tuple(rows)


def above_baseline_of(
    arm: measuring.Arm, by_seed: Sequence[measuring.Tests], frame: Frame
) -> Resampled | None:
    """Return an arm's lead over the baseline, averaged over seeds."""
    results = [tests[arm.source] for tests in by_seed if arm.source in tests]
    answer = baseline_answer(results[0].scores) if results else None
    if answer is None:
        return None
    constant = constant_scores(results[0].scores, answer)
    reference, *models = resample(
        mean_accuracy,
        [columns_of(scores) for scores in (constant, *(r.scores for r in results))],
        len(constant),
        frame.config.num_resamples,
        generator(frame.seed, "bootstrap", arm.source),
    )
    differences = [model - reference for model in models]
    rng = generator(frame.seed, "bootstrap seeds", arm.source)
    return over_seeds(differences, rng)
