"""The commands that score: evaluate (a model or samples), and forgetting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import neuron_opsd as no
from neuron_opsd.cli import options
from neuron_opsd.cli.terminal import PROGRAM, Terminal
from neuron_opsd.cli.text import plain_values
from neuron_opsd.errors import ConfigError

if TYPE_CHECKING:
    from neuron_opsd.forgetting import Forgetting
    from neuron_opsd.results.judging import JudgementData


SHOWN = ("ece", "brier", "auroc")


def evaluate(  # noqa: PLR0913 - one argument per flag
    *,
    out: Path | None = None,
    tests: options.Tests = (),
    adapter: Path | None = None,
    completions: Annotated[
        tuple[str, ...], options.several("--completions", "--completion")
    ] = (),
    against: str | None = None,
    confidence: str = "",
    settings: options.Settings = options.DEFAULT_SETTINGS,
    output: options.Output = options.DEFAULT_OUTPUT,
) -> None:
    """Test a model, with or without an adapter; or score samples made elsewhere.

    With `--completions` no model is loaded: it scores files of vLLM, OpenAI-like
    servers, lm-eval (`--log_samples`) or inspect, or with your own columns, with
    intervals, calibration and paired differences.

    Args:
        out: JSON file for the metrics of every test set; for samples, also a page.
        tests: Test sets with answers, NAME=FILE each: at least one; for samples one, or
            none if they carry their own questions and answers.
        adapter: Folder of an adapter to test with the model.
        completions: Files of samples, NAME=FILE or FILE each; all are compared with
            the first.
        against: File of samples that all others are compared with.
        confidence: Column with the confidence that a sample states; `confidence` and
            the like are found anyway.
    """
    if completions or against is not None:
        refuse_model(settings, adapter)
        files = (*(() if against is None else (against,)), *completions)
        judge_files(files, tests, out, confidence, settings, output)
        return
    if out is None:
        raise ConfigError(
            f"--out is missing; see {PROGRAM} evaluate --help, and give a JSON file "
            "for the metrics"
        )
    if confidence:
        raise ConfigError(
            f"--confidence is {confidence!r}, but it is a column of --completions, "
            "which are missing; give them, or leave it out"
        )
    options.keep_settings_file(out, settings)
    config = options.resolve_with_model(settings)
    test_files = options.need_tests(tests)
    with options.opened(output, config) as terminal:
        results = no.evaluate(test_files, config, adapter, out, terminal)
        if terminal.json:
            terminal.show_json(results)
        else:
            show_metrics(terminal, results)
            terminal.show(f"metrics: {out}")


def show_metrics(
    terminal: Terminal, results: Mapping[str, Mapping[str, float | None]]
) -> None:
    """Show a column per test set and a line per metric."""
    from neuron_opsd.report.wording import metric_text

    names = list(dict.fromkeys(name for row in results.values() for name in row))
    rows = [
        [name, *(metric_text(row.get(name)) for row in results.values())]
        for name in names
    ]
    terminal.show_table(["metric", *results], rows)


def refuse_model(settings: options.Settings, adapter: Path | None) -> None:
    """Refuse a model with samples, since none is used."""
    flags = {"--model": settings.model, "--adapter": adapter}
    for flag, value in flags.items():
        if value is not None:
            raise ConfigError(
                f"{flag} is {value}, but with --completions no model is loaded; leave "
                "one of the two out"
            )


def judge_files(
    files: Sequence[str],
    tests: Sequence[str],
    out: Path | None,
    confidence: str,
    settings: options.Settings,
    output: options.Output,
) -> None:
    """Score files of samples and show the results."""
    if out is not None:
        options.keep_settings_file(out, settings)
    config = options.resolve(settings)
    named = options.read_named(files, "--completions")
    sets = options.read_named(tests)
    with options.opened(output, config) as terminal:
        data = no.judge(
            named,
            config,
            sets,
            out,
            terminal,
            confidence=confidence,
            command=options.COMMAND_LINE.get(),
        )
        show_judgement(terminal, data, out)


def show_judgement(terminal: Terminal, data: JudgementData, out: Path | None) -> None:
    """Show a column per file, paired differences and where the page is."""
    from neuron_opsd.judging.judge import page_of
    from neuron_opsd.report.judging_page import outcome

    places = {} if out is None else {"json": out, "report": page_of(out)}
    if terminal.json:
        absolute = {name: place.resolve() for name, place in places.items()}
        nowhere = {"json": None, "report": None}
        terminal.show_json(
            {"outcome": outcome(data), **plain_values(data), **nowhere, **absolute}
        )
        return
    show_measures(terminal, data)
    show_confidences(terminal, data)
    terminal.show(outcome(data), "")
    for name, place in places.items():
        terminal.show(f"{name + ':':<9}{place}")


def show_measures(terminal: Terminal, data: JudgementData) -> None:
    """Show each file's measures, and differences from the first."""
    from neuron_opsd.report.wording import metric_text

    names = list(dict.fromkeys(name for one in data.files for name in one.measures))
    headings = ["measure", *(one.name for one in data.files)]
    headings += [f"{pair.second} minus {pair.first}" for pair in data.pairs]
    rows = []
    for name in names:
        found = [one.measures.get(name) for one in data.files]
        found += [pair.change.get(name) for pair in data.pairs]
        rows.append(
            [
                name,
                *(
                    "-"
                    if one is None
                    else f"{metric_text(one.value)} "
                    f"[{metric_text(one.low)} to {metric_text(one.high)}]"
                    for one in found
                ),
            ]
        )
    terminal.show_table(headings, rows)
    terminal.show()


def show_confidences(terminal: Terminal, data: JudgementData) -> None:
    """Show each confidence's errors, raw and scaled."""
    from neuron_opsd.report.wording import metric_text

    rows = []
    for one in data.files:
        for found in one.confidences:
            kinds = [(found.source, found.measures)]
            kinds += [(f"{found.source}, {s.name}", s.measures) for s in found.scaled]
            rows += [
                [
                    one.name,
                    name,
                    *(metric_text(measures[m].value) for m in SHOWN),
                ]
                for name, measures in kinds
            ]
    if rows:
        terminal.show_table(["file", "confidence", *SHOWN], rows)
        terminal.show()


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
    """Test base and trained model on standard tasks of lm-eval for what was forgotten.

    lm-eval must be installed in the same environment. Its samples are paired question
    by question, with a page for each task.

    Args:
        run: Folder of a finished run.
        out: A new or empty folder for lm-eval's logs, and a page for each task.
        tasks: Names that lm-eval knows; default: arc_easy, hellaswag, piqa and
            winogrande.
        limit: Questions of each task, the first ones; 0 means all.
        tasks_folder: Folder with tasks of your own, as lm-eval's `--include_path`.
        base: Folder or hub id of the base, if it has moved since the run.
        batch_size: As lm-eval's own flag.
        download: Let lm-eval fetch the questions of its tasks; otherwise they must be
            in the cache.
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
    """Show a line per task."""
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
