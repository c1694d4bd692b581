"""Read the rows of a question file or dataset, whatever its format.

A bad row carries its error and reading continues, so that all are reported at once.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias

import pyarrow as pa

from neuron_opsd.config import QuestionsConfig
from neuron_opsd.data.byte_streams import PIECE, Hash, Pieces, pieces_of, unzipped
from neuron_opsd.data.csv_rows import read_csv, read_tsv
from neuron_opsd.data.inspect_logs import read_eval
from neuron_opsd.data.json_rows import read_json, read_json_lines
from neuron_opsd.data.parquet_rows import read_parquet
from neuron_opsd.data.rows import FileRow, Table, counted, measured
from neuron_opsd.documents import first_line
from neuron_opsd.errors import DataError, TryAgainError
from neuron_opsd.storage.disk import PASSING, reading, reason_of
from neuron_opsd.storage.output_paths import FILE, kind_of

DATASET_ID = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+){0,2}")
DEFAULT_SPLIT = "train"
MEDIA = ("Image", "Audio", "Video")
"""Columns that `datasets` would decode; they stay as in Parquet."""

Reader: TypeAlias = Callable[[BinaryIO, Hash, QuestionsConfig], Iterator[FileRow]]
"""Yields the rows of an open file, and hashes its bytes."""


def open_table(path: Path, config: QuestionsConfig, *, otherwise: str = "") -> Table:
    """Return the rows of a question file, read lazily.

    Iterating raises a `DataError` if the file is unreadable or exceeds a limit.
    `otherwise` says how to read unknown endings.

    Raises:
        DataError: If the file is missing, no file, or of unknown format.
    """
    refuse_no_file(path)
    suffix, read = reader_of(path, otherwise)
    digest = hashlib.sha256()
    stem = path.name[: -len(suffix)] if suffix else path.stem
    rows = counted(rows_of(path, read, digest, config), str(path), config)
    return Table(str(path), stem, rows, digest.hexdigest)


def rows_of(
    path: Path, read: Reader, digest: Hash, config: QuestionsConfig
) -> Iterator[FileRow]:
    """Yield the rows of a file."""
    with reading(path), path.open("rb") as file:
        try:
            yield from read(file, digest, config)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None


def refuse_no_file(path: Path) -> None:
    """Refuse a missing file, a folder, or what can be read only once."""
    try:
        found = kind_of(path, follow=True)
    except (OSError, ValueError) as error:  # such as a loop of links, or NUL
        raise DataError(f"cannot read {str(path)!r}: {error}") from None
    if found == "a folder":
        raise DataError(f"{path} is a folder; name a file in it")
    if found not in ("", FILE):
        if path.exists():
            raise DataError(
                f"{path} is {found}, which cannot be read again when a run resumes; "
                "write what it gives into a file, and name that"
            )
        raise DataError(f"{path} is {found} to nothing; name a file")
    if not found:
        raise DataError(f"{path} does not exist{nearest_file(path)}")


def reader_of(path: Path, otherwise: str = "") -> tuple[str, Reader]:
    """Return the ending of a file's name and the reader for it."""
    for suffix, read in READERS.items():
        if path.name.lower().endswith(suffix):
            return suffix, read
    if otherwise:
        return "", READERS[otherwise]
    ending = "".join(path.suffixes[-1:]) or "no ending"
    near = get_close_matches(ending, READERS, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise DataError(
        f"{path} has {ending}, which is not a format of question files; allowed are "
        f"{', '.join(READERS)}, or the id of a Hugging Face dataset{hint}"
    )


def nearest_file(path: Path) -> str:
    """Name the most similar file of the same folder."""
    if not path.parent.is_dir():
        return f"; nor does the folder {path.parent}"
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:  # a folder whose names may not be listed
        return ""
    near = get_close_matches(path.name, names, n=1)
    return f"; did you mean {path.with_name(near[0])}?" if near else ""


def of_text(
    read: Callable[[Pieces, QuestionsConfig], Iterator[FileRow]],
    open_pieces: Callable[[BinaryIO, Hash, QuestionsConfig], Pieces] = pieces_of,
) -> Reader:
    """Return the reader of a text file."""
    return lambda file, digest, config: read(open_pieces(file, digest, config), config)


def of_binary(
    read: Callable[[BinaryIO, QuestionsConfig], Iterator[FileRow]],
) -> Reader:
    """Return the reader of a binary file, which is hashed before it is read."""

    def rows(
        file: BinaryIO, digest: Hash, config: QuestionsConfig
    ) -> Iterator[FileRow]:
        while piece := file.read(PIECE):
            digest.update(piece)
        return read(file, config)

    return rows


READERS: Final[dict[str, Reader]] = {
    ".jsonl": of_text(read_json_lines),
    ".jsonl.gz": of_text(read_json_lines, unzipped),
    ".json": of_text(read_json),
    ".parquet": of_binary(read_parquet),
    ".csv": of_text(read_csv),
    ".tsv": of_text(read_tsv),
    ".eval": of_binary(read_eval),
}
"""By file ending."""


def open_dataset(name: str, config: QuestionsConfig, *, allow_download: bool) -> Table:
    """Return the rows of ``owner/name``, ``…:split`` or ``…:configuration:split``.

    The default split is ``train``. Without `allow_download` only the local cache is
    used.
    """
    path, configuration, split = split_name(name)
    try:
        import datasets
    except ModuleNotFoundError:
        raise DataError(
            f"{name} is taken for a Hugging Face dataset; to read one, run "
            "pip install datasets"
        ) from None
    try:
        with network(allowed=allow_download):
            records = datasets.load_dataset(path, configuration, split=split)
    except ConnectionError as error:
        if allow_download:
            raise TryAgainError(f"could not download {name}: {error}") from error
        raise DataError(not_cached(name)) from None
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        if isinstance(error, OSError) and error.errno in PASSING:
            raise TryAgainError(
                f"could not read the dataset {name}: {reason_of(error)}; fix that and "
                "run the same command again"
            ) from error
        if not allow_download and isinstance(error, FileNotFoundError):
            raise DataError(not_cached(name)) from None
        raise DataError(
            f"cannot read the dataset {name}: {why_not(error, path, split)}"
        ) from None
    return table_of(name, path, records, config)


def why_not(error: Exception, path: str, split: str) -> str:
    """Say in one line why a dataset cannot be read."""
    said = first_line(error)
    if "Config name is missing" not in said:
        return said
    listed = " ".join(str(error).splitlines()[1:2])
    return f"{said} {listed}; name one, as in {path}:CONFIGURATION:{split}"


def split_name(name: str) -> tuple[str, str | None, str]:
    """Return a dataset's id, configuration and split."""
    path, *rest = name.split(":")
    configuration = rest[0] if len(rest) > 1 else None
    return path, configuration, rest[-1] if rest else DEFAULT_SPLIT


def not_cached(name: str) -> str:
    """Say that a dataset would have to be downloaded."""
    return (
        f"the dataset {name} is not in the local cache; allow the download with "
        "model.allow_download=true, or give a file"
    )


@contextmanager
def network(*, allowed: bool) -> Iterator[None]:
    """Keep the Hugging Face packages offline unless allowed."""
    import datasets
    from huggingface_hub import constants

    if allowed:
        yield
        return
    # Both read the environment only once, when they are imported.
    before = datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before


def table_of(name: str, path: str, records: Any, config: QuestionsConfig) -> Table:
    """Return the records of a dataset as rows, with a hash of them."""
    features = getattr(records, "features", None) or {}
    media = [name for name, kind in features.items() if type(kind).__name__ in MEDIA]
    if media:
        records = records.remove_columns(media)
    digest = hashlib.sha256()
    unread = {name: {"bytes": None} for name in media}

    def rows() -> Iterator[FileRow]:
        try:
            for number, record in enumerate(records, 1):
                line = json.dumps(record, sort_keys=True, default=repr)
                digest.update(line.encode() + b"\n")
                values, _ = measured(record | unread, config)
                yield FileRow(f"row {number}", values)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise DataError(f"cannot read the dataset {name}: {error}") from None

    stem = path.rpartition("/")[2]
    return Table(name, stem, counted(rows(), name, config), digest.hexdigest)
