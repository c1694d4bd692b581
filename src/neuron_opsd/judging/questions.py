"""The questions to score against: a test set, or the file's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from neuron_opsd.answers.readers import Reader, readers_for
from neuron_opsd.config import Config
from neuron_opsd.data.formats.cells import (
    ANSWERS,
    CHOICES,
    GROUP,
    IDS,
    INDICES,
    PROMPTS,
    QUESTIONS,
    squash,
)
from neuron_opsd.data.formats.public_sets import PLAIN, check_targets, format_of
from neuron_opsd.data.question_rows import Reading
from neuron_opsd.data.questions import QuestionFile, parse_table, read_questions
from neuron_opsd.data.rows import BadRowError, FileRow, Problems, Table, Values
from neuron_opsd.errors import DataError
from neuron_opsd.judging.matching import Matcher, squeezed
from neuron_opsd.judging.reading import asked_rows, open_samples
from neuron_opsd.prompts import resolve_prompts
from neuron_opsd.records import GoldAnswers, Question
from neuron_opsd.runs.gold_checks import check_gold

OWN: Final = "samples"
"""Test set name for the files' own questions."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The questions judged, with readers and matcher."""

    name: str
    questions: tuple[Question, ...]
    gold: GoldAnswers
    readers: Mapping[str, Reader]
    matcher: Matcher
    sha256: str = ""


def read_asked(
    tests: Mapping[str, str],
    files: Mapping[str, Path],
    config: Config,
    warn: Callable[[str], None],
) -> Asked:
    """Read the test set, or without one the questions in the files.

    The latter are sorted by id, so that resamples do not depend on the files' order.

    Raises:
        DataError: If there are none, or their gold answers cannot be used.
    """
    check_targets(config.questions.format, tuple(tests))
    if tests:
        ((name, source),) = tests.items()
        found = read_questions(
            source,
            allow_download=config.model.allow_download,
            config=config.questions,
            name=name,
        )
    else:
        name, source = OWN, str(next(iter(files.values())))
        found = own_questions([*files.values()], config)
        in_order = sorted(found.questions, key=lambda question: question.id)
        found = replace(found, questions=tuple(in_order))
    for note in found.notes:
        warn(note)
    check_gold(name, source, found, config.answers, warn)
    prompts = resolve_prompts(config.prompts, has_chat_template=True, constrained=False)
    return Asked(
        name,
        found.questions,
        found.gold,
        readers_for(found.questions, config.answers, prompts.list_choices),
        Matcher({one.id: one for one in found.questions}, prompts),
        found.sha256,
    )


def own_questions(files: list[Path], config: Config) -> QuestionFile:
    """Return the distinct questions in files of samples."""
    shape = next((shape for _, shape, _ in asked_rows(files[0], config)), None)
    if shape is None:
        refuse_bad_rows(files[0], config)
        raise DataError(f"{files[0]} holds no samples")
    try:
        return parsed(files, shape.asked, config, exact=shape.exact)
    except DataError as error:
        if shape.asked_otherwise is None:
            raise DataError(
                f"{error}\nWithout --test, samples must carry their own question and "
                f"answer (this file is read as {shape.name}); give the test set with "
                "--test NAME=FILE"
            ) from None
    return parsed(files, shape.asked_otherwise, config, exact=True)


def refuse_bad_rows(path: Path, config: Config) -> None:
    """Report the bad rows of a file without a readable one."""
    problems = Problems(str(path))
    for number, row in enumerate(open_samples(path, config.questions).rows, 1):
        if isinstance(row.values, BadRowError):
            problems.add(number, row.place, row.values)
    problems.tell()


def parsed(
    files: list[Path],
    asked: Callable[[Values], Values],
    config: Config,
    *,
    exact: bool,
) -> QuestionFile:
    """Return the questions of files as a question file is read."""
    form = PLAIN if exact else format_of(config.questions.format, OWN)
    rows = own_rows(files, asked, config)
    table = Table(str(files[0]), files[0].stem, rows, str)
    return parse_table(table, Reading(form, config.questions, labelled=True))


def own_rows(
    files: list[Path], asked: Callable[[Values], Values], config: Config
) -> Iterator[FileRow]:
    """Yield each question once; its later rows must not differ.

    A sample's own id replaces ids in the question's columns.
    """
    known: dict[str, tuple[int, str]] = {}
    for path in files:
        for row, _, sample in asked_rows(path, config):
            identity = sample.key or squeezed(sample.asks)
            try:
                found = asked(row.good)
            except BadRowError as error:
                yield FileRow(row.place, error)
                continue
            digest, here = hash(repr(deciding(found))), f"{path}, {row.place}"
            first, place = known.setdefault(identity, (digest, here))
            if place == here:
                named = {"id": sample.key} if sample.key else {}
                kept = {n: v for n, v in found.items() if squash(n) not in IDS}
                yield FileRow(row.place, kept | named)
            elif first != digest:
                yield FileRow(row.place, differs(identity, place))


def deciding(values: Values) -> list[tuple[str, Any]]:
    """Return the columns with question and right answer, sorted."""
    known = (*QUESTIONS, *PROMPTS, *CHOICES, *ANSWERS, *INDICES)
    pairs = [(squash(name), value) for name, value in values.items()]
    return sorted(p for p in pairs if p[0] in known or GROUP.fullmatch(p[0]))


def differs(identity: str, place: str) -> BadRowError:
    """Report a row that reuses an id for another question."""
    return BadRowError(
        f"has the id {identity[:40]!r}, but not the same question or right answer as "
        f"{place}; give different questions different ids"
    )
