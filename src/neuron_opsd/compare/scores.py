"""What every model of a comparison scored on every test question, as one table.

Any measure and any interval of the comparison can be computed from it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from neuron_opsd.compare.measuring import Tested
from neuron_opsd.storage.score_rows import (
    SCORE_FIELDS,
    ScoreRow,
    result_rows,
    save_rows,
)

ROWS_PER_GROUP = 65_536
"""Rows written together; the same questions come again with every model, so that many
rows take little more room than few."""

SCHEMA = pa.schema(
    [
        ("start", pa.string()),
        ("source", pa.string()),
        ("method", pa.string()),
        ("seed", pa.int64()),
        ("steps", pa.int64()),
        *SCORE_FIELDS,
    ]
)


def save_scores(models: Iterable[Tested], path: Path) -> None:
    """Write one row per model, test set and question."""
    save_rows(score_rows(models), SCHEMA, ROWS_PER_GROUP, path)


def score_rows(models: Iterable[Tested]) -> Iterator[ScoreRow]:
    """Yield a row for every question that a model was asked."""
    for one in models:
        model = {
            "start": one.start,
            "source": one.source,
            "method": one.method,
            "seed": one.seed,
            "steps": one.step,
        }
        yield from result_rows(model, one.tests)
