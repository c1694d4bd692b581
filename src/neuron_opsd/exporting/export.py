"""What every export shares: check, fill a folder, move it into place whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypedDict, Unpack

from neuron_opsd.errors import ConfigError
from neuron_opsd.exporting.finished import FinishedRun, finished_run
from neuron_opsd.exporting.targets import ExportTarget, target_of
from neuron_opsd.progress import QUIET, Progress
from neuron_opsd.storage.files import write_folder
from neuron_opsd.storage.folders import check_outside
from neuron_opsd.storage.output_paths import check_folder_place

DType: TypeAlias = Literal["base", "float32", "bfloat16", "float16"]
"""Types of written weights; `base` keeps that of the base's files."""


class Choices(TypedDict, total=False):
    """What some targets also need; the fields of `Request`."""

    dtype: DType
    base: str
    pool: str
    tests: Mapping[str, str]
    name: str


@dataclass(frozen=True, slots=True)
class Request:
    """Input of a target."""

    out: Path
    """Final place of its files."""
    dtype: DType = "base"
    base: str = ""
    """Folder or hub id of the base, if not where the run had it."""
    pool: str = ""
    """File or dataset with the run's pool."""
    tests: Mapping[str, str] = field(default_factory=dict)
    """Files or datasets of its test sets, by the run's names."""
    name: str = ""
    """The model's name on a server; by default the run's folder."""


@dataclass(frozen=True, slots=True)
class Made:
    """What a target reports besides its files."""

    facts: Mapping[str, Any]
    """JSON values by name."""
    next_steps: tuple[str, ...] = ()
    """What to do with the files, if target-specific; commands run in the folder."""


Write: TypeAlias = Callable[[FinishedRun, Request, Path, Progress], Made]


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written, and what to do with it."""

    to: str
    out: Path
    files: dict[str, int]
    """Path in the folder to bytes."""
    facts: dict[str, Any] = field(default_factory=dict)
    next_steps: tuple[str, ...] = ()


def export(
    run: str | Path,
    to: str,
    out: str | Path,
    progress: Progress = QUIET,
    **choices: Unpack[Choices],
) -> Exported:
    """Turn a finished run into files for another program, whole or not at all.

    Args:
        run: Folder of the run.
        to: Name of a target in `targets.TARGETS`.
        out: A new or empty folder.
        progress: Receives what is written.
        choices: What some targets also need.

    Raises:
        NeuronOpsdError: For anything that the user can fix.
    """
    request, target = Request(Path(out), **choices), target_of(to)
    check_out(request.out)
    found, write = finished_run(Path(run), request.base), writer_of(target)
    made: list[Made] = []
    write_folder(
        request.out, lambda folder: made.append(write(found, request, folder, progress))
    )
    (said,) = made
    files = (path for path in sorted(request.out.rglob("*")) if path.is_file())
    return Exported(
        to,
        request.out,
        {
            path.relative_to(request.out).as_posix(): path.stat().st_size
            for path in files
        },
        dict(said.facts),
        (target.next_step.format(out=request.out), *said.next_steps),
    )


def writer_of(target: ExportTarget) -> Write:
    """Return the function that fills a target's folder."""
    module = import_module(f"neuron_opsd.exporting.{target.module}")
    write: Write = getattr(module, target.function)
    return write


def check_out(out: Path) -> None:
    """Refuse a folder that is not empty or is in a run directory."""
    check_folder_place(out)
    check_outside(out)
    held = sorted(one.name for one in out.iterdir()) if out.is_dir() else []
    if held:
        raise ConfigError(
            f"{out} holds {held[0]}, and nothing is overwritten; choose a new or empty "
            "folder for --out"
        )
