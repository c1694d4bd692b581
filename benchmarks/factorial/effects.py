"""Main effects and interactions of trained models, over questions and seeds.

Pure arithmetic; `tables` reads scores and prints what comes out.

Every arm of a source has, for each seed, a score of every test question. An effect is a
weighted sum of arms, so what each seed and question says of it is one number, and
intervals are over both. Axes: S seeds, Q questions, R resamples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import nan, sqrt
from typing import Final, TypeAlias

import numpy as np
from scipy import stats

from neuron_opsd.method.statistics import COVERAGE, FloatArray, bootstrap_weights, holm

NUM_RESAMPLES: Final = 4000

Arm: TypeAlias = str
Effect: TypeAlias = Mapping[Arm, float]
"""The weight of every arm in it."""
Scores: TypeAlias = Mapping[Arm, Mapping[int, FloatArray]]
"""Of one source: what every arm scored on its ``(Q,)`` questions, by seed."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """An effect with its 95 % interval over questions and seeds."""

    value: float
    error: float
    """Standard error, of the hierarchical bootstrap."""
    freedom: float
    """Degrees of freedom of that error (Satterthwaite)."""
    low: float
    high: float
    p_value: float
    """Two-sided, of no effect."""
    p_adjusted: float = nan
    """After Holm's correction within the family."""
    least_p_value: float = nan
    """Of an effect that matters, by two one-sided tests (equivalence); small where the
    effect is seen to be smaller than the least that matters."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """An effect that was written down before the run."""

    family: str
    name: str
    effect: Effect
    least: float = 0.01
    """The smallest effect that matters."""


def difference(arm: Arm, reference: Arm) -> dict[Arm, float]:
    """Return the effect of one arm above another."""
    return mean([arm], [reference])


def mean(arms: Sequence[Arm], references: Sequence[Arm]) -> dict[Arm, float]:
    """Return the mean of some arms above the mean of others."""
    effect: dict[Arm, float] = {}
    for names, sign in ((arms, 1.0), (references, -1.0)):
        for name in names:
            effect[name] = effect.get(name, 0.0) + sign / len(names)
    return effect


def interaction(
    with_both: Arm, with_first: Arm, with_second: Arm, with_neither: Arm
) -> dict[Arm, float]:
    """Return what two changes do together beyond what each does alone."""
    signs = {with_both: 1.0, with_first: -1.0, with_second: -1.0, with_neither: 1.0}
    if len(signs) < 4:
        raise ValueError(f"an interaction takes four arms, got {', '.join(signs)}")
    return signs


def contrast(scores: Scores, effect: Effect) -> FloatArray | None:
    """Return what each seed and question says of an effect, ``(S, Q)``.

    Of the seeds that all its arms have; `None` where there are none.
    """
    parts = [scores.get(arm, {}) for arm in effect]
    seeds = sorted(set.intersection(*(set(part) for part in parts)))
    if not seeds:
        return None
    rows = [
        sum(w * part[seed] for w, part in zip(effect.values(), parts, strict=True))
        for seed in seeds
    ]
    return np.stack([np.asarray(row, dtype=np.float64) for row in rows])


def estimate(
    parts: Sequence[FloatArray],
    rng: np.random.Generator,
    least: float = 0.01,
    num_resamples: int = NUM_RESAMPLES,
) -> Estimate:
    """Return the mean effect over sources, each ``(S, Q)`` and of the same weight.

    The error is that of a bootstrap that draws questions and seeds of every source,
    each with replacement and independently of each other. S drawn seeds vary by only
    ``(S - 1) / S`` of what seeds vary, so they are first moved away from their mean to
    make up for it; a single seed says nothing of other seeds, and its interval is over
    questions alone. Few seeds do not tell how much seeds differ either, so the interval
    is Student's, with the degrees of freedom that the two parts of the error have.

    Source: Owen 2007 (the pigeonhole bootstrap); Davison and Hinkley 1997, section 3.8
    (rescaled groups); Satterthwaite 1946.
    """
    value = float(np.mean([part.mean() for part in parts]))
    draws = np.mean([drawn(part, rng, num_resamples) for part in parts], axis=0)
    error = float(draws.std(ddof=1))
    freedom = freedom_of(parts)
    if error == 0.0:
        p = 1.0 if value == 0.0 else 0.0
        within = 0.0 if abs(value) < least else 1.0
        return Estimate(value, 0.0, freedom, value, value, p, least_p_value=within)
    reach = float(stats.t.ppf(0.5 + COVERAGE / 2.0, freedom)) * error
    p_value = float(2.0 * stats.t.sf(abs(value) / error, freedom))
    within = float(stats.t.sf((least - abs(value)) / error, freedom))
    bounds = value - reach, value + reach
    return Estimate(value, error, freedom, *bounds, p_value, least_p_value=within)


def drawn(part: FloatArray, rng: np.random.Generator, num: int) -> FloatArray:
    """Return the mean of ``(S, Q)`` values over drawn seeds and questions, ``(R,)``."""
    num_seeds, num_questions = part.shape
    if num_seeds > 1:
        middle = part.mean(axis=0)
        part = middle + (part - middle) * sqrt(num_seeds / (num_seeds - 1))
    by_seed = bootstrap_weights(num_questions, num, rng) @ part.T / num_questions
    seeds = bootstrap_weights(num_seeds, num, rng) / num_seeds
    return np.asarray((by_seed * seeds).sum(axis=1), dtype=np.float64)


def freedom_of(parts: Sequence[FloatArray]) -> float:
    """Return the degrees of freedom of the error of a mean over sources."""
    pieces: list[tuple[float, int]] = []
    for part in parts:
        for axis in (0, 1):
            means = part.mean(axis=1 - axis)
            if means.size > 1:
                pieces.append((float(means.var(ddof=1)) / means.size, means.size - 1))
    total = sum(piece for piece, _ in pieces)
    below = sum(piece**2 / freedom for piece, freedom in pieces)
    return total**2 / below if below > 0.0 else float("inf")


def results_of(
    hypotheses: Iterable[Hypothesis],
    sources: Mapping[str, Scores],
    rng: np.random.Generator,
) -> list[tuple[Hypothesis, str, Estimate]]:
    """Return every hypothesis on every source, and pooled where all sources have it.

    Holm's correction is within a family, on its pooled effects apart from those of
    single sources.
    """
    rows: list[tuple[Hypothesis, str, Estimate]] = []
    for one in hypotheses:
        found = {name: contrast(scores, one.effect) for name, scores in sources.items()}
        known = {name: part for name, part in found.items() if part is not None}
        for name, part in known.items():
            rows.append((one, name, estimate([part], rng, one.least)))
        if len(known) == len(sources) > 1:
            rows.append((one, POOLED, estimate([*known.values()], rng, one.least)))
    return adjusted(rows)


POOLED: Final = "all sources"


def adjusted(
    rows: Sequence[tuple[Hypothesis, str, Estimate]],
) -> list[tuple[Hypothesis, str, Estimate]]:
    """Return rows with p-values adjusted within each family."""
    found = list(rows)
    families = dict.fromkeys((one.family, where == POOLED) for one, where, _ in rows)
    for family in families:
        places = [
            i
            for i, (one, where, _) in enumerate(rows)
            if (one.family, where == POOLED) == family
        ]
        p_values = holm([rows[i][2].p_value for i in places])
        for i, p_value in zip(places, p_values, strict=True):
            one, where, result = rows[i]
            found[i] = (one, where, replace(result, p_adjusted=p_value))
    return found


def verdict(result: Estimate, least: float) -> str:
    """Say in words what an effect comes to, by its interval and the least that matters.

    `better` and `worse` by Holm's p-value below 5 % and a size that matters; `no
    difference that matters` where the whole 90 % interval lies within the least one,
    which is what two one-sided tests at 5 % see; otherwise nothing is shown.
    """
    seen = result.p_adjusted < 1.0 - COVERAGE
    if seen and abs(result.value) >= least:
        return "better" if result.value > 0.0 else "worse"
    if result.least_p_value < 1.0 - COVERAGE:
        return "no difference that matters"
    return "seen, smaller than what matters" if seen else "no difference seen"


def power(
    deviation_of_seeds: float,
    deviation_of_questions: float,
    sizes: tuple[int, int, int],
    effect: float,
) -> float:
    """Return how often an effect is seen at 5 %, before any correction.

    Args:
        deviation_of_seeds: Of an effect from one training to another.
        deviation_of_questions: Of an effect from one question to another.
        sizes: Sources, seeds of each, questions of each.
        effect: Its true mean.
    """
    num_sources, num_seeds, num_questions = sizes
    pieces = (
        (deviation_of_seeds**2 / num_seeds, num_seeds - 1),
        (deviation_of_questions**2 / num_questions, num_questions - 1),
    )
    total = sum(piece for piece, _ in pieces)
    below = sum(piece**2 / max(freedom, 1) for piece, freedom in pieces)
    freedom = num_sources * total**2 / below
    shift = effect / sqrt(total / num_sources)
    limit = stats.t.ppf(0.5 + COVERAGE / 2.0, freedom)
    beyond = stats.nct.sf(limit, freedom, shift) + stats.nct.cdf(-limit, freedom, shift)
    return float(beyond)


def factors(selections: Sequence[str], contexts: Sequence[str]) -> list[Arm]:
    """Return the arms of all pairs of a selection and a context."""
    return [f"{one}-{other}" for one, other in product(selections, contexts)]
