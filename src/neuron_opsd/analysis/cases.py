"""Which demonstrations were retrieved, and whether they share answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, TypeAlias

import numpy as np

from neuron_opsd.analysis.columns import PoolColumns, Verdicts
from neuron_opsd.analysis.inputs import LabelledPool, PreparedRun
from neuron_opsd.method.association import Measures
from neuron_opsd.method.selection import kept_ids
from neuron_opsd.method.statistics import FloatArray, means
from neuron_opsd.prompts import LETTERS
from neuron_opsd.records import Demonstration, Question, TeacherContext
from neuron_opsd.results.analysis import ShownCase, ShownDemonstration, shared_name
from neuron_opsd.stages.teaching import shown_rollouts

MOST_CASES: Final = 40

Labels: TypeAlias = Mapping[str, str | None]
"""Question id to answer; `None` equals no other."""


@dataclass(frozen=True)
class Findings:
    """All that is known of a run's pool."""

    run: PreparedRun
    columns: PoolColumns
    labels: LabelledPool | None
    verdicts: Verdicts | None

    @cached_property
    def questions(self) -> Mapping[str, Question]:
        """By id; empty without labels."""
        known = () if self.labels is None else self.labels.questions
        return {question.id: question for question in known}

    @cached_property
    def own(self) -> Labels:
        """Captured answers by question id."""
        return {i: self.columns.captured[i].answer for i in self.columns.ids}

    @property
    def candidates(self) -> frozenset[str]:
        """Ids of questions that could be a demonstration."""
        contexts = self.run.config.contexts
        shown = shown_rollouts(self.run.rollouts, self.columns.votes, contexts)
        answered = frozenset(rollout.question_id for rollout in shown)
        if contexts.source == "pool":
            return answered
        return answered & kept_ids(self.run.selection)

    @cached_property
    def written(self) -> Mapping[str, Labels]:
        """Answers to compare, under `answer` and, if known, `gold`."""
        kinds = {"answer": self.own}
        if self.verdicts is not None:
            kinds["gold"] = self.verdicts.gold
        return {kind: self.as_written(labels) for kind, labels in kinds.items()}

    def as_written(self, answers: Labels) -> Labels:
        """Return answers as the model writes them: lettered choices as letters.

        Without texts they stay as read.
        """
        listed = self.run.config.prompts.list_choices == "letters"
        if self.labels is None or not listed:
            return answers
        choices_of = {name: one.choices for name, one in self.questions.items()}
        return {
            name: LETTERS[choices_of[name].index(answer)]
            if answer in choices_of[name]
            else answer
            for name, answer in answers.items()
        }

    @property
    def shown(self) -> list[TeacherContext]:
        """Contexts with demonstrations, by the rank of their question."""
        rank = {entry.question_id: entry.rank for entry in self.run.selection}
        full = [context for context in self.run.contexts if context.demonstrations]
        return sorted(full, key=lambda context: rank[context.question_id])


def sharing_measures(found: Findings) -> Measures:
    """Return how often demonstrations share an answer with their question.

    Over questions with demonstrations: the share of these with the same answer, that of
    all other candidates (the mean of random choice), and the difference.
    """
    some = found.candidates
    shares = {
        kind: sharing(found.shown, labels, some)
        for kind, labels in found.written.items()
    }

    def measures(weights: FloatArray) -> dict[str, FloatArray]:
        values: dict[str, FloatArray] = {}
        for kind, (near, random) in shares.items():
            observed, expected = means(near, weights), means(random, weights)
            values[shared_name(kind, "demonstrations")] = observed
            values[shared_name(kind, "random")] = expected
            values[shared_name(kind, "excess")] = observed - expected
        return values

    return measures


def sharing(
    contexts: Sequence[TeacherContext], labels: Labels, candidates: frozenset[str]
) -> tuple[FloatArray, FloatArray]:
    """Return each context's share of equal answers, shown and by chance."""
    known = [labels[name] for name in candidates]
    counts = Counter(folded(label) for label in known if label is not None)
    near, random = [], []
    for context in contexts:
        label = labels[context.question_id]
        alike = [
            same_label(label, labels[shown.question_id])
            for shown in context.demonstrations
        ]
        near.append(sum(alike) / len(alike))
        own = context.question_id in candidates
        like = 0 if label is None else counts[folded(label)] - own
        random.append(like / max(1, len(candidates) - own))
    return np.array(near), np.array(random)


def same_label(one: str | None, other: str | None) -> bool:
    """Return whether two answers are equal, ignoring case; `None` never is."""
    return one is not None and other is not None and folded(one) == folded(other)


def folded(label: str) -> str:
    """Ignore case and surrounding spaces."""
    return label.strip().casefold()


def show_cases(found: Findings) -> tuple[ShownCase, ...]:
    """Return up to `MOST_CASES` selected questions, spread over ranks."""
    contexts = found.shown
    count = min(MOST_CASES, len(contexts))
    places = np.linspace(0, len(contexts) - 1, count).round().astype(int)
    return tuple(show_case(contexts[place], found) for place in places)


def show_case(context: TeacherContext, found: Findings) -> ShownCase:
    """Return one question with its demonstrations, nearest first."""
    own_id = context.question_id
    question = found.questions.get(own_id)
    vote = found.columns.votes[own_id]
    reasons = {entry.question_id: entry.reason for entry in found.run.selection}
    verdicts = found.verdicts
    return ShownCase(
        question_id=own_id,
        question="" if question is None else question.text,
        choices=() if question is None else question.choices,
        reason=reasons[own_id],
        answer=found.columns.captured[own_id].answer,
        majority=vote.pseudo_label,
        agreement=vote.agreement,
        num_correct=None if verdicts is None else verdicts.num_correct[own_id],
        num_rollouts=vote.num_rollouts,
        correct=captured_correct(found, own_id),
        gold=None if verdicts is None else verdicts.gold[own_id],
        demonstrations=tuple(
            show_demonstration(shown, own_id, found)
            for shown in reversed(context.demonstrations)
        ),
    )


def show_demonstration(
    shown: Demonstration, asked: str, found: Findings
) -> ShownDemonstration:
    """Return one demonstration of question `asked`."""
    own_id, verdicts = shown.question_id, found.verdicts
    alike = {
        kind: same_label(labels[own_id], labels[asked])
        for kind, labels in found.written.items()
    }
    question = found.questions.get(own_id)
    return ShownDemonstration(
        question_id=own_id,
        question="" if question is None else question.text,
        distance=shown.distance,
        shown=shown.answer,
        answer=found.own[own_id],
        correct=captured_correct(found, own_id),
        gold=None if verdicts is None else verdicts.gold[own_id],
        shares_answer=alike["answer"],
        shares_gold=alike.get("gold"),
    )


def captured_correct(found: Findings, question_id: str) -> bool | None:
    """Return whether the captured answer is right; `None` without gold."""
    if found.verdicts is None:
        return None
    place = found.columns.ids.index(question_id)
    return bool(found.verdicts.captured[place])
