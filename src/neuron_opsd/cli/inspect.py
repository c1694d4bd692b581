"""The commands that read files and need no model: status, watch, report, read."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from neuron_opsd.cli import options
from neuron_opsd.cli.exit_statuses import DONE
from neuron_opsd.cli.terminal import Terminal
from neuron_opsd.cli.text import duration, one_line
from neuron_opsd.errors import listing

if TYPE_CHECKING:
    from neuron_opsd.runs.reading import ReadAnswer
    from neuron_opsd.storage.status import ComparisonStatus, RunStatus

SAME = {None: "", True: "yes", False: "no"}


def status(
    run: Path,
    /,
    *,
    verify: bool = False,
    output: options.Output = options.DEFAULT_OUTPUT,
) -> None:
    """Show how far a run or a comparison is, without disturbing it.

    Args:
        run: Folder of the run or the comparison.
        verify: Check the hashes of large files too; otherwise only their sizes are
            checked, so a change that keeps the size goes unnoticed.
    """
    from neuron_opsd.storage.status import RunStatus, read_status

    found = read_status(run, verify=verify)
    with options.opened(output) as terminal:
        if isinstance(found, RunStatus):
            terminal.show_result(found, show_run)
        else:
            terminal.show_result(found, show_comparison)


def show_run(terminal: Terminal, found: RunStatus) -> None:
    """Show stages and steps, and who is running it."""
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
    show_state(terminal, found, f"running, {found.holder}" if found.holder else "")


def show_comparison(terminal: Terminal, found: ComparisonStatus) -> None:
    """Show every run group's progress, and who is running it."""
    rows = [
        [group.name, str(len(group.models_done)), group.begun, group.holder or ""]
        for group in found.blocks
    ]
    if rows:
        terminal.show_table(["run group", "models done", "begun", "running"], rows)
    show_state(terminal, found, "running" if any(row[3] for row in rows) else "")


def show_state(
    terminal: Terminal, found: RunStatus | ComparisonStatus, running: str
) -> None:
    """Show faults, and whether it is running, stopped or finished.

    Names up to three files that were judged without reading.
    """
    state = "stopped; the command that started it resumes it"
    if running:
        state = running
    elif found.amiss:
        state = "damaged; the command that started it rebuilds what it can"
    elif found.finished:
        state = "finished"
    if found.unread:
        state += (
            f" (of {listing(found.unread, 3)}, which are large, only the sizes were "
            "compared; --verify reads them)"
        )
    terminal.show(*found.amiss, f"state: {state}")


def watch(
    run: Path,
    /,
    *,
    port: int = 8765,
    quiet: options.Flag = False,
) -> int:
    """Show in a browser how far a run or a comparison is, while it runs.

    The page is made from the folder's files each time it loads, and disturbs nothing.
    Only this machine can open it, until Ctrl-C. If the run is on another machine,
    forward the port: ssh -L 8765:127.0.0.1:8765 MACHINE.

    Args:
        run: Folder of the run or the comparison.
        port: Port on 127.0.0.1; 0 picks a free one.
        quiet: Print only the address.
    """
    with options.opened(options.Output(quiet=quiet)) as terminal:
        from neuron_opsd.live import listening

        with listening(run, port) as server:
            terminal.show(server.address)
            terminal.note("open this address in a browser; Ctrl-C stops it")
            with suppress(KeyboardInterrupt):
                server.serve_forever()
    return DONE


def report(run: Path, /, *, output: options.Output = options.DEFAULT_OUTPUT) -> None:
    """Rewrite the page of a run or a comparison from its files.

    Args:
        run: Folder of the run or the comparison.
    """
    with options.opened(output) as terminal:
        from neuron_opsd.comparison.compare import rebuild_page

        page = rebuild_page(run, terminal)
        if terminal.json:
            terminal.show_json({"report": page.resolve()})
        else:
            terminal.show(f"report: {page}")


def read(
    file: Path,
    /,
    *,
    settings: options.Settings = options.DEFAULT_SETTINGS,
    output: options.Output = options.DEFAULT_OUTPUT,
) -> None:
    """Show which answers are read from completions, and why, without a model.

    A row may also have `question`, `choices`, `gold`, `finished`, `thinking_opened`,
    and a `reader` that overrides the setting answers.reader.

    Args:
        file: JSONL with `id` and `completion`.
    """
    config = options.resolve(settings)
    from neuron_opsd.runs.reading import read_answers

    with options.opened(output) as terminal:
        rows = read_answers(file, config)
        if terminal.json:
            tables = [asdict(row) for row in rows]
            for table in tables:
                if table["same"] is None:  # there is no gold answer
                    del table["same"]
            terminal.show_json({"rows": tables})
        else:
            show_answers(terminal, rows)


def show_answers(terminal: Terminal, rows: Sequence[ReadAnswer]) -> None:
    """Show a line per completion, and how many could be read."""
    judged = [row for row in rows if row.same is not None]
    cells = [
        [
            one_line(row.id, 30),
            "-" if row.answer is None else one_line(row.answer),
            *([SAME[row.same]] if judged else []),
            row.why,
        ]
        for row in rows
    ]
    headings = ["id", "answer", *(["same"] if judged else []), "why"]
    terminal.show_table(headings, cells)
    num_read = sum(row.answer is not None for row in rows)
    said = f"{num_read:,} of {len(rows):,} read"
    if judged:
        num_same = sum(row.same is True for row in judged)
        said += f", {num_same:,} of {len(judged):,} the gold answer"
    terminal.show(said)
