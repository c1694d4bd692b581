"""Which questions are the same, within a pool and between a pool and its tests."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from neuron_opsd.errors import DataError
from neuron_opsd.records import Question

GRAM_WORDS = 5
MIN_WORDS = 8
"""Texts with fewer words count as the same only when they are equal."""
MAX_SHOWN = 5

WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff]"  # scripts that put no space between words
    r"|[^\W_]+"
    r"|[+=<>^\u00d7\u00f7\u00b1]|[-*/%](?=\s*[\d(])"  # what else is 3 - 2 but 3 + 2?
)

Gram: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What of a question is compared."""

    id: str
    words: tuple[str, ...]
    grams: frozenset[Gram]
    """The runs of five words; none in a short text."""
    choices: frozenset[tuple[str, ...]]

    def may_equal(self, other: Fingerprint) -> bool:
        """Say whether the choices allow that two like texts are the same question."""
        if self.choices and other.choices:
            return self.choices == other.choices
        return True


def check_overlap(
    pool: Sequence[Question],
    tests: Mapping[str, Sequence[Question]],
    max_overlap: float,
) -> None:
    """Make sure that no test question stands in the pool.

    Texts are compared without regard to case, white space and punctuation. Like texts
    with different sets of choices are different questions.

    Args:
        pool: What is trained on.
        tests: Test questions by the name of their set.
        max_overlap: Share, in (0, 1], of the different five-word runs of a test
            question that one pool question must hold for the two to count as one;
            only for texts of eight words or more.

    Raises:
        DataError: If any does; names the first five and says how many there are.
    """
    index = PoolIndex(pool, max_overlap)
    found = [
        f"{question.id!r} of {name} is {match!r} of the pool"
        for name, questions in tests.items()
        for question in questions
        if (match := index.match(question)) is not None
    ]
    if found:
        shown = "; ".join(found[:MAX_SHOWN])
        more = f"; and {len(found) - MAX_SHOWN} more" if len(found) > MAX_SHOWN else ""
        count = (
            "1 test question stands"
            if len(found) == 1
            else (f"{len(found)} test questions stand")
        )
        raise DataError(
            f"{count} in the pool, so the test would measure memory: {shown}{more}; "
            "remove them from the pool or from the test set"
        )


class PoolIndex:
    """The questions of a pool, to be asked whether one stands among them."""

    def __init__(self, pool: Sequence[Question], max_overlap: float) -> None:
        """Index the pool by whole texts and by runs of five words."""
        self.max_overlap = max_overlap
        self.equal: dict[tuple[str, ...], list[Fingerprint]] = defaultdict(list)
        self.holders: dict[Gram, list[Fingerprint]] = defaultdict(list)
        for question in pool:
            item = fingerprint(question)
            self.equal[item.words].append(item)
            for gram in item.grams:
                self.holders[gram].append(item)

    def match(self, question: Question) -> str | None:
        """Return the id of the first pool question that is the same, if any is."""
        item = fingerprint(question)
        candidates = [*self.equal.get(item.words, ()), *self.near(item)]
        return next((other.id for other in candidates if item.may_equal(other)), None)

    def near(self, item: Fingerprint) -> Iterator[Fingerprint]:
        """Yield the pool's questions that hold enough of the item's runs of words."""
        grams = sorted(
            item.grams, key=lambda gram: (len(self.holders.get(gram, ())), gram)
        )
        needed = math.ceil(self.max_overlap * len(grams) - 1e-9)
        # Who holds `needed` of them holds one of any len - needed + 1: take the rarest.
        rarest = grams[: len(grams) - needed + 1]
        candidates = {
            id(other): other for gram in rarest for other in self.holders.get(gram, ())
        }
        for other in candidates.values():
            if len(item.grams & other.grams) >= needed:
                yield other


def duplicates_of(pool: Sequence[Question]) -> Mapping[str, frozenset[str]]:
    """Return for every question's id the other ids whose text is the same.

    Texts are compared as in `check_overlap`, whatever their choices.
    """
    ids_of: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for question in pool:
        ids_of[words_of(question.text)].add(question.id)
    return {
        question.id: frozenset(ids_of[words_of(question.text)] - {question.id})
        for question in pool
    }


def fingerprint(question: Question) -> Fingerprint:
    """Return what of a question is compared."""
    choices = frozenset(words_of(choice) for choice in question.choices)
    words = words_of(question.text)
    return Fingerprint(question.id, words, grams_of(words), choices)


def grams_of(words: Sequence[str]) -> frozenset[Gram]:
    """Return the runs of five words, none where there are fewer than eight."""
    if len(words) < MIN_WORDS:
        return frozenset()
    starts = range(len(words) - GRAM_WORDS + 1)
    return frozenset(tuple(words[start : start + GRAM_WORDS]) for start in starts)


def words_of(text: str) -> tuple[str, ...]:
    """Return a text's words and arithmetic signs, case and punctuation set aside.

    A text without any is taken as it stands.
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    return tuple(WORD.findall(plain)) or (" ".join(plain.split()),)
