"""The questions of a pool that may become demonstrations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neuron_opsd.errors import DataError
from neuron_opsd.method.neighbours import EXACT_PAIRS, stated_recall
from neuron_opsd.records import NeuronSet, Question, TeacherContext


@dataclass(frozen=True, slots=True)
class DemonstrationPool:
    """The questions that may become demonstrations, with the answers they show."""

    questions: Mapping[str, Question]
    answers: Mapping[str, str]
    """What each demonstration shows; a question without a readable one is left out."""
    neurons: tuple[NeuronSet, ...]
    """In the order of the pool, only of questions that have an answer to show."""
    excluded: Mapping[str, frozenset[str]]
    """For a question's id the ids of the same text; its own may be among them."""


def check_enough(
    questions: Sequence[NeuronSet], library: DemonstrationPool, count: int
) -> None:
    """Refuse a pool that cannot give every question its demonstrations."""
    usable = {entry.question_id for entry in library.neurons}
    none = frozenset[str]()
    num_barred: dict[frozenset[str], int] = {none: 0}
    for entry in questions:
        barred = library.excluded.get(entry.question_id, none)
        if barred not in num_barred:  # counted once for all questions of one text
            num_barred[barred] = len(usable & barred)
        is_own = entry.question_id in usable and entry.question_id not in barred
        have = len(usable) - num_barred[barred] - is_own
        if have < count:
            own = entry.question_id
            alike = num_barred[barred] - (own in usable and own in barred)
            also = f" ({alike} others have its text and are not shown)" if alike else ""
            raise DataError(
                f"contexts.num_demonstrations is {count}, but question {own} can "
                f"choose from only {have} with a readable answer{also}; lower it, give "
                "a larger pool, or, if many answers are cut or unread, look at "
                "rollouts.max_new_tokens and answers.reader"
            )


def search_remarks(
    contexts: Sequence[TeacherContext], library: DemonstrationPool
) -> list[str]:
    """Say when not all pairs of a question and a demonstration were compared."""
    first = next((c.demonstrations[0] for c in contexts if c.demonstrations), None)
    recall = None if first is None else stated_recall(first.reason)
    if recall is None:
        return []
    return [
        f"the demonstrations of {len(contexts):,} questions were searched among "
        f"{len(library.neurons):,} by sketches, since {EXACT_PAIRS:,} pairs at most "
        f"are compared one by one: {recall:.1%} of the nearest were found in a sample, "
        "and in the place of the others some that are farther"
    ]
