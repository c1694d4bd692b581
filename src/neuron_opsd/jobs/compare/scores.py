"""What every model of a comparison scored on every test question, as one table.

Any measure and any interval of the comparison can be computed from it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from neuron_opsd.jobs.compare.measuring import Tested
from neuron_opsd.world.codecs import groups, save_table, writable

ROWS_PER_GROUP = 65_536
"""Rows written together; the same questions come again with every model, so that many
rows take little more room than few."""

SCHEMA = pa.schema(
    {
        "start": pa.string(),
        "source": pa.string(),
        "method": pa.string(),
        "seed": pa.int64(),
        "steps": pa.int64(),
        "test": pa.string(),
        "question_id": pa.string(),
        "num_correct": pa.int64(),
        "num_rollouts": pa.int64(),
        "majority_answer": pa.string(),
        "majority_correct": pa.bool_(),
        "agreement": pa.float64(),
        "num_unread": pa.int64(),
        "num_truncated": pa.int64(),
        "mean_length": pa.float64(),
        "gold_answer": pa.string(),
        "answers": pa.map_(pa.string(), pa.int64()),
    }
)


def save_scores(models: Iterable[Tested], path: Path) -> None:
    """Write one row per model, test set and question."""
    rows = groups(score_rows(models), ROWS_PER_GROUP)
    save_table(
        (pa.RecordBatch.from_pylist(list(some), schema=SCHEMA) for some in rows),
        SCHEMA,
        path,
    )


def score_rows(models: Iterable[Tested]) -> Iterator[dict[str, Any]]:
    """Yield a row for every question that a model was asked."""
    for one in models:
        model = {
            "start": one.start,
            "source": one.source,
            "method": one.method,
            "seed": one.seed,
            "steps": one.step,
        }
        for test, result in one.tests.items():
            for score in result.scores:
                row = {**model, "test": test, **asdict(score)}
                counts = [(writable(answer), n) for answer, n in score.answers]
                yield {
                    name: writable(value) if isinstance(value, str) else value
                    for name, value in row.items()
                } | {"answers": counts}
