"""What every export does: check, fill a folder, and put it in its place as a whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Unpack

from neuron_opsd.errors import ConfigError
from neuron_opsd.exporting.finished import finished_run
from neuron_opsd.exporting.request import Choices, Made, Request
from neuron_opsd.exporting.targets import target_of
from neuron_opsd.progress import QUIET, Progress
from neuron_opsd.storage.files import write_folder
from neuron_opsd.storage.folders import check_outside
from neuron_opsd.storage.output_paths import check_folder_place


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written, and what to do with it."""

    to: str
    out: Path
    files: dict[str, int]
    """Bytes of every file, by its path below the folder."""
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
        progress: Called with what is written.
        choices: What some targets need besides.

    Raises:
        NeuronOpsdError: For anything that the user can mend.
    """
    request = Request(Path(run), to, Path(out), **choices)
    return exported(request, progress)


def exported(request: Request, progress: Progress) -> Exported:
    """Check, let the target fill a folder, and say what is in it.

    Raises:
        ConfigError: If the target, the folder or the base cannot be used.
        DataError: If the run is not finished, or was changed afterwards.
        ModelError: If the target cannot take such a model.
    """
    target = target_of(request.to)
    check_out(request.out)
    run = finished_run(request.run, request.base)
    write = target.writer()
    made: list[Made] = []
    write_folder(
        request.out, lambda folder: made.append(write(run, request, folder, progress))
    )
    (said,) = made
    files = (path for path in sorted(request.out.rglob("*")) if path.is_file())
    return Exported(
        to=target.name,
        out=request.out,
        files={
            path.relative_to(request.out).as_posix(): path.stat().st_size
            for path in files
        },
        facts=dict(said.facts),
        next_steps=(target.next_step.format(out=request.out), *said.next_steps),
    )


def check_out(out: Path) -> None:
    """Refuse a folder that holds something, or is in a run directory."""
    check_folder_place(out)
    check_outside(out)
    held = sorted(one.name for one in out.iterdir()) if out.is_dir() else []
    if held:
        raise ConfigError(
            f"{out} holds {held[0]}, and nothing is overwritten; choose a new or empty "
            "folder for --out"
        )
