"""Reading the rows of a file of questions, whatever its format, and nothing more.

A row that cannot be read does not end the reading: it comes with what is wrong with
it, so that all bad rows of a file can be told at once.
"""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from neuron_opsd.errors import DataError
from neuron_opsd.world.csv_rows import read_csv, read_tsv
from neuron_opsd.world.json_rows import (
    read_json,
    read_json_lines,
    read_zipped_json_lines,
)
from neuron_opsd.world.rows import Row, Table, not_utf8


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


def read_parquet(data: bytes) -> Iterator[Row]:
    """Yield the rows of a Parquet file."""
    try:
        file = pq.ParquetFile(io.BytesIO(data))
        records = with_short_floats(file.read()).to_pylist()
    except UnicodeDecodeError as error:
        raise DataError(f"a text is {not_utf8(error)}") from None
    except pa.ArrowException as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"not a readable Parquet file ({reason})") from None
    for number, values in enumerate(records, 1):
        yield Row(f"row {number}", values)


def with_short_floats(table: pa.Table) -> pa.Table:
    """Return a table whose floats of 32 bits keep their digits: 0.1 stays 0.1."""
    for place, column in enumerate(table.schema):
        if pa.types.is_float32(column.type):
            # Through text, whose digits are as few as tell the number apart.
            doubles = table.column(place).cast(pa.string()).cast(pa.float64())
            table = table.set_column(place, column.name, doubles)
    return table


READERS: dict[str, Callable[[bytes], Iterator[Row]]] = {
    ".jsonl": read_json_lines,
    ".jsonl.gz": read_zipped_json_lines,
    ".json": read_json,
    ".parquet": read_parquet,
    ".csv": read_csv,
    ".tsv": read_tsv,
}
"""By the ending of the file's name."""
