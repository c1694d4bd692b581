"""How a question's demonstrations are found.

`search` defines searches and findings; the other modules hold the rules, by kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal, TypeVar

from neuron_opsd.method.contexts import drawn, overlap
from neuron_opsd.method.contexts.search import (
    OF_NEURONS,
    Found,
    Neighbour,
    Search,
    Signal,
)
from neuron_opsd.method.contexts.states import by_states
from neuron_opsd.method.contexts.words import by_words
from neuron_opsd.section import NotNegative, OneOf, Positive, Section

T = TypeVar("T")

GIVEN: Final = "given"
"""The rule that searches nothing: questions come with what their teacher sees."""


@dataclass(frozen=True, slots=True)
class ContextRule:
    """A way to find demonstrations. To add one, write a function and an entry below."""

    find: Callable[[Search], Found]
    help: str
    """Completes "other questions, ..." in settings and reports."""
    reads: frozenset[Signal] = frozenset()
    """What it needs to know about questions; nothing else is computed."""
    last: str = "nearest"
    """What comes last in the prompt and is dropped last: the ..."""

    @property
    def reads_neurons(self) -> bool:
        """Whether the model's neurons must be readable."""
        return bool(self.reads & OF_NEURONS)


CONTEXT_RULES: Final[dict[str, ContextRule]] = {
    "nearest": ContextRule(
        overlap.by_answers,
        "nearest by the overlap of their neurons",
        frozenset({Signal.ANSWER_NEURONS}),
    ),
    "question-neurons": ContextRule(
        overlap.by_questions,
        "nearest by the overlap of the neurons of the questions' own tokens",
        frozenset({Signal.QUESTION_NEURONS}),
    ),
    "hidden-state": ContextRule(
        by_states,
        "nearest by the mean hidden state of a middle layer over the questions' tokens",
        frozenset({Signal.HIDDEN_STATES}),
    ),
    "words": ContextRule(
        by_words, "nearest by their words (BM25)", frozenset({Signal.TEXTS})
    ),
    "same-answer": ContextRule(
        drawn.with_same_answer,
        "drawn at random from those with the same own answer",
        frozenset({Signal.OWN_ANSWERS}),
        last="first drawn",
    ),
    "fixed": ContextRule(
        drawn.one_set,
        "the same for all questions, with the surest own answers, spread over answers,",
        frozenset({Signal.OWN_ANSWERS, Signal.CERTAINTY}),
        last="surest",
    ),
    "diverse": ContextRule(
        overlap.diverse,
        "near by the overlap of their neurons, but unlike each other,",
        frozenset({Signal.ANSWER_NEURONS}),
    ),
    "farthest": ContextRule(
        overlap.farthest,
        "farthest by the overlap of their neurons",
        frozenset({Signal.ANSWER_NEURONS}),
        last="farthest",
    ),
    "random": ContextRule(drawn.at_random, "drawn at random", last="first drawn"),
}


def find_demonstrations(rule: str, search: Search) -> Found:
    """Search by the rule of that name.

    Raises:
        ValueError: If the rule needs something that is not known of every question.
    """
    if not search.count:
        return dict.fromkeys(search.questions.ids, ())
    if rule == GIVEN:
        said = "given with the question"
        return {name: (Neighbour(name, None, said),) for name in search.questions.ids}
    for known in (search.questions, search.pool):
        lacking = [one for one in CONTEXT_RULES[rule].reads if known.lacks(one)]
        if lacking:
            raise ValueError(f"the rule {rule} reads {lacking[0]}, which nobody read")
    return CONTEXT_RULES[rule].find(search)


@dataclass(frozen=True, slots=True)
class ShownAnswer:
    """Which own answer a demonstration shows."""

    help: str
    shown: str
    """In reports: each demonstration shows ..."""
    lacks: str
    reads_samples: bool = False
    reads_all_neurons: bool = False


SHOWN_ANSWERS: Final[dict[str, ShownAnswer]] = {
    "first": ShownAnswer(
        "the first sampled one, as in the paper",
        "the model's first sampled answer, right or wrong",
        "no answer can be read from their first sample",
    ),
    "greedy": ShownAnswer(
        "the greedy one",
        "the model's greedy answer, right or wrong",
        "no answer can be read from their greedy completion",
    ),
    "voted": ShownAnswer(
        "the first sampled one that gives the voted answer",
        "a sampled answer that agrees with the model's own vote",
        "no answer can be read from any of their samples",
        reads_samples=True,
    ),
    "neuron-medoid": ShownAnswer(
        "the sampled one whose neurons overlap most with those of the question's other "
        "samples (NAD, arXiv:2510.26277); takes a pass over each sample",
        "the sampled answer whose neurons are most like those of the question's others",
        "no answer can be read from any of their samples",
        reads_samples=True,
        reads_all_neurons=True,
    ),
}


class ContextsConfig(Section):
    """Which demonstrations the teacher sees."""

    rule: Annotated[str, OneOf(CONTEXT_RULES, (GIVEN,))] = "nearest"
    """Which other questions become demonstrations; or `given`: none, but the text in
    each question's column `privileged_context`, put after the question as TRL does."""
    source: Literal["pool", "selected"] = "pool"
    """Where demonstrations come from: the whole pool, or the selected questions."""
    num_demonstrations: NotNegative = 10
    """Demonstrations in a context; 0 leaves the teacher without one. With `rule=given`
    it is 1. Where answers are chosen among choices, it is 4 unless set."""
    num_contexts: Positive = 1
    """Contexts of each question that is trained on, each with `num_demonstrations` of
    its own; the question's rollouts take turns with them, so the student follows the
    mean of their teachers' log-probabilities. Everything else, such as the teacher's
    check, sees the first."""
    answer: Annotated[str, OneOf(SHOWN_ANSWERS)] = "first"
    """Which of the model's own answers a demonstration shows. Its neurons are the
    question's. Where answers are chosen among choices, it is `greedy` unless set."""
    content: Literal["final", "full"] = "final"
    """`final` leaves out the reasoning; `full` shows it as plain text, without its
    marks, since chat templates cut marked reasoning out of earlier turns."""
    max_tokens: NotNegative = 0
    """Longest teacher's prompt; the farthest demonstrations are dropped to fit. 0 means
    the model's own limit."""
    max_demonstration_tokens: NotNegative = 0
    """Longest demonstration, question and answer together; 0 sets no limit."""

    @property
    def num_found(self) -> int:
        """Demonstrations to find for a question, over all its contexts."""
        return self.num_demonstrations * self.num_contexts

    @property
    def asks_for(self) -> str:
        """How many these are, as an error begins."""
        text = f"contexts.num_demonstrations is {self.num_demonstrations}"
        if self.num_contexts > 1:
            text += f" in each of {self.num_contexts} contexts (contexts.num_contexts)"
        return text


def deal(demonstrations: Sequence[T], num_contexts: int) -> list[Sequence[T]]:
    """Divide a question's demonstrations among its contexts, in turn.

    All are in prompt order, the nearest last; the first context has the nearest one.
    """
    nearest = demonstrations[::-1]
    return [nearest[place::num_contexts][::-1] for place in range(num_contexts)]
