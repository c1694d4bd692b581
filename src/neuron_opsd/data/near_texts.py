"""Find which of some texts another contains, up to a share of their word runs.

If N of a text's G distinct runs must match, it is cut into G - N + 1 parts. Whoever has
N runs lacks at most G - N, so has a whole part, and only texts with one are compared.
Parts start with their rarest runs and form a tree, in which texts from one template
share their path.

Source: the pigeonhole of part-based set joins, Arasu et al. 2006, Li et al. 2011; runs
ordered by rarity as in Bayardo et al. 2007.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

Words: TypeAlias = tuple[int, ...]
"""A text as numbers of words."""
Choices: TypeAlias = frozenset[tuple[str, ...]]
Part: TypeAlias = "array[int]"
"""Hashes of runs, rarest first."""
GRAM_WORDS: Final = 5
MIN_WORDS: Final = 8
"""Shorter texts count only if equal."""
FEW: Final = 16
"""Most parts at a node before it splits."""
MOST_TABLE_BITS: Final = 22
"""Of the table that counts runs."""
STEPS_PER_RUN: Final = 64
LEAST_STEPS: Final = 1024
"""Comparisons that any text may take; more than any known template needs."""


@dataclass(slots=True, eq=False)
class Sought:
    """A text to look for, with its choices and where it was found."""

    words: Words
    choices: Choices
    equal: int | None = None
    """Index of the first equal text."""
    near: int | None = None
    """Index of the first compared text that holds enough of it."""

    def may_equal(self, choices: Choices) -> bool:
        """Say whether choices allow two like texts to be the same question."""
        return not (self.choices and choices) or self.choices == choices


Entry: TypeAlias = tuple[Sought, Part]


@dataclass(slots=True, eq=False)
class Node:
    """Parts with the same beginning."""

    waiting: list[Entry] = field(default_factory=list)
    """At most `FEW`, not yet split."""
    children: dict[int, Node] | None = None
    """By the hash of the next run."""
    ended: dict[Choices, list[Entry]] = field(default_factory=dict)
    """Parts that end here, by their texts' choices."""


class NearTexts:
    """Texts to find in others that come one by one."""

    def __init__(self, texts: Iterable[Sought], max_overlap: float) -> None:
        """Index the texts of eight words or more, each given once.

        `max_overlap` is the share of a text's distinct runs, in (0, 1], that another
        must hold.
        """
        self.max_overlap = max_overlap
        self.root = Node(children={})
        long = [text for text in texts if len(text.words) >= MIN_WORDS]
        counts = count_runs(long)
        for text in long:
            for part in self.parts(text, counts):
                insert(self.root, text, part)

    def parts(self, text: Sought, counts: Sequence[int]) -> Iterator[Part]:
        """Yield a text's parts; near texts hold at least one whole."""
        mask = len(counts) - 1
        hashes = [hash(gram) for gram in grams_of(text.words)]
        hashes.sort(key=lambda h: (counts[h & mask], h))
        num_parts = len(hashes) - self.needed(len(hashes)) + 1
        # Every part gets its share of the rare runs.
        for first in range(num_parts):
            yield array("q", hashes[first::num_parts])

    def needed(self, num_grams: int) -> int:
        """Return how many of a text's runs another must hold."""
        return max(1, math.ceil(self.max_overlap * num_grams - 1e-9))

    def look(self, place: int, words: Words, choices: Callable[[], Choices]) -> bool:
        """Record `place` in the sought texts that a text holds.

        Words of no sought text are -1; `choices` is called only for candidates. Returns
        whether all were compared: false if there were too many.
        """
        if not self.root.children or len(words) < MIN_WORDS:
            return True
        grams = grams_of(words)
        walk = Walk({hash(gram) for gram in grams}, choices)
        failed: set[int] = set()
        for text in walk.below(self.root):
            if text.near is not None or id(text) in failed:
                continue
            own = grams_of(text.words)
            if len(own & grams) >= self.needed(len(own)):
                text.near = place
            else:
                failed.add(id(text))
                walk.take(len(own))
        return walk.steps >= 0


class Walk:
    """One text's search of the tree for all parts that it holds."""

    def __init__(self, held: set[int], choices: Callable[[], Choices]) -> None:
        self.held = held
        self.choices = choices
        self.steps = LEAST_STEPS + STEPS_PER_RUN * len(held)
        """Comparisons left for the text."""

    def take(self, count: int) -> bool:
        """Spend some comparisons; say whether enough were left."""
        self.steps -= count
        return self.steps >= 0

    def below(self, root: Node) -> Iterator[Sought]:
        """Yield texts not yet found that have a part held whole."""
        stack = [(root, 0)]
        while stack and self.steps >= 0:
            node, depth = stack.pop()
            for text, part in self.unfound(node.waiting):
                held = self.held.issuperset(part[depth:])
                if held and text.may_equal(self.choices()):
                    yield text
            if node.ended:
                yield from self.ended_at(node)
            if node.children:
                self.take(1 + min(len(node.children), len(self.held)) // 8)
                known = sorted(node.children.keys() & self.held)
                stack += [(node.children[h], depth + 1) for h in known]

    def ended_at(self, node: Node) -> Iterator[Sought]:
        """Yield the texts whose parts end at a node, if their choices fit."""
        own, none = self.choices(), frozenset[tuple[str, ...]]()
        done = []
        for key in dict.fromkeys((own, none)) if own else node.ended:
            if not self.take(1):
                break
            entries = node.ended.get(key, [])
            yield from (text for text, _ in self.unfound(entries))
            if not entries:
                done.append(key)
        for key in done:
            node.ended.pop(key, None)

    def unfound(self, entries: list[Entry]) -> Iterator[Entry]:
        """Yield parts of texts not yet found; drop the others."""
        i = 0
        while i < len(entries) and self.steps >= 0:
            if entries[i][0].near is not None:
                entries[i] = entries[-1]
                entries.pop()
            else:
                self.take(1)
                yield entries[i]
                i += 1


def grams_of(words: Words) -> set[Words]:
    """Return the distinct runs of five words."""
    return set(zip(*(words[start:] for start in range(GRAM_WORDS)), strict=False))


def count_runs(texts: Sequence[Sought]) -> Sequence[int]:
    """Count the texts with each run, by the last bits of its hash.

    Runs sharing these bits count together, which costs time but misses nothing.
    """
    num_runs = sum(len(text.words) for text in texts)
    counts = array("I", bytes(4 << min(num_runs.bit_length(), MOST_TABLE_BITS)))
    mask = len(counts) - 1
    for text in texts:
        for gram in grams_of(text.words):
            counts[hash(gram) & mask] += 1
    return counts


def insert(root: Node, text: Sought, part: Part) -> None:
    """Insert a part of a text into the tree."""
    node, depth = root, 0
    while node.children is not None and depth < len(part):
        node = node.children.setdefault(part[depth], Node())
        depth += 1
    if node.children is not None:
        node.ended.setdefault(text.choices, []).append((text, part))
        return
    node.waiting.append((text, part))
    if len(node.waiting) > FEW:
        waiting, node.waiting, node.children = node.waiting, [], {}
        for other, rest in waiting:
            if depth == len(rest):
                node.ended.setdefault(other.choices, []).append((other, rest))
            else:
                child = node.children.setdefault(rest[depth], Node())
                child.waiting.append((other, rest))
