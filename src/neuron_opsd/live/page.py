"""The page that says how far a run or a comparison is, made again at every look."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from markupsafe import Markup

from neuron_opsd.report import wording
from neuron_opsd.report.condense import training_summary
from neuron_opsd.report.html import render_template
from neuron_opsd.report.run_charts import training_chart
from neuron_opsd.report.tables import Cell, Column, Table, TableRow, table_of
from neuron_opsd.runs.metrics import read_metrics
from neuron_opsd.storage.folders import COMPARISON_PAGE, PROBE_PAGE, RUN_PAGE, TRAIN
from neuron_opsd.storage.status import ComparisonStatus, RunStatus, read_status

REFRESH: Final = 5
"""Seconds after which a browser looks again, while something runs."""
STOPPED: Final = "Stopped; the command that started it resumes it."
PAGES: Final = (RUN_PAGE, COMPARISON_PAGE, PROBE_PAGE)
"""Finished pages, of which a folder has one at most."""


def render_live(folder: Path) -> str:
    """Return the page of a run or a comparison as it is now.

    Raises:
        NeuronOpsdError: If the folder is neither, or what it says is damaged.
    """
    return render_template("live.html.jinja", context(read_status(folder), folder))


def finished_page(folder: Path) -> Path | None:
    """Return the finished page of a folder, `None` where there is none yet."""
    places = (folder / name for name in PAGES)
    return next((p for p in places if p.is_file() and not p.is_symlink()), None)


def context(found: RunStatus | ComparisonStatus, folder: Path) -> dict[str, Any]:
    """Return what the template names."""
    running = is_running(found)
    page = finished_page(folder)
    values: dict[str, Any] = {
        "title": folder.resolve().name,
        "state": state_of(found, running=running),
        "refresh": REFRESH if running or not found.finished else 0,
        "report": None if page is None else page.name,
        "amiss": found.amiss,
    }
    if isinstance(found, RunStatus):
        metrics = read_metrics(folder / TRAIN)
        return values | {
            "kind": "run",
            "table_": stage_table(found),
            "steps": (found.steps_done, found.steps_total),
            "last": last_step(found),
            "chart": training_chart(training_summary(metrics), ()),
        }
    return values | {
        "kind": "comparison",
        "table_": group_table(found),
        "steps": None,
        "last": (),
        "chart": Markup(""),
    }


def is_running(found: RunStatus | ComparisonStatus) -> bool:
    """Say whether a process works in the folder."""
    if isinstance(found, RunStatus):
        return found.holder is not None
    return any(group.holder is not None for group in found.blocks)


def state_of(found: RunStatus | ComparisonStatus, *, running: bool) -> str:
    """Say in a sentence what is going on."""
    if running:
        holder = found.holder if isinstance(found, RunStatus) else ""
        return f"Running, {holder}." if holder else "Running."
    if found.amiss:
        return "Not whole; the command that started it makes again what it can."
    return "Finished." if found.finished else STOPPED


def stage_table(found: RunStatus) -> Table:
    """Return what is done of every stage."""
    columns = (
        Column("state", text=True),
        Column("file or progress", text=True),
        Column("seconds"),
    )
    rows = [
        TableRow(
            stage.name,
            (
                Cell("done" if stage.done else "begun"),
                Cell(stage.progress),
                Cell("" if stage.seconds is None else f"{stage.seconds:,.1f}"),
            ),
        )
        for stage in found.stages
    ]
    return table_of("Stages", "stage", columns, rows)


def group_table(found: ComparisonStatus) -> Table:
    """Return what is done of every run group."""
    columns = (Column("models done"), Column("begun", text=True), Column("running"))
    rows = [
        TableRow(
            group.name,
            (
                Cell(str(len(group.models_done))),
                Cell(group.begun),
                Cell("yes" if group.holder else ""),
            ),
        )
        for group in found.blocks
    ]
    return table_of("Run groups", "run group", columns, rows)


def last_step(found: RunStatus) -> list[tuple[str, str]]:
    """Return what the last step of training measured."""
    return [
        (name.replace("_", " "), wording.number(value))
        for name, value in found.last_step.items()
        if isinstance(value, float)
    ]
