"""The command `probe`: which teacher each rule gives a pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import Parameter

import neuron_opsd as no
from neuron_opsd.cli import options
from neuron_opsd.cli.planning import show_plan
from neuron_opsd.cli.terminal import Terminal
from neuron_opsd.cli.text import plain_values
from neuron_opsd.errors import ConfigError

if TYPE_CHECKING:
    from neuron_opsd.results.probe import ProbeData

SHOWN = ("agreement", "entropy", "shift", "fix", "break", "stability", "divergence")
"""Context measures in the terminal; the score and any accuracy follow."""


@Parameter(name="*")
@dataclass(frozen=True)
class Extent:
    """On how much a probe tries what."""

    questions: int = 128
    """Questions of the pool on which context rules are tried."""
    draws: int = 3
    """Draws of each random rule, whose results are averaged."""
    library: int = 0
    """Questions of the pool to answer and to show as demonstrations, drawn at random; 0
    means all."""
    completions: int = 4
    """Maximum number of the student's own answers that every teacher scores, for each
    question that is answered freely."""
    write: int = 0
    """Free answers that every teacher writes to each question, which is slow if they
    are long; 0 means none, and the student's own are scored."""
    context_rules: options.Texts = ()
    """Rules to try; default: all."""
    selection_rules: options.Texts = ()
    """Rules to try; default: all."""


DEFAULT_EXTENT = Extent()


def probe(  # noqa: PLR0913 - one argument per flag
    run: Path | None = None,
    /,
    *,
    pool: str,
    out: Path | None = None,
    answers: str | None = None,
    dry_run: options.Flag = False,
    ray: options.Text = "",
    extent: Extent = DEFAULT_EXTENT,
    settings: options.Settings = options.DEFAULT_SETTINGS,
    output: options.Output = options.DEFAULT_OUTPUT,
) -> None:
    """Find out before training which signals make the best teacher on a pool.

    Asks the teacher of every context rule a sample of the pool's questions, and the
    teacher of your settings the questions that every selection rule keeps. Only the
    pool's own answers are generated; if you name a run, its answers are used.

    Args:
        run: Folder of a run, or of a method in a comparison, whose answers, neurons and
            settings the probe uses.
        pool: File with the unlabelled questions, or the id of a dataset.
        out: Folder for probe.json, probe.csv and probe.html; the same command resumes.
        answers: The pool's file with its column answer, to see which teacher is right;
            without it no answer is read.
        dry_run: Say what it would cost at most, and write nothing.
        ray: Answer on a Ray cluster; sets cluster.address.
        extent: On how much a probe tries what.
    """
    above = options.on_cluster(ray)
    if run is None:
        config = options.resolve_with_model(settings, above)
    else:
        config = options.resolve(settings, above)
    choices: dict[str, Any] = {**asdict(extent), "run": run, "answers": answers}
    choices["command"] = options.COMMAND_LINE.get()
    with options.opened(output, config) as terminal:
        if dry_run:
            show_plan(terminal, no.plan_probe(pool, config, terminal, **choices))
            return
        if out is None:
            raise ConfigError(
                "--out is missing; name a new or empty folder, or give --dry-run to "
                "see what the probe costs"
            )
        data = no.probe(pool, out, config, terminal, **choices)
        show_probe(terminal, data, out)


def show_probe(terminal: Terminal, data: ProbeData, out: Path) -> None:
    """Show the teachers, the advice and where the page is."""
    from neuron_opsd.probing.summary import JSON
    from neuron_opsd.report.probe_page import outcome
    from neuron_opsd.storage.folders import PROBE_PAGE

    if terminal.json:
        files = {"report": out / PROBE_PAGE, "json": out / JSON}
        places = {name: file.resolve() for name, file in files.items()}
        terminal.show_json({"outcome": outcome(data), **plain_values(data), **places})
        return
    more = ("accuracy",) if data.labelled else ()
    names = (*SHOWN, "score", *more)
    rows = [numbers(one.rule, one.measures, names) for one in data.contexts]
    terminal.show_table(["demonstrations", *names], rows)
    terminal.show()
    some = [name for name in names if name != "stability"]
    rows = [numbers(one.rule, one.measures, some) for one in data.selections]
    terminal.show_table([f"selection, {data.base_rule}", *some], rows)
    terminal.show()
    advice = [f"  --set {setting}" for setting in data.recommendation.settings]
    terminal.show(outcome(data), *advice, "", f"report: {out / PROBE_PAGE}")


def numbers(rule: str, measures: Any, names: Sequence[str]) -> list[str]:
    """Format a table row: each number with its interval."""
    from neuron_opsd.report.wording import metric_text

    cells = [
        metric_text(measures[name].value) if name in measures else "-" for name in names
    ]
    return [rule, *cells]
