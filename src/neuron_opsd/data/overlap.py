"""Find equal questions, in a pool and between it and its tests."""

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
    r"[\u3040-\u30ff\u3400-\u9fff]"  # scripts without spaces between words
    r"|[^\W_]+"
    r"|[+=<>^\u00d7\u00f7\u00b1]|[-*/%](?=\s*[\d(])"  # these tell 3 - 2 from 3 + 2
)


def check_overlap(
    pool: Sequence[Question],
    tests: Mapping[str, Sequence[Question]],
    max_overlap: float,
) -> list[str]:
    """Refuse a pool that contains questions of its test sets.

    Texts are compared ignoring case, white space and punctuation; different sets of
    choices make questions different. Texts of eight words or more are the same if a
    pool question holds the share `max_overlap`, in (0, 1], of a test question's
    distinct five-word runs.

    Returns:
        Notes on pool questions not compared with all test questions, which keeps time
        and memory proportional to the input.
    """
    index = TestTexts(tests, max_overlap)
    unsure = [q.id for place, q in enumerate(pool) if not index.look(place, q)]
    found = [
        f"{question_id!r} of {name} is {pool[place].id!r} of the pool"
        for name, question_id, place in index.found()
    ]
    if found:
        stand = "test question is" if len(found) == 1 else "test questions are"
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
    """The distinct texts of test questions, to look for in a pool."""

    __test__ = False  # pytest would take it for a test class

    def __init__(
        self, tests: Mapping[str, Sequence[Question]], max_overlap: float
    ) -> None:
        """Index the texts of test questions by the name of their set."""
        self.tests = tests
        self.numbers: dict[str, int] = {}
        """Word to number."""
        self.known: dict[tuple[Words, Choices], Sought] = {}
        self.unfound: dict[Words, list[Sought]] = {}
        """By words, texts not yet equal to a question without choices."""
        self.sought = [self.enter(q) for asked in tests.values() for q in asked]
        """One per test question."""
        self.near = NearTexts(self.known.values(), max_overlap)

    def enter(self, question: Question) -> Sought:
        """Return what to look for on behalf of a test question."""
        known, texts = self.numbers, words_of(question.text)
        words = tuple(known.setdefault(word, len(known)) for word in texts)
        key = (words, choices_of(question))
        if key not in self.known:
            self.known[key] = Sought(*key)
            self.unfound.setdefault(words, []).append(self.known[key])
        return self.known[key]

    def look(self, place: int, question: Question) -> bool:
        """Look for test questions in a pool question; say if all were compared."""
        number = self.numbers.get
        words = tuple([number(word, -1) for word in words_of(question.text)])
        if words in self.unfound:
            for text in self.equal_to(words, choices_of(question)):
                text.equal = place if text.equal is None else text.equal
        return self.near.look(place, words, cache(lambda: choices_of(question)))

    def equal_to(self, words: Words, choices: Choices) -> list[Sought]:
        """Return the texts equal to a pool question that may be the same question.

        Those equal to one without choices are then done.
        """
        if not choices:
            return self.unfound.pop(words)
        keys = ((words, choices), (words, frozenset[tuple[str, ...]]()))
        return [self.known[key] for key in keys if key in self.known]

    def found(self) -> Iterator[tuple[str, str, int]]:
        """Yield the test questions found, with their index in the pool."""
        ids = ((name, q.id) for name, asked in self.tests.items() for q in asked)
        for (name, question_id), text in zip(ids, self.sought, strict=True):
            place = text.near if text.equal is None else text.equal
            if place is not None:
                yield name, question_id, place


def duplicates_of(pool: Sequence[Question]) -> Mapping[str, frozenset[str]]:
    """Return, for each question whose text repeats, the ids with that text.

    Choices are ignored. Questions of one text share a set, which includes their own
    ids.
    """
    ids_of: dict[bytes, list[str]] = {}
    for question in pool:
        # Hashes, since a million passages would take much memory.
        key = digest_of("\x1f".join(words_of(question.text)))
        ids_of.setdefault(key, []).append(question.id)
    shared = (frozenset(ids) for ids in ids_of.values() if len(ids) > 1)
    return {question_id: ids for ids in shared for question_id in ids}


def choices_of(question: Question) -> Choices:
    """Return a question's choices as compared."""
    return frozenset(words_of(choice) for choice in question.choices)


def words_of(text: str) -> tuple[str, ...]:
    """Return a text's words and arithmetic signs, without case and punctuation.

    A text without any is returned unchanged.
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    return tuple(WORD.findall(plain)) or (" ".join(plain.split()),)
