"""A probe as files: JSON with everything, CSV with every number, and a page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from neuron_opsd.comparison.tables import TableRow, csv_text
from neuron_opsd.probing.summary import Summary
from neuron_opsd.records.scores import Interval
from neuron_opsd.report.probe_page import render_probe
from neuron_opsd.results.probe import Measures, ProbeData
from neuron_opsd.storage.codecs import encode, save_json, without_nan
from neuron_opsd.storage.files import write_atomic
from neuron_opsd.storage.folders import PROBE_PAGE
from neuron_opsd.storage.output_paths import check_file_place

JSON: Final = "probe.json"
CSV: Final = "probe.csv"
QUESTIONS: Final = "questions.csv"
"""Holds what is measured of each question under each context rule."""


def check_files(out: Path) -> None:
    """Refuse a folder in which the files of a probe cannot be written."""
    for name in (JSON, CSV, QUESTIONS, PROBE_PAGE):
        check_file_place(out / name)


def write_probe(found: Summary, out: Path) -> None:
    """Write a probe as JSON, as CSV and as a page."""
    data = found.data
    save_json(without_nan(data), out / JSON)
    write_atomic(out / CSV, encode(csv_text([*table_rows(data)])))
    write_atomic(out / QUESTIONS, encode(csv_text([*question_rows(found)])))
    write_atomic(out / PROBE_PAGE, encode(render_probe(data)))


def table_rows(data: ProbeData) -> Iterator[TableRow]:
    """Yield every number as a row: of what, rule, quantity, value, low, high."""
    for name, interval in data.student.items():
        yield table_row("student", "", name, interval)
    for one in data.contexts:
        yield from rows_of("contexts", one.rule, "", one.measures)
        yield from rows_of("contexts", one.rule, " over student", one.over_student)
        yield from rows_of("contexts", one.rule, " over random", one.over_random)
    for kept in data.selections:
        yield from rows_of("selection", kept.rule, "", kept.measures)
        yield from rows_of("selection", kept.rule, " over random", kept.over_random)
    for pair in data.pairs:
        rules = f"{pair.selection} with {pair.contexts}"
        yield table_row("pair", rules, "score", pair.score)


def question_rows(found: Summary) -> Iterator[TableRow]:
    """Yield a row for each question and rule; the student has fewer measures."""
    names = list(dict.fromkeys(n for one in found.columns.values() for n in one))
    for rule, columns in found.columns.items():
        for place, subject in enumerate(found.subjects):
            yield {
                "question_id": subject.question.id,
                "rule": rule,
                "vote_share": subject.vote.agreement,
                **{
                    name: float(columns[name][place]) if name in columns else None
                    for name in names
                },
            }


def rows_of(of: str, rule: str, more: str, measures: Measures) -> Iterator[TableRow]:
    """Yield the numbers of one rule."""
    for name, interval in measures.items():
        yield table_row(of, rule, name + more, interval)


def table_row(of: str, rule: str, quantity: str, interval: Interval) -> TableRow:
    """Return a number and the ends of its interval."""
    row = {"of": of, "rule": rule, "quantity": quantity}
    return {**row, **without_nan(interval)}
