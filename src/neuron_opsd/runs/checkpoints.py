"""Checkpoints of a training: where to resume, and what each was made from.

A state names its step, sources and metrics so far; unless they match, it is skipped
with a warning.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from neuron_opsd.documents import DocumentError, parse_json
from neuron_opsd.errors import DataError
from neuron_opsd.models.library_errors import saving
from neuron_opsd.models.weights.finite import first_not_finite
from neuron_opsd.runs.context import RunContext
from neuron_opsd.runs.courses import Course
from neuron_opsd.runs.metrics import (
    METRICS,
    MetricsHash,
    cut_metrics,
    hash_metrics,
    sync_metrics,
)
from neuron_opsd.storage.disk import read_plain
from neuron_opsd.storage.files import discard, sha256_file, write_atomic, write_folder
from neuron_opsd.storage.integrity import CHANGED, other_sources, quick_fault
from neuron_opsd.storage.manifest import json_sha256

STATE = "state.safetensors"
FACTS = "checkpoint.json"
BOUND = "neuron-opsd"
"""Metadata key of a state's step, sources and metrics."""
CHECKPOINTS = "checkpoints"
CHECKPOINT = re.compile(r"step-\d{6,}")
KEPT_CHECKPOINTS = 2
UNREAD = (DataError, DocumentError, OSError, SafetensorError, ValidationError)


def keep_checkpoint(
    run: RunContext,
    course: Course,
    work: str,
    step: int,
    made_from: Sequence[str],
    metrics: MetricsHash,
) -> None:
    """Write student, teacher and optimiser atomically; drop old checkpoints."""
    home, name = run.path(work), f"{work}/{CHECKPOINTS}/step-{step:06d}"
    sync_metrics(home)
    bound = {
        "step": step,
        "made_from": run.directory.integrity.hashes(made_from),
        "metrics": metrics.now(),
    }

    state, files = course.state(), dict[str, str]()

    def fill(folder: Path) -> None:
        # A single key, since several have no fixed order.
        metadata = {BOUND: json.dumps(bound, sort_keys=True)}
        with saving():
            save_file(state, folder / STATE, metadata=metadata)
        files[STATE] = sha256_file(folder / STATE)
        facts = {"step": step, "sha256": files[STATE]}
        write_atomic(folder / FACTS, json.dumps(facts).encode())
        files[FACTS] = sha256_file(folder / FACTS)

    num_bytes = sum(value.nbytes for value in state.values())
    write_folder(run.path(name), fill, num_bytes)
    run.directory.record(name, name, made_from, files=files)
    drop_checkpoints(run, checkpoints(run, work)[:-KEPT_CHECKPOINTS])


def checkpoints(run: RunContext, work: str) -> list[str]:
    """Return checkpoint names, oldest first."""
    found = (path.name for path in run.path(work, CHECKPOINTS).glob("step-*"))
    names = sorted(name for name in found if CHECKPOINT.fullmatch(name))
    return [f"{work}/{CHECKPOINTS}/{name}" for name in names]


def checkpoint_steps(run: RunContext, work: str) -> list[int]:
    """Return the step counts of the checkpoints."""
    return [int(name.rpartition("-")[2]) for name in checkpoints(run, work)]


def drop_checkpoints(run: RunContext, names: Sequence[str]) -> None:
    """Unlist checkpoints, then delete them."""
    run.directory.forget(names)
    for name in names:
        discard_checkpoint(run.path(name))


def discard_checkpoint(folder: Path) -> None:
    """Delete a checkpoint's files, and its folder if empty."""
    if folder.is_symlink() or not folder.is_dir():
        discard(folder)
        return
    for name in (FACTS, STATE):
        discard(folder / name)
    leave(folder)


def leave(folder: Path) -> None:
    """Delete a folder if empty."""
    with contextlib.suppress(OSError):
        folder.rmdir()


def end_checkpoints(run: RunContext, work: str) -> None:
    """Delete the checkpoints of a training that will not resume."""
    drop_checkpoints(run, [*{*checkpoints(run, work), *listed(run, work)}])
    leave(run.path(work, CHECKPOINTS))


def listed(run: RunContext, work: str) -> Iterator[str]:
    """Yield the checkpoint names listed in the manifest."""
    for name in run.directory.manifest.outputs:
        folder, _, last = name.rpartition("/")
        if folder == f"{work}/{CHECKPOINTS}" and CHECKPOINT.fullmatch(last):
            yield name


def forget_lost(run: RunContext, work: str) -> None:
    """Report and unlist damaged checkpoints of a finished training.

    Only the size of large ones is checked, since nothing resumes from them.
    """
    outputs = run.directory.manifest.outputs
    lost = {
        name: fault
        for name in listed(run, work)
        if (fault := quick_fault(run.directory.folder, outputs[name]))
    }
    for name, fault in lost.items():
        run.warn(f"{run.path(name)} {fault}; the finished training does not need it")
    drop_checkpoints(run, list(lost))


def go_back(
    run: RunContext, course: Course, work: str, made_from: Sequence[str], latest: int
) -> int:
    """Restore the last matching checkpoint, at most `latest`; return the next step.

    Metrics of the steps to repeat are dropped.
    """
    home, wanted = run.path(work), run.directory.integrity.hashes(made_from)
    first = 0
    for name in reversed(checkpoints(run, work)):
        folder = run.path(name)
        fault = changed_sources(folder, home, wanted) or unlike_listed(run, name)
        if fault:
            run.warn(f"{folder} is skipped: {fault}")
        elif (step := facts_of(folder).step) <= latest:
            state = load_file(folder / STATE)
            if spoilt := first_not_finite(state):
                run.warn(f"{folder} is skipped: {spoilt} is not finite")
                continue
            course.load_state(state)
            first = step
            break
    if os.path.lexists(home / METRICS):
        cut_metrics(home, first)
    return first


class Facts(BaseModel):
    """What the file next to a state says about it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int = Field(ge=1)
    sha256: str


class Bound(BaseModel):
    """What a state says about itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int
    made_from: dict[str, str]
    metrics: str


def facts_of(folder: Path) -> Facts:
    """Read the facts of a checkpoint."""
    return Facts.model_validate(parse_json(read_plain(folder / FACTS)))


def changed_sources(folder: Path, home: Path, wanted: Mapping[str, str]) -> str:
    """Say why a checkpoint cannot be resumed; empty if it can."""
    try:
        facts = facts_of(folder)
        if sha256_file(folder / STATE) != facts.sha256:
            return f"its {STATE} was changed or damaged"
        with safe_open(folder / STATE, "pt") as file:
            text = (file.metadata() or {}).get(BOUND, "")
        bound = Bound.model_validate(parse_json(text))
    except UNREAD:
        return f"its {FACTS} or {STATE} cannot be read"
    if bound.step != facts.step:
        return f"{FACTS} says step {facts.step}, but its state is of {bound.step}"
    if others := other_sources(bound.made_from, wanted):
        return f"it was trained from another {', '.join(others)}"
    # A power cut can save a checkpoint but lose metrics before it.
    if bound.metrics != hash_metrics(home, bound.step):
        return (
            f"{METRICS} does not hold the {bound.step} steps before it as they were "
            "taken"
        )
    return ""


def unlike_listed(run: RunContext, name: str) -> str:
    """Say how a checkpoint differs from the manifest; empty if it does not.

    Gigabytes of state, checked against `FACTS` before, are not reread.
    """
    output = run.directory.manifest.outputs.get(name)
    if output is None:
        return ""
    folder = run.path(name)
    files = {STATE: facts_of(folder).sha256, FACTS: sha256_file(folder / FACTS)}
    return "" if json_sha256(files) == output.sha256 else CHANGED
