"""What `evaluate --completions` does: samples scored, and the result shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import neuron_opsd as no
from neuron_opsd.cli import options
from neuron_opsd.cli.terminal import Terminal
from neuron_opsd.cli.text import plain_values
from neuron_opsd.errors import ConfigError

if TYPE_CHECKING:
    from neuron_opsd.results.judging import JudgementData


SHOWN = ("ece", "brier", "auroc")
"""Measures of a confidence in the terminal."""


def refuse_model(settings: options.Settings, adapter: Path | None) -> None:
    """Refuse a model beside samples, since none is asked."""
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
    """Score files of samples and show what came out."""
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
    """Show a column for each file, the paired differences and where the page is."""
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
    """Show every measure of every file, and the differences from the first."""
    from neuron_opsd.report.wording import metric_text

    names = list(dict.fromkeys(name for one in data.files for name in one.measures))
    headings = ["measure", *(one.name for one in data.files)]
    headings += [f"{pair.second} less {pair.first}" for pair in data.pairs]
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
    """Show the errors of each confidence, as it is and scaled."""
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
