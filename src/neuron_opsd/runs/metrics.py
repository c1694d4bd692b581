"""Training metrics: one line per step, appended at once."""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from neuron_opsd.documents import DocumentError, parse_json
from neuron_opsd.errors import TrainingError
from neuron_opsd.records import StepMetrics
from neuron_opsd.storage.disk import disk_errors, read_plain, reading
from neuron_opsd.storage.files import make_folder, sync, write_atomic
from neuron_opsd.storage.folders import METRICS as METRICS

STEP = TypeAdapter(StepMetrics)


def append_metrics(work: Path, entry: StepMetrics) -> None:
    """Append a line; a torn one is dropped on resuming."""
    for name, value in asdict(entry).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise TrainingError(
                f"step {entry.step}: its {name} is {value}; the checkpoint before it "
                "is intact; start again with a lower distill.learning_rate"
            )
    line = json.dumps(asdict(entry)) + "\n"
    with disk_errors(work / METRICS, len(line)):
        make_folder(work)
        with (work / METRICS).open("a", encoding="utf-8") as file:
            file.write(line)


def numbers_of(entry: StepMetrics) -> dict[str, float]:
    """Return measures by name; the guard's begin with `guard_`."""
    named = asdict(entry)
    look = named.pop("look") or {}
    named |= {f"guard_{n}": v for n, v in look.get("student", {}).items()}
    return {
        n: v for n, v in named.items() if isinstance(v, int | float) and n != "step"
    }


def cut_metrics(work: Path, num_steps: int) -> None:
    """Keep the metrics of the first steps only."""
    kept = read_metrics(work)[:num_steps]
    lines = "".join(json.dumps(asdict(entry)) + "\n" for entry in kept)
    write_atomic(work / METRICS, lines.encode())


def read_metrics(work: Path) -> tuple[StepMetrics, ...]:
    """Read all steps up to a torn line."""
    metrics = []
    for line in lines_of(work):
        try:
            metrics.append(STEP.validate_python(parse_json(line)))
        except (DocumentError, ValidationError):
            break
    return tuple(metrics)


def hash_metrics(work: Path, num_steps: int) -> str:
    """Return the SHA-256 of the first lines."""
    return hashlib.sha256(b"".join(lines_of(work)[:num_steps])).hexdigest()


def lines_of(work: Path) -> list[bytes]:
    """Return the lines with their ends, if any."""
    path = work / METRICS
    if not os.path.lexists(path):
        return []
    return read_plain(path).splitlines(keepends=True)


class MetricsHash:
    """Incremental SHA-256 of a growing metrics file."""

    def __init__(self, work: Path) -> None:
        self._path = work / METRICS
        self._digest = hashlib.sha256()
        self._size = 0

    def now(self) -> str:
        """Hash the file, which must only have grown."""
        if self._path.exists():
            with reading(self._path), self._path.open("rb") as file:
                file.seek(self._size)
                added = file.read()
            self._digest.update(added)
            self._size += len(added)
        return self._digest.hexdigest()


def sync_metrics(work: Path) -> None:
    """Flush the metrics to the disk."""
    with disk_errors(work / METRICS, 0):
        sync(work / METRICS)
        sync(work)
