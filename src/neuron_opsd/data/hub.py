"""Questions from a Hugging Face dataset, through the optional `datasets` package."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from neuron_opsd.config import QuestionsConfig
from neuron_opsd.data.byte_streams import Hash
from neuron_opsd.data.rows import FileRow, Table, counted, measured
from neuron_opsd.documents import first_line
from neuron_opsd.errors import DataError, TryAgainError
from neuron_opsd.storage.disk import PASSING, reason_of

DATASET_ID = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+){0,2}")
DEFAULT_SPLIT = "train"
MEDIA = ("Image", "Audio", "Video")
"""Columns of `datasets` that would be decoded; they stand as in a Parquet file."""


def open_dataset(name: str, config: QuestionsConfig, *, allow_download: bool) -> Table:
    """Return the rows of ``owner/name``, ``…:split`` or ``…:configuration:split``.

    The split is ``train`` where none is named. Without `allow_download` the network is
    not used, and the local cache must hold the dataset.
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
            f"cannot read the dataset {name}: {first_line(error)}"
        ) from None
    return table_of(name, path, records, config)


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
    """Keep the Hugging Face packages off the network where it is not allowed."""
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
    rows = rows_of(name, records, {name: {"bytes": None} for name in media}, digest)
    checked = (FileRow(row.place, measured(row.values, config)[0]) for row in rows)
    return Table(
        name, path.rpartition("/")[2], counted(checked, name, config), digest.hexdigest
    )


def rows_of(
    name: str, records: Any, unread: Mapping[str, Any], digest: Hash
) -> Iterator[FileRow]:
    """Yield the records of a dataset as rows."""
    try:
        for number, record in enumerate(records, 1):
            line = json.dumps(record, sort_keys=True, default=repr)
            digest.update(line.encode() + b"\n")
            yield FileRow(f"row {number}", record | unread)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(f"cannot read the dataset {name}: {error}") from None
