"""Questions of the pool with the most similar words, by the bm25s library."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from sys import intern
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from neuron_opsd.method.contexts.search import Found, Search, as_found
from neuron_opsd.method.retrieval.exact import first

if TYPE_CHECKING:
    from numpy.typing import NDArray

WORD: Final = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff]"  # scripts that put no space between words
    r"|\w+"
)


def by_words(search: Search) -> Found:
    """Return the questions with the highest BM25 scores, highest first.

    Ties go to the earlier in the pool. Holds the pool's words in memory.

    Source: Robertson and Zaragoza, "The Probabilistic Relevance Framework", 2009;
    weights are the library's default (Lucene's, k1 1.5, b 0.75).
    """
    size, index = len(search.pool.neurons), index_of(search.pool.texts)

    def each() -> Iterator[tuple[list[int], list[str]]]:
        for text, barred in zip(search.questions.texts, search.barred, strict=True):
            scores = scores_of(index, text, size)
            scores[barred] = -np.inf
            rows = first(-scores, search.count)[0].tolist()
            reasons = [
                intern(f"nearest {rank} of {size - 1}: BM25 {scores[row]:.2f}")
                for rank, row in enumerate(rows, start=1)
            ]
            yield rows, reasons

    return as_found(search, each())


def words_of(text: str) -> list[str]:
    """Split a text into lower-case words."""
    return WORD.findall(text.lower())


def index_of(texts: Sequence[str]) -> Any:
    """Return the library's index of a pool; `None` if it holds no word."""
    import bm25s

    known: dict[str, int] = {}
    # Numbers, since the texts of a million questions would be heavy.
    ids = [
        [known.setdefault(word, len(known)) for word in words_of(text)]
        for text in texts
    ]
    if not known:
        return None
    index = bm25s.BM25(backend="numpy", csc_backend="numpy")
    index.index((ids, known), show_progress=False)
    return index


def scores_of(index: Any, text: str, size: int) -> NDArray[np.float64]:
    """Return the scores ``(P,)`` of a pool for a text."""
    known = [] if index is None else index.get_tokens_ids(words_of(text))
    if not known:
        return np.zeros(size)
    return np.asarray(index.get_scores_from_ids(known), np.float64)
