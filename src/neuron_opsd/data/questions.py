"""Read and write questions, keeping gold answers apart.

A file has one question per row; `formats` defines the columns. Gold answers enter only
here, as a separate `GoldAnswers`, so no stage sees them by accident; in a pool they are
not looked at.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from neuron_opsd.config import QuestionsConfig
from neuron_opsd.data.formats.choice_gold import Evidence, evidence_of
from neuron_opsd.data.formats.fields import RepeatedChoiceError, refuse_repeated
from neuron_opsd.data.formats.gold import gold_texts
from neuron_opsd.data.formats.notes import FileNotes
from neuron_opsd.data.formats.public_sets import PLAIN, PublicSet, format_of
from neuron_opsd.data.formats.sample_logs import SampleLogs
from neuron_opsd.data.question_files import (
    DATASET_ID,
    READERS,
    open_dataset,
    open_table,
)
from neuron_opsd.data.question_rows import Parsed, Reading, parse_row
from neuron_opsd.data.rows import BadRowError, FileRow, Problems, Table, shorten
from neuron_opsd.errors import DataError
from neuron_opsd.records import GoldAnswers, Question
from neuron_opsd.storage.files import write_atomic

MAX_KNOWN = 10_000
"""Most distinct choices shared between rows."""


@dataclass(frozen=True, slots=True)
class QuestionFile:
    """The questions of one file or dataset."""

    questions: tuple[Question, ...]
    gold: GoldAnswers
    """Of the questions with an answer."""
    sha256: str
    """Of the file's bytes, or of a dataset's rows."""
    notes: tuple[str, ...] = ()
    """On how the file was read, if not obvious."""
    place_of: Mapping[str, str] = field(default_factory=dict)
    """Question id to its place in the file, such as ``line 214``."""
    reader: str = ""
    """The `answers.reader` for its free answers; empty for any."""

    @property
    def gold_ids(self) -> Set[str]:
        """Ids of the questions with an answer."""
        return self.gold.answer_of.keys()


def read_questions(
    source: str | Path,
    *,
    allow_download: bool = False,
    config: QuestionsConfig | None = None,
    name: str = "",
    labelled: bool = True,
) -> QuestionFile:
    """Read questions from JSON lines, JSON, Parquet, CSV or a Hugging Face dataset.

    A missing `id` becomes the file's stem and the row's number, from 1. The `answer` to
    a question with choices is a choice's text, letter or index; if a row alone is
    ambiguous, the other rows decide, or the row is bad.

    Args:
        source: A file ending in .jsonl, .jsonl.gz, .json, .parquet, .csv or .tsv; or
            the id of a dataset, with ``:split`` or ``:configuration:split`` if needed.
        allow_download: Whether a dataset may be downloaded into the local cache.
        config: How the columns are read; defaults if omitted.
        name: ``pool``, or the test set's name, for settings of one file.
        labelled: Whether to read gold answers; otherwise they are not looked at.

    Raises:
        ConfigError: If the settings name no format.
        DataError: If the source cannot be read or holds no questions, or for all bad
            rows at once, of which it shows twenty.
        TryAgainError: If the network fails.
    """
    config = QuestionsConfig() if config is None else config
    reading = Reading(format_of(config.format, name), config, labelled)
    table = open_source(source, config, allow_download=allow_download)
    return parse_table(table, reading)


def open_source(
    source: str | Path, config: QuestionsConfig, *, allow_download: bool
) -> Table:
    """Return the rows of a file or dataset, read lazily."""
    if is_dataset(source):
        return open_dataset(str(source), config, allow_download=allow_download)
    return open_table(Path(source), config)


def is_dataset(source: str | Path) -> bool:
    """Say whether a source is the id of a dataset and not a file."""
    if isinstance(source, Path) or not DATASET_ID.fullmatch(source):
        return False
    # A mistyped file in a folder that exists is not a dataset.
    here = Path(source)
    return not (
        source.endswith(tuple(READERS)) or here.exists() or here.parent.is_dir()
    )


def parse_table(table: Table, reading: Reading) -> QuestionFile:
    """Return a table's questions."""
    found, logs = Found(table.name, reading), SampleLogs()
    for number, row in enumerate(logs.rows(table.rows), 1):
        found.take(row, number, table.stem)
    if not found.num_rows:
        raise DataError(f"{table.name} holds no questions")
    found.refuse_mixed(table.name)
    evidence = evidence_of(row.item for row in found.answered)
    golds = found.gold_texts(evidence)
    found.problems.tell()
    if not found.questions:
        raise DataError(f"{table.name} holds no question without a repeated choice")
    public = found.public
    return QuestionFile(
        tuple(found.questions),
        GoldAnswers(
            {name: texts[0] for name, texts in golds.items() if texts},
            {name: texts[1:] for name, texts in golds.items() if texts[1:]},
        ),
        table.hash(),
        (
            *logs.lines(table.name),
            *found.notes.lines(table.name, public, evidence, found.dropped),
        ),
        found.place_of,
        public.reader if public is not None else "",
    )


class Found:
    """What was read of a file so far."""

    def __init__(self, name: str, reading: Reading) -> None:
        self.reading = reading
        self.num_rows = 0
        self.questions: list[Question] = []
        self.answered: list[Parsed] = []
        self.place_of: dict[str, str] = {}
        self.first_of: dict[str, str] = {}
        """Name of each set to its first row's place."""
        self.public: PublicSet | None = None
        self.notes = FileNotes()
        self.problems = Problems(name)
        self.dropped: list[str] = []
        self.known: dict[tuple[str, ...], tuple[str, ...]] = {}
        """Choices of several rows, held once."""

    def take(self, row: FileRow, number: int, stem: str) -> None:
        """Take one more row, or record what is wrong with it."""
        self.num_rows += 1
        try:
            parsed = parse_row(row, number, stem, self.reading)
            name = parsed.question.id
            first = self.place_of.setdefault(name, row.place)
            if first != row.place:
                raise BadRowError(f"has the id {shorten(name)} of {first}")
            refuse_repeated(parsed.item.choices)
        except RepeatedChoiceError as error:
            if self.reading.config.drop_repeated_choices:
                self.dropped.append(row.place)
            else:
                self.problems.add(number, row.place, error)
        except BadRowError as error:
            self.problems.add(number, row.place, error)
        else:
            self.keep(parsed)

    def keep(self, row: Parsed) -> None:
        """Keep a good row."""
        if not self.questions:
            self.public = row.public
        name = PLAIN if row.public is None else row.public.name
        self.first_of.setdefault(name, row.place)
        self.notes.add(row.item)
        self.questions.append(replace(row.question, choices=self.shared(row.question)))
        if row.item.answers:
            self.answered.append(row)

    def shared(self, question: Question) -> tuple[str, ...]:
        """Return a question's choices, the same object for equal ones."""
        if len(self.known) > MAX_KNOWN:
            self.known.clear()
        return self.known.setdefault(question.choices, question.choices)

    def refuse_mixed(self, name: str) -> None:
        """Refuse a file with rows of several sets."""
        if len(self.first_of) > 1:
            places = [f"{place} as {known}" for known, place in self.first_of.items()]
            raise DataError(
                f"{name} holds rows of several sets: {', '.join(reversed(places))}; "
                "split the file, or say what it is with --format"
            )

    def gold_texts(self, evidence: Evidence) -> dict[str, tuple[str, ...]]:
        """Return the texts that answer each question; record bad rows."""
        golds: dict[str, tuple[str, ...]] = {}
        for row in self.answered if self.reading.labelled else ():
            try:
                golds[row.question.id] = gold_texts(row.item, evidence)
            except BadRowError as error:
                self.problems.add(row.number, row.place, error)
        return golds


NO_ANSWERS: Final = GoldAnswers({})


def conflicting(file: QuestionFile) -> list[str]:
    """Return ids that appeared before with another answer."""
    first: dict[tuple[object, ...], str] = {}
    found = []
    for question in file.questions:
        if question.id not in file.gold.answer_of:
            continue
        asked = question.messages, frozenset(question.choices)
        answer = file.gold.answer_of[question.id]
        if first.setdefault(asked, answer) != answer:
            found.append(question.id)
    return found


def write_questions(
    path: Path, questions: Sequence[Question], gold: GoldAnswers = NO_ANSWERS
) -> None:
    """Write questions as JSON lines that read back the same.

    Without gold answers they are a pool.
    """
    tables = (question_table(question, gold) for question in questions)
    write_atomic(path, json_lines(tables).encode())


def json_lines(tables: Iterable[Mapping[str, Any]]) -> str:
    """Return tables as JSON, one per line."""
    return "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in tables)


def question_table(question: Question, gold: GoldAnswers) -> dict[str, Any]:
    """Return the columns of one question."""
    table: dict[str, Any] = {"id": question.id}
    if len(question.messages) == 1:
        table["question"] = question.text
    else:
        table["prompt"] = [asdict(turn) for turn in question.messages]
    if question.choices:
        table["choices"] = list(question.choices)
    if question.id in gold.answer_of:
        answer, others = gold.answer_of[question.id], gold.aliases_of.get(question.id)
        table["answer"] = [answer, *others] if others else answer
    labels = {
        "question_label": question.question_label,
        "answer_label": question.answer_label,
        "privileged_context": question.given,
    }
    return table | {name: label for name, label in labels.items() if label}
