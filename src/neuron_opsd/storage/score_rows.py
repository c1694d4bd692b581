"""Scores per test question as rows of a Parquet file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any, Final, TypeAlias

import pyarrow as pa

from neuron_opsd.records.scores import QuestionScore, TestResult
from neuron_opsd.storage.codecs import groups, save_table, writable

ScoreRow: TypeAlias = dict[str, Any]

SCORES: Final = "scores.parquet"

SCORE_FIELDS: Final = (
    ("test", pa.string()),
    ("question_id", pa.string()),
    ("num_correct", pa.int64()),
    ("num_rollouts", pa.int64()),
    ("majority_answer", pa.string()),
    ("majority_correct", pa.bool_()),
    ("agreement", pa.float64()),
    ("num_unread", pa.int64()),
    ("num_truncated", pa.int64()),
    ("mean_length", pa.float64()),
    ("gold_answer", pa.string()),
    ("answers", pa.map_(pa.string(), pa.int64())),
)

SCHEMA: Final = pa.schema([("model", pa.string()), *SCORE_FIELDS])
ROWS_PER_GROUP: Final = 8192
"""Rows held as objects at a time."""


def save_run_scores(models: Mapping[str, Mapping[str, TestResult]], path: Path) -> None:
    """Write a row per model, test set and question."""
    rows = chain.from_iterable(
        result_rows({"model": name}, results) for name, results in models.items()
    )
    save_rows(rows, SCHEMA, ROWS_PER_GROUP, path)


def save_rows(
    rows: Iterable[ScoreRow], schema: pa.Schema, size: int, path: Path
) -> None:
    """Write rows in groups of `size`."""
    lists = map(list, groups(rows, size))
    batches = (pa.RecordBatch.from_pylist(some, schema=schema) for some in lists)
    save_table(batches, schema, path)


def result_rows(model: ScoreRow, tests: Mapping[str, TestResult]) -> Iterator[ScoreRow]:
    """Yield a row per question, beginning with the model."""
    for test, result in tests.items():
        for score in result.scores:
            yield {**model, "test": test, **score_row(score)}


def score_row(score: QuestionScore) -> ScoreRow:
    """Return a question's scores by column."""
    counts = [(writable(answer), count) for answer, count in score.answers]
    return {
        name: writable(value) if isinstance(value, str) else value
        for name, value in asdict(score).items()
    } | {"answers": counts}
