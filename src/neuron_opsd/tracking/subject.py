"""What trackers receive, and the part of it stored with the run."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Protocol

from neuron_opsd.documents import DocumentError, parse_table
from neuron_opsd.storage.disk import read_plain
from neuron_opsd.storage.files import write_atomic

PROJECT: Final = "neuron-opsd"
"""Default project, if the user names none in the tracker's own way."""
LEDGER: Final = "tracking.json"
"""File with the run's identity for trackers. It is deleted with the run's folder, so
that a later run there counts as a new one."""
UNFIT: Final = re.compile(r"[^\w .,=+-]")


class Ledger:
    """Tracking state in the folder of a run or comparison."""

    def __init__(self, folder: Path) -> None:
        """Read or start the ledger; the folder must exist."""
        self._path = folder / LEDGER
        self._table: dict[str, Any] = {}
        if self._path.exists():
            with suppress(DocumentError):
                self._table = parse_table(read_plain(self._path))
        if not isinstance(self._table.get("identity"), str):
            self._table = {"identity": secrets.token_hex(4), "taken": {}}
            self._write()

    @property
    def identity(self) -> str:
        """A short id unique to this folder."""
        return str(self._table["identity"])

    def taken(self, training: str) -> int:
        """Return the steps logged, for trackers that cannot say."""
        found = self._table.get("taken", {}).get(training, 0)
        return found if isinstance(found, int) else 0

    def note(self, training: str, taken: int) -> None:
        """Store the number of steps logged."""
        self._table["taken"] = {**self._table.get("taken", {}), training: taken}
        self._write()

    def _write(self) -> None:
        write_atomic(self._path, (json.dumps(self._table, indent=2) + "\n").encode())


@dataclass(frozen=True, slots=True)
class Subject:
    """One training, as a tracker sees it."""

    folder: Path
    """Of the run or comparison, as given by `--out`."""
    training: str
    """Unique within a folder."""
    settings: Mapping[str, Any]
    """By dotted name."""
    ledger: Ledger = field(repr=False)

    @property
    def name(self) -> str:
        """Display name in the tracker."""
        return f"{self.folder.resolve().name}, {self.training} ({self.ledger.identity})"

    @property
    def key(self) -> str:
        """Alphanumeric id of the training, stable across resumes."""
        return f"{self.ledger.identity}{sha256(self.training.encode()).hexdigest()[:8]}"

    @property
    def file_name(self) -> str:
        """The training's name, safe as a folder name."""
        return UNFIT.sub("_", self.training)


class Log(Protocol):
    """An open training in a tracker."""

    taken: int
    """Steps it holds, which are not logged again. Measurements after the last step
    count as one more."""

    def write(
        self, step: int, values: Mapping[str, float], events: Sequence[str]
    ) -> None:
        """Log a step's measurements and events."""
        ...

    def close(self, *, finished: bool) -> None:
        """Close; `finished` unless the run was stopped."""
        ...
