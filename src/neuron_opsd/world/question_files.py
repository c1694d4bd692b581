"""Reading the rows of a file of questions, whatever its format, and nothing more.

A row that cannot be read does not end the reading: it comes with what is wrong with
it, so that all bad rows of a file can be told at once.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import hashlib
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn, TypeAlias, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from neuron_opsd.errors import DataError

COLUMNS = (
    *("id", "prompt", "question", "choices", "answer"),
    *("question_label", "answer_label"),
)
"""The columns that mean something; others are allowed and not read."""

MAX_SHOWN = 60

KINDS: dict[type, str] = {
    type(None): "nothing",
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "an object",
}

Values: TypeAlias = Mapping[str, Any]
T = TypeVar("T")


class BadRowError(ValueError):
    """One row cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a file."""

    place: str
    """Where it stands, for example ``line 214``."""
    values: Values | BadRowError
    """By column, or why it cannot be read."""


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a file."""

    name: str
    """As the user gave it."""
    stem: str
    sha256: str
    rows: Sequence[Row]


def read_table(path: Path) -> Table:
    """Read a file of questions.

    Raises:
        DataError: If the file is missing, of no known format, or unreadable as a whole.
    """
    suffix, read = reader_of(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path} does not exist{nearest_file(path)}") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder; name a file in it") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    try:
        rows = list(read(data))
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise DataError(f"{path}: {error}") from None
    digest = hashlib.sha256(data).hexdigest()
    return Table(str(path), path.name[: -len(suffix)], digest, rows)


def reader_of(path: Path) -> tuple[str, Callable[[bytes], Iterator[Row]]]:
    """Return the ending of a file's name and what reads such files.

    Raises:
        DataError: If the ending is not known.
    """
    for suffix, read in READERS.items():
        if path.name.lower().endswith(suffix):
            return suffix, read
    if path.is_dir():
        raise DataError(f"{path} is a folder; name a file in it")
    if not path.exists():
        raise DataError(f"{path} does not exist{nearest_file(path)}")
    ending = "".join(path.suffixes[-1:]) or "no ending"
    near = get_close_matches(ending, READERS, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise DataError(
        f"{path} has {ending}, which is no format of question files; allowed are "
        f"{', '.join(READERS)}, or the id of a Hugging Face dataset{hint}"
    )


def nearest_file(path: Path) -> str:
    """Say which file of the same folder has the nearest name."""
    if not path.parent.is_dir():
        return f"; nor does the folder {path.parent}"
    names = [entry.name for entry in path.parent.iterdir()]
    near = get_close_matches(path.name, names, n=1)
    return f"; did you mean {path.with_name(near[0])}?" if near else ""


def read_json_lines(data: bytes) -> Iterator[Row]:
    """Yield the rows of a JSON-lines file; blank lines are passed over."""
    for number, line in enumerate(without_mark(data).split(b"\n"), 1):
        if line.strip():
            yield Row(f"line {number}", attempt(parse_json_line, line))


def read_zipped_json_lines(data: bytes) -> Iterator[Row]:
    """Yield the rows of a gzipped JSON-lines file."""
    return read_json_lines(gzip.decompress(data))


def parse_json_line(line: bytes) -> Values:
    """Read one JSON object.

    Raises:
        BadRowError: If it is none, or says the same thing twice.
    """
    try:
        text = line.rstrip(b"\r").decode()
        values = json.loads(
            text, object_pairs_hook=unique_keys, parse_constant=refuse_constant
        )
    except BadRowError:
        raise
    except UnicodeDecodeError as error:
        raise BadRowError(not_utf8(error)) from None
    except json.JSONDecodeError as error:
        raise BadRowError(not_json(error)) from None
    except RecursionError:
        raise BadRowError("not usable JSON (nested too deep)") from None
    except ValueError:
        raise BadRowError("not usable JSON (a number has too many digits)") from None
    if not isinstance(values, dict):
        raise BadRowError(f"not a JSON object but {kind_of(values)}")
    return values


def unique_keys(pairs: Sequence[tuple[str, Any]]) -> Values:
    """Make an object of its pairs, refusing a name that stands twice."""
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadRowError(f"{twice!r} stands twice in one JSON object")
    return values


def refuse_constant(name: str) -> NoReturn:
    """Refuse what Python's JSON reader allows and JSON does not."""
    raise BadRowError(f"not JSON ({name} is no JSON number)")


def not_json(error: json.JSONDecodeError) -> str:
    """Say where a line stops being JSON."""
    what = error.msg[0].lower() + error.msg[1:].removesuffix(" delimiter")
    hint = "; is the file UTF-16? save it as UTF-8" if "\0" in error.doc else ""
    return f"not JSON ({what} after column {error.colno - 1}){hint}"


def not_utf8(error: UnicodeDecodeError) -> str:
    """Say which byte of a line is not UTF-8."""
    byte = error.object[error.start]
    return f"not UTF-8 (byte 0x{byte:02x} after byte {error.start}); save it as UTF-8"


def read_parquet(data: bytes) -> Iterator[Row]:
    """Yield the rows of a Parquet file."""
    try:
        file = pq.ParquetFile(io.BytesIO(data))
        names = file.schema_arrow.names
        table = file.read(columns=[name for name in COLUMNS if name in names])
        records = table.to_pylist()
    except UnicodeDecodeError as error:
        raise DataError(f"a text is {not_utf8(error)}") from None
    except pa.ArrowException as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"not a readable Parquet file ({reason})") from None
    for number, values in enumerate(records, 1):
        # Names of columns that are not read still help to say what is missing.
        yield Row(f"row {number}", dict.fromkeys(names) | values)


def read_csv(data: bytes) -> Iterator[Row]:
    """Yield the rows of a CSV file whose first row names the columns."""
    text = decode_whole(without_mark(data))
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(lines, [])
        check_header(header)
        start = lines.line_num + 1
        for fields in lines:
            if fields:
                values = attempt(parse_csv_row, (header, fields))
                yield Row(f"line {start}", values)
            start = lines.line_num + 1
    except csv.Error as error:
        yield Row(f"line {lines.line_num}", BadRowError(f"not CSV ({error})"))


def check_header(header: Sequence[str]) -> None:
    """Refuse a first row that does not name columns.

    Raises:
        DataError: If a name stands twice, or something else separates the names.
    """
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise DataError(f"two columns are called {twice[0]!r}")
    if len(header) == 1 and re.search("[;\t]", header[0]):
        raise DataError("columns must be separated by commas, not semicolons or tabs")


def parse_csv_row(row: tuple[Sequence[str], Sequence[str]]) -> Values:
    """Read the header's columns from a row's fields; an empty field is a missing one.

    Raises:
        BadRowError: If their numbers differ, or choices are not a JSON list.
    """
    header, fields = row
    if len(fields) != len(header):
        raise BadRowError(f"{len(fields)} fields, but {len(header)} columns")
    values: dict[str, Any] = {
        name: field or None for name, field in zip(header, fields, strict=True)
    }
    if values.get("choices") is None:
        return values
    values["choices"] = choices = parse_json_list(values["choices"])
    answer = values.get("answer")
    # CSV knows no numbers: digits that are no choice's text are an index.
    if (
        answer is not None
        and answer not in choices
        and re.fullmatch("[0-9]{1,9}", answer)
    ):
        values["answer"] = int(answer)
    return values


def parse_json_list(text: str) -> list[Any]:
    """Read the JSON list that stands in a CSV field.

    Raises:
        BadRowError: If it is none.
    """
    try:
        values = json.loads(
            text, object_pairs_hook=unique_keys, parse_constant=refuse_constant
        )
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, list):
        raise BadRowError(
            f'choices must be a JSON list such as ["yes", "no"], not {shorten(text)}'
        )
    return values


def without_mark(data: bytes) -> bytes:
    """Return a text as UTF-8 without a byte order mark, by which UTF-16 is known.

    Raises:
        DataError: If the mark promises UTF-16 and the rest is something else.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return data.decode("utf-16").encode()
        except UnicodeDecodeError:
            raise DataError("begins like UTF-16 but is not; save it as UTF-8") from None
    return data.removeprefix(codecs.BOM_UTF8)


def decode_whole(data: bytes) -> str:
    """Decode a file whose lines cannot be told apart before.

    Raises:
        DataError: If it is not UTF-8; says at which line.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"line {line}: {not_utf8(error)}") from None


def attempt(parse: Callable[[T], Values], raw: T) -> Values | BadRowError:
    """Return what `parse` makes of a row, or why it cannot."""
    try:
        return parse(raw)
    except BadRowError as error:
        return error


def kind_of(value: Any) -> str:
    """Name the type of a value as people who write JSON do."""
    for kind, name in KINDS.items():
        if isinstance(value, kind):
            return name
    return type(value).__name__


def shorten(value: Any) -> str:
    """Write a value so that it fits into a message."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."


READERS: dict[str, Callable[[bytes], Iterator[Row]]] = {
    ".jsonl": read_json_lines,
    ".jsonl.gz": read_zipped_json_lines,
    ".parquet": read_parquet,
    ".csv": read_csv,
}
"""By the ending of the file's name."""
