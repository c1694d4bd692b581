"""Weights & Biases: files in `wandb/`, or its server if WANDB_MODE=online."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

os.environ.setdefault("WANDB_ERROR_REPORTING", "false")

import wandb

from neuron_opsd.tracking.subject import PROJECT, Log, Subject


class TrainingLog(Log):
    """One run of a project."""

    def __init__(self, subject: Subject) -> None:
        """Open or resume the run.

        The server knows how many steps it holds. Offline, each start has new files, and
        the run's ledger counts steps.
        """
        self._subject = subject
        mode = os.environ.get("WANDB_MODE", "offline")
        self._alone = mode != "online"
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=subject.key,
            name=subject.name,
            group=subject.folder.resolve().name,
            config=dict(subject.settings),
            resume="allow",
            reinit="create_new",
            mode=mode,
            settings=wandb.Settings(
                console="off",
                silent=True,
                disable_git=True,
                save_code=False,
                x_disable_meta=True,
                x_disable_stats=True,
                x_save_requirements=False,
            ),
        )
        ledger = subject.ledger
        self.taken = ledger.taken(subject.training) if self._alone else self._run.step

    def write(
        self, step: int, values: Mapping[str, float], events: Sequence[str]
    ) -> None:
        """Log the values, and raise an alert per event."""
        self._run.log(dict(values), step=step, commit=True)
        for text in events:
            self._run.alert(f"step {step}", text)
        if self._alone:
            self._subject.ledger.note(self._subject.training, step + 1)

    def close(self, *, finished: bool) -> None:
        """Wait until everything is written."""
        self._run.finish(exit_code=0 if finished else 1)
