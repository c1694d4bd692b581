"""Trackio: a local database, or the Space in TRACKIO_SPACE_ID."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import trackio

from neuron_opsd.tracking.subject import PROJECT, Log, Subject


class TrainingLog(Log):
    """One run of a project; trackio keeps only one open at a time."""

    opened: TrainingLog | None = None

    def __init__(self, subject: Subject) -> None:
        """Open or resume the run."""
        self._subject = subject
        self._run = self._open()
        self.taken: int = self._run._next_step  # noqa: SLF001 - nothing else says it

    def _open(self) -> Any:
        """Open the run, which closes the previous one."""
        subject = self._subject
        TrainingLog.opened = self
        return trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", PROJECT),
            name=subject.name,
            group=subject.folder.resolve().name,
            config=dict(subject.settings),
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    def write(
        self, step: int, values: Mapping[str, float], events: Sequence[str]
    ) -> None:
        """Log the values, and raise an alert per event."""
        if TrainingLog.opened is not self:
            self._run = self._open()
        self._run.log(dict(values), step=step)
        for text in events:
            self._run.alert("training", text, step=step)

    def close(self, *, finished: bool) -> None:
        """Wait until everything is written."""
        del finished
        if TrainingLog.opened is self:
            self._run.finish()
            TrainingLog.opened = None
