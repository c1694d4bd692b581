"""Progress of a run or comparison, from plain files, even while it runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from neuron_opsd.documents import DocumentError, parse_table
from neuron_opsd.errors import NeuronOpsdError
from neuron_opsd.storage.disk import read_plain
from neuron_opsd.storage.folders import (
    BLOCKS,
    COMPARISON_PAGE,
    METHOD_FOLDERS,
    METRICS,
    PROBE_PAGE,
    RUN_PAGE,
    TRAIN,
    kind_in,
)
from neuron_opsd.storage.integrity import (
    Check,
    fault_of,
    faults,
    listed_faults,
    not_hashed,
    quick_fault,
)
from neuron_opsd.storage.lock import living_holder
from neuron_opsd.storage.manifest import (
    MANIFEST,
    PARTS,
    PLAN,
    RECEIPT,
    Manifest,
    read_manifest,
    read_receipt,
)

MOST = 10**15


@dataclass(frozen=True, slots=True)
class StageStatus:
    """One finished or started output of a run."""

    name: str
    done: bool
    progress: str
    """Such as `128/400`."""
    seconds: float | None
    """Over all processes; `None` if unknown yet."""


@dataclass(frozen=True, slots=True)
class RunStatus:
    """The state of a run directory."""

    run: Path
    finished: bool
    """Whether the report, written last, exists, and nothing is amiss."""
    holder: str | None
    """The process working in the directory, if any."""
    steps_done: int
    steps_total: int | None
    last_step: Mapping[str, Any]
    stages: tuple[StageStatus, ...]
    amiss: tuple[str, ...] = ()
    """What is gone, changed, or made from a source that changed."""
    unread: tuple[str, ...] = ()
    """Files and folders compared by size only."""


@dataclass(frozen=True, slots=True)
class RunGroupStatus:
    """The run directory of one source, seed and start."""

    name: str
    models_done: tuple[str, ...]
    """Models that are tested, and trained if they need to be."""
    begun: str
    """What exists of the next model; empty for nothing."""
    holder: str | None
    amiss: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ComparisonStatus:
    """The state of a comparison's folder."""

    comparison: Path
    finished: bool
    """Whether the page, written last, exists, and nothing runs or is amiss."""
    blocks: tuple[RunGroupStatus, ...]
    amiss: tuple[str, ...] = ()
    """As for a run, in the comparison and its run groups."""
    unread: tuple[str, ...] = ()


def read_status(folder: Path, *, verify: bool = False) -> RunStatus | ComparisonStatus:
    """Read how far a run or comparison is, without locks or changes.

    `verify` also compares the hashes of large files.

    Raises:
        DataError: If the folder is neither.
    """
    check = fault_of if verify else quick_fault
    is_comparison = (folder / BLOCKS).is_dir()
    found = comparison_status if is_comparison else run_status
    status = found(folder, check)
    return replace(status, unread=()) if verify else status


def comparison_status(folder: Path, check: Check = quick_fault) -> ComparisonStatus:
    """Read how far every run group of a comparison is."""
    places = sorted((folder / BLOCKS).glob("*/*/*"))
    homes = [place for place in places if os.path.lexists(place / MANIFEST)]
    groups = tuple(group_status(folder, home, check) for home in homes)
    running = any(group.holder is not None for group in groups)
    own = () if running else amiss_of_its_own(folder, check)
    amiss = (*own, *(line for group in groups for line in group.amiss))
    finished = (folder / COMPARISON_PAGE).is_file() and not running and not amiss
    large = [home / name for home in homes for name in unread_in(home)]
    names = tuple(path.relative_to(folder).as_posix() for path in large)
    return ComparisonStatus(folder, finished, groups, amiss, names)


def amiss_of_its_own(comparison: Path, check: Check) -> tuple[str, ...]:
    """Return a comparison's own unproven files."""
    try:
        return tuple(listed_faults(comparison, check).values())
    except NeuronOpsdError as error:
        return (str(error),)


def unread_in(home: Path) -> list[str]:
    """Return what was not read of a run group."""
    with suppress(NeuronOpsdError):
        return not_hashed(home, read_manifest(home))
    return []


def group_status(comparison: Path, group: Path, check: Check) -> RunGroupStatus:
    """Read which models of a run group are done, or the error."""
    name = " ".join(group.relative_to(comparison / BLOCKS).parts)
    holder = living_holder(group)
    try:
        manifest = read_manifest(group)
    except NeuronOpsdError as error:
        return RunGroupStatus(name, (), "", holder, (str(error),))
    outputs = [Path(output) for output in manifest.outputs]
    done = tuple(path.name for path in outputs if path.parent == Path(METHOD_FOLDERS))
    begun = [f"{stage.name} {stage.progress}" for stage in begun_stages(group)]
    for metrics in sorted(group.glob(f"{METHOD_FOLDERS}/*/{TRAIN}/{METRICS}")):
        model = metrics.parent.parent.name
        if model not in done:
            steps, _ = training_steps(metrics)
            begun.append(f"{model} {steps}/{manifest.settings.get('distill.steps')}")
    amiss = amiss_in(group, manifest, check)
    return RunGroupStatus(name, done, ", ".join(begun), holder, amiss)


def amiss_in(run: Path, manifest: Manifest, check: Check) -> tuple[str, ...]:
    """Return unproven outputs, unless a process works there."""
    if living_holder(run) is not None:
        return ()
    return tuple(faults(run, manifest, check).values())


def run_status(run: Path, check: Check = quick_fault) -> RunStatus:
    """Read how far a run is."""
    manifest = read_manifest(run)
    steps, last = training_steps(run / TRAIN / METRICS)
    total = manifest.settings.get("distill.steps")
    amiss = amiss_in(run, manifest, check)
    return RunStatus(
        run=run,
        finished=any((run / page).is_file() for page in (RUN_PAGE, PROBE_PAGE))
        and not amiss,
        holder=living_holder(run),
        steps_done=steps,
        steps_total=total if isinstance(total, int) else None,
        last_step=last,
        stages=(*finished_stages(manifest), *begun_stages(run)),
        amiss=amiss,
        unread=tuple(not_hashed(run, manifest)),
    )


def settings_fault(file: Path) -> str:
    """Say how a run's settings file was changed; empty if it was not.

    A change may be on purpose, but flipped bits would go unnoticed.
    """
    if kind_in(file.parent) != "run":
        return ""
    try:
        outputs = read_manifest(file.parent).outputs.values()
        found = [fault_of(file.parent, one) for one in outputs if one.file == file.name]
    except NeuronOpsdError as error:
        return f"cannot be proven: {error}"
    return next(filter(None, found), "")


def finished_stages(manifest: Manifest) -> list[StageStatus]:
    """Return the listed outputs that take time."""
    outputs = [
        StageStatus(name, done=True, progress=output.file, seconds=output.seconds)
        for name, output in manifest.outputs.items()
        if output.seconds is not None
    ]
    # Versions that did not list folders recorded adapters here.
    seconds = manifest.facts.get("seconds", {})
    trained = [
        StageStatus(name, done=True, progress="adapter", seconds=seconds.get(name))
        for name in manifest.facts.get("adapters", {})
    ]
    return outputs + trained


def begun_stages(run: Path) -> list[StageStatus]:
    """Return the outputs with stored chunks."""
    parts = run / PARTS
    folders = [plan.parent for plan in sorted(parts.rglob(PLAN))]
    return [begun_stage(one, one.relative_to(parts).as_posix()) for one in folders]


def begun_stage(folder: Path, name: str) -> StageStatus:
    """Count an output's finished chunks."""
    plan = parse_object(read_text(folder / PLAN))
    receipts = [read_receipt(path) for path in folder.glob(f"*{RECEIPT}")]
    total, size = (whole_number(plan.get(key)) for key in ("num_items", "size"))
    done = min(total, len(receipts) * size)
    seconds = sum(one.seconds for one in receipts if one is not None)
    return StageStatus(name, done=False, progress=f"{done}/{total}", seconds=seconds)


def whole_number(value: object) -> int:
    """Return a count, 0 if it is not one."""
    return value if isinstance(value, int) and 0 <= value <= MOST else 0


def training_steps(path: Path) -> tuple[int, dict[str, Any]]:
    """Return the number of steps, and the last metrics."""
    last: dict[str, Any] = {}
    steps = 0
    for line in read_text(path).splitlines():
        metrics = parse_object(line)
        step = metrics.get("step")
        # Steps repeated after a stop appear again; the last line counts.
        if step is not None and whole_number(step) == step:
            steps, last = step + 1, metrics
    last = {k: v for k, v in last.items() if not isinstance(v, dict | list)}
    return steps, last


def read_text(path: Path) -> str:
    """Read a file; empty if unreadable."""
    try:
        return read_plain(path).decode(errors="replace")
    except NeuronOpsdError:
        return ""


def parse_object(text: str) -> dict[str, Any]:
    """Return a JSON object; empty if the text is none."""
    try:
        return parse_table(text)
    except DocumentError:
        return {}
