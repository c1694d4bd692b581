"""The commands that do the main run: run, demo, evaluate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuron_opsd.cli.environment import COMMAND_LINE, prepare_libraries
from neuron_opsd.cli.options import (
    DEFAULT_OUTPUT,
    DEFAULT_SETTINGS,
    Flag,
    Output,
    Settings,
    Tests,
    keep_settings_file,
    need_tests,
    read_named,
    resolve_with_model,
)
from neuron_opsd.cli.terminal import Terminal, open_terminal
from neuron_opsd.errors import ConfigError
from neuron_opsd.storage.cache import cache_folder

if TYPE_CHECKING:
    from neuron_opsd.results.run import ReportData

EVALUATION = "evaluation.json"
SUMMARY = "summary.json"
REPORT = "report.html"
ADAPTER = "adapter"


def run(
    *,
    pool: str,
    out: Path,
    tests: Tests = (),
    settings: Settings = DEFAULT_SETTINGS,
    output: Output = DEFAULT_OUTPUT,
) -> None:
    """Teach a model from unlabelled questions and measure what it did.

    The same command resumes where it stopped, whatever stopped it.

    Args:
        pool: File with the unlabelled questions: JSONL, Parquet, CSV, or the id of a
            Hugging Face dataset.
        out: Folder of the run: adapter, evaluation.json, report.html and all between.
        tests: Test sets with answers, NAME=FILE each; the first is in-domain. Without
            one the model is trained and nothing is measured.
        settings: The settings of the run.
        output: How to say what came out.
    """
    config = resolve_with_model(settings)
    files = read_named(tests)
    prepare_libraries(allow_download=config.model.allow_download)
    from neuron_opsd.runs.run import Request
    from neuron_opsd.runs.run import run as run_pipeline

    request = Request(pool=pool, tests=files, out=out, command=COMMAND_LINE.get())
    with open_terminal(quiet=output.quiet) as terminal:
        data = run_pipeline(request, config, terminal)
        show_results(terminal, data, out, as_json=output.json)


def demo(
    *,
    quick: Flag = False,
    out: Path | None = None,
    seed: int = 0,
    output: Output = DEFAULT_OUTPUT,
) -> None:
    """Watch a small real model teach itself, from download to report.

    Args:
        quick: A smaller run that ends within three minutes.
        out: Folder of the run; a folder under runs/ when left out.
        seed: Number from which every random draw derives.
        output: How to say what came out.
    """
    if seed < 0:
        raise ConfigError(f"--seed is {seed}, but it must be 0 or more")
    prepare_libraries(allow_download=False)
    from neuron_opsd.demo.demonstration import demo as run_demo

    folder = out or demo_folder(quick=quick, seed=seed)
    with open_terminal(quiet=output.quiet) as terminal:
        data = run_demo(
            folder, cache_folder(), quick=quick, seed=seed, progress=terminal
        )
        show_results(terminal, data, folder, as_json=output.json)


def evaluate(
    *,
    out: Path,
    tests: Tests = (),
    adapter: Path | None = None,
    settings: Settings = DEFAULT_SETTINGS,
    output: Output = DEFAULT_OUTPUT,
) -> None:
    """Test a model, with or without an adapter.

    Args:
        out: JSON file for the metrics of every test set.
        tests: Test sets with answers, NAME=FILE each; at least one.
        adapter: Folder of an adapter to test with the model.
        settings: The settings of the run.
        output: How to say what came out.
    """
    keep_settings_file(out, settings)
    config = resolve_with_model(settings)
    files = need_tests(tests)
    prepare_libraries(allow_download=config.model.allow_download)
    from neuron_opsd.runs.evaluation import evaluate as evaluate_model

    with open_terminal(quiet=output.quiet) as terminal:
        results = evaluate_model(files, config, out, terminal, adapter)
        if output.json:
            terminal.show_json(results)
        else:
            show_metrics(terminal, results)
            terminal.show(f"metrics: {out}")


def demo_folder(*, quick: bool, seed: int) -> Path:
    """Return a folder for a demo that differs where its settings do."""
    name = "demo-quick" if quick else "demo"
    return Path("runs", f"{name}-seed-{seed}" if seed else name)


def show_results(
    terminal: Terminal, data: ReportData, run: Path, *, as_json: bool
) -> None:
    """Show the table, the outcome in a sentence and where the report lies."""
    from neuron_opsd.report.run_outcome import outcome_sentence, result_table

    outcome = outcome_sentence(data)
    if as_json:
        terminal.show_json(results_document(run, outcome))
        return
    headings, rows = result_table(data)
    if rows:
        terminal.show_table(headings, rows)
    terminal.show(outcome)
    terminal.show()
    terminal.show(f"adapter: {run / ADAPTER}")
    terminal.show(f"report:  {run / REPORT}")


def results_document(run: Path, outcome: str) -> dict[str, Any]:
    """Return what a run made, as one document for a machine."""
    return {
        "run": str(run.resolve()),
        "outcome": outcome,
        "adapter": str((run / ADAPTER).resolve()),
        "report": str((run / REPORT).resolve()),
        "summary": document_of(run / SUMMARY),
        "evaluation": document_of(run / EVALUATION),
    }


def document_of(path: Path) -> Any:
    """Return what a JSON file of a run holds, `None` where there is no such file."""
    from neuron_opsd.storage.codecs import json_codec

    return json_codec(path.name).load(path) if path.is_file() else None


def show_metrics(
    terminal: Terminal, results: Mapping[str, Mapping[str, float | None]]
) -> None:
    """Show one column per test set and one line per metric."""
    names = list(dict.fromkeys(name for row in results.values() for name in row))
    rows = [
        [name, *(metric_text(row.get(name)) for row in results.values())]
        for name in names
    ]
    terminal.show_table(["metric", *results], rows)


def metric_text(value: float | None) -> str:
    """Write a metric's value or a count, a dash where there is none."""
    if value is None or value != value:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.3f}"
