"""Completions as models write them, and what a careful person reads from each."""

from __future__ import annotations

import json
from typing import Any

import pytest

import places
from neuron_opsd.answers.readers import Reader, reader_for
from neuron_opsd.answers.reasoning import final_part
from neuron_opsd.config import AnswersConfig
from neuron_opsd.records import Message, Question

CASES = places.CASES


def rows_of(name: str) -> list[dict[str, Any]]:
    """Return the rows of a file of cases."""
    text = (CASES / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def single_faults() -> list[dict[str, Any]]:
    """Return the cases that lie in files of their own."""
    files = sorted((CASES / "readers").glob("*.json"))
    return [
        {"id": file.stem, **json.loads(file.read_text(encoding="utf-8"))}
        for file in files
    ]


ROWS = [
    *rows_of("answers.jsonl"),
    *single_faults(),
    *rows_of("own.jsonl"),
    *rows_of("blind.jsonl"),
]


def reader_of(case: dict[str, Any]) -> tuple[Reader, Question]:
    """Return the reader of a case and its question."""
    question = Question(
        case["id"], (Message("user", "Which?"),), tuple(case.get("choices", ()))
    )
    names = {"reader": case["reader"], "decimal_mark": case.get("decimal_mark")}
    settings = {name: value for name, value in names.items() if value is not None}
    return reader_for(question, AnswersConfig.model_validate(settings)), question


def answer_of(case: dict[str, Any]) -> str | None:
    """Return what is read from the completion of a case."""
    reader, question = reader_of(case)
    opened = case.get("thinking_opened", False)
    final = final_part(case["completion"], opened=opened)
    return reader.read(final, question, finished=case.get("finished", True)).answer


def wanted(case: dict[str, Any]) -> list[str | None]:
    """Return the answers that are right, the first of which is the best."""
    found = case["expected"] if "expected" in case else case["expect"]
    answers = found if isinstance(found, list) else [found]
    return [*answers, *case.get("also", ())]


@pytest.mark.parametrize(
    "case",
    [row for row in ROWS if "same" not in row],
    ids=lambda case: str(case["id"]),
)
def test_the_answer_is_read(case: dict[str, Any]) -> None:
    reader, question = reader_of(case)
    answer = answer_of(case)
    is_number = case["reader"] == "number"
    right = [
        one if one is None or is_number else reader.normalise(one, question)
        for one in wanted(case)
    ]
    same = (
        answer in right
        if answer is None
        else any(one is not None and reader.same(answer, one) for one in right)
    )
    assert same, f"{case['completion']!r}: read {answer!r}, wanted {wanted(case)}"


@pytest.mark.parametrize(
    "case",
    [row for row in ROWS if "same" in row],
    ids=lambda case: str(case["id"]),
)
def test_the_answer_is_told_from_the_gold_one(case: dict[str, Any]) -> None:
    reader, question = reader_of(case)
    answer, gold = answer_of(case), reader.normalise(case["gold"], question)
    assert gold is not None, case["gold"]
    same = answer is not None and reader.same(answer, gold)
    assert same is case["same"], f"{case['completion']!r}: read {answer!r}"


def test_there_are_cases_of_every_reader() -> None:
    names = {case["reader"] for case in ROWS}
    assert {"choice-letter", "choice-text", "number", "text", "latex"} <= names
    assert len(ROWS) > 500
