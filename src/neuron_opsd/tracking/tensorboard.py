"""TensorBoard: event files in the run's `tensorboard` folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from neuron_opsd.tracking.subject import Log, Subject

FOLDER: Final = "tensorboard"


class TrainingLog(Log):
    """Event files of one training."""

    def __init__(self, subject: Subject) -> None:
        """Open new files next to existing ones."""
        from torch.utils.tensorboard import SummaryWriter

        folder = subject.folder / FOLDER / subject.file_name
        self.taken = steps_in(folder)
        self._writer = SummaryWriter(str(folder))
        if not self.taken:
            rows = [
                f"| {name} | `{value}` |" for name, value in subject.settings.items()
            ]
            table = "\n".join(["| setting | value |", "|---|---|", *rows])
            self._writer.add_text("settings", table, 0)

    def write(
        self, step: int, values: Mapping[str, float], events: Sequence[str]
    ) -> None:
        """Write a scalar per value and a text per event."""
        for text in events:
            self._writer.add_text("events", text, step)
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self, *, finished: bool) -> None:
        """Close the files."""
        del finished
        self._writer.close()


def steps_in(folder: Path) -> int:
    """Count the steps in event files, ignoring a torn end."""
    from tensorboard.backend.event_processing.event_accumulator import (
        SCALARS,
        EventAccumulator,
    )

    if not folder.is_dir():
        return 0
    found = EventAccumulator(str(folder), size_guidance={SCALARS: 1}).Reload()
    last = [found.Scalars(tag)[-1].step for tag in found.Tags()[SCALARS]]
    return max(last, default=-1) + 1
