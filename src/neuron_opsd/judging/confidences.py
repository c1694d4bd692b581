"""Calibration of each kind of confidence in a file of samples."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from neuron_opsd.answers.confidences import as_share, scale_of
from neuron_opsd.config import Config
from neuron_opsd.judging.reading import Answered
from neuron_opsd.method import scaling
from neuron_opsd.method.calibration import has_votes
from neuron_opsd.method.resampling import Resampled, resample
from neuron_opsd.method.scaling import MEASURES, SCALINGS, Confidences
from neuron_opsd.method.statistics import BoolArray, FloatArray
from neuron_opsd.records.scores import Interval, QuestionScore
from neuron_opsd.results import judging as results
from neuron_opsd.seeds import generator

MOST_WORDS: Final = 40


@dataclass(frozen=True, slots=True)
class Judged:
    """A sample, whether it is right, and whether it agrees with the vote."""

    sample: Answered
    correct: bool
    backs: bool


Row = tuple[float, bool, int]
"""A confidence, whether its answer is right, and its question's index."""


def confidences_of(
    scores: Sequence[QuestionScore],
    judged: Mapping[str, Sequence[Judged]],
    name: str,
    config: Config,
) -> tuple[results.Confidence, ...]:
    """Return how well each confidence of a file is calibrated.

    The test set's name seeds resamples and halves.

    Raises:
        DataError: If the confidences are on two scales.
    """
    found = []
    if has_votes(scores):
        rows = [
            (one.agreement, one.majority_correct, place)
            for place, one in enumerate(scores)
        ]
        nearest = np.array([0.5 / (one.num_rollouts + 1) for one in scores])
        made = confidences(rows, config, nearest)
        found.append(calibrated(results.VOTE, made, len(scores), name, config))
    for source, rows in more_rows(scores, judged).items():
        made = confidences(rows, config)
        found.append(calibrated(source, made, len(scores), name, config))
    return tuple(with_words(one, judged) for one in found)


def more_rows(
    scores: Sequence[QuestionScore], judged: Mapping[str, Sequence[Judged]]
) -> dict[str, list[Row]]:
    """Return the rows of every confidence that samples carry."""
    stated = [
        (one.sample.stated, one.sample.place)
        for own in judged.values()
        for one in own
        if one.sample.stated is not None
    ]
    scale = scale_of(stated)
    found: dict[str, list[Row]] = defaultdict(list)
    for place, score in enumerate(scores):
        backing = []
        for one in judged[score.question_id]:
            if one.sample.stated is not None:
                share = as_share(one.sample.stated, scale)
                found[results.STATED].append((share, one.correct, place))
                backing += [share] if one.backs else []
            if one.sample.likelihood is not None:
                row = (one.sample.likelihood, one.correct, place)
                found[results.LIKELIHOOD].append(row)
        if backing and score.num_rollouts > 1:
            mean = sum(backing) / len(backing)
            found[results.STATED_MEAN].append((mean, score.majority_correct, place))
    return found


def confidences(
    rows: Sequence[Row],
    config: Config,
    nearest: FloatArray | float = scaling.NEAREST,
) -> Confidences:
    """Turn rows into columns."""
    stated, correct, places = zip(*rows, strict=True)
    return scaling.confidences(
        np.array(stated, dtype=np.float64),
        np.array(correct, dtype=np.bool_),
        np.array(places, dtype=np.intp),
        config.evaluation.num_bins,
        nearest,
    )


def calibrated(
    source: str, found: Confidences, num_questions: int, name: str, config: Config
) -> results.Confidence:
    """Measure one confidence, raw and scaled.

    Questions without it count too, so that all confidences share resamples and halves.
    """
    first = halves(num_questions, config.seed, name)
    why = scaling.why_not_scaled(found, first)
    ways = {} if why else SCALINGS
    moved = {
        key: scaling.scaled(found, first, offset=offset) for key, offset in ways.items()
    }
    drawn = resample(
        scaling.measures,
        [found, *(one for one, _ in moved.values())],
        num_questions,
        config.evaluation.num_resamples,
        generator(config.seed, "bootstrap", name),
    )
    weights = found.share / found.share.sum()
    return results.Confidence(
        source=source,
        num_answers=found.confidence.size,
        num_questions=len(np.unique(found.question)),
        mean=float(found.confidence @ weights),
        measures=named(drawn[0]),
        bins=scaling.reliability(found),
        scaled=tuple(
            results.Scaled(
                key,
                tuple(tuple(half.tolist()) for half in fitted),  # type: ignore[arg-type]
                named(after),
                named(after - drawn[0]),
            )
            for (key, (_, fitted)), after in zip(moved.items(), drawn[1:], strict=True)
        ),
        why_not_scaled=why,
    )


def halves(num_questions: int, seed: int, name: str) -> BoolArray:
    """Return which questions are in the first half, ``(Q,)``."""
    order = generator(seed, "calibration halves", name).permutation(num_questions)
    first = np.zeros(num_questions, dtype=np.bool_)
    first[order[: (num_questions + 1) // 2]] = True
    return first


def named(found: Resampled) -> dict[str, Interval]:
    """Return a confidence's measures by name, with intervals."""
    return dict(zip(MEASURES, found.intervals(), strict=True))


def with_words(
    found: results.Confidence, judged: Mapping[str, Sequence[Judged]]
) -> results.Confidence:
    """Add each word's value and how often it was right."""
    if found.source != results.STATED:
        return found
    right: dict[tuple[float, str], list[bool]] = defaultdict(list)
    for own in judged.values():
        for one in own:
            if one.sample.stated is not None and one.sample.stated.word:
                key = one.sample.stated.value, one.sample.stated.word
                right[key].append(one.correct)
    words = [
        results.Word(word, share, len(verdicts), sum(verdicts) / len(verdicts))
        for (share, word), verdicts in sorted(right.items())
    ]
    return replace(found, words=tuple(words[:MOST_WORDS]))
