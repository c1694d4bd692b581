"""Rows of a comparison as JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace

import pytest

from neuron_opsd.comparison.tables import (
    TableRow,
    budget_rows,
    contrast_rows,
    csv_text,
    measurement_rows,
)
from neuron_opsd.records.scores import Interval
from neuron_opsd.results.comparison import (
    BASE,
    IN_DOMAIN,
    BudgetLine,
    Contrast,
    Measurement,
    Place,
)

PLACE = Place(BASE, "law", "ttrl", 10, IN_DOMAIN, "auroc")

WHERE = {
    "start": "base",
    "source": "law",
    "method": "ttrl",
    "step": 10,
    "target": "in-domain",
    "metric": "auroc",
}


def read(text: str) -> list[dict[str, str]]:
    """Read CSV back."""
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_a_measurement_is_one_row() -> None:
    rows = measurement_rows([Measurement(PLACE, math.nan, (0.5, math.nan, 0.1))])
    assert rows == [
        {**WHERE, "value": None, "by_seed": [0.5, None, 0.1], "oracle": False}
    ]
    assert csv_text(rows) == (
        "start,source,method,step,target,metric,value,by_seed,oracle\n"
        "base,law,ttrl,10,in-domain,auroc,,0.5;;0.1,False\n"
    )


def test_names_are_no_formulas_in_a_spreadsheet() -> None:
    text = csv_text([{"source": "=cmd|'/c calc'!A1", "value": -0.5, "oracle": False}])
    assert read(text) == [
        {"source": "'=cmd|'/c calc'!A1", "value": "-0.5", "oracle": "False"}
    ]


def test_a_contrast_is_one_row() -> None:
    interval = Interval(0.1, math.nan, 0.3)
    (row,) = contrast_rows([Contrast(PLACE, BASE, interval, 0.02, math.nan)])
    assert row == {
        **WHERE,
        "reference": "base",
        "difference": 0.1,
        "low": None,
        "high": 0.3,
        "p_value": 0.02,
        "p_adjusted": None,
        "oracle": False,
    }


def test_a_budget_is_one_row() -> None:
    (row,) = budget_rows([BudgetLine(BASE, "law", "ttrl", 32.0, 1e6, 64.5, math.nan)])
    assert row == {
        "start": "base",
        "source": "law",
        "method": "ttrl",
        "prompts": 32.0,
        "generated_tokens": 1e6,
        "trained_tokens": 64.5,
        "seconds": None,
        "oracle": False,
    }


def test_what_saw_gold_answers_is_marked() -> None:
    interval = Interval(0.1, 0.0, 0.3)
    against = Contrast(PLACE, "best", interval, 0.02, 0.02)
    measured = Measurement(replace(PLACE, method="best"), 0.5, (0.5,))
    spent = BudgetLine(BASE, "law", "best", 1.0, 1.0, 1.0, 1.0)
    (one,) = measurement_rows([measured], {"best"})
    (other,) = contrast_rows([against], {"best"})
    (third,) = budget_rows([spent], {"best"})
    assert one["oracle"] is other["oracle"] is third["oracle"] is True


def test_rows_are_json_as_they_stand() -> None:
    rows = measurement_rows([Measurement(PLACE, math.nan, (math.inf,))])
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows


def test_csv_keeps_numbers_and_names_whole() -> None:
    name = 'a "b", c\nd; é'
    rows: list[TableRow] = [
        {"name": name, "value": 0.1 + 0.2},
        {"name": "x", "value": None},
    ]
    first, second = read(csv_text(rows))
    assert first["name"] == name
    assert float(first["value"]) == 0.1 + 0.2
    assert second == {"name": "x", "value": ""}


def test_no_rows_are_no_text() -> None:
    assert csv_text([]) == ""


def test_a_column_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="not in fieldnames"):
        csv_text([{"a": 1}, {"a": 1, "b": 2}])
