"""The command that looks at what neuron counts say: analyse."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

from cyclopts import Parameter

from neuron_opsd.cli.environment import COMMAND_LINE, prepare_libraries
from neuron_opsd.cli.options import DEFAULT_OUTPUT, Output
from neuron_opsd.cli.terminal import Terminal, open_terminal

if TYPE_CHECKING:
    from neuron_opsd.results.analysis import AnalysisData

Answers: TypeAlias = Annotated[
    tuple[str, ...],
    Parameter(name="--answers", consume_multiple=True, negative=(), show_default=False),
]


def analyse(
    runs: tuple[Path, ...],
    /,
    *,
    out: Path,
    answers: Answers = (),
    output: Output = DEFAULT_OUTPUT,
) -> None:
    """Say what the neuron count of a run's questions tells, beside its rivals.

    Reads what `neuron-opsd run` made of its pool, or a method of `neuron-opsd compare`,
    and changes nothing there. Runs are told apart by the names of their folders.

    Args:
        runs: Folders of one or more runs, or of methods in a comparison, as in
            runs/compared/blocks/law/seed-0/base/methods/neuron-opsd.
        out: Folder for analysis.json, analysis.csv and analysis.html.
        answers: The pool's file with its column answer, NAME=FILE for the run of that
            name or FILE for all; without it nothing is said about right and wrong.
        output: How to say what came out.
    """
    prepare_libraries(allow_download=False)
    from neuron_opsd.analysis.analyse import AnalysisRequest
    from neuron_opsd.analysis.analyse import analyse as analyse_runs

    request = AnalysisRequest(runs, out, answers, COMMAND_LINE.get())
    with open_terminal(quiet=output.quiet) as terminal:
        data = analyse_runs(request, terminal)
        if output.json:
            show_document(terminal, data, out)
        else:
            show_analysis(terminal, data, out)


def show_document(terminal: Terminal, data: AnalysisData, out: Path) -> None:
    """Show the outcome, the numbers and where the files lie, for a machine."""
    from neuron_opsd.analysis.files import CSV, JSON, PAGE, measures_of
    from neuron_opsd.report.analysis_page import outcome

    terminal.show_json(
        {
            "outcome": outcome(data),
            "runs": {run.name: measures_of(run.measures) for run in data.runs},
            "overall": measures_of(data.overall),
            "report": str((out / PAGE).resolve()),
            "json": str((out / JSON).resolve()),
            "csv": str((out / CSV).resolve()),
        }
    )


def show_analysis(terminal: Terminal, data: AnalysisData, out: Path) -> None:
    """Show the correlations, the outcome in a few sentences and where the page lies."""
    from neuron_opsd.analysis.files import PAGE
    from neuron_opsd.report.analysis_page import outcome
    from neuron_opsd.report.analysis_tables import GIVEN, UNLABELLED, correlation_rows

    rows = correlation_rows(data, GIVEN[:3])
    headings = ["run", "rank correlation with accuracy", "partial", "partial, ranks"]
    if not rows:
        rows = correlation_rows(data, UNLABELLED)
        headings = ["run", "rank correlation with vote share", "length", "entropy"]
    terminal.show_table(
        headings,
        [
            [row.name, *(f"{cell.value} [{cell.span}]" for cell in row.cells)]
            for row in rows
        ],
    )
    terminal.show(outcome(data))
    terminal.show()
    terminal.show(f"report: {out / PAGE}")
