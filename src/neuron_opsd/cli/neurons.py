"""The commands about neurons: analyse, neurons."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cyclopts import Parameter

import neuron_opsd as no
from neuron_opsd.cli import options
from neuron_opsd.cli.terminal import Terminal

if TYPE_CHECKING:
    from neuron_opsd.analysis.atlas.making import AtlasRequest
    from neuron_opsd.results.analysis import AnalysisData


@Parameter(name="*")
@dataclass(frozen=True)
class NeuronFlags:
    """Which neurons count; short for the settings of the section `neurons`."""

    rule: Literal["flat", "per-token", "neufs"] | None = None
    """How the counted set is found; the setting neurons.rule."""
    value: Literal["gate", "gated"] | None = None
    """Which activation counts; the setting neurons.value."""
    per_layer: int | None = None
    """Entries kept per layer; the setting neurons.per_layer."""
    keep: int | None = None
    """Neurons kept for overlap; the setting neurons.keep."""
    chunk_tokens: int | None = None
    """Tokens of a chunk; the setting neurons.chunk_tokens."""


NO_FLAGS = NeuronFlags()


@Parameter(name="*")
@dataclass(frozen=True)
class Atlas:
    """What the pages of single neurons show besides what the runs' files tell."""

    pool: options.Texts = ()
    """The pool's file, named as for --answers, for the texts of questions; its answers
    are not read. --read-model needs it."""
    against: Path | None = None
    """A run with the same model and neuron settings to compare each with."""
    neurons: options.Texts = ()
    """Neurons to show in any case, each as LAYER:NEURON, both from 0."""
    read_model: options.Flag = False
    """Load the run's model for what its files do not hold: the tokens that the shown
    neurons pushed and favour, and how sets moved through training. Resumes."""
    model: str = ""
    """Where the runs' model is, if it has moved."""
    num_read: int = 256
    """Maximum number of questions whose sets are read again with base and trained
    model."""

    def request(self) -> AtlasRequest:
        """Return the request that the library takes."""
        found = asdict(self)
        return no.AtlasRequest(pools=found.pop("pool"), **found)


DEFAULT_ATLAS = Atlas()


def neurons(
    *,
    completions: Path,
    out: Path,
    flags: NeuronFlags = NO_FLAGS,
    settings: options.Settings = options.DEFAULT_SETTINGS,
    output: options.Output = options.DEFAULT_OUTPUT,
) -> None:
    """Find the neurons that pushed existing texts.

    Args:
        completions: JSONL with `id`, `prompt` (as the model saw it) and `completion`.
        out: Parquet file with `id`, `neuron_count`, `neuron_ids`, `scores` and
            `num_tokens`; neuron i of layer l has the id l * width + i.
        flags: Which neurons count.
    """
    options.keep_settings_file(out, settings)
    above = {"neurons": options.given(vars(flags))}
    config = options.resolve_with_model(settings, above)
    with options.opened(output, config) as terminal:
        count = no.extract_neurons(completions, out, config, terminal)
        if terminal.json:
            terminal.show_json({"out": out.resolve(), "num_completions": count})
        else:
            terminal.show(f"neurons of {count:,} completions: {out}")


def analyse(
    runs: tuple[Path, ...],
    /,
    *,
    out: Path,
    answers: options.Texts = (),
    atlas: Atlas = DEFAULT_ATLAS,
    output: options.Output = options.DEFAULT_OUTPUT,
) -> None:
    """Show what the neuron counts of a run's questions tell, next to rival signals.

    Reads the results of `neuron-opsd run`, or of a method of `neuron-opsd compare`, on
    its pool and changes nothing there. Runs go by the names of their folders. A page
    for each run, in atlas/, shows which layers and neurons its questions share.

    Args:
        runs: Folders of one or more runs, or of methods in a comparison, as in
            runs/compared/blocks/law/seed-0/base/methods/neuron-opsd.
        out: Folder for analysis.json, analysis.csv, analysis.html and atlas/.
        answers: The pool's file with its column answer, NAME=FILE for the run of that
            name or FILE for all; without it nothing is said about right and wrong.
        atlas: What the pages of single neurons show.
    """
    with options.opened(output) as terminal:
        command = options.COMMAND_LINE.get()
        data = no.analyse(runs, out, answers, terminal, command, atlas.request())
        show_analysis(terminal, data, out)


def show_analysis(terminal: Terminal, data: AnalysisData, out: Path) -> None:
    """Show correlations, the outcome and where the page is."""
    from urllib.parse import unquote

    from neuron_opsd.analysis.analyse import CSV, JSON, PAGE
    from neuron_opsd.analysis.atlas.making import FOLDER as ATLAS
    from neuron_opsd.report.analysis_page import outcome
    from neuron_opsd.report.analysis_tables import GIVEN, UNLABELLED, correlation_rows

    atlases = {n: out / ATLAS / unquote(page) for n, page in data.atlases.items()}
    if terminal.json:
        terminal.show_json(
            {
                "outcome": outcome(data),
                "runs": {run.name: run.measures for run in data.runs},
                "overall": data.overall,
                "report": (out / PAGE).resolve(),
                "json": (out / JSON).resolve(),
                "csv": (out / CSV).resolve(),
                "atlases": {name: page.resolve() for name, page in atlases.items()},
            }
        )
        return
    rows = correlation_rows(data, GIVEN)
    headings = ["run", "rank correlation with accuracy", "partial", "partial, ranks"]
    if not rows:
        rows = correlation_rows(data, UNLABELLED)
        headings = ["run", "rank correlation with vote share", "length", "entropy"]
    cells = [
        [row.name, *(f"{cell.value} [{cell.note}]" for cell in row.cells[:3])]
        for row in rows
    ]
    terminal.show_table(headings, cells)
    pages = [f"neurons: {page}" for page in atlases.values()]
    terminal.show(outcome(data), "", f"report: {out / PAGE}", *pages)
