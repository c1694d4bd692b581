"""How the demonstrations of a question are found.

Settings name the rules, so what searches, with PyTorch, is imported late.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias

from neuron_opsd.records import NeuronSet
from neuron_opsd.section import NotNegative, OneOf, Section

if TYPE_CHECKING:
    from neuron_opsd.method.neighbours import Neighbour


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """What demonstrations are searched for, and in what."""

    questions: Sequence[NeuronSet]
    """Those that need demonstrations."""
    pool: Sequence[NeuronSet]
    """Those that may become one."""
    count: int
    """Demonstrations for each question."""
    excluded: Mapping[str, frozenset[str]]
    """For a question's id the ids that may not be its demonstrations."""
    texts: Callable[[], Mapping[str, str]]
    """Returns what every question asks, by id."""
    seed: int


Found: TypeAlias = "dict[str, tuple[Neighbour, ...]]"
"""By question id, nearest first."""


def by_neurons(search: Search) -> Found:
    """Find the questions with the most similar neurons. Source: Algorithm 1."""
    from neuron_opsd.method.neighbours import nearest

    return nearest(search.questions, search.pool, search.count, search.excluded)


def by_words(search: Search) -> Found:
    """Find the questions with the most similar words, as a control."""
    from neuron_opsd.method.neighbours import nearest, with_words, word_sets

    sets = word_sets(search.texts())
    questions = with_words(search.questions, sets)
    pool = with_words(search.pool, sets)
    return nearest(questions, pool, search.count, search.excluded)


def at_random(search: Search) -> Found:
    """Draw questions, the paper's control."""
    from neuron_opsd.method.neighbours import random_neighbours

    return random_neighbours(
        search.questions, search.pool, search.count, search.excluded, search.seed
    )


@dataclass(frozen=True, slots=True)
class ContextRule:
    """A way to find demonstrations. A new one is a function and an entry below."""

    find: Callable[[Search], Found]
    help: str
    """As settings and reports put it: other questions, ..."""
    reads_neurons: bool = False


CONTEXT_RULES: Final[dict[str, ContextRule]] = {
    "nearest": ContextRule(
        by_neurons, "nearest by the overlap of their neurons", reads_neurons=True
    ),
    "words": ContextRule(by_words, "nearest by their words"),
    "random": ContextRule(at_random, "drawn at random"),
}


class ContextsConfig(Section):
    """Which demonstrations the teacher sees."""

    rule: Annotated[str, OneOf(CONTEXT_RULES)] = "nearest"
    """Which other questions a demonstration is made of."""
    source: Literal["pool", "selected"] = "pool"
    """Where demonstrations come from: the whole pool, or the selected questions."""
    num_demonstrations: NotNegative = 10
    """Demonstrations per question; 0 leaves the teacher without a context."""
    answer: Literal["first", "greedy", "voted"] = "first"
    """Which own answer a demonstration shows: the first sampled one (the paper), the
    greedy one, or the first sampled one that gives the voted answer."""
    content: Literal["final", "full"] = "final"
    """`final` leaves out the reasoning; `full` shows it as plain text, without its
    marks, since chat templates cut marked reasoning out of earlier turns."""
    max_tokens: NotNegative = 0
    """Longest teacher's prompt; the farthest demonstrations are dropped to fit. 0 means
    the model's own limit."""
    max_demonstration_tokens: NotNegative = 0
    """Longest demonstration, question and answer together; 0 sets no limit."""
