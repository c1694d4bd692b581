"""What the commands do, as functions: plain arguments in, records out.

Settings are a `Config` or a table such as ``{"model.name": "my-model"}``. Without
`progress` nothing is shown, and warnings are Python's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, TypedDict, Unpack

from neuron_opsd.analysis import analyse as analysis
from neuron_opsd.analysis.atlas.making import FILES_ALONE, AtlasRequest
from neuron_opsd.comparison import compare as comparing
from neuron_opsd.comparison import forecast as forecasting
from neuron_opsd.comparison.comparison import Comparison
from neuron_opsd.comparison.forecast import Forecast
from neuron_opsd.comparison.variants import variants_of
from neuron_opsd.config.recipes import Recipe
from neuron_opsd.config.tables import Settings, as_config, shortened
from neuron_opsd.errors import ConfigError
from neuron_opsd.planning import estimate as planning
from neuron_opsd.planning import foresight
from neuron_opsd.planning.foresight import Foresight
from neuron_opsd.planning.workload import Plan
from neuron_opsd.progress import QUIET, Progress
from neuron_opsd.results.analysis import AnalysisData
from neuron_opsd.results.comparison import BASE, FORM, ComparisonData
from neuron_opsd.results.run import ReportData
from neuron_opsd.runs import completions as captured
from neuron_opsd.runs import preview as previewing
from neuron_opsd.runs import run as running
from neuron_opsd.runs import testing

Place: TypeAlias = str | Path
"""A file or a folder; for questions also the id of a dataset."""
Files: TypeAlias = Mapping[str, Place]
"""Name to file."""

NUM_SEEDS: Final = 3

STARTS: Final = {"no": (BASE,), "form": (FORM,), "both": (BASE, FORM)}


class Choices(TypedDict, total=False):
    """Options of a comparison, where they differ from the defaults."""

    methods: Sequence[str]
    """Names, or `NAME=METHOD:section.field=value,...`; else the recipe's or four."""
    seeds: int
    """How often each method is trained on each source; else `NUM_SEEDS`."""
    warm_start: Literal["no", "form", "both"]
    """Whether training begins from the form-only model; else `no`."""
    at: Sequence[int]
    """Step counts at which models are tested, besides the end."""
    oracle: bool
    """Whether methods may learn from the pool's gold answers."""
    command: str
    """How the comparison was called, for its page."""
    recipe: Recipe
    """Methods and choices, overridden by all others; settings are given separately."""


def run(
    pool: Place,
    out: Place,
    settings: Settings,
    tests: Files | None = None,
    progress: Progress = QUIET,
    command: str = "",
) -> ReportData:
    """Improve a model from unlabelled questions, and measure what that did.

    The same call resumes a run that was stopped.

    Args:
        pool: Unlabelled questions; answers in the file are never read.
        out: The run directory, which gets `adapter/`, `evaluation.json`, `report.html`
            and everything they are made from.
        settings: Of the run; they name the model.
        tests: Test sets; the first is in the pool's own domain.
        progress: Called with every stage.
        command: How the run was called, for its report.

    Raises:
        NeuronOpsdError: For anything the user can fix.
    """
    request = running.Request(str(pool), named_files(tests), Path(out), command)
    return running.run(request, as_config(settings), progress)


def compare(
    sources: Files,
    tests: Files,
    out: Place,
    settings: Settings,
    progress: Progress = QUIET,
    **choices: Unpack[Choices],
) -> ComparisonData:
    """Train methods on sources with seeds, and test every model on every set.

    The same call resumes a comparison that was stopped.

    Args:
        sources: Unlabelled questions to train on.
        tests: Test sets; each source needs one of the same name, all others are
            cross-domain.
        out: Folder of the comparison, which gets every model and `comparison.html`.
        settings: Shared by all methods; they name the model.
        progress: Called with every stage.
        choices: Which methods, how often, and from where.

    Raises:
        NeuronOpsdError: For anything the user can fix.
    """
    comparison = comparison_of(sources, tests, out, choices)
    return comparing.compare(comparison, as_config(settings), progress)


def forecast(
    sources: Files,
    tests: Files,
    out: Place,
    settings: Settings,
    progress: Progress = QUIET,
    **choices: Unpack[Choices],
) -> Forecast:
    """Count what is left of a comparison and how long it takes, from small samples.

    Takes the arguments of `compare`, and writes nothing.

    Raises:
        NeuronOpsdError: For anything the user can fix.
    """
    comparison = comparison_of(sources, tests, out, choices)
    return forecasting.forecast(comparison, as_config(settings), progress)


def comparison_of(
    sources: Files, tests: Files, out: Place, choices: Choices
) -> Comparison:
    """Return the comparison to make."""
    recipe = choices.get("recipe", Recipe())
    choices = {**recipe.choices, **choices}  # type: ignore[typeddict-item]
    check_choices(choices)
    return Comparison(
        sources=named_files(sources),
        tests=named_files(tests),
        variants=variants_of(recipe, listed(choices.get("methods", ()))),
        num_seeds=choices.get("seeds", NUM_SEEDS),
        starts=STARTS[choices.get("warm_start", "no")],
        out=Path(out),
        shown_steps=tuple(listed(choices.get("at", ()))),
        oracle=choices.get("oracle", False),
        command=choices.get("command", ""),
    )


def check_choices(choices: Choices) -> None:
    """Refuse unknown choices and impossible values.

    Raises:
        ConfigError: For the first of them.
    """
    known = Choices.__annotations__
    for name in choices:
        if name not in known:
            raise ConfigError(
                f"compare has no choice {name}; it has {', '.join(known)}"
            )
    start = choices.get("warm_start", "no")
    if start not in STARTS:
        raise ConfigError(
            f"warm_start is {start!r}, but it must be one of {', '.join(STARTS)}"
        )
    for number in (choices.get("seeds", NUM_SEEDS), *listed(choices.get("at", ()))):
        if not isinstance(number, int):
            raise ConfigError(
                f"seeds and at are whole numbers, but {number!r} is not one"
            )


def evaluate(
    tests: Files,
    settings: Settings,
    adapter: Place | None = None,
    out: Place | None = None,
    progress: Progress = QUIET,
) -> dict[str, Any]:
    """Test a model on some sets, exactly as a run tests it.

    Args:
        tests: Every question needs its answer.
        settings: Model, prompts and sampling.
        adapter: What training made, to be tested too.
        out: JSON file for the measures, if they are to be kept.
        progress: Called with every question.

    Returns:
        Measures by name of the test set.

    Raises:
        NeuronOpsdError: For anything the user can fix.
    """
    places = [None if place is None else Path(place) for place in (out, adapter)]
    config = as_config(settings)
    return testing.evaluate(named_files(tests), config, places[0], progress, places[1])


def analyse(
    runs: Sequence[Place],
    out: Place,
    answers: Sequence[str] = (),
    progress: Progress = QUIET,
    command: str = "",
    atlas: AtlasRequest = FILES_ALONE,
) -> AnalysisData:
    """Relate the neuron counts of runs to correctness.

    Args:
        runs: Run directories, named by their folders.
        out: Folder for `analysis.html` and its files, and `atlas/` with a page per run.
        answers: Files of the pools with the answer column: `NAME=FILE` for the run of
            that name, or `FILE` for all.
        progress: Called with every run.
        command: How the analysis was called, for its page.
        atlas: What the pages of single neurons show.

    Raises:
        NeuronOpsdError: For anything the user can fix.
    """
    folders, files = list(map(Path, listed(runs))), list(map(str, listed(answers)))
    return analysis.analyse(folders, Path(out), progress, files, command, atlas)


def plan(
    pool: Place,
    settings: Settings,
    tests: Files | None = None,
    progress: Progress = QUIET,
) -> Plan:
    """Estimate tokens, time, memory and disk of every stage of a run.

    Small samples of the run's own stages are timed on this machine; the rest is
    counted.

    Args:
        pool: Unlabelled questions.
        settings: Of the run.
        tests: Its test sets.
        progress: Called with the samples.

    Raises:
        NeuronOpsdError: For anything the user can fix.
    """
    return planning.estimate(
        str(pool), named_files(tests), as_config(settings), progress
    )


def foresee(
    settings: Settings,
    gpu_memory: Sequence[float],
    pool: Place | None = None,
    tests: Files | None = None,
    progress: Progress = QUIET,
) -> Foresight:
    """Say what fits on one GPU, from a model's `config.json` alone.

    Args:
        settings: Of the run.
        gpu_memory: GPU sizes in GB, each answered.
        pool: Unlabelled questions to count; else lengths are assumed.
        tests: Its test sets.
        progress: Receives warnings.

    Raises:
        NeuronOpsdError: For anything the user can fix.
    """
    place, files = None if pool is None else str(pool), named_files(tests)
    return foresight.foresee(as_config(settings), gpu_memory, place, files, progress)


def preview(
    pool: Place,
    settings: Settings,
    question: str | None = None,
    progress: Progress = QUIET,
) -> previewing.Preview:
    """Show one question as the student and as the teacher see it.

    To be quick, it searches for demonstrations among the first questions of the pool
    only.

    Args:
        pool: Unlabelled questions.
        settings: Model, prompts and contexts.
        question: Id of the question; by default the first of the pool.
        progress: Called with the questions asked.

    Raises:
        NeuronOpsdError: For anything the user can fix.
    """
    return previewing.preview(str(pool), question, as_config(settings), progress)


def extract_neurons(
    completions: Place, out: Place, settings: Settings, progress: Progress = QUIET
) -> int:
    """Write the neuron sets of existing completions to a Parquet file.

    Args:
        completions: JSON lines with `id`, `prompt` and `completion`; the prompt is
            already rendered, including control tokens.
        out: Gets `id`, `neuron_count`, `neuron_ids`, `scores` and `num_tokens`; neuron
            i of layer l has the id l * width + i.
        settings: Model and rule.
        progress: Called with every completion.

    Returns:
        The number of completions.

    Raises:
        NeuronOpsdError: For anything the user can fix.
    """
    config = as_config(settings)
    return captured.extract_neurons(Path(completions), Path(out), config, progress)


def named_files(files: Files | None) -> dict[str, str]:
    """Return name to file as text.

    Raises:
        ConfigError: If the files have no names.
    """
    if not isinstance(files or {}, Mapping):
        raise ConfigError(
            f"{shortened(files)} is not a table of files by name; write for example "
            '{"exam": "exam.jsonl"}'
        )
    return {name: str(file) for name, file in (files or {}).items()}


def listed(values: Any) -> list[Any]:
    """Return values as a list; a single one becomes a list of one."""
    return [values] if isinstance(values, str | Path | int) else list(values)
