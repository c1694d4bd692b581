"""From stored results to `evaluation.json`, the report and the model card."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neuron_opsd.config import Config
from neuron_opsd.errors import DataError
from neuron_opsd.jobs.metrics import METRICS
from neuron_opsd.jobs.prepare import Prepared
from neuron_opsd.jobs.setting import ADAPTER_SETTINGS, Job, TestSet
from neuron_opsd.method.calibration import reliability_bins
from neuron_opsd.method.collapse import collapse_signs
from neuron_opsd.models.protocol import ModelFacts
from neuron_opsd.records import Fitness, Interval, StepMetrics, TestResult
from neuron_opsd.report.card import render_card
from neuron_opsd.report.data import (
    FORM_ONLY,
    OURS,
    Case,
    ModelSummary,
    ReportData,
    StageCost,
    TestComparison,
)
from neuron_opsd.report.outcome import outcome_sentence
from neuron_opsd.report.page import render_page
from neuron_opsd.stages.capture import sizes_of
from neuron_opsd.stages.methods import METHODS
from neuron_opsd.stages.scoring import above_baseline, compare, mean_of_tests
from neuron_opsd.world.codecs import json_codec, record_codec, text_codec
from neuron_opsd.world.homes import need_home
from neuron_opsd.world.lock import locked
from neuron_opsd.world.manifest import Manifest, read_manifest, write_manifest
from neuron_opsd.world.proofs import CARD, UNPROVEN, Ledger, fault_of, faults
from neuron_opsd.world.store import ignore

EVALUATION = json_codec("evaluation.json")
SUMMARY = json_codec("summary.json")
REPORT = record_codec("report.json", ReportData)
PAGE = text_codec("report.html")

Results = Mapping[str, TestResult]
"""By name of the test set."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What the models of a run answered to its tests."""

    before: Results
    after: Results
    controls: Mapping[str, Results]
    """By name of the control; a control need not have answered every set."""


def compare_tests(
    tests: Sequence[TestSet], findings: Findings, config: Config
) -> tuple[TestComparison, ...]:
    """Compare the models on every test set, in the order in which these were given."""
    return tuple(compare_test(test, findings, config) for test in tests)


def compare_test(test: TestSet, findings: Findings, config: Config) -> TestComparison:
    """Compare the models on one test set."""
    settings, seed, name = config.evaluation, config.seed, test.name
    before, after = findings.before[name], findings.after[name]
    controls = {
        label: results[name]
        for label, results in findings.controls.items()
        if name in results
    }
    form = controls.get(FORM_ONLY)
    return TestComparison(
        name=name,
        in_domain=test.in_domain,
        before=before,
        after=after,
        delta=compare(before, after, settings, seed),
        controls=controls,
        net_of_form=None if form is None else compare(form, after, settings, seed),
        above_baseline=above_baselines(before, after, config),
        bins_before=tuple(reliability_bins(before.scores, settings.num_bins)),
        bins_after=tuple(reliability_bins(after.scores, settings.num_bins)),
    )


def above_baselines(
    before: TestResult, after: TestResult, config: Config
) -> dict[str, Interval]:
    """Return by how much two models exceed the most frequent gold answer."""
    found = {
        "before": above_baseline(before, config.evaluation, config.seed),
        "after": above_baseline(after, config.evaluation, config.seed),
    }
    return {name: one for name, one in found.items() if one is not None}


def cross_domain(
    tests: Sequence[TestSet], findings: Findings, config: Config
) -> Mapping[str, Interval]:
    """Return the mean differences over the test sets of other domains."""
    names = [test.name for test in tests if not test.in_domain]
    if not names:
        return {}
    return mean_of_tests(
        [findings.before[name] for name in names],
        [findings.after[name] for name in names],
        config.evaluation,
        config.seed,
    )


def summary_table(data: ReportData) -> dict[str, Any]:
    """Return `summary.json`: the outcome and what concerns several test sets."""
    return {
        "outcome": outcome_sentence(data),
        "in_domain": data.config.evaluation.in_domain,
        "cross_domain_mean_delta": interval_table(data.cross_domain),
    }


def comparison_entry(comparison: TestComparison) -> dict[str, Any]:
    """Return one test set's entry of `evaluation.json`."""
    entry: dict[str, Any] = {
        "domain": "in" if comparison.in_domain else "cross",
        "num_questions": len(comparison.before.scores),
        "before": metric_table(comparison.before),
        "after": metric_table(comparison.after),
        "delta": interval_table(comparison.delta),
        "controls": {
            label: metric_table(result) for label, result in comparison.controls.items()
        },
    }
    if comparison.above_baseline:
        entry["above_baseline"] = interval_table(comparison.above_baseline)
    if comparison.net_of_form is not None:
        entry["net_of_form"] = interval_table(comparison.net_of_form)
    return entry


def metric_table(result: TestResult) -> dict[str, float | None]:
    """Return measures by name, `None` where one does not exist."""
    return {name: or_none(value) for name, value in result.metrics.items()}


def interval_table(
    intervals: Mapping[str, Interval],
) -> dict[str, dict[str, float | None]]:
    """Return intervals by name as plain tables."""
    return {
        name: {key: or_none(value) for key, value in asdict(interval).items()}
        for name, interval in intervals.items()
    }


def or_none(value: float) -> float | None:
    """Return a number, `None` for one that JSON has no word for."""
    return value if math.isfinite(value) else None


def build_report(  # noqa: PLR0913 - it gathers what all stages made
    job: Job,
    facts: ModelFacts,
    prepared: Prepared,
    tests: Sequence[TestSet],
    findings: Findings,
    metrics: Sequence[StepMetrics],
    cases: Sequence[Case],
    command: str,
) -> ReportData:
    """Gather everything that the report says."""
    sizes = sizes_of(job.config.neurons, facts)
    return ReportData(
        title=title_of(tests, job.config.method),
        model=model_summary(facts),
        config=job.config,
        pool_size=len(prepared.selection),
        num_selected=len(prepared.examples),
        tests=compare_tests(tests, findings, job.config),
        cross_domain=cross_domain(tests, findings, job.config),
        training=tuple(metrics),
        fitness=prepared.fitness,
        collapses=tuple(collapse_signs(metrics)),
        selection=prepared.selection,
        votes=prepared.votes,
        cases=tuple(cases),
        stage_costs=stage_costs(job),
        warnings=other_warnings(job, prepared.fitness),
        versions=job.run.manifest.versions,
        command=command,
        method_summary=METHODS[job.config.method].summary,
        neurons_per_layer=sizes.per_layer,
        neurons_kept=sizes.keep,
        data_hashes=job.run.manifest.inputs,
    )


def other_warnings(job: Job, fitness: Fitness | None) -> tuple[str, ...]:
    """Return what the run warned of, without the findings that `fitness` holds."""
    known = () if fitness is None else fitness.findings
    return tuple(dict.fromkeys(w for w in job.run.warnings if w not in known))


def title_of(tests: Sequence[TestSet], method: str) -> str:
    """Name the run by its method and the domain it was trained for."""
    names = [f" on {test.name}" for test in tests if test.in_domain]
    return f"{'Neuron-OPSD' if method == OURS else method}{''.join(names)}"


def model_summary(facts: ModelFacts) -> ModelSummary:
    """Return what the report says of a model."""
    return ModelSummary(
        name=facts.name,
        family=facts.family,
        num_parameters=facts.num_parameters,
        num_layers=facts.num_layers,
        num_neurons=facts.num_neurons,
        device=facts.device,
        compute=facts.compute,
    )


def stage_costs(job: Job) -> tuple[StageCost, ...]:
    """Return time and tokens of every stage that the manifest lists."""
    tokens = job.run.manifest.facts.get("tokens", {})
    seconds = {
        name: output.seconds
        for name, output in job.run.manifest.outputs.items()
        if output.seconds is not None and not output.files
    } | job.run.manifest.facts.get("seconds", {})
    names = list(dict.fromkeys([*seconds, *tokens]))
    return tuple(
        StageCost(name, float(seconds.get(name, 0.0)), int(tokens.get(name, 0)))
        for name in names
    )


def finish(job: Job, data: ReportData) -> None:
    """Write `evaluation.json`, `summary.json`, the report and the adapter's card.

    Each names what it says something of: the answers to the tests, or all stages.
    """
    run = job.run
    stages = [
        name
        for name, output in run.manifest.outputs.items()
        if output.seconds is not None or name.endswith(METRICS)
    ]
    tests = [name for name in stages if name.startswith("tests/")]
    evaluation = {test.name: comparison_entry(test) for test in data.tests}
    run.write(EVALUATION.file_name, EVALUATION, evaluation, tests)
    run.write(SUMMARY.file_name, SUMMARY, summary_table(data), tests)
    run.write(REPORT.file_name, REPORT, data, stages)
    card = text_codec(f"adapter/{CARD}")
    text = render_card(data, job.config.model.name, base_of(run.path("adapter")))
    run.write(card.file_name, card, text, [REPORT.file_name, "adapter"])
    page = render_page(REPORT.load(run.path(REPORT.file_name)))
    run.write(PAGE.file_name, PAGE, page, [REPORT.file_name])


def base_of(adapter: Path) -> str:
    """Return what an adapter says it was trained on; nothing for a whole model."""
    try:
        settings = json.loads((adapter / ADAPTER_SETTINGS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ""
    return str(settings.get("base_model_name_or_path") or "")


def rebuild_report(run: Path, warn: Callable[[str], None]) -> Path:
    """Write the report of a finished run anew from what its directory holds.

    Args:
        run: Its directory.
        warn: Told what else of the run is gone or was changed.

    Raises:
        DataError: If the run is not finished, or `report.json` is not proven: it was
            changed, or made from another file than there is now.
        TryAgainError: If another process works in the directory.
    """
    path = run / REPORT.file_name
    if not path.is_file():
        raise DataError(
            f"{run} has no {REPORT.file_name}: the run is not finished; the same "
            "`neuron-opsd run` command resumes it"
        )
    need_home(run, "run")
    manifest = read_manifest(run)
    check_report(run, manifest, warn)
    page = run / PAGE.file_name
    PAGE.save(render_page(REPORT.load(path)), page)
    if REPORT.file_name in manifest.outputs:
        list_page(run)
    return page


def check_report(run: Path, manifest: Manifest, warn: Callable[[str], None]) -> None:
    """Refuse a report that is not proven; say what else of the run is not.

    Raises:
        DataError: If it is not.
    """
    found = faults(run, manifest)
    found.pop(PAGE.file_name, None)
    fault = found.pop(REPORT.file_name, None)
    if fault is not None:
        raise DataError(
            f"{fault}; the `neuron-opsd run` command that began the run makes it again"
        )
    if REPORT.file_name not in manifest.outputs:
        warn(f"{run / REPORT.file_name} {UNPROVEN}")
    for line in found.values():
        warn(line)


def list_page(run: Path) -> None:
    """Put the page's hash into the manifest where another version writes it otherwise.

    Raises:
        TryAgainError: If another process works in the directory.
    """
    name = PAGE.file_name
    known = read_manifest(run).outputs.get(name)
    if known is not None and not fault_of(run, known):
        return
    with locked(run):
        manifest = read_manifest(run)
        Ledger(run, manifest, ignore).enter(name, name, [REPORT.file_name], None)
        write_manifest(run, manifest)
