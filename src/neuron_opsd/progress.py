"""How stages tell the outside how far they are, without knowing a terminal."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, Protocol


class Progress(Protocol):
    """What the library calls while it works; the command line draws bars with it."""

    def stage(
        self, name: str, total: int, unit: str
    ) -> AbstractContextManager[Callable[[int], None]]:
        """Open a stage of `total` units; call the value it gives with units done."""

    def warn(self, text: str) -> None:
        """Say something that the user should know although the work continues."""

    def log_settings(self, stage: str, settings: Mapping[str, Any]) -> None:
        """Take what a training is done with, by dotted name, before its first step."""

    def log_metrics(
        self,
        stage: str,
        step: int,
        metrics: Mapping[str, float],
        events: Sequence[str] = (),
    ) -> None:
        """Take what a training step measured, as trackers of experiments do.

        A run that resumes tells all steps again from the first one, with the same
        numbers. What the trained model scored on the tests comes as one more step.

        Args:
            stage: Name of the training.
            step: From 0 on.
            metrics: By name.
            events: What the run warned of at this step, such as signs of collapse.
        """


class Quiet:
    """Progress that nobody watches; its warnings are Python's own."""

    def stage(
        self, name: str, total: int, unit: str
    ) -> AbstractContextManager[Callable[[int], None]]:
        """Give a function that does nothing."""
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
    """Progress that hands everything on; whoever extends it writes over the rest."""

    __slots__ = ()

    progress: Progress

    def stage(
        self, name: str, total: int, unit: str
    ) -> AbstractContextManager[Callable[[int], None]]:
        """Open a stage there."""
        return self.progress.stage(self.called(name), total, unit)

    def called(self, stage: str) -> str:
        """Return what a stage is called there."""
        return stage

    def warn(self, text: str) -> None:
        """Pass on a warning."""
        self.progress.warn(text)

    def log_settings(self, stage: str, settings: Mapping[str, Any]) -> None:
        """Pass on what a training is done with."""
        self.progress.log_settings(self.called(stage), settings)

    def log_metrics(
        self,
        stage: str,
        step: int,
        metrics: Mapping[str, float],
        events: Sequence[str] = (),
    ) -> None:
        """Pass on what a step measured."""
        self.progress.log_metrics(self.called(stage), step, metrics, events)


class Silent(Quiet):
    """Progress that nobody watches; warnings are kept to be looked at afterwards."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        """Keep the warning."""
        self.warnings.append(text)


QUIET: Final = Quiet()
"""What everything takes where no progress is given."""
