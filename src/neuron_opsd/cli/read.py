"""The command that shows how answers are read."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuron_opsd.cli.options import (
    DEFAULT_OUTPUT,
    DEFAULT_SETTINGS,
    Output,
    Settings,
    resolve,
)
from neuron_opsd.cli.terminal import Terminal, open_terminal
from neuron_opsd.cli.text import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from neuron_opsd.runs.reading import ReadAnswer

SAME = {None: "", True: "yes", False: "no"}


def read(
    file: Path,
    /,
    *,
    settings: Settings = DEFAULT_SETTINGS,
    output: Output = DEFAULT_OUTPUT,
) -> None:
    """Show which answers are read from completions, and why, without any model.

    A row may also have `question`, `choices`, `gold`, `finished`,
    `thinking_opened`, and a `reader` that wins over the setting answers.reader.

    Args:
        file: JSONL with `id` and `completion`.
        settings: The settings of the run.
        output: How to say what came out.
    """
    config = resolve(settings)
    from neuron_opsd.runs.reading import read_answers

    with open_terminal(quiet=output.quiet) as terminal:
        rows = read_answers(file, config)
        if output.json:
            terminal.show_json({"rows": [document(row) for row in rows]})
        else:
            show_rows(terminal, rows)


def document(row: ReadAnswer) -> dict[str, Any]:
    """Return one row for a machine; `same` only where there is a gold answer."""
    table = asdict(row)
    if row.same is None:
        del table["same"]
    return table


def show_rows(terminal: Terminal, rows: Sequence[ReadAnswer]) -> None:
    """Show a line for every completion, and how many could be read."""
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
