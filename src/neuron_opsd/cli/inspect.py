"""The commands that look at a run: status, report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from neuron_opsd.cli.environment import prepare_libraries
from neuron_opsd.cli.options import DEFAULT_OUTPUT, Output
from neuron_opsd.cli.terminal import Terminal, open_terminal
from neuron_opsd.cli.text import duration
from neuron_opsd.errors import listing

if TYPE_CHECKING:
    from neuron_opsd.storage.status import ComparisonStatus, RunStatus


def status(
    run: Path, /, *, verify: bool = False, output: Output = DEFAULT_OUTPUT
) -> None:
    """Say how far a run or a comparison is, from its files and without disturbing it.

    Args:
        run: Folder of the run or the comparison.
        verify: Compare the hashes of large files too; else only their sizes are
            compared, and what was changed and is as long as before is not seen.
        output: How to say what came out.
    """
    from neuron_opsd.storage.status import RunStatus, read_status

    found = read_status(run, verify=verify)
    with open_terminal(quiet=output.quiet) as terminal:
        if output.json:
            terminal.show_json(asdict(found))
        elif isinstance(found, RunStatus):
            show_status(terminal, found)
        else:
            show_blocks(terminal, found)


def show_blocks(terminal: Terminal, found: ComparisonStatus) -> None:
    """Show what is done of every block, and who works on it."""
    rows = [
        [block.name, str(len(block.models_done)), block.begun, block.holder or ""]
        for block in found.blocks
    ]
    if rows:
        terminal.show_table(["block", "models done", "begun", "at work"], rows)
    show_lines(terminal, found.amiss)
    running = any(block.holder is not None for block in found.blocks)
    at_work = "running" if running else None
    state = state_text(at_work, finished=found.finished, amiss=found.amiss)
    terminal.show(f"state: {state}{unread_text(found.unread)}")


def show_status(terminal: Terminal, found: RunStatus) -> None:
    """Show the stages, the steps and who works on it."""
    rows = [
        [
            stage.name,
            "done" if stage.done else "begun",
            stage.progress,
            "" if stage.seconds is None else duration(stage.seconds),
        ]
        for stage in found.stages
    ]
    if rows:
        terminal.show_table(["stage", "state", "file or progress", "time"], rows)
    total = "?" if found.steps_total is None else found.steps_total
    terminal.show(f"training steps: {found.steps_done}/{total}")
    running = None if found.holder is None else f"running, {found.holder}"
    show_lines(terminal, found.amiss)
    state = state_text(running, finished=found.finished, amiss=found.amiss)
    terminal.show(f"state: {state}{unread_text(found.unread)}")


def unread_text(names: Sequence[str]) -> str:
    """Say which files a state was told without reading, up to three by name."""
    if not names:
        return ""
    return (
        f" (of {listing(names, 3)}, which are large, only the sizes were "
        "compared; --verify reads them)"
    )


def show_lines(terminal: Terminal, lines: Sequence[str]) -> None:
    """Show some lines."""
    for line in lines:
        terminal.show(line)


def state_text(running: str | None, *, finished: bool, amiss: Sequence[str]) -> str:
    """Say in words whether something goes on, waits, is amiss or has ended."""
    if running is not None:
        return running
    if amiss:
        return "not whole; the command that began it makes again what it can"
    return "finished" if finished else "stopped; the command that began it resumes it"


def report(run: Path, /, *, output: Output = DEFAULT_OUTPUT) -> None:
    """Write the page of a run or a comparison again from its files.

    Args:
        run: Folder of the run or the comparison.
        output: How to say what came out.
    """
    prepare_libraries(allow_download=False)
    from neuron_opsd.pipeline import rebuild_page

    with open_terminal(quiet=output.quiet) as terminal:
        page = rebuild_page(run, terminal)
        if output.json:
            terminal.show_json({"report": str(page.resolve())})
        else:
            terminal.show(f"report: {page}")
