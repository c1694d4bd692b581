"""Stored results to `evaluation.json`, report and model card."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from neuron_opsd.config.tables import renamed
from neuron_opsd.errors import DataError
from neuron_opsd.method.guard import collapses
from neuron_opsd.methods import METHODS
from neuron_opsd.models.roles import ModelFacts
from neuron_opsd.models.weights.shards import ADAPTER_SETTINGS
from neuron_opsd.pipeline import Prepared
from neuron_opsd.records import StepMetrics, TeacherCheck
from neuron_opsd.report.card import render_card
from neuron_opsd.report.condense import (
    fitted_cases,
    guard_summary,
    pool_summary,
    training_summary,
)
from neuron_opsd.report.run_outcome import outcome_sentence
from neuron_opsd.report.run_page import render_page
from neuron_opsd.results.run import (
    OURS,
    REPORT_FORMAT,
    Case,
    ModelSummary,
    ReportData,
    StageCost,
)
from neuron_opsd.runs.adapters import kept_of
from neuron_opsd.runs.context import RunContext, TestSet
from neuron_opsd.runs.findings import (
    Findings,
    compare_tests,
    comparison_entry,
    cross_domain,
    unsettled_entry,
)
from neuron_opsd.runs.metrics import METRICS
from neuron_opsd.stages.capture import sizes_of
from neuron_opsd.storage import integrity
from neuron_opsd.storage.caching import ignore
from neuron_opsd.storage.codecs import (
    json_codec,
    load_json,
    record_codec,
    text_codec,
    without_nan,
)
from neuron_opsd.storage.folders import RUN_PAGE, require_folder
from neuron_opsd.storage.lock import locked
from neuron_opsd.storage.manifest import Manifest, read_manifest, write_manifest
from neuron_opsd.storage.run_directory import (
    RunDirectory,
    computed_elsewhere,
    known_changes,
)
from neuron_opsd.storage.score_rows import SCORES, save_run_scores

EVALUATION = json_codec("evaluation.json")
SUMMARY = json_codec("summary.json")
PAGE = text_codec(RUN_PAGE)


def load_report(path: Path) -> ReportData:
    """Read a report; library errors pass through."""
    table = load_json(path)
    found = table.get("format") if isinstance(table, dict) else None
    if found != REPORT_FORMAT:
        raise DataError(
            f"{path} has report format {found or 1}, but this version reads "
            f"{REPORT_FORMAT}; use the version that wrote it, or the same `neuron-opsd "
            "run` command, which creates it again from the results"
        )
    if "fitness" in table:  # the former name of the teacher check
        table["teacher_check"] = table.pop("fitness")
    config = renamed(table.get("config", {}))
    return TypeAdapter(ReportData).validate_python(table | {"config": config})


REPORT = replace(record_codec("report.json", ReportData), read=load_report)


def summary_table(data: ReportData) -> dict[str, Any]:
    """Return `summary.json`: the outcome and cross-domain results."""
    return {
        "outcome": outcome_sentence(data),
        **kept_entry(data),
        "in_domain": data.config.evaluation.in_domain,
        "cross_domain_mean_delta": without_nan(data.cross_domain),
    }


def kept_entry(data: ReportData) -> dict[str, Any]:
    """Return the step count of the best adapter, if kept."""
    if data.guard is None or data.guard.kept is None:
        return {}
    return {"kept_after_steps": data.guard.kept.num_steps}


def build_report(  # noqa: PLR0913 - it gathers what all stages made
    run: RunContext,
    facts: ModelFacts,
    prepared: Prepared,
    tests: Sequence[TestSet],
    findings: Findings,
    metrics: Sequence[StepMetrics],
    cases: Sequence[Case],
    command: str,
) -> ReportData:
    """Gather everything in the report."""
    sizes = sizes_of(run.config.neurons, facts)
    return ReportData(
        title=title_of(tests, run.config.method),
        model=model_summary(facts),
        config=run.config,
        pool_size=len(prepared.selection),
        num_selected=len(prepared.examples),
        tests=compare_tests(tests, findings, run.config),
        cross_domain=cross_domain(tests, findings, run.config),
        training=training_summary(metrics),
        teacher_check=prepared.teacher_check,
        collapses=tuple(collapses(metrics, run.config.guard)),
        guard=guard_summary(metrics, kept_of(run.config, metrics)),
        pool=pool_summary(prepared.selection, prepared.votes),
        cases=fitted_cases(cases),
        stage_costs=stage_costs(run),
        warnings=other_warnings(run, prepared.teacher_check),
        versions=run.directory.manifest.versions,
        command=command,
        method_summary=METHODS[run.config.method].summary,
        reads_contexts=METHODS[run.config.method].reads_contexts,
        neurons_per_layer=sizes.per_layer,
        neurons_kept=sizes.keep,
        data_hashes=run.directory.manifest.inputs,
    )


def other_warnings(
    run: RunContext, teacher_check: TeacherCheck | None
) -> tuple[str, ...]:
    """Return warnings other than the teacher check's."""
    known = () if teacher_check is None else teacher_check.findings
    found = [w for w in run.directory.warnings if w not in known]
    if elsewhere := known_changes(run.directory.manifest):
        found.append(computed_elsewhere(elsewhere))
    return tuple(dict.fromkeys(found))


def title_of(tests: Sequence[TestSet], method: str) -> str:
    """Title a run by method and domain."""
    names = [f" on {test.name}" for test in tests if test.in_domain]
    return f"{'Neuron-OPSD' if method == OURS else method}{''.join(names)}"


def public_name(model: str) -> str:
    """Return a model's public name: for a path, its folder."""
    path = Path(model)
    return path.name if path.is_absolute() else model


def model_summary(facts: ModelFacts) -> ModelSummary:
    """Summarise a model for the report."""
    return ModelSummary(
        name=public_name(facts.name),
        family=facts.family,
        num_parameters=facts.num_parameters,
        num_layers=facts.num_layers,
        num_neurons=facts.num_neurons,
        device=facts.device,
        compute=facts.compute,
    )


def stage_costs(run: RunContext) -> tuple[StageCost, ...]:
    """Return time and tokens per stage."""
    tokens = run.directory.manifest.facts.get("tokens", {})
    seconds = {
        name: output.seconds
        for name, output in run.directory.manifest.outputs.items()
        if output.seconds is not None and not output.files
    } | run.directory.manifest.facts.get("seconds", {})
    names = list(dict.fromkeys([*seconds, *tokens]))
    return tuple(
        StageCost(name, float(seconds.get(name, 0.0)), int(tokens.get(name, 0)))
        for name in names
    )


def finish(
    run: RunContext, data: ReportData, findings: Findings, base_model: str
) -> None:
    """Write measures, scores, report, and a card that names the base."""
    directory = run.directory
    stages = [
        name
        for name, output in directory.manifest.outputs.items()
        if output.seconds is not None or name.endswith(METRICS)
    ]
    tests = [name for name in stages if name.startswith("tests/")]
    evaluation = {
        test.name: comparison_entry(test)
        | unsettled_entry(test, run.config)
        | kept_entry(data)
        for test in data.tests
    }
    keep_scores(directory, findings, tests)
    directory.write(EVALUATION.file_name, EVALUATION, evaluation, tests)
    directory.write(SUMMARY.file_name, SUMMARY, summary_table(data), tests)
    directory.write(REPORT.file_name, REPORT, data, stages)
    card = text_codec(f"adapter/{integrity.CARD}")
    text = render_card(data, base_model, base_of(directory.path("adapter")))
    directory.write(card.file_name, card, text, [REPORT.file_name, "adapter"])
    page = render_page(REPORT.load(directory.path(REPORT.file_name)))
    directory.write(PAGE.file_name, PAGE, page, [REPORT.file_name])


def keep_scores(
    run: RunDirectory, findings: Findings, made_from: Sequence[str]
) -> None:
    """Write each model's score per question, if outdated."""
    if run.integrity.is_current(SCORES, SCORES, made_from):
        return
    models = {"before": findings.before, "after": findings.after, **findings.controls}
    save_run_scores(models, run.path(SCORES))
    run.record(SCORES, SCORES, made_from)


def base_of(adapter: Path) -> str:
    """Return an adapter's base; empty for a whole model."""
    settings = json_codec(ADAPTER_SETTINGS)
    path = adapter / settings.file_name
    if not path.is_file():
        return ""
    return str(settings.load(path).get("base_model_name_or_path") or "")


def rebuild_report(run: Path, warn: Callable[[str], None]) -> Path:
    """Rewrite the report of a finished run from its directory.

    Raises:
        DataError: If the run is not finished, or `report.json` is not proven.
        TryAgainError: If another process works in the directory.
    """
    path = run / REPORT.file_name
    if not os.path.lexists(path):
        raise DataError(
            f"{run} has no {REPORT.file_name}: the run is not finished; the same "
            "`neuron-opsd run` command resumes it"
        )
    require_folder(run, "run")
    manifest = read_manifest(run)
    check_report(run, manifest, warn)
    page = run / PAGE.file_name
    PAGE.save(render_page(REPORT.load(path)), page)
    if REPORT.file_name in manifest.outputs:
        list_page(run)
    return page


def check_report(run: Path, manifest: Manifest, warn: Callable[[str], None]) -> None:
    """Refuse an unproven report; warn of other unproven outputs.

    Large files, not used in pages, are compared by size only.
    """
    found = integrity.faults(run, manifest, integrity.quick_fault)
    found.pop(PAGE.file_name, None)
    fault = found.pop(REPORT.file_name, None)
    known = manifest.outputs.get(REPORT.file_name)
    if known is not None and (changed := integrity.fault_of(run, known)):
        fault = f"{run / known.file} {changed}"
    if fault is not None:
        raise DataError(
            f"{fault}; the `neuron-opsd run` command that started it rewrites it"
        )
    if REPORT.file_name not in manifest.outputs:
        warn(f"{run / REPORT.file_name} {integrity.UNPROVEN}")
    for line in found.values():
        warn(line)


def list_page(run: Path) -> None:
    """List the page's hash if another version wrote the page."""
    name = PAGE.file_name
    known = read_manifest(run).outputs.get(name)
    if known is not None and not integrity.fault_of(run, known):
        return
    with locked(run):
        manifest = read_manifest(run)
        listed = integrity.Integrity(run, manifest, ignore)
        listed.record(name, name, [REPORT.file_name], None)
        write_manifest(run, manifest)
