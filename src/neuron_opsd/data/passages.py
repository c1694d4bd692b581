"""Find questions that share a passage: a long run of common words.

Each text leaves a few hashes of its word runs, so that texts with `passage_words` words
in a row in common share a hash. Nothing else of a text is kept.

Source: winnowing, Schleimer et al. 2003.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from neuron_opsd.data.overlap import words_of
from neuron_opsd.data.rows import digest_of

FEW_ROWS: Final = 20
LARGE_SHARE: Final = 0.1
"""Share of all rows; text in more, and in more than `FEW_ROWS`, is an instruction."""
MULTIPLIER: Final = 0x9E3779B97F4A7C15


@dataclass(frozen=True, slots=True)
class Passages:
    """Passages shared by some texts."""

    pairs: NDArray[np.int64]
    """``(P, 2)`` rows that share a passage, in chains."""
    in_most: int = 0
    """Rows with the text found in too many to be a passage."""
    example: int = 0
    """One of them."""


def shared_passages(texts: Iterable[str], passage_words: int) -> Passages:
    """Find texts that share `passage_words` (2 or more) words in a row.

    Three quarters of that length may be found too.
    """
    hashes, rows, count = array("Q"), array("q"), 0
    numbers: dict[str, int] = {}
    for row, text in enumerate(texts):
        count = row + 1
        for one in fingerprints(text, passage_words, numbers).tolist():
            hashes.append(one)
            rows.append(row)
    keys = np.frombuffer(hashes, np.uint64) if hashes else np.empty(0, np.uint64)
    places = np.frombuffer(rows, np.int64) if rows else np.empty(0, np.int64)
    return paired(keys, places, max(FEW_ROWS, int(LARGE_SHARE * count)))


def fingerprints(
    text: str, passage_words: int, numbers: dict[str, int]
) -> NDArray[np.uint64]:
    """Return hashes of a text's word runs; none if it is too short.

    `numbers` caches the hashes of words.
    """
    words = words_of(text)
    if len(words) < passage_words:
        return np.empty(0, np.uint64)
    run = max(1, passage_words * 3 // 4)
    values = np.array([number_of(word, numbers) for word in words], np.uint64)
    steps = np.full(run, MULTIPLIER, np.uint64).cumprod()
    runs = (sliding_window_view(values, run) * steps).sum(axis=1, dtype=np.uint64)
    runs ^= runs >> np.uint64(29)  # low bits alone would follow the last words
    return np.unique(sliding_window_view(runs, passage_words - run + 1).min(axis=1))


def number_of(word: str, numbers: dict[str, int]) -> int:
    """Return a word's hash, the same in every process."""
    found = numbers.get(word)
    if found is None:
        found = numbers[word] = int.from_bytes(digest_of(word, 8), "big")
    return found


def paired(hashes: NDArray[np.uint64], rows: NDArray[np.int64], most: int) -> Passages:
    """Pair the rows of every hash that has at most `most` rows."""
    order = np.argsort(hashes, kind="stable")
    hashes, rows = hashes[order], rows[order]
    pairs: list[NDArray[np.int64]] = [np.empty((0, 2), np.int64)]
    in_most = example = 0
    for start, end in spans(hashes):
        if end - start > most:
            if end - start > in_most:
                in_most, example = end - start, int(rows[start])
        else:
            pairs.append(np.stack([rows[start : end - 1], rows[start + 1 : end]], 1))
    return Passages(np.unique(np.concatenate(pairs), axis=0), in_most, example)


def spans(hashes: NDArray[np.uint64]) -> Iterator[tuple[int, int]]:
    """Yield start and end of each repeated hash."""
    if not hashes.size:
        return
    starts = np.flatnonzero(np.r_[True, hashes[1:] != hashes[:-1]])
    ends = np.r_[starts[1:], hashes.size]
    several = ends - starts > 1
    yield from zip(starts[several].tolist(), ends[several].tolist(), strict=True)
