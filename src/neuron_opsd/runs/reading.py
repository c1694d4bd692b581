"""The `read` command: read answers with a run's readers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from neuron_opsd.answers.readers import READERS, Reader, reader_for
from neuron_opsd.answers.reasoning import all_marks, final_part
from neuron_opsd.answers.verifier import shared_verifier
from neuron_opsd.config import Config, ModelConfig
from neuron_opsd.data.question_files import open_table
from neuron_opsd.data.rows import (
    BadRowError,
    FileRow,
    Problems,
    Values,
    kind_of,
    shorten,
)
from neuron_opsd.errors import ConfigError, DataError
from neuron_opsd.prompts import resolve_prompts
from neuron_opsd.records import Message, Question

COLUMNS: Final = (
    *("id", "completion", "question", "choices", "gold", "reader"),
    *("finished", "thinking_opened"),
)
"""Columns that are read; others are ignored."""

ENDINGS: Final = (".jsonl", ".jsonl.gz")


@dataclass(frozen=True, slots=True)
class Written:
    """One completion to read."""

    question: Question
    completion: str
    gold: str | None
    reader: str
    finished: bool
    thinking_opened: bool


@dataclass(frozen=True, slots=True)
class ReadAnswer:
    """The answer read from one completion."""

    id: str
    answer: str | None
    """The choice's text or the normalised answer; `None` if there is none."""
    why: str
    same: bool | None
    """Whether it equals the gold answer; `None` without one."""


def read_answers(path: Path, config: Config) -> tuple[ReadAnswer, ...]:
    """Read the answers of the completions in a file, as a run would.

    Rows are JSON lines with `COLUMNS`; the settings name the default reader.

    Raises:
        ConfigError: If a setting of the reader cannot be used.
        DataError: For all bad rows at once, with file and line.
    """
    if not path.name.lower().endswith(ENDINGS) and path.exists():
        raise DataError(
            f"{path} is not a file of completions; give JSON lines, in a file that "
            f"ends in {' or '.join(ENDINGS)}"
        )
    table = open_table(path, config.questions)
    listed = resolve_prompts(config.prompts, has_chat_template=True, constrained=False)
    found: list[ReadAnswer] = []
    problems = Problems(table.name)
    places: dict[str, str] = {}
    for number, row in enumerate(table.rows, 1):
        try:
            written = parse(row, f"{table.stem}-{number}", config.answers.reader)
            first = places.setdefault(written.question.id, row.place)
            if first != row.place:
                raise BadRowError(
                    f"has the id {shorten(written.question.id)} of {first}"
                )
            reader = reader_of(written, config, listed.list_choices)
            found.append(judged(written, config.model, reader))
        except BadRowError as error:
            problems.add(number, row.place, error)
    problems.tell()
    if not found:
        raise DataError(f"{table.name} holds no completions")
    return tuple(found)


def judged(written: Written, config: ModelConfig, reader: Reader) -> ReadAnswer:
    """Read one answer and compare it with any gold one."""
    marks = all_marks(config.reasoning_start, config.reasoning_end)
    final = final_part(written.completion, opened=written.thinking_opened, marks=marks)
    reading = reader.read(final, written.question, finished=written.finished)
    same, why = None, reading.why
    if written.gold is not None:
        gold = reader.normalise(written.gold, written.question)
        if gold is None:
            raise BadRowError(
                f"gold is {shorten(written.gold)}, which the reader cannot read; give "
                "one of the choices where there are any, else a bare answer"
            )
        with shared_verifier().noting() as notes:
            same = reading.answer is not None and reader.same(reading.answer, gold)
        cut = [one.unsettled for one in notes.values() if one.unsettled]
        why = "; ".join([why, *(f"not resolved: {reason}" for reason in cut)])
    return ReadAnswer(written.question.id, reading.answer, why, same)


def reader_of(written: Written, config: Config, list_choices: str) -> Reader:
    """Return a row's reader, by its own name first."""
    answers = config.answers.model_copy(update={"reader": written.reader})
    if written.reader.startswith("choice-") and not written.question.choices:
        raise BadRowError(
            f"its reader is {written.reader}, but it has no choices; give it some, or "
            "let the reader be auto"
        )
    if written.reader == "regex" and not answers.pattern:
        raise ConfigError(
            "the reader regex needs a pattern; give it with --set answers.pattern=..."
        )
    return reader_for(written.question, answers, list_choices)


def parse(row: FileRow, default_id: str, reader: str) -> Written:
    """Return a row's contents."""
    if isinstance(row.values, BadRowError):
        raise row.values
    values = row.values
    check_names(values)
    if not isinstance(values.get("completion"), str):
        raise BadRowError(
            f"completion must be text, not {kind_of(values.get('completion'))}"
        )
    return Written(
        question=Question(
            plain_text(values, "id") or default_id,
            (Message("user", plain_text(values, "question") or ""),),
            tuple(choices_of(values.get("choices"))),
        ),
        completion=values["completion"],
        gold=plain_text(values, "gold"),
        reader=named_reader(values.get("reader") or reader),
        finished=truth(values, "finished", missing=True),
        thinking_opened=truth(values, "thinking_opened", missing=False),
    )


def check_names(values: Values) -> None:
    """Refuse a column whose name is nearly a known one."""
    for name in values:
        near = get_close_matches(name.strip().lower(), COLUMNS, n=1, cutoff=0.85)
        if name not in COLUMNS and near and near[0] not in values:
            raise BadRowError(
                f"has {shorten(name)}, which is not read; is {near[0]} meant?"
            )


def plain_text(values: Values, name: str) -> str | None:
    """Return a text, or a number as written, or `None`."""
    value = values.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if value is not None and not isinstance(value, str):
        raise BadRowError(f"{name} must be text, not {kind_of(value)}")
    return value


def choices_of(value: Any) -> Iterator[str]:
    """Yield the texts of any choices."""
    seen: set[str] = set()
    if value is not None and not isinstance(value, list):
        raise BadRowError(f"choices must be a list of texts, not {kind_of(value)}")
    for number, choice in enumerate(value or (), 1):
        if not isinstance(choice, str) or not choice.strip():
            raise BadRowError(f"choice {number} must be text, not {shorten(choice)}")
        if choice.strip() in seen:
            raise BadRowError(f"the choice {shorten(choice)} appears twice")
        seen.add(choice.strip())
        yield choice.strip()


def named_reader(name: Any) -> str:
    """Check a reader's name."""
    names = ("auto", *READERS)
    if name not in names:
        raise BadRowError(f"reader is {shorten(name)}; allowed are {', '.join(names)}")
    return str(name)


def truth(values: Mapping[str, Any], name: str, *, missing: bool) -> bool:
    """Return a Boolean."""
    value = values.get(name)
    if value is not None and not isinstance(value, bool):
        raise BadRowError(f"{name} must be true or false, not {shorten(value)}")
    return missing if value is None else value
