"""An analysis as files: JSON with everything, CSV with every number, and a page."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from neuron_opsd.comparison.tables import TableRow, csv_text
from neuron_opsd.errors import ConfigError
from neuron_opsd.records.scores import Interval
from neuron_opsd.report.analysis_page import render_analysis
from neuron_opsd.report.analysis_tables import MEAN
from neuron_opsd.results.analysis import PAIRS, AnalysisData, RunAnalysis
from neuron_opsd.storage.codecs import encode, save_json, without_nan
from neuron_opsd.storage.files import is_leftover_of, write_atomic
from neuron_opsd.storage.folders import check_outside
from neuron_opsd.storage.output_paths import check_file_place, check_folder_place

JSON, CSV, PAGE = "analysis.json", "analysis.csv", "analysis.html"

TEACHER_CHECK: Final = (
    *("student_agreement", "teacher_agreement", "student_entropy", "teacher_entropy"),
)
"""What the CSV has of the questions that student and teacher were asked."""


def check_places(out: Path) -> None:
    """Refuse a folder in which the files of an analysis cannot be written."""
    check_folder_place(out)
    check_outside(out)
    for name in (JSON, CSV, PAGE):
        check_file_place(out / name)
    held = sorted(one.name for one in out.iterdir()) if out.is_dir() else []
    others = [name for name in held if not is_leftover_of(JSON, name)]
    if others and JSON not in others:
        raise ConfigError(
            f"{out} holds {others[0]} and no {JSON}; choose a new or empty folder for "
            "--out, or that of an earlier analysis"
        )


def write_analysis(data: AnalysisData, out: Path) -> None:
    """Write an analysis as JSON, as CSV and as a page."""
    save_json(without_nan(data), out / JSON)
    write_atomic(out / CSV, encode(csv_text([*table_rows(data)])))
    write_atomic(out / PAGE, encode(render_analysis(data)))


def table_rows(data: AnalysisData) -> Iterator[TableRow]:
    """Yield every number as a row: run, quantity, value, low, high."""
    for run in data.runs:
        yield from (table_row(run.name, *one) for one in quantities(run))
    yield from (table_row(MEAN, *one) for one in data.overall.items())
    for one, row in zip(data.runs, data.between, strict=False):
        for other, value in zip(data.runs, row, strict=True):
            if value is not None and one is not other:
                yield table_row(f"{one.name} to {other.name}", PAIRS, alone(value))


def table_row(run: str, quantity: str, interval: Interval) -> TableRow:
    """Return a number and the ends of its interval, nothing for what is none."""
    return {"run": run, "quantity": quantity, **without_nan(interval)}


def quantities(run: RunAnalysis) -> Iterator[tuple[str, Interval]]:
    """Yield what was measured of one run, its bins and teacher included."""
    yield from run.measures.items()
    for target, bins in run.bins.items():
        for place, one in enumerate(bins, 1):
            yield f"bin.{target}.{place}", one.mean
            yield f"bin.{target}.{place}.count", alone(one.center)
    for name in TEACHER_CHECK if run.teacher_check is not None else ():
        yield f"teacher_check.{name}", alone(getattr(run.teacher_check, name))


def alone(value: float) -> Interval:
    """Return a number without an interval."""
    return Interval(value, math.nan, math.nan)
