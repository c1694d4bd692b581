"""Reading and writing questions: the one place where gold answers enter, apart.

A file has one question a row. What its columns mean is said in `formats`: by the names
of the product's own, by others that people give them, or by those of a public set. Gold
answers leave as a `GoldAnswers` of their own, so no stage can see them by accident; in
a pool they are not looked at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from neuron_opsd.config import QuestionsConfig
from neuron_opsd.errors import DataError
from neuron_opsd.records import GoldAnswers, Question
from neuron_opsd.world.files import write_atomic
from neuron_opsd.world.formats.cells import cells_of
from neuron_opsd.world.formats.choice_gold import evidence_of
from neuron_opsd.world.formats.gold import gold_texts
from neuron_opsd.world.formats.items import How, Item
from neuron_opsd.world.formats.parts import (
    RepeatedChoiceError,
    parse_id,
    refuse_repeated,
)
from neuron_opsd.world.formats.plain import read_exact, read_plain
from neuron_opsd.world.formats.public_sets import (
    AUTO,
    BY_NAME,
    PLAIN,
    PublicSet,
    format_of,
    missing_columns,
    names_of,
    recognise,
)
from neuron_opsd.world.formats.set_rows import read_set
from neuron_opsd.world.formats.telling import notes_of
from neuron_opsd.world.formats.unread import refuse_picture
from neuron_opsd.world.hub import DATASET_ID, read_dataset
from neuron_opsd.world.overlap import check_overlap, duplicates_of
from neuron_opsd.world.question_files import READERS, read_table
from neuron_opsd.world.rows import BadRowError, Row, Table, shorten

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
    notes: tuple[str, ...] = ()
    """How the file was read where that is not plain, a line each."""
    place_of: Mapping[str, str] = field(default_factory=dict)
    """Question id to where it stands, for example ``line 214``."""
    reader: str = ""
    """The `answers.reader` that the free answers of its set need; empty for any."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """One good row."""

    number: int
    place: str
    item: Item
    question: Question
    public: PublicSet | None

    @property
    def format(self) -> str:
        """Name of what read it."""
        return PLAIN if self.public is None else self.public.name


@dataclass(frozen=True, slots=True)
class Reading:
    """How one file is read."""

    format: str
    config: QuestionsConfig
    labelled: bool


def read_questions(
    source: str | Path,
    *,
    allow_download: bool = False,
    config: QuestionsConfig | None = None,
    name: str = "",
    labelled: bool = True,
) -> QuestionFile:
    """Read questions from JSON lines, JSON, Parquet, CSV or a Hugging Face dataset.

    An `id` that is missing is the file's stem and the row's number, from 1. The
    `answer` to a question with choices is a choice's text, its letter, or its index;
    where a row alone does not tell which, the other rows do, or the row is bad.

    Args:
        source: A file ending in .jsonl, .jsonl.gz, .json, .parquet, .csv or .tsv; or
            the id of a dataset, with ``:split`` or ``:configuration:split`` where
            needed.
        allow_download: Whether a dataset that is not in the local cache may be
            downloaded.
        config: How the columns are read; the defaults if none is given.
        name: ``pool``, or that of the test set, for settings of one file.
        labelled: Whether gold answers are wanted; nothing of them is looked at
            otherwise.

    Raises:
        ConfigError: If the settings name no format.
        DataError: If the source cannot be read or holds no questions, or for all bad
            rows at once, of which it shows twenty.
        TryAgainError: If the network fails.
    """
    config = QuestionsConfig() if config is None else config
    reading = Reading(format_of(config.format, name), config, labelled)
    if is_dataset(source):
        table = read_dataset(str(source), allow_download=allow_download)
    else:
        table = read_table(Path(source))
    if not table.rows:
        raise DataError(f"{table.name} holds no questions")
    return parse_table(table, reading)


def is_dataset(source: str | Path) -> bool:
    """Say whether a source is the id of a dataset and not a file."""
    if isinstance(source, Path) or not DATASET_ID.fullmatch(source):
        return False
    # A mistyped file in a folder that is there is not a dataset.
    here = Path(source)
    return not (
        source.endswith(tuple(READERS)) or here.exists() or here.parent.is_dir()
    )


def parse_table(table: Table, reading: Reading) -> QuestionFile:
    """Return a table's questions.

    Raises:
        DataError: For all bad rows at once, or if rows are of two sets.
    """
    rows, problems, dropped = parse_rows(table, reading)
    refuse_mixed(table, rows)
    golds: dict[str, tuple[str, ...]] = {}
    evidence = evidence_of(row.item for row in rows)
    for row in rows if reading.labelled else ():
        try:
            golds[row.question.id] = gold_texts(row.item, evidence)
        except BadRowError as error:
            problems[row.number] = f"{table.name}, {row.place}: {error}"
    if problems:
        raise DataError(problem_text([problems[n] for n in sorted(problems)]))
    if not rows:
        raise DataError(f"{table.name} holds no question without a repeated choice")
    first = rows[0].public
    return QuestionFile(
        tuple(row.question for row in rows),
        GoldAnswers(
            {name: texts[0] for name, texts in golds.items() if texts},
            {name: texts[1:] for name, texts in golds.items() if texts[1:]},
        ),
        table.sha256,
        notes_of(table.name, [row.item for row in rows], first, evidence, dropped),
        {row.question.id: row.place for row in rows},
        first.reader if first is not None else "",
    )


def parse_rows(
    table: Table, reading: Reading
) -> tuple[list[Parsed], dict[int, str], list[str]]:
    """Return the good rows, what is wrong with the bad, and the places left out."""
    rows: list[Parsed] = []
    problems: dict[int, str] = {}
    dropped: list[str] = []
    place_of: dict[str, str] = {}
    for number, row in enumerate(table.rows, 1):
        try:
            parsed = parse_row(row, number, table.stem, reading)
            refuse_known(parsed, place_of)
            refuse_repeated(parsed.item.choices)
            rows.append(parsed)
        except RepeatedChoiceError as error:
            if reading.config.drop_repeated_choices:
                dropped.append(row.place)
            else:
                problems[number] = f"{table.name}, {row.place}: {error}"
        except BadRowError as error:
            problems[number] = f"{table.name}, {row.place}: {error}"
    return rows, problems, dropped


def parse_row(row: Row, number: int, stem: str, reading: Reading) -> Parsed:
    """Return what one row says.

    Raises:
        BadRowError: If it cannot be used.
    """
    if isinstance(row.values, BadRowError):
        raise row.values
    item, public = item_of(row, reading)
    refuse_picture(item.messages)
    question = Question(
        parse_id(item.id, f"{stem}-{number}"),
        item.messages,
        item.choices,
        question_label=item.question_label,
        answer_label=item.answer_label,
    )
    return Parsed(number, row.place, item, question, public)


def item_of(row: Row, reading: Reading) -> tuple[Item, PublicSet | None]:
    """Return what a row says, and of which set it is.

    Raises:
        BadRowError: If it cannot be used.
    """
    assert not isinstance(row.values, BadRowError)
    cells = cells_of(row.values)
    if reading.format == PLAIN:
        return with_answers(read_exact(cells, labelled=reading.labelled), reading), None
    public = BY_NAME.get(reading.format)
    if reading.format == AUTO:
        public = recognise(cells, labelled=reading.labelled)
    if public is None:
        return with_answers(read_plain(cells, labelled=reading.labelled), reading), None
    missing = [key for key in missing_columns(public, cells) if key not in OPTIONAL]
    if missing:
        raise BadRowError(
            f"has no column {missing[0]!r}, by which {public.name} is known; its "
            f"columns are {names_of(cells)}"
        )
    return read_set(public, cells, labelled=reading.labelled), public


OPTIONAL = ("answer", "solution", "rewardmodel")
"""Columns that tell a set, but that a pool without answers lacks."""


def with_answers(item: Item, reading: Reading) -> Item:
    """Return a row whose answers are read as the settings say, if they do."""
    how: How = reading.config.answers
    if how == "auto" or not item.choices:
        return item
    return replace(item, answers=tuple(replace(a, how=how) for a in item.answers))


def refuse_known(row: Parsed, place_of: dict[str, str]) -> None:
    """Enter a row's id, and refuse one that stands there already.

    Raises:
        BadRowError: If it does.
    """
    first = place_of.setdefault(row.question.id, row.place)
    if first != row.place:
        raise BadRowError(f"has the id {shorten(row.question.id)} of {first}")


def refuse_mixed(table: Table, rows: Sequence[Parsed]) -> None:
    """Refuse a file whose rows are of several sets.

    Raises:
        DataError: Naming a row of each.
    """
    first = {row.format: row.place for row in reversed(rows)}
    if len(first) > 1:
        found = ", ".join(f"{place} as {name}" for name, place in first.items())
        raise DataError(
            f"{table.name} holds rows of several sets: {found}; split the file, or say "
            "what it is with --format"
        )


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
        answer, others = gold.answer_of[question.id], gold.aliases_of.get(question.id)
        table["answer"] = [answer, *others] if others else answer
    labels = {
        "question_label": question.question_label,
        "answer_label": question.answer_label,
    }
    return table | {name: label for name, label in labels.items() if label}
