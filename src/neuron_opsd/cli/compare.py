"""The commands about several methods: compare, methods."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from cyclopts import Parameter

from neuron_opsd.cli.environment import COMMAND_LINE, prepare_libraries
from neuron_opsd.cli.options import (
    DEFAULT_OUTPUT,
    DEFAULT_SETTINGS,
    Flag,
    Output,
    Settings,
    Tests,
    need_tests,
    read_named,
    resolve_with_model,
)
from neuron_opsd.cli.run import metric_text
from neuron_opsd.cli.terminal import Terminal, open_terminal
from neuron_opsd.cli.text import duration

if TYPE_CHECKING:
    from neuron_opsd.compare.forecast import Forecast
    from neuron_opsd.report.comparison_index import Results
    from neuron_opsd.results.comparison import ComparisonData, MethodLine

STARTS = {
    "no": ("base",),
    "form": ("form-only",),
    "both": ("base", "form-only"),
}
"""Where training begins, by `--warm-start`."""

HEADINGS = (
    "method",
    "in-domain",
    "to base, points",
    "net of form",
    "other domains",
    "ECE",
)
LABEL_HEADINGS = ("baseline", "balanced", "macro F1", "top answer")
"""Columns that stand there where gold answers repeat."""

DEFAULT_METHODS = ("neuron-opsd", "lmsi", "ttrl", "intuitor")

Sources: TypeAlias = Annotated[
    tuple[str, ...],
    Parameter(name="--source", consume_multiple=True, negative=(), show_default=False),
]
Methods: TypeAlias = Annotated[
    tuple[str, ...], Parameter(consume_multiple=True, negative=())
]
Steps: TypeAlias = Annotated[
    tuple[int, ...],
    Parameter(name="--at", consume_multiple=True, negative=(), show_default=False),
]


def compare(  # noqa: PLR0913 - one argument per flag
    *,
    sources: Sources,
    tests: Tests,
    out: Path,
    methods: Methods = DEFAULT_METHODS,
    seeds: int = 3,
    warm_start: Literal["no", "form", "both"] = "no",
    at: Steps = (),
    oracle: Flag = False,
    dry_run: Flag = False,
    settings: Settings = DEFAULT_SETTINGS,
    output: Output = DEFAULT_OUTPUT,
) -> None:
    """Train several methods on several sources, and test every model on every set.

    All methods draw the same number of rollouts, unless a preset is chosen. Every
    gain is stated against the base model and net of form-only training. The same
    command resumes where it stopped; several at once share the sources and seeds.

    Args:
        sources: Unlabelled questions to train on, NAME=FILE each.
        tests: Test sets with answers, NAME=FILE each; every source needs one of its
            own name, all others are of other domains.
        out: Folder of the comparison: every model, the tables and comparison.html.
        methods: Names of methods (`neuron-opsd methods` lists them), or
            NAME=METHOD:section.field=value,... for one with settings of its own.
        seeds: How many times each method is trained on each source.
        warm_start: Whether training begins from the form-only model; `both` does it
            from the base and from there.
        at: Numbers of steps after which models are tested besides the end.
        oracle: Allow methods that learn from the pool's gold answers.
        dry_run: Say what would be done and how long it would take, and stop.
        settings: The settings that all methods share.
        output: How to say what came out.
    """
    config = resolve_with_model(settings)
    prepare_libraries(allow_download=config.model.allow_download)
    from neuron_opsd.pipeline import Comparison, forecast, parse_variant
    from neuron_opsd.pipeline import compare as compare_methods

    comparison = Comparison(
        sources=read_named(sources, "--source"),
        tests=need_tests(tests),
        variants=tuple(parse_variant(text) for text in methods),
        num_seeds=seeds,
        starts=STARTS[warm_start],
        out=out,
        shown_steps=at,
        oracle=oracle,
        command=COMMAND_LINE.get(),
    )
    with open_terminal(quiet=output.quiet) as terminal:
        if dry_run:
            show_forecast(
                terminal, forecast(comparison, config, terminal), as_json=output.json
            )
            return
        data = compare_methods(comparison, config, terminal)
        show_comparison(terminal, data, out, as_json=output.json)


def show_comparison(
    terminal: Terminal, data: ComparisonData, out: Path, *, as_json: bool
) -> None:
    """Show how every method did in its own domain and in others, and where to look."""
    from neuron_opsd.compare.reporting import PAGE
    from neuron_opsd.report.comparison_index import ordered_starts, results_from
    from neuron_opsd.report.comparison_outcome import opening

    page = out / PAGE
    if as_json:
        terminal.show_json(
            {"comparison": str(out.resolve()), "report": str(page.resolve())}
            | document(out)
        )
        return
    for start in ordered_starts(data):
        terminal.show(f"training began from: {start}")
        terminal.show_table(*summary_table(results_from(data, start)))
        terminal.show()
    terminal.show(opening(data))
    terminal.show()
    terminal.show(f"report: {page}")


def summary_table(results: Results) -> tuple[tuple[str, ...], list[list[str]]]:
    """Return headings and one line per method: own domain, others, calibration."""
    from neuron_opsd.report.comparison_index import UNTRAINED

    lines = (UNTRAINED, *results.untrained, *results.trained)
    rows = [summary_row(results, line) for line in lines]
    labels = [label_row(results, line) for line in lines]
    if all(cell == "-" for cell in labels[0]):
        return HEADINGS, rows
    return (
        HEADINGS + LABEL_HEADINGS,
        [row + more for row, more in zip(rows, labels, strict=True)],
    )


def label_row(results: Results, line: MethodLine) -> list[str]:
    """Return what belongs beside a method's accuracy where gold answers repeat."""
    names = ("baseline", "balanced_accuracy", "macro_f1", "top_answer_share")
    found = [
        results.measurement(results.widest, line.name, "in-domain", name)
        for name in names
    ]
    if found[0] is None or metric_text(found[0].value) == "-":
        return ["-"] * len(names)
    return ["-" if one is None else metric_text(one.value) for one in found]


def summary_row(results: Results, line: MethodLine) -> list[str]:
    """Return a method's line, as means over sources and seeds."""
    from neuron_opsd.report.comparison_index import method_label

    def value(target: str, metric: str) -> str:
        found = results.measurement(results.widest, line.name, target, metric)
        return "-" if found is None else metric_text(found.value)

    def change(target: str, reference: str) -> str:
        place = (results.widest, line.name, target, "avg_at_k")
        found = results.contrast(place, reference)
        if found is None:
            return "-"
        low, high = found.difference.low, found.difference.high
        return (
            f"{100 * found.difference.value:+.1f} [{100 * low:+.1f} {100 * high:+.1f}]"
        )

    return [
        method_label(line),
        value("in-domain", "avg_at_k"),
        change("in-domain", "base"),
        change("in-domain", "form-only"),
        change("cross-domain", "base"),
        value("in-domain", "ece"),
    ]


def document(out: Path) -> dict[str, Any]:
    """Return the tables of a comparison."""
    from neuron_opsd.compare.reporting import RESULTS
    from neuron_opsd.storage.codecs import json_codec

    found: dict[str, Any] = json_codec(RESULTS).load(out / RESULTS)
    return found


def methods(*, output: Output = DEFAULT_OUTPUT) -> None:
    """List every method that can be run and compared.

    Args:
        output: How to say what came out.
    """
    prepare_libraries(allow_download=False)
    from neuron_opsd.methods import METHODS, Oracle

    with open_terminal(quiet=output.quiet) as terminal:
        if output.json:
            terminal.show_json(
                {
                    method.name: {
                        "summary": method.summary,
                        "acts_on": method.acts_on,
                        "source": method.source,
                        "oracle": issubclass(method, Oracle),
                        "preset": {
                            "full_rate": method.preset.full_rate,
                            "lora_rate": method.preset.lora_rate,
                            **method.preset.settings,
                        },
                    }
                    for method in METHODS.values()
                }
            )
            return
        width = max(map(len, METHODS))
        for method in METHODS.values():
            terminal.show(f"{method.name:<{width}}  {method.summary}")
            terminal.show(f"{'':<{width}}  {method.source}")


def show_forecast(terminal: Terminal, found: Forecast, *, as_json: bool) -> None:
    """Show what is left of a comparison and how long it will take."""
    if as_json:
        terminal.show_json(asdict(found))
        return
    rows = [
        [name, str(count), duration(found.step_seconds[name])]
        for name, count in found.left.items()
    ]
    terminal.show_table(["method", "models left", "a step"], rows)
    left = sum(found.left.values())
    terminal.show(f"models: {found.num_cells}, of which {left} are left")
    terminal.show(f"a test of one model: {duration(found.test_seconds)}")
    terminal.show(f"time:   about {duration(found.seconds)}")
