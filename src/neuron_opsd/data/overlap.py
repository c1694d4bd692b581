"""Which questions are the same, within a pool and between a pool and its tests."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

from neuron_opsd.data.near_texts import Choices, NearTexts, Sought, Words
from neuron_opsd.data.rows import digest_of
from neuron_opsd.errors import DataError, clauses
from neuron_opsd.records import Question

WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff]"  # scripts that put no space between words
    r"|[^\W_]+"
    r"|[+=<>^\u00d7\u00f7\u00b1]|[-*/%](?=\s*[\d(])"  # what else is 3 - 2 but 3 + 2?
)


def check_overlap(
    pool: Sequence[Question],
    tests: Mapping[str, Sequence[Question]],
    max_overlap: float,
) -> list[str]:
    """Make sure that no test question, by the name of its set, stands in the pool.

    Texts are compared without regard to case, white space and punctuation. Like texts
    with different sets of choices are different questions. Of texts of eight words or
    more, two count as one where a pool question holds the share `max_overlap`, in
    (0, 1], of a test question's different five-word runs.

    Returns:
        What the user should know: which questions of the pool were not compared with
        all test questions. Time and memory then are in proportion to what is given.
    """
    index = TestTexts(tests, max_overlap)
    unsure = [q.id for place, q in enumerate(pool) if not index.look(place, q)]
    found = [
        f"{question_id!r} of {name} is {pool[place].id!r} of the pool"
        for name, question_id, place in index.found()
    ]
    if found:
        stand = "test question stands" if len(found) == 1 else "test questions stand"
        raise DataError(
            f"{len(found)} {stand} in the pool, so the test would measure memory: "
            f"{clauses(found)}; remove them from the pool or from the test set"
        )
    if not unsure:
        return []
    return [
        f"{len(unsure)} of the pool's questions, {unsure[0]!r} first, resemble so many "
        "test questions that each was compared with some of these only: no test "
        "question equals one of the pool, but one that nearly does "
        "(evaluation.max_overlap) may have been missed"
    ]


class TestTexts:
    """The texts of test questions, each once, to be looked for in a pool."""

    __test__ = False  # pytest would take the name for a test class

    def __init__(
        self, tests: Mapping[str, Sequence[Question]], max_overlap: float
    ) -> None:
        """Lay out the texts of test questions, by the name of their set."""
        self.tests = tests
        self.numbers: dict[str, int] = {}
        """Of the words that test questions have."""
        self.known: dict[tuple[Words, Choices], Sought] = {}
        self.unfound: dict[Words, list[Sought]] = {}
        """By their words, those that no question without choices was equal to."""
        self.sought = [self.enter(q) for asked in tests.values() for q in asked]
        """For every test question in order."""
        self.near = NearTexts(self.known.values(), max_overlap)

    def enter(self, question: Question) -> Sought:
        """Return what is looked for on behalf of a test question."""
        known, texts = self.numbers, words_of(question.text)
        words = tuple(known.setdefault(word, len(known)) for word in texts)
        key = (words, choices_of(question))
        if key not in self.known:
            self.known[key] = Sought(*key)
            self.unfound.setdefault(words, []).append(self.known[key])
        return self.known[key]

    def look(self, place: int, question: Question) -> bool:
        """Look for test questions in one of the pool; say whether all were compared."""
        number = self.numbers.get
        words = tuple([number(word, -1) for word in words_of(question.text)])
        if words in self.unfound:
            for text in self.equal_to(words, choices_of(question)):
                text.equal = place if text.equal is None else text.equal
        return self.near.look(place, words, cache(lambda: choices_of(question)))

    def equal_to(self, words: Words, choices: Choices) -> list[Sought]:
        """Return the texts that are equal to one of the pool and may be its question.

        Those that equal one without choices need not be looked for again.
        """
        if not choices:
            return self.unfound.pop(words)
        keys = ((words, choices), (words, frozenset[tuple[str, ...]]()))
        return [self.known[key] for key in keys if key in self.known]

    def found(self) -> Iterator[tuple[str, str, int]]:
        """Yield the test questions that the pool has, each with its place there."""
        ids = ((name, q.id) for name, asked in self.tests.items() for q in asked)
        for (name, question_id), text in zip(ids, self.sought, strict=True):
            place = text.near if text.equal is None else text.equal
            if place is not None:
                yield name, question_id, place


def duplicates_of(pool: Sequence[Question]) -> Mapping[str, frozenset[str]]:
    """Return the ids of the same text for every question whose text another has.

    Texts are compared as in `check_overlap`, whatever their choices. All questions of
    one text share one set, which holds their own ids too.
    """
    ids_of: dict[bytes, list[str]] = {}
    for question in pool:
        # A hash in the place of the text: of a million passages these would be heavy.
        key = digest_of("\x1f".join(words_of(question.text)))
        ids_of.setdefault(key, []).append(question.id)
    shared = (frozenset(ids) for ids in ids_of.values() if len(ids) > 1)
    return {question_id: ids for ids in shared for question_id in ids}


def choices_of(question: Question) -> Choices:
    """Return what of a question's choices is compared."""
    return frozenset(words_of(choice) for choice in question.choices)


def words_of(text: str) -> tuple[str, ...]:
    """Return a text's words and arithmetic signs, case and punctuation set aside.

    A text without any is taken as it stands.
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    return tuple(WORD.findall(plain)) or (" ".join(plain.split()),)
