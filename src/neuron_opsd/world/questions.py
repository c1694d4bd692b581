"""Reading and writing questions: the one place where gold answers enter, apart.

A file has one question a row: `prompt` (a text, or messages with `role` and `content`)
or `question` (a text), and optionally `choices` (texts), `id` and `answer`. Gold
answers leave as a `GoldAnswers` of their own, so no stage can see them by accident.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuron_opsd.errors import DataError
from neuron_opsd.records import GoldAnswers, Question
from neuron_opsd.world.files import write_atomic
from neuron_opsd.world.hub import DATASET_ID, read_dataset
from neuron_opsd.world.overlap import check_overlap, duplicates_of
from neuron_opsd.world.question_files import (
    READERS,
    BadRowError,
    Row,
    Table,
    read_table,
    shorten,
)
from neuron_opsd.world.question_rows import parse_row

__all__ = [
    "QuestionFile",
    "check_overlap",
    "duplicates_of",
    "read_questions",
    "write_questions",
]

MAX_SHOWN = 20


@dataclass(frozen=True, slots=True)
class QuestionFile:
    """The questions of one file or dataset."""

    questions: tuple[Question, ...]
    gold: GoldAnswers
    """Of the questions that came with an answer."""
    sha256: str
    """Of the file's bytes, or of the rows of a dataset."""


def read_questions(source: str | Path, *, allow_download: bool = False) -> QuestionFile:
    """Read questions from JSON lines, Parquet, CSV or a Hugging Face dataset.

    An `id` that is missing is the file's stem and the row's number, from 1. The
    `answer` to a question with choices is a choice's text, its index from 0, or its
    letter where that is no choice's text.

    Args:
        source: A file ending in .jsonl, .jsonl.gz, .parquet or .csv; or the id of a
            dataset, with ``:split`` or ``:configuration:split`` where needed.
        allow_download: Whether a dataset that is not in the local cache may be
            downloaded.

    Raises:
        DataError: If the source cannot be read or holds no questions, or for all bad
            rows at once, of which it shows twenty.
        TryAgainError: If the network fails.
    """
    if is_dataset(source):
        table = read_dataset(str(source), allow_download=allow_download)
    else:
        table = read_table(Path(source))
    if not table.rows:
        raise DataError(f"{table.name} holds no questions")
    return parse_table(table)


def is_dataset(source: str | Path) -> bool:
    """Say whether a source is the id of a dataset and not a file."""
    if isinstance(source, Path) or not DATASET_ID.fullmatch(source):
        return False
    # A mistyped file in a folder that is there is not a dataset.
    here = Path(source)
    return not (
        source.endswith(tuple(READERS)) or here.exists() or here.parent.is_dir()
    )


def parse_table(table: Table) -> QuestionFile:
    """Return a table's questions.

    Raises:
        DataError: For all bad rows at once.
    """
    questions: list[Question] = []
    answers: dict[str, str] = {}
    problems: list[str] = []
    place_of: dict[str, str] = {}
    for number, row in enumerate(table.rows, 1):
        try:
            question, answer = question_of(row, f"{table.stem}-{number}", place_of)
        except BadRowError as error:
            problems.append(f"{table.name}, {row.place}: {error}")
            continue
        questions.append(question)
        if answer is not None:
            answers[question.id] = answer
    if problems:
        raise DataError(problem_text(problems))
    return QuestionFile(tuple(questions), GoldAnswers(answers), table.sha256)


def question_of(
    row: Row, default_id: str, place_of: dict[str, str]
) -> tuple[Question, str | None]:
    """Return a row's question and gold answer, and enter its id into `place_of`.

    Raises:
        BadRowError: If the row cannot be used or its id stands there already.
    """
    if isinstance(row.values, BadRowError):
        raise row.values
    question, answer = parse_row(row.values, default_id)
    first = place_of.setdefault(question.id, row.place)
    if first != row.place:
        raise BadRowError(f"has the id {shorten(question.id)} of {first}")
    return question, answer


def problem_text(problems: Sequence[str]) -> str:
    """Join what is wrong, one a line, and say how much is not shown."""
    hidden = len(problems) - MAX_SHOWN
    more = [f"and {hidden} more"] if hidden > 0 else []
    return "\n".join([*problems[:MAX_SHOWN], *more])


def write_questions(
    path: Path, questions: Sequence[Question], gold: GoldAnswers
) -> None:
    """Write questions and their gold answers as JSON lines that read back the same.

    Raises:
        TryAgainError: If the disk is full or ails.
    """
    lines = [
        json.dumps(question_table(question, gold), ensure_ascii=False) + "\n"
        for question in questions
    ]
    write_atomic(path, "".join(lines).encode())


def question_table(question: Question, gold: GoldAnswers) -> dict[str, Any]:
    """Return the columns of one question."""
    table: dict[str, Any] = {"id": question.id}
    if len(question.messages) == 1:
        table["question"] = question.text
    else:
        turns = question.messages
        table["prompt"] = [{"role": m.role, "content": m.content} for m in turns]
    if question.choices:
        table["choices"] = list(question.choices)
    if question.id in gold.answer_of:
        table["answer"] = gold.answer_of[question.id]
    labels = {
        "question_label": question.question_label,
        "answer_label": question.answer_label,
    }
    return table | {name: label for name, label in labels.items() if label}
