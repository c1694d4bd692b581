"""What neuron counts say about being right, from the files of prepared runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from neuron_opsd.analysis import inputs
from neuron_opsd.analysis.atlas.making import FILES_ALONE, AtlasRequest, AtlasWriter
from neuron_opsd.analysis.cases import Findings, sharing_measures, show_cases
from neuron_opsd.analysis.columns import (
    judge,
    labelled_measures,
    pool_columns,
    unlabelled_measures,
)
from neuron_opsd.analysis.places import group_of, named_runs
from neuron_opsd.answers.verifier import shared_verifier, unsettled_text
from neuron_opsd.comparison.tables import TableRow, csv_text
from neuron_opsd.errors import ConfigError
from neuron_opsd.method import association
from neuron_opsd.method.retrieval.spread import (
    Spread,
    distance_between,
    mean_distance,
    measure_spread,
)
from neuron_opsd.method.statistics import FloatArray, means
from neuron_opsd.progress import Progress
from neuron_opsd.records.scores import Interval
from neuron_opsd.report.analysis_page import render_analysis
from neuron_opsd.report.analysis_tables import MEAN
from neuron_opsd.results.analysis import (
    ACCURACY,
    AGREEMENT,
    CAPTURED,
    NEAREST,
    PAIRS,
    AnalysisData,
    BinMean,
    RunAnalysis,
)
from neuron_opsd.runs.reporting import public_name
from neuron_opsd.seeds import generator
from neuron_opsd.storage.codecs import encode, save_json, without_nan
from neuron_opsd.storage.files import is_leftover_of, write_atomic
from neuron_opsd.storage.folders import check_outside
from neuron_opsd.storage.manifest import MANIFEST, installed_versions
from neuron_opsd.storage.output_paths import check_file_place, check_folder_place

JSON, CSV, PAGE = "analysis.json", "analysis.csv", "analysis.html"

TEACHER_CHECK: Final = (
    *("student_agreement", "teacher_agreement", "student_entropy", "teacher_entropy"),
)

NUM_RESAMPLES: Final = 2000
NUM_BINS: Final = 10


def analyse(
    runs: Sequence[Path],
    out: Path,
    progress: Progress,
    answers: Sequence[str] = (),
    command: str = "",
    atlas: AtlasRequest = FILES_ALONE,
) -> AnalysisData:
    """Analyse prepared runs and write the findings; equal runs give equal files.

    The runs' folders are not changed.

    Args:
        runs: Run directories, named after their folders.
        out: Folder for `analysis.json`, `analysis.csv` and `analysis.html`.
        progress: Called with every run.
        answers: Gold answers of the pools, as `assign_answers` reads them.
        command: Command line, for the page.
        atlas: What the pages about single neurons show.
    """
    folders = named_runs(runs)
    check_out(out, folders)
    check_places(out)
    sources = inputs.assign_answers(answers, tuple(folders))
    atlases = AtlasWriter(atlas, tuple(folders), command, out, progress)
    read, found, drawn = [], [], []
    with progress.stage("analysis", len(folders), "runs") as done:
        for name, folder in folders.items():
            run = inputs.read_run(name, folder, progress.warn)
            findings = look_at(run, sources[name], progress)
            analysis, measures = analyse_run(findings)
            read.append(run)
            found.append(analysis)
            drawn.append(measures)
            atlases.add(findings, folder)
            done(1)
    what = ", ".join(folders) if len(folders) <= 3 else f"{len(folders)} runs"
    data = AnalysisData(
        title=f"Neurons and answers of {what}",
        runs=tuple(found),
        overall=association.mean_of(drawn).intervals() if len(drawn) > 1 else {},
        between=distances_between(read, found),
        num_resamples=NUM_RESAMPLES,
        command=command,
        versions=installed_versions(),
        data_hashes={f"{run.name}, pool": run.pool_hash for run in read},
        atlases=atlases.pages,
    )
    write_analysis(data, out)
    return data


def check_out(out: Path, runs: Mapping[str, Path]) -> None:
    """Refuse to write into a run directory."""
    place = out.resolve()
    for run in runs.values():
        folder = group_of(run) or run
        inside = place.is_relative_to(folder.resolve())
        if inside and (folder / MANIFEST).is_file():
            raise ConfigError(
                f"--out is {out}, which is in the run directory {folder}; an "
                "analysis changes nothing there, so choose a folder elsewhere"
            )


def look_at(
    run: inputs.PreparedRun, source: str | None, progress: Progress
) -> Findings:
    """Gather a run's columns and, given its answers, what is right.

    Uses the equality verdicts of the run; warns of unsettled ones.
    """
    verifier = shared_verifier()
    verifier.learn(run.verdicts)
    with verifier.noting() as notes:
        labels = None if source is None else inputs.read_labels(run, source)
        columns = pool_columns(run, labels)
        verdicts = None if labels is None else judge(run, columns, labels)
    if text := unsettled_text(notes.values()):
        progress.warn(f"{run.name}: {text}")
    return Findings(run, columns, labels, verdicts)


def analyse_run(found: Findings) -> tuple[RunAnalysis, association.Measured]:
    """Measure one run; return its results and the resamples behind them."""
    run, columns = found.run, found.columns
    sets = [entry.neuron_ids for entry in run.neurons]
    spread = measure_spread(sets, generator(0, "analysis", "spread", run.pool_hash))
    drawn = association.joined(all_measures(found, spread))
    config = run.config
    sizes = [columns.votes[i].num_rollouts for i in columns.ids]
    analysis = RunAnalysis(
        name=run.name,
        model=public_name(run.model),
        num_questions=len(columns.ids),
        num_selected=int(columns.selected.sum()),
        num_samples=min(sizes),
        selection_rule=config.selection.rule,
        contexts_rule=config.contexts.rule,
        num_demonstrations=config.contexts.num_demonstrations,
        labelled=found.verdicts is not None,
        with_texts=found.labels is not None,
        captured_greedy=columns.captured_greedy,
        measures=drawn.intervals(),
        bins=all_bins(found),
        teacher_check=run.teacher_check,
        distances_of=spread.mean.size,
        cases=show_cases(found),
    )
    return analysis, drawn


def all_measures(found: Findings, spread: Spread) -> Iterator[association.Measured]:
    """Yield all measures of a run; equally many questions get equal draws."""
    columns, verdicts = found.columns, found.verdicts
    size = len(columns.ids)
    yield drawn_of(found, unlabelled_measures(columns), size)
    if verdicts is not None:
        yield drawn_of(found, labelled_measures(columns, verdicts), size)
    yield drawn_of(
        found,
        lambda weights: {
            PAIRS: mean_distance(spread, weights),
            NEAREST: means(spread.nearest, weights),
        },
        spread.mean.size,
    )
    if found.shown:
        yield drawn_of(found, sharing_measures(found), len(found.shown))


def drawn_of(
    found: Findings, measures: association.Measures, size: int
) -> association.Measured:
    """Measure on draws that all runs of one pool share."""
    rng = generator(0, "analysis", found.run.pool_hash)
    return association.measure_resamples(measures, size, NUM_RESAMPLES, rng)


def all_bins(found: Findings) -> dict[str, tuple[BinMean, ...]]:
    """Return each target's mean at low to high neuron counts."""
    columns = found.columns
    targets = {AGREEMENT: columns.agreement} if columns.voted else {}
    if found.verdicts is not None:
        targets[ACCURACY] = found.verdicts.accuracy
        targets[CAPTURED] = found.verdicts.captured.astype(np.float64)
    return {target: bin_means(found, values) for target, values in targets.items()}


def bin_means(found: Findings, values: FloatArray) -> tuple[BinMean, ...]:
    """Average values in bins of equally many questions by count."""
    count = found.columns.count
    bins = association.equal_mass_bins(count, NUM_BINS)

    def measures(weights: FloatArray) -> dict[str, FloatArray]:
        return {
            str(number): means(values[places], weights[:, places])
            for number, places in enumerate(bins)
        }

    found_means = drawn_of(found, measures, count.size).intervals().values()
    return tuple(
        BinMean(
            low=float(count[places].min()),
            high=float(count[places].max()),
            center=float(count[places].mean()),
            num_questions=places.size,
            mean=mean,
        )
        for places, mean in zip(bins, found_means, strict=True)
    )


def distances_between(
    runs: Sequence[inputs.PreparedRun], found: Sequence[RunAnalysis]
) -> tuple[tuple[float | None, ...], ...]:
    """Return the mean distance between questions of each pair of runs.

    The diagonal is within a run; `None` where neurons cannot be compared.
    """
    if len(runs) < 2:
        return ()
    table: list[list[float | None]] = [[None] * len(runs) for _ in runs]
    for i, one in enumerate(runs):
        table[i][i] = found[i].measures[PAIRS].value
        for j, other in enumerate(runs[:i]):
            if inputs.same_neurons(one, other):
                hashes = one.pool_hash, other.pool_hash
                table[i][j] = table[j][i] = distance_between(
                    [entry.neuron_ids for entry in one.neurons],
                    [entry.neuron_ids for entry in other.neurons],
                    generator(0, "analysis", "between", *hashes),
                )
    return tuple(map(tuple, table))


def check_places(out: Path) -> None:
    """Refuse a folder where the analysis cannot be written."""
    check_folder_place(out)
    check_outside(out)
    for name in (JSON, CSV, PAGE):
        check_file_place(out / name)
    held = sorted(one.name for one in out.iterdir()) if out.is_dir() else []
    others = [name for name in held if not is_leftover_of(JSON, name)]
    if others and JSON not in others:
        raise ConfigError(
            f"{out} holds {others[0]} and no {JSON}; choose a new or empty folder for "
            "--out, or that of an earlier analysis"
        )


def write_analysis(data: AnalysisData, out: Path) -> None:
    """Write an analysis as JSON, CSV and a page."""
    save_json(without_nan(data), out / JSON)
    write_atomic(out / CSV, encode(csv_text([*table_rows(data)])))
    write_atomic(out / PAGE, encode(render_analysis(data)))


def table_rows(data: AnalysisData) -> Iterator[TableRow]:
    """Yield every number as a row: run, quantity, value, low, high."""
    for run in data.runs:
        yield from (table_row(run.name, *one) for one in quantities(run))
    yield from (table_row(MEAN, *one) for one in data.overall.items())
    for one, row in zip(data.runs, data.between, strict=False):
        for other, value in zip(data.runs, row, strict=True):
            if value is not None and one is not other:
                yield table_row(f"{one.name} to {other.name}", PAIRS, alone(value))


def table_row(run: str, quantity: str, interval: Interval) -> TableRow:
    """Return a number with its interval; NaN becomes `None`."""
    return {"run": run, "quantity": quantity, **without_nan(interval)}


def quantities(run: RunAnalysis) -> Iterator[tuple[str, Interval]]:
    """Yield all measures of one run, with its bins and teacher check."""
    yield from run.measures.items()
    for target, bins in run.bins.items():
        for place, one in enumerate(bins, 1):
            yield f"bin.{target}.{place}", one.mean
            yield f"bin.{target}.{place}.count", alone(one.center)
    for name in TEACHER_CHECK if run.teacher_check is not None else ():
        yield f"teacher_check.{name}", alone(getattr(run.teacher_check, name))


def alone(value: float) -> Interval:
    """Wrap a number without an interval."""
    return Interval(value, math.nan, math.nan)
