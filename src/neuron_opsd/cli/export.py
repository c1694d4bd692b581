"""The command that turns a finished run into files for other programs: export."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

import neuron_opsd as no
from neuron_opsd.cli import options
from neuron_opsd.cli.terminal import Terminal
from neuron_opsd.cli.text import size
from neuron_opsd.errors import ConfigError
from neuron_opsd.exporting.targets import TARGETS

if TYPE_CHECKING:
    from neuron_opsd.exporting.export import Exported


@Parameter(name="*")
@dataclass(frozen=True)
class Given:
    """What some targets need besides the run."""

    dtype: Literal["base", "float32", "bfloat16", "float16"] = "base"
    """Type of the weights in `merged` and `gguf`; `base` keeps that of the base."""
    base: Annotated[str, Parameter(show_default=False)] = ""
    """Folder or hub id of the base, if it is not where the run had it."""
    pool: Annotated[str, Parameter(show_default=False)] = ""
    """File or dataset that the run had as its pool."""
    tests: options.Tests = ()
    """The run's test sets, as NAME=FILE."""
    name: Annotated[str, Parameter(show_default=False)] = ""
    """What servers call the model; the name of the run's folder when left out."""


NOTHING_GIVEN = Given()


def export(
    run: Path | None = None,
    /,
    *,
    to: Annotated[str, Parameter(show_default=False)] = "",
    out: Path | None = None,
    given: Given = NOTHING_GIVEN,
    output: options.Output = options.DEFAULT_OUTPUT,
) -> None:
    """Turn a finished run into files for another program.

    Alone it lists the targets. The folder comes whole or not at all, nothing is
    overwritten, and nothing is fetched.

    Args:
        run: Folder of a finished run.
        to: Name of a target.
        out: A new or empty folder.
        given: What some targets need besides.
    """
    with options.opened(output) as terminal:
        if run is None:
            show_targets(terminal, as_json=output.json)
            return
        if out is None:
            raise ConfigError("--out is missing; name a new or empty folder")
        found = no.export(
            run,
            to,
            out,
            terminal,
            dtype=given.dtype,
            base=given.base,
            pool=given.pool,
            tests=options.read_named(given.tests),
            name=given.name,
        )
        show_exported(terminal, found, as_json=output.json)


def show_targets(terminal: Terminal, *, as_json: bool) -> None:
    """List what a run can be exported to."""
    if as_json:
        terminal.show_json({target.name: target.summary for target in TARGETS.values()})
        return
    rows = [[target.name, target.summary] for target in TARGETS.values()]
    terminal.show_table(["target", "what it writes"], rows)


def show_exported(terminal: Terminal, found: Exported, *, as_json: bool) -> None:
    """Show what was written and what to do with it."""
    if as_json:
        terminal.show_json(
            {
                "to": found.to,
                "out": str(found.out.resolve()),
                "files": found.files,
                "facts": found.facts,
                "next_steps": list(found.next_steps),
            }
        )
        return
    for name, num_bytes in found.files.items():
        terminal.show(f"{found.out / name}  {size(num_bytes)}")
    terminal.show()
    for line in found.next_steps:
        terminal.show(line)
