"""The commands about several methods: compare, methods."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

import neuron_opsd as no
from neuron_opsd.cli import options
from neuron_opsd.cli.environment import COMMAND_LINE
from neuron_opsd.cli.terminal import Terminal
from neuron_opsd.cli.text import duration

if TYPE_CHECKING:
    from neuron_opsd.comparison.forecast import Forecast
    from neuron_opsd.config.recipes import Recipe
    from neuron_opsd.library import Choices
    from neuron_opsd.results.comparison import ComparisonData


def compare(  # noqa: PLR0913 - one argument per flag
    *,
    sources: Annotated[tuple[str, ...], options.several("--source")],
    tests: options.Tests,
    out: Path,
    recipe: Annotated[Path | None, Parameter(show_default=False)] = None,
    methods: Annotated[tuple[str, ...], options.several("--methods")] = (),
    seeds: int | None = None,
    warm_start: Literal["no", "form", "both"] | None = None,
    at: Annotated[tuple[int, ...], options.several("--at")] = (),
    oracle: options.Flag = False,
    dry_run: options.Flag = False,
    ray: options.Ray = "",
    track: options.Track = None,
    settings: options.Settings = options.DEFAULT_SETTINGS,
    output: options.Output = options.DEFAULT_OUTPUT,
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
        recipe: TOML file with methods and what all of them share
            (docs/how-to/choose-a-method.md); flags and --config win over it.
        methods: Names of methods (`neuron-opsd methods` lists them) or of the recipe's,
            or NAME=METHOD:section.field=value,... for one with settings of its own;
            when left out the recipe's, or neuron-opsd, lmsi, ttrl and intuitor.
        seeds: How many times each method is trained on each source; 3 when left out.
        warm_start: Whether to begin from the form-only model; `no` when left out.
        at: Numbers of steps after which models are tested besides the end.
        oracle: Allow methods that learn from the pool's gold answers.
        dry_run: Say what would be done and how long it would take, and stop.
        ray: Fill each source and seed by a worker of a Ray cluster: `local`, `auto`,
            HOST:PORT or ray://HOST:PORT; sets cluster.address.
        track: Tracker of experiments to tell besides (docs/how-to/follow-a-run.md).
    """
    from neuron_opsd.config.recipes import Recipe, read_recipe

    written = Recipe() if recipe is None else read_recipe(recipe)
    above = options.on_cluster(ray)
    config = options.resolve_with_model(settings, above, written.settings)
    named = options.read_named(sources, "--source"), options.need_tests(tests)
    flags = {"seeds": seeds, "warm_start": warm_start, "at": at, "oracle": oracle}
    choices = choices_of(written, methods, flags)
    with options.opened(output, config) as terminal:
        if dry_run:
            from neuron_opsd.library import forecast

            found = forecast(*named, out, config, terminal, **choices)
            show_forecast(terminal, found, as_json=output.json)
            return
        with options.tracked(track, out, terminal) as progress:
            data = no.compare(*named, out, config, progress, **choices)
        show_comparison(terminal, data, out, as_json=output.json)


def choices_of(
    recipe: Recipe, methods: tuple[str, ...], flags: dict[str, Any]
) -> Choices:
    """Return how methods are compared: by a recipe, and the flags that were given."""
    given: Any = {
        name: value
        for name, value in flags.items()
        if value is not None and value is not False and value != ()
    }
    command = COMMAND_LINE.get()
    choices: Choices = {"recipe": recipe, "methods": methods, "command": command}
    choices.update(given)
    return choices


def show_comparison(
    terminal: Terminal, data: ComparisonData, out: Path, *, as_json: bool
) -> None:
    """Show how every method did in its own domain and in others, and where to look."""
    from neuron_opsd.comparison.reporting import RESULTS
    from neuron_opsd.report.comparison_index import ordered_starts, results_from
    from neuron_opsd.report.comparison_outcome import opening, summary_table
    from neuron_opsd.storage.codecs import load_json
    from neuron_opsd.storage.folders import COMPARISON_PAGE

    page = out / COMPARISON_PAGE
    if as_json:
        places = {"comparison": str(out.resolve()), "report": str(page.resolve())}
        terminal.show_json(places | load_json(out / RESULTS))
        return
    for start in ordered_starts(data):
        terminal.show(f"training began from: {start}")
        terminal.show_table(*summary_table(results_from(data, start)))
        terminal.show()
    terminal.show(opening(data))
    terminal.show()
    terminal.show(f"report: {page}")


def show_forecast(terminal: Terminal, found: Forecast, *, as_json: bool) -> None:
    """Show what is left of a comparison and how long it will take."""
    if as_json:
        terminal.show_json(asdict(found))
        return
    steps = found.step_seconds
    rows = [
        [name, str(count), duration(steps[name]) if name in steps else "not measured"]
        for name, count in found.left.items()
    ]
    terminal.show_table(["method", "models left", "a step"], rows)
    left = sum(found.left.values())
    terminal.show(f"models: {found.num_cells}, of which {left} are left")
    if found.seconds is None or found.test_seconds is None:
        terminal.show(f"time:   not measured ({found.why_untimed})")
        return
    terminal.show(f"a test of one model: {duration(found.test_seconds)}")
    terminal.show(f"time:   about {duration(found.seconds)}")


def methods(*, output: options.Output = options.DEFAULT_OUTPUT) -> None:
    """List every method that can be run and compared."""
    with options.opened(output) as terminal:
        from neuron_opsd.methods import METHODS, Oracle

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
