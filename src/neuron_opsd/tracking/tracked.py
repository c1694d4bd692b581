"""Progress that also reports to an experiment tracker, come what may."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, TypeAlias, get_args

from neuron_opsd.errors import ConfigError
from neuron_opsd.progress import QUIET, PassedOn, Progress
from neuron_opsd.tracking import TrackerName
from neuron_opsd.tracking.subject import Ledger, Log, Subject

Open: TypeAlias = Callable[[Subject], Log]
"""Opens or resumes a training in a tracker."""


TRACKERS: Final[tuple[str, ...]] = get_args(TrackerName)
"""Names of modules here and of their packages."""


def opener_of(name: str) -> Open:
    """Return the function that opens trainings in a tracker.

    Raises:
        ConfigError: If there is no such tracker, or its package is not installed.
    """
    if name not in TRACKERS:
        raise ConfigError(
            f"the tracker is {name!r}, but it must be one of {', '.join(TRACKERS)}"
        )
    if find_spec(name) is None:
        raise ConfigError(
            f"the tracker {name} needs the package {name}, which is not installed; "
            f"pip install {name}"
        )
    opener: Open = import_module(f"neuron_opsd.tracking.{name}").TrainingLog
    return opener


@contextmanager
def tracked(
    tracker: str | Open, out: str | Path, progress: Progress = QUIET
) -> Iterator[Progress]:
    """Yield progress that logs every training to a tracker: settings, steps, results.

    A run that resumes continues the same tracker run, and no step is logged twice. If
    the tracker fails, a warning appears once, logging stops and training continues.

    Args:
        tracker: ``trackio``, ``tensorboard``, ``wandb`` or ``mlflow``; or a function
            that opens a `Log` for a `Subject`.
        out: Folder of the run or the comparison.
        progress: Called as well.

    Raises:
        ConfigError: If there is no such tracker, or its package is not installed.

    Example:
        >>> with tracked("tensorboard", "runs/first") as progress:  # doctest: +SKIP
        ...     neuron_opsd.run(pool, "runs/first", settings, tests, progress)
    """
    name, opener = (tracker, None) if isinstance(tracker, str) else ("given", tracker)
    told = Tracked(progress, Path(out), opener or opener_of(name), name)
    try:
        yield told
    except BaseException:
        told.close(finished=False)
        raise
    told.close(finished=True)


class Tracked(PassedOn):
    """Progress that also reports to a tracker."""

    def __init__(self, progress: Progress, out: Path, opener: Open, name: str) -> None:
        self.progress = progress
        self._out = out
        self._open = opener
        self._name = name
        self._logs: dict[str, Log] = {}
        self._failed = False

    def log_settings(self, stage: str, settings: Mapping[str, Any]) -> None:
        """Open or resume a training in the tracker."""
        super().log_settings(stage, settings)
        if self._failed or stage in self._logs:
            return
        with self._whatever_happens():
            subject = Subject(self._out, stage, settings, Ledger(self._out))
            self._logs[stage] = self._open(subject)

    def log_metrics(
        self,
        stage: str,
        step: int,
        metrics: Mapping[str, float],
        events: Sequence[str] = (),
    ) -> None:
        """Log a step unless the tracker has it."""
        super().log_metrics(stage, step, metrics, events)
        log = self._logs.get(stage)
        if log is None or step < log.taken:
            return
        values = {n: float(v) for n, v in metrics.items() if math.isfinite(v)}
        with self._whatever_happens():
            log.write(step, values, events)
            log.taken = step + 1

    def close(self, *, finished: bool) -> None:
        """Close every training."""
        while self._logs:
            _, log = self._logs.popitem()
            with self._whatever_happens():
                log.close(finished=finished)

    @contextmanager
    def _whatever_happens(self) -> Iterator[None]:
        """Run a tracker call; after a failure, make no more.

        Its output is discarded, as it would break the progress bars.
        """
        try:
            with redirect_stdout(io.StringIO()):
                yield
        except Exception as error:  # noqa: BLE001 - no tracker ends a training
            self._failed = True
            self._logs = {}
            lines = str(error).split("\n")
            self.progress.warn(
                f"the tracker {self._name} failed ({type(error).__name__}: {lines[0]}) "
                "and gets no more; the run continues, and its metrics are in "
                "metrics.jsonl; the same command with --track sends what is missing"
            )
