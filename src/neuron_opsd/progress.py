"""How stages report progress, independently of a terminal."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, Protocol


class Progress(Protocol):
    """Called by the library as it works; the command line draws bars."""

    def stage(
        self, name: str, total: int, unit: str
    ) -> AbstractContextManager[Callable[[int], None]]:
        """Open a stage of `total` units; the yielded function takes units done."""

    def warn(self, text: str) -> None:
        """Warn the user; the work continues."""

    def log_settings(self, stage: str, settings: Mapping[str, Any]) -> None:
        """Log a training's settings by dotted name, before its first step."""

    def log_metrics(
        self,
        stage: str,
        step: int,
        metrics: Mapping[str, float],
        events: Sequence[str] = (),
    ) -> None:
        """Log the metrics of a training step, as experiment trackers do.

        A resumed run logs all steps again, with the same numbers. Test scores of the
        trained model are one further step.

        Args:
            stage: Name of the training.
            step: From 0.
            metrics: By name.
            events: Warnings at this step, such as signs of collapse.
        """


class Quiet:
    """Progress that shows nothing; warnings are Python's own."""

    def stage(
        self, name: str, total: int, unit: str
    ) -> AbstractContextManager[Callable[[int], None]]:
        """Yield a function that does nothing."""
        del name, total, unit
        return nullcontext(lambda units: None)  # noqa: ARG005

    def warn(self, text: str) -> None:
        """Warn as Python does, so that nothing is missed."""
        warnings.warn(text, stacklevel=2)

    def log_settings(self, stage: str, settings: Mapping[str, Any]) -> None:
        """Do nothing; a run keeps them in a file."""

    def log_metrics(
        self,
        stage: str,
        step: int,
        metrics: Mapping[str, float],
        events: Sequence[str] = (),
    ) -> None:
        """Do nothing; a run keeps them in a file."""


class PassedOn:
    """Forwards everything; subclasses override parts."""

    __slots__ = ()

    progress: Progress

    def stage(
        self, name: str, total: int, unit: str
    ) -> AbstractContextManager[Callable[[int], None]]:
        """Open a stage of the target."""
        return self.progress.stage(self.called(name), total, unit)

    def called(self, stage: str) -> str:
        """Return the target's name of a stage."""
        return stage

    def warn(self, text: str) -> None:
        """Forward a warning."""
        self.progress.warn(text)

    def log_settings(self, stage: str, settings: Mapping[str, Any]) -> None:
        """Forward a training's settings."""
        self.progress.log_settings(self.called(stage), settings)

    def log_metrics(
        self,
        stage: str,
        step: int,
        metrics: Mapping[str, float],
        events: Sequence[str] = (),
    ) -> None:
        """Forward a step's metrics."""
        self.progress.log_metrics(self.called(stage), step, metrics, events)


class Silent(Quiet):
    """Shows nothing, and keeps warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        """Keep the warning."""
        self.warnings.append(text)


QUIET: Final = Quiet()
