"""Per-question columns of a run's rollouts and neurons, and their measures.

Axes: Q questions in pool order; R rows of weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from neuron_opsd.analysis.inputs import LabelledPool, PreparedRun
from neuron_opsd.answers.readers import READERS, Reader, readers_for
from neuron_opsd.answers.votes import sampled_rollouts, tally_votes
from neuron_opsd.known import votes_with
from neuron_opsd.method.association import Measures, correlations, residuals
from neuron_opsd.method.beliefs import jensen_shannon
from neuron_opsd.method.labels import LabelColumns, known_measures, label_columns
from neuron_opsd.method.statistics import BoolArray, FloatArray, areas, means
from neuron_opsd.records import RolloutSummary, Vote
from neuron_opsd.results import analysis
from neuron_opsd.stages.scoring import normalised_gold, score_rollouts
from neuron_opsd.stages.teaching import representatives
from neuron_opsd.storage.stored_rollouts import summaries_of

FEW: Final = 5
"""Minimum number of right, and of wrong, answers to say anything about them."""


@dataclass(frozen=True, slots=True, eq=False)
class PoolColumns:
    """What is known of the questions without labels; arrays are ``(Q,)``."""

    ids: tuple[str, ...]
    captured: Mapping[str, RolloutSummary]
    """Question id to the rollout whose neurons were read."""
    votes: Mapping[str, Vote]
    captured_greedy: bool
    """Whether any captured rollout is greedy. It has no entropy or log-probability;
    both are then means over sampled ones."""
    count: FloatArray
    length: FloatArray
    """Tokens of the captured rollout."""
    mean_length: FloatArray
    """Of the sampled rollouts."""
    entropy: FloatArray
    logprob: FloatArray
    """Mean per token, in nats."""
    agreement: FloatArray
    shift: FloatArray
    """By the demonstrations, in nats; NaN where not asked."""
    divergence: FloatArray
    """From student to teacher, likewise."""
    unanimous: BoolArray
    selected: BoolArray

    @property
    def voted(self) -> bool:
        """Whether any question has several rollouts, and so a vote."""
        return any(vote.num_rollouts > 1 for vote in self.votes.values())

    def groups(self) -> Iterator[tuple[str, FloatArray]]:
        """Yield the non-empty groups, with 1 for each member, else 0."""
        everyone = np.ones(len(self.ids), dtype=np.bool_)
        members = {"selected": self.selected, "rest": ~self.selected, "all": everyone}
        for name, member in members.items():
            if member.any():
                yield name, member.astype(np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Verdicts:
    """Which answers are right; arrays are ``(Q,)``."""

    gold: Mapping[str, str]
    """Question id to normalised gold answer."""
    num_correct: Mapping[str, int]
    """Question id to number of right sampled rollouts."""
    accuracy: FloatArray
    """Share of sampled rollouts that are right."""
    captured: BoolArray
    vote: BoolArray
    labels: LabelColumns


def pool_columns(run: PreparedRun, labels: LabelledPool | None) -> PoolColumns:
    """Gather what a run knows of its pool."""
    config = run.config
    readers = vote_readers(run, labels)
    votes = votes_with(tally_votes(summaries_of(run.rollouts), readers), run.medoids)
    captured = representatives(summaries_of(run.rollouts), votes, config)
    sampled = sampled_rollouts(summaries_of(run.rollouts))
    counts = {entry.question_id: entry.neuron_count for entry in run.neurons}
    ids = tuple(entry.question_id for entry in run.selection)
    greedy = any(captured[i].temperature == 0.0 for i in ids)
    told = sampled if greedy else {i: [captured[i]] for i in ids}
    agreement = column(votes[i].agreement for i in ids)
    shifts = {
        one.question_id: jensen_shannon(one.student, one.teacher)
        for one in run.beliefs
        if one.answers
    }
    divergences = {
        one.question_id: one.divergence
        for one in run.beliefs
        if one.divergence is not None
    }
    return PoolColumns(
        ids=ids,
        captured=captured,
        votes=votes,
        captured_greedy=greedy,
        # `None`, where none were read, becomes NaN.
        count=np.array([counts[i] for i in ids], dtype=np.float64),
        length=column(captured[i].num_tokens for i in ids),
        mean_length=average(sampled, ids, lambda r: float(r.num_tokens)),
        entropy=average(told, ids, lambda r: r.entropy),
        logprob=average(told, ids, lambda r: r.logprob / max(1, r.num_tokens)),
        agreement=agreement,
        shift=column(shifts.get(i, math.nan) for i in ids),
        divergence=column(divergences.get(i, math.nan) for i in ids),
        unanimous=agreement == 1.0,
        selected=np.array([entry.kept for entry in run.selection], dtype=np.bool_),
    )


def vote_readers(
    run: PreparedRun, labels: LabelledPool | None
) -> Mapping[str, Reader] | None:
    """Return what decides which of a question's answers are equal.

    `None` means equal spelling, as for all readers of choices and text.
    """
    answers = run.config.answers
    if labels is not None:
        listed = run.config.prompts.list_choices
        return readers_for(labels.questions, answers, listed)
    if answers.reader not in READERS:
        return None
    ids = [entry.question_id for entry in run.selection]
    return dict.fromkeys(ids, READERS[answers.reader].make(answers))


def column(values: Iterator[float]) -> FloatArray:
    """Collect numbers in an array."""
    return np.fromiter(values, dtype=np.float64)


def average(
    rollouts: Mapping[str, Sequence[RolloutSummary]],
    ids: Sequence[str],
    value: Callable[[RolloutSummary], float],
) -> FloatArray:
    """Return each question's mean of a number over the given rollouts."""
    return column(
        sum(value(rollout) for rollout in rollouts[i]) / len(rollouts[i]) for i in ids
    )


def judge(run: PreparedRun, columns: PoolColumns, labels: LabelledPool) -> Verdicts:
    """Compare a run's answers with the gold answers."""
    config, questions = run.config, labels.questions
    readers = readers_for(questions, config.answers, config.prompts.list_choices)
    gold = normalised_gold(questions, labels.gold, readers)
    scores = score_rollouts(questions, summaries_of(run.rollouts), labels.gold, readers)
    own = {i: columns.captured[i].answer for i in columns.ids}
    right = [
        answer is not None and readers[i].same(answer, gold[i])
        for i, answer in own.items()
    ]
    return Verdicts(
        gold=gold,
        num_correct={score.question_id: score.num_correct for score in scores},
        accuracy=column(score.num_correct / score.num_rollouts for score in scores),
        captured=np.array(right, dtype=np.bool_),
        vote=np.array([score.majority_correct for score in scores], dtype=np.bool_),
        labels=label_columns(scores),
    )


def unlabelled_measures(columns: PoolColumns) -> Measures:
    """Return the measures of a pool without labels."""
    targets = {analysis.LENGTH: columns.length, analysis.ENTROPY: columns.entropy}
    if columns.voted:
        targets[analysis.AGREEMENT] = columns.agreement
    unanimous = columns.unanimous.astype(np.float64)

    def measures(weights: FloatArray) -> dict[str, FloatArray]:
        found = plain_correlations(columns.count, targets, weights)
        for group, member in columns.groups() if columns.voted else ():
            some = weights * member
            found[analysis.vote_name(group, "agreement")] = means(
                columns.agreement, some
            )
            found[analysis.vote_name(group, "unanimity")] = means(unanimous, some)
        return found

    return measures


def labelled_measures(columns: PoolColumns, verdicts: Verdicts) -> Measures:
    """Return the measures of a pool with gold answers."""
    targets = {
        analysis.ACCURACY: told_apart(verdicts.accuracy),
        analysis.CAPTURED: told_apart(verdicts.captured.astype(np.float64)),
    }
    given = [columns.length, columns.entropy]
    given += [columns.agreement] if columns.voted else []
    scores = rival_scores(columns)
    vote = verdicts.vote.astype(np.float64)

    def measures(weights: FloatArray) -> dict[str, FloatArray]:
        found = plain_correlations(columns.count, targets, weights)
        for target, values in targets.items():
            found |= {
                analysis.correlation_name(kind, target): correlations(
                    columns.count, values, weights, given, ranked=ranked
                )
                for kind, ranked in (("partial", False), ("partial_ranks", True))
            }
        found |= rival_areas(
            scores, analysis.CAPTURED, targets[analysis.CAPTURED] > 0, weights
        )
        found |= rival_areas(scores, analysis.VOTE, told_apart(vote) > 0, weights)
        for group, member in columns.groups():
            some = weights * member
            average, majority = means(verdicts.accuracy, some), means(vote, some)
            found[analysis.vote_name(group, "avg_at_k")] = average
            found[analysis.vote_name(group, "maj_at_k")] = majority
            found[analysis.vote_name(group, "maj_minus_avg")] = majority - average
            if not np.isnan(verdicts.labels.baseline).any():
                known = known_measures(verdicts.labels, some)
                found |= {
                    analysis.vote_name(group, name): of for name, of in known.items()
                }
        return found

    return measures


def told_apart(values: FloatArray) -> FloatArray:
    """Return values, or zeros if fewer than `FEW` differ from the commonest.

    With so few, intervals are far too narrow.
    """
    _, counts = np.unique(values, return_counts=True)
    return values if values.size - counts.max() >= FEW else np.zeros(values.size)


def plain_correlations(
    count: FloatArray, targets: Mapping[str, FloatArray], weights: FloatArray
) -> dict[str, FloatArray]:
    """Correlate the neuron count with each target, by values and by ranks."""
    return {
        analysis.correlation_name(kind, target): correlations(
            count, values, weights, ranked=ranked
        )
        for target, values in targets.items()
        for kind, ranked in (("pearson", False), ("spearman", True))
    }


def rival_scores(columns: PoolColumns) -> dict[str, FloatArray]:
    """Return every rival's scores, signed so that high means right.

    Those not known for every question are left out. The count is regressed on length
    once, without resampling.
    """
    values = {
        "count": columns.count,
        "length": columns.length,
        "mean_length": columns.mean_length,
        "entropy": columns.entropy,
        "logprob": columns.logprob,
        "agreement": columns.agreement,
        "count_per_token": columns.count / np.maximum(1.0, columns.length),
        "count_residual": residuals(columns.count, [columns.length]),
        "shift": columns.shift,
        "divergence": columns.divergence,
    }
    if not columns.voted:
        del values["agreement"]
    for name in ("shift", "divergence"):
        if np.isnan(values[name]).any():
            del values[name]
    return {name: analysis.RIVALS[name].sign * score for name, score in values.items()}


def rival_areas(
    scores: Mapping[str, FloatArray],
    target: str,
    correct: BoolArray,
    weights: FloatArray,
) -> dict[str, FloatArray]:
    """Return every rival's area under the ROC curve, and the count's lead."""
    area = {name: areas(score, correct, weights) for name, score in scores.items()}
    found = {analysis.area_name(target, name): value for name, value in area.items()}
    return found | {
        analysis.area_gain_name(target, name): area["count"] - value
        for name, value in area.items()
        if name != "count"
    }
