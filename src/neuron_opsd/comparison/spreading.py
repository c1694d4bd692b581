"""Run groups of a comparison on a cluster, each filled by one worker.

A worker fills a group in its own folder and sends its files to the starting process,
which alone writes to `--out` and holds the group's lock. A lost worker is replaced by
one that gets what was sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from neuron_opsd.answers.verifier import shared_verifier
from neuron_opsd.comparison.comparison import (
    ComparisonContext,
    GroupKey,
    group_folder,
    group_keys,
    group_outputs,
)
from neuron_opsd.comparison.grid import Outcome, fill_group, joined
from neuron_opsd.comparison.run_group import cell_folder
from neuron_opsd.models.roles import LanguageModel
from neuron_opsd.progress import QUIET, Progress
from neuron_opsd.results.comparison import BASE, FORM
from neuron_opsd.results.run import PROMPTED
from neuron_opsd.runs.elsewhere import ClusterMachines, write_files
from neuron_opsd.storage.files import make_folder
from neuron_opsd.storage.folders import claim
from neuron_opsd.storage.lock import locked
from neuron_opsd.storage.mirror import Change, Original, copied, repeat

SECONDS: Final = 20.0
"""Between a worker's reports within a stage; each stage ends with one."""


class FilesOf(dict[str, bytes]):
    """The files of a folder, if any, read when they are sent to a worker."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[type[dict[str, bytes]], tuple[dict[str, bytes]]]:
        return dict, (copied(self._folder) if self._folder else {},)


@dataclass(frozen=True, slots=True)
class Group:
    """A group for a worker to fill."""

    key: GroupKey
    files: Mapping[str, bytes]
    before: Mapping[str, bytes]
    """Files of the adapter it starts from, if any."""
    parts: Mapping[GroupKey, Outcome]
    """Outcome of the group it starts from."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A worker's message about the group it fills."""

    key: GroupKey
    change: Change | None = None
    warning: str = ""
    logged: tuple[str, tuple[Any, ...]] | None = None
    """Progress method and arguments."""


def fill(context: ComparisonContext, machines: ClusterMachines) -> Outcome:
    """Fill all groups by workers; return the results.

    Raises:
        TryAgainError: If other processes hold what is left, or a group lost its workers
            too often.
        ConfigError: If something was started with other settings.
    """
    keys = group_keys(context)
    parts: dict[GroupKey, Outcome] = {}
    with context.progress.stage("comparison", len(keys), "groups") as done:
        for start in context.comparison.group_starts:  # others need the base's first
            alike = [key for key in keys if key[2] == start]
            ended = [key for key in alike if has_ended(context, key)]
            for key in ended:
                parts[key] = fill_group(context, key, parts)
            done(len(ended))
            left = [key for key in alike if key not in ended]
            for key, outcome in filled(context, machines, left, parts):
                parts[key] = outcome
                done(1)
    return joined([parts[key] for key in keys])


def has_ended(context: ComparisonContext, key: GroupKey) -> bool:
    """Return whether every model of a group has a result."""
    outputs = group_outputs(context.comparison, key)
    names = [BASE, *(one.name for one in context.trained(key[0], key[2]))]
    names += [PROMPTED] if context.config.tests_prompted else []
    return all(cell_folder(name) in outputs for name in names)


def filled(
    context: ComparisonContext,
    machines: ClusterMachines,
    keys: Sequence[GroupKey],
    parts: Mapping[GroupKey, Outcome],
) -> Iterator[tuple[GroupKey, Outcome]]:
    """Yield outcomes as workers finish groups."""
    if not keys:
        return
    with ExitStack() as held:
        for key in keys:
            folder = group_folder(context.comparison, key)
            make_folder(folder)
            claim(folder, "run")
            held.enter_context(locked(folder))
        mailbox = machines.pool.mailbox()
        work = partial(
            fill_here,
            context=replace(context, model=None, progress=QUIET),  # type: ignore[arg-type]
            send=mailbox.send,
        )
        groups = ((n, [group_for(context, key, parts)]) for n, key in enumerate(keys))
        take = partial(deliver, context, mailbox.take)
        for number, (outcome,) in machines.map(context.model, work, groups, look=take):
            yield keys[number], outcome


def group_for(
    context: ComparisonContext, key: GroupKey, parts: Mapping[GroupKey, Outcome]
) -> Group:
    """Return what a worker gets to fill a group."""
    comparison, (seed, source, start) = context.comparison, key
    base = seed, source, BASE
    begun = group_folder(comparison, base) / cell_folder(FORM) / "adapter"
    before = FilesOf(begun if start == FORM else None)
    own = {base: parts[base]} if base in parts else {}
    return Group(key, FilesOf(group_folder(comparison, key)), before, own)


def deliver(context: ComparisonContext, take: Callable[[], list[Letter]]) -> None:
    """Repeat in `--out` what workers wrote, and pass on their messages."""
    for letter in take():
        if letter.change is not None:
            repeat(group_folder(context.comparison, letter.key), letter.change)
        if letter.warning:
            context.progress.warn(letter.warning)
        if letter.logged is not None:
            method, given = letter.logged
            getattr(context.progress, method)(*given)


def fill_here(
    model: LanguageModel,
    groups: Sequence[Group],
    context: ComparisonContext,
    send: Callable[[Letter], None],
) -> list[Outcome]:
    """Fill one group on this worker; send what is written."""
    (group,) = groups
    seed, source, _ = group.key
    with TemporaryDirectory(prefix="neuron-opsd-") as home:
        comparison = replace(context.comparison, out=Path(home))
        folder = group_folder(comparison, group.key)
        begun = group_folder(comparison, (seed, source, BASE))
        write_files(folder, group.files)
        write_files(begun / cell_folder(FORM) / "adapter", group.before)
        telling = Telling(group.key, Original(folder), send)
        own = replace(context, comparison=comparison, model=model, progress=telling)
        shared_verifier().forget()
        try:
            return [fill_group(own, group.key, group.parts)]
        finally:
            telling.send_changes()


class Telling(Progress):
    """A worker's progress, sent to the process that started it."""

    def __init__(
        self, key: GroupKey, original: Original, send: Callable[[Letter], None]
    ) -> None:
        self._key = key
        self._original = original
        self._send = send
        self._sent = time.monotonic()

    def send_changes(self) -> None:
        """Send what was written since the last time."""
        change = self._original.changes()
        if change.written or change.deleted:
            self._send(Letter(self._key, change))
        self._sent = time.monotonic()

    @contextmanager
    def stage(
        self, name: str, total: int, unit: str
    ) -> Iterator[Callable[[int], None]]:
        """Send what is written, at intervals and at the end."""
        del name, total, unit

        def done(count: int) -> None:
            del count
            if time.monotonic() - self._sent > SECONDS:
                self.send_changes()

        try:
            yield done
        finally:
            self.send_changes()

    def warn(self, text: str) -> None:
        """Send a warning."""
        self._send(Letter(self._key, warning=text))

    def log_settings(self, stage: str, settings: Mapping[str, Any]) -> None:
        """Send the settings of a training."""
        given = stage, dict(settings)
        self._send(Letter(self._key, logged=("log_settings", given)))

    def log_metrics(
        self,
        stage: str,
        step: int,
        metrics: Mapping[str, float],
        events: Sequence[str] = (),
    ) -> None:
        """Send the metrics of a step."""
        given = stage, step, dict(metrics), tuple(events)
        self._send(Letter(self._key, logged=("log_metrics", given)))
