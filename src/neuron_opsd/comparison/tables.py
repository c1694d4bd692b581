"""The rows of a comparison as plain tables, for JSON and CSV.

The column `oracle` marks numbers of models that saw gold answers.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import TypeAlias

from neuron_opsd.data.csv_rows import cell
from neuron_opsd.results.comparison import BudgetLine, Contrast, Measurement
from neuron_opsd.storage.codecs import without_nan

Value: TypeAlias = str | bool | int | float | list[float | None] | None

TableRow: TypeAlias = dict[str, Value]
"""Column to value; `None` for a missing number."""


def measurement_rows(
    measurements: Sequence[Measurement], oracles: Collection[str] = ()
) -> list[TableRow]:
    """Return one row per measurement, with values by seed as a list."""
    return [
        {
            **asdict(one.place),
            **without_nan({"value": one.value, "by_seed": one.by_seed}),
            "oracle": one.place.method in oracles,
        }
        for one in measurements
    ]


def contrast_rows(
    contrasts: Sequence[Contrast], oracles: Collection[str] = ()
) -> list[TableRow]:
    """Return one row per contrast."""
    return [
        {
            **asdict(one.place),
            "reference": one.reference,
            "difference": without_nan(one.difference.value),
            "low": without_nan(one.difference.low),
            "high": without_nan(one.difference.high),
            "p_value": without_nan(one.p_value),
            "p_adjusted": without_nan(one.p_adjusted),
            "oracle": one.place.method in oracles or one.reference in oracles,
        }
        for one in contrasts
    ]


def budget_rows(
    budgets: Sequence[BudgetLine], oracles: Collection[str] = ()
) -> list[TableRow]:
    """Return one row per budget."""
    return [{**without_nan(one), "oracle": one.method in oracles} for one in budgets]


def csv_text(rows: Sequence[TableRow]) -> str:
    """Return rows as CSV, with the first row's columns as header.

    Missing values are empty fields; list items are joined by semicolons. Numbers
    survive a round trip. No rows give an empty text.
    """
    if not rows:
        return ""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: field_of(value) for name, value in row.items()})
    return text.getvalue()


def field_of(value: Value) -> str | bool | int | float | None:
    """Convert a value for the csv module; `None` makes an empty field."""
    if isinstance(value, list):
        return ";".join("" if part is None else repr(part) for part in value)
    return cell(value) if isinstance(value, str) else value
