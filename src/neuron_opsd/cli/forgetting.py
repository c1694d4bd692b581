"""The command that has lm-eval ask what a model forgot: forgetting."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from neuron_opsd.cli import options
from neuron_opsd.cli.terminal import Terminal
from neuron_opsd.errors import ConfigError

if TYPE_CHECKING:
    from neuron_opsd.forgetting import Forgetting


def forgetting(  # noqa: PLR0913 - one argument per flag
    run: Path,
    /,
    *,
    out: Path,
    tasks: Annotated[tuple[str, ...], options.several("--tasks", "--task")] = (),
    limit: int = 0,
    tasks_folder: Path | None = None,
    base: options.Text = "",
    batch_size: str = "auto",
    download: options.Flag = False,
    output: options.Output = options.DEFAULT_OUTPUT,
) -> None:
    """Ask base and trained model standard tasks of lm-eval, and say what was forgotten.

    lm-eval must be installed in the same environment. Its samples are paired question
    by question, with a page for each task.

    Args:
        run: Folder of a finished run.
        out: A new or empty folder for lm-eval's logs, and a page for each task.
        tasks: Names that lm-eval knows; arc_easy, hellaswag, piqa and winogrande when
            left out.
        limit: Questions of each task, the first ones; 0 means all.
        tasks_folder: Folder with tasks of your own, as lm-eval's `--include_path`.
        base: Folder or hub id of the base, if it is not where the run had it.
        batch_size: As lm-eval's own flag.
        download: Let lm-eval fetch the questions of its tasks; else they must be in
            the cache.
    """
    if limit < 0:
        raise ConfigError(f"--limit is {limit}, but it must be 0 or more")
    with options.opened(output) as terminal:
        from neuron_opsd import forgetting as room

        request = room.ForgettingRequest(
            run,
            out,
            tasks or room.STANDARD,
            limit,
            tasks_folder,
            base,
            batch_size,
            download,
            options.COMMAND_LINE.get(),
        )
        terminal.show_result(room.forgetting(request, terminal), show_forgetting)


def show_forgetting(terminal: Terminal, found: Forgetting) -> None:
    """Show a line for each task."""
    from neuron_opsd.report.measures import in_words
    from neuron_opsd.report.wording import metric_text, percent

    rows = [
        [
            name,
            str(one.num_questions),
            percent(one.base),
            percent(one.trained),
            in_words(one.change, "avg_at_k"),
            metric_text(one.mcnemar),
            one.shows,
        ]
        for name, one in found.tasks.items()
    ]
    headings = ["task", "questions", "base", "trained", "points", "McNemar p", "shows"]
    terminal.show_table(headings, rows)
    reports = [f"report: {one.report}" for one in found.tasks.values()]
    terminal.show(found.outcome, "", *reports)
