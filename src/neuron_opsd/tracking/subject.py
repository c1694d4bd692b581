"""What a tracker is told about, and what is kept of that beside the run."""

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
"""Of a tracker, where the user names no other in the tracker's own way."""
LEDGER: Final = "tracking.json"
"""File beside a run's own that says by which name trackers know it. It goes when the
folder goes, so that another run in its place is another one to a tracker."""
UNFIT: Final = re.compile(r"[^\w .,=+-]")


class Ledger:
    """What is kept of tracking in the folder of a run or a comparison."""

    def __init__(self, folder: Path) -> None:
        """Read what there is, or begin one; the folder must exist."""
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
        """A few letters that no other folder has."""
        return str(self._table["identity"])

    def taken(self, training: str) -> int:
        """Return how many steps were told of, where the tracker cannot say so."""
        found = self._table.get("taken", {}).get(training, 0)
        return found if isinstance(found, int) else 0

    def note(self, training: str, taken: int) -> None:
        """Keep how many steps were told of."""
        self._table["taken"] = {**self._table.get("taken", {}), training: taken}
        self._write()

    def _write(self) -> None:
        write_atomic(self._path, (json.dumps(self._table, indent=2) + "\n").encode())


@dataclass(frozen=True, slots=True)
class Subject:
    """One training, as a tracker is told of it."""

    folder: Path
    """Of the run or the comparison, where `--out` points."""
    training: str
    """No two of a folder are called alike."""
    settings: Mapping[str, Any]
    """By dotted name."""
    ledger: Ledger = field(repr=False)

    @property
    def name(self) -> str:
        """What a reader of the tracker sees."""
        return f"{self.folder.resolve().name}, {self.training} ({self.ledger.identity})"

    @property
    def key(self) -> str:
        """The same training's id whenever it is resumed, of letters and digits."""
        return f"{self.ledger.identity}{sha256(self.training.encode()).hexdigest()[:8]}"

    @property
    def file_name(self) -> str:
        """The training's name as that of a folder."""
        return UNFIT.sub("_", self.training)


class Log(Protocol):
    """A training in a tracker, open to be told of."""

    taken: int
    """How many steps it holds; those are not told again. What was measured after the
    last step counts as one more."""

    def write(
        self, step: int, values: Mapping[str, float], events: Sequence[str]
    ) -> None:
        """Take what a step measured, and what was said of it."""
        ...

    def close(self, *, finished: bool) -> None:
        """Let go; `finished` unless the run was stopped."""
        ...
