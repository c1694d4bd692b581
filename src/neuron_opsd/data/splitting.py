"""Split one labelled file into a pool and a test set, in a new folder.

    OUT/pool.jsonl      without answers
    OUT/test.jsonl
    OUT/split.json      what they were made from, and how

Several parts have a folder each: ``OUT/NAME/pool.jsonl``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeAlias, TypedDict, Unpack

from neuron_opsd.config import Config
from neuron_opsd.config.tables import Settings, as_config
from neuron_opsd.data.formats.public_sets import format_of
from neuron_opsd.data.question_rows import Reading
from neuron_opsd.data.questions import (
    QuestionFile,
    conflicting,
    open_source,
    parse_table,
    write_questions,
)
from neuron_opsd.data.row_columns import RowColumns, parse_kept
from neuron_opsd.data.sides import Rule, Sides, divide
from neuron_opsd.errors import ConfigError, DataError, listing
from neuron_opsd.progress import QUIET, Progress
from neuron_opsd.storage.files import sha256_file, write_folder
from neuron_opsd.storage.output_paths import check_folder_place, check_names

POOL, TEST, RECORD = "pool.jsonl", "test.jsonl", "split.json"
TEST_SHARE: Final = 0.2
"""The paper's split is 80 to 20."""
PASSAGE_WORDS: Final = 32


Rows: TypeAlias = Mapping[str, tuple[Sequence[int], Sequence[int]]]
"""Part name to pool rows and test rows."""


class Choices(TypedDict, total=False):
    """How to divide a file, if not by default."""

    test_share: float
    """Share of the groups that goes to the test, in (0, 1); else `TEST_SHARE`."""
    group: str
    """Column whose equal values stay on one side."""
    by: str
    """Column that gets a pool and a test for each of its values."""
    where: Sequence[str]
    """Each ``column=value,value``: only such rows are taken."""
    passage_words: int
    """Words in a row that keep questions together, 0 for none; else `PASSAGE_WORDS`."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is divided, and how; see `Choices`."""

    source: str
    out: Path
    test_share: float = TEST_SHARE
    group: str = ""
    by: str = ""
    where: Sequence[str] = ()
    passage_words: int = PASSAGE_WORDS


@dataclass(frozen=True, slots=True)
class Part:
    """One pool and its test."""

    name: str
    """Folder name, from the column `by`; empty without one."""
    pool: str
    test: str
    num_pool: int
    num_test: int


@dataclass(frozen=True, slots=True)
class SplitData:
    """The result of a split."""

    parts: tuple[Part, ...]
    num_groups: int
    largest_group: int
    num_near: int
    """As in `Sides.near`."""
    notes: tuple[str, ...]


def split(
    source: str | Path,
    out: str | Path,
    settings: Settings,
    progress: Progress = QUIET,
    **choices: Unpack[Choices],
) -> SplitData:
    """Make an unlabelled pool and a labelled test set from one labelled file.

    Args:
        source: Labelled questions, or the id of a dataset.
        out: New or empty folder for `pool.jsonl`, `test.jsonl` and `split.json`.
        settings: How the file is read, and the seed.
        progress: Receives warnings.
        choices: How to divide it.

    Raises:
        ConfigError: If the choices cannot be followed.
        DataError: If the file cannot be read, or one side would be empty.
    """
    request, config = Request(str(source), Path(out), **choices), as_config(settings)
    check_request(request)
    named = [column for column in (request.group, request.by) if column]
    columns = RowColumns(parse_kept(request.where), named)
    file = read_labelled(request, config, columns)
    groups, names = columns_of(request, file, columns)
    rule = Rule(
        config.seed,
        request.test_share,
        request.passage_words,
        config.evaluation.max_overlap,
    )
    sides = divide(file.questions, groups, file.gold_ids, rule)
    rows = rows_by_name(names, sides)
    refuse_empty(request, rows)
    notes = (*file.notes, *remarks(file, sides, columns))
    for note in notes:
        progress.warn(note)
    made = record(request, file, rule, rows)
    write_folder(request.out, lambda folder: fill(folder, file, rows, made))
    return summary(request, sides, rows, notes)


def check_request(request: Request) -> None:
    """Refuse impossible requests before anything is read."""
    if not 0 < request.test_share < 1:
        raise ConfigError(
            f"--test-share is {request.test_share}, but it must be between 0 and 1; "
            f"{TEST_SHARE} makes a test of a fifth"
        )
    if request.passage_words and request.passage_words < 8:
        raise ConfigError(
            f"--passage-words is {request.passage_words}, but it must be 0, or 8 or "
            "more; unrelated questions share fewer words in a row"
        )
    check_folder_place(request.out)
    held = sorted(p.name for p in request.out.iterdir()) if request.out.is_dir() else []
    if held:
        raise ConfigError(
            f"--out is {request.out}, which holds {listing(held)}; nothing is "
            "overwritten: choose a new or empty folder"
        )


def read_labelled(
    request: Request, config: Config, columns: RowColumns
) -> QuestionFile:
    """Read the questions with their answers."""
    settings, allowed = config.questions, config.model.allow_download
    table = open_source(request.source, settings, allow_download=allowed)
    reading = Reading(format_of(settings.format, ""), settings, labelled=True)
    file = parse_table(replace(table, rows=columns.rows(table)), reading)
    if not file.gold_ids:
        raise DataError(
            f"{request.source} holds no answers, so nothing could be tested on it; "
            "give the labelled file, or use this one as a pool as it is"
        )
    return file


def columns_of(
    request: Request, file: QuestionFile, columns: RowColumns
) -> tuple[list[str], list[str]]:
    """Return each question's group and part."""
    values = [columns.values_at[file.place_of[q.id]] for q in file.questions]
    groups = [row[0] if request.group else "" for row in values]
    names = [row[-1] if request.by else "" for row in values]
    if request.by:
        lacking = sum(not name for name in names)
        if lacking:
            raise DataError(
                f"{request.source}: {lacking:,} rows have nothing in {request.by!r}, "
                "which decides their part; fill it, or leave them out with --where"
            )
        check_names({folder_of(name) for name in names}, f"a part by {request.by!r}")
        first: dict[str, str] = {}
        for name in names:
            twin = first.setdefault(folder_of(name), name)
            if twin != name:
                raise DataError(
                    f"the parts {twin!r} and {name!r} would share one folder; rename "
                    "one"
                )
    return groups, names


def folder_of(name: str) -> str:
    """Return a part's folder name, with dashes for blanks."""
    return "-".join(name.split())


def rows_by_name(names: Sequence[str], sides: Sides) -> Rows:
    """Return the rows of each part, in order."""
    rows: dict[str, tuple[list[int], list[int]]]
    rows = {name: ([], []) for name in sorted({*names})}
    for row, (name, in_test) in enumerate(zip(names, sides.in_test, strict=True)):
        rows[name][int(in_test)].append(row)
    return rows


def refuse_empty(request: Request, rows: Rows) -> None:
    """Refuse a part with an empty side."""
    for name, (pool, test) in rows.items():
        if pool and test:
            continue
        what = f" of {name!r}" if name else ""
        side = "pool" if not pool else "test"
        raise DataError(
            f"{request.source}: none of the {len(pool) + len(test):,} questions{what} "
            f"would be in the {side}; change --test-share or --seed, leave the part "
            "out with --where, or, if questions are kept together that need not be, "
            "look at --group and --passage-words"
        )


def fill(folder: Path, file: QuestionFile, rows: Rows, made: dict[str, Any]) -> None:
    """Write all parts' files, and what they were made from."""
    hashes = {}
    for name, (pool, test) in rows.items():
        place = folder / folder_of(name)
        write_questions(place / POOL, [file.questions[row] for row in pool])
        write_questions(place / TEST, [file.questions[row] for row in test], file.gold)
        for path in (place / POOL, place / TEST):
            hashes[path.relative_to(folder).as_posix()] = sha256_file(path)
    text = json.dumps(made | {"sha256_of": hashes}, indent=2, ensure_ascii=False)
    (folder / RECORD).write_text(text + "\n", "utf-8")


def record(
    request: Request, file: QuestionFile, rule: Rule, rows: Rows
) -> dict[str, Any]:
    """Return what is needed to repeat the split."""
    return {
        "source": request.source,
        "source_sha256": file.sha256,
        **asdict(rule),
        "group": request.group,
        "by": request.by,
        "where": list(request.where),
        "questions": {
            name or "all": {"pool": len(pool), "test": len(test)}
            for name, (pool, test) in rows.items()
        },
    }


def remarks(file: QuestionFile, sides: Sides, columns: RowColumns) -> list[str]:
    """Return notes on how a file was divided."""
    said = []
    if file.reader:
        said.append(
            f"its answers need answers.reader={file.reader}, which the files written "
            "do not say"
        )
    if columns.num_passed:
        said.append(f"{columns.num_passed:,} rows were left out by --where")
    if sides.unlabelled:
        said.append(
            f"{sides.unlabelled:,} questions drawn for the test are in the pool "
            "instead, as they, or one that they stay together with, have no answer"
        )
    if sides.near:
        said.append(
            f"{sides.near:,} questions drawn for the test are in the pool instead, as "
            "they, or one that they stay together with, nearly equal one there"
        )
    if sides.passages.in_most:
        start = " ".join(file.questions[sides.passages.example].text.split()[:12])
        said.append(
            f"{sides.passages.in_most:,} questions share a long text, which is taken "
            f"to be an instruction, not a passage (one begins {start!r}); if it is a "
            "passage, name the column that tells them apart with --group"
        )
    if sides.unsure:
        said.append(
            f"{sides.unsure:,} questions of the pool resemble so many of the test that "
            "each was compared with some of these only: nearly equal ones may be left"
        )
    if clashes := conflicting(file):
        said.append(
            f"{len(clashes):,} questions appear again with another answer, "
            f"{clashes[0]!r} first; they are kept on one side, but no model can be "
            "right on both"
        )
    return said


def summary(
    request: Request, sides: Sides, rows: Rows, notes: Sequence[str]
) -> SplitData:
    """Return the result."""
    sizes = Counter(sides.group_of.tolist())
    parts = []
    for name, (pool, test) in rows.items():
        place = request.out / folder_of(name)
        files = str(place / POOL), str(place / TEST)
        parts.append(Part(folder_of(name), *files, len(pool), len(test)))
    return SplitData(
        tuple(parts), len(sizes), max(sizes.values()), sides.near, tuple(notes)
    )
