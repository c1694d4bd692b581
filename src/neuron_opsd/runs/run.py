"""One run: improve a model from unlabelled questions and measure the effect.

Gold answers are read only after training. Model outputs are kept, so the same call
resumes a stopped run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from neuron_opsd.answers.verifier import shared_verifier
from neuron_opsd.config import FORM_ONLY, Config
from neuron_opsd.config.tables import to_toml
from neuron_opsd.methods import METHODS, method_of
from neuron_opsd.models.load import load_tokenizer
from neuron_opsd.models.roles import LanguageModel
from neuron_opsd.pipeline import Prepared, centred
from neuron_opsd.progress import Progress
from neuron_opsd.records.scores import TestResult
from neuron_opsd.results.run import PROMPTED, ReportData
from neuron_opsd.runs.adapters import Training
from neuron_opsd.runs.context import (
    RunContext,
    TestSet,
    keep_room,
    remarks,
    resolve_method,
)
from neuron_opsd.runs.elsewhere import machines_for
from neuron_opsd.runs.findings import Findings, answer_cases, build_cases
from neuron_opsd.runs.fingerprint import model_fingerprint
from neuron_opsd.runs.inputs import (
    Inputs,
    environment,
    name_in_domain,
    read_inputs,
    run_settings,
)
from neuron_opsd.runs.machines import Machines
from neuron_opsd.runs.model_checks import check_questions
from neuron_opsd.runs.prepare import RUN_OUTPUTS, prepare_run
from neuron_opsd.runs.reporting import build_report, finish
from neuron_opsd.runs.resolution import for_model, method_remarks, with_method
from neuron_opsd.runs.testing import BEFORE, answer_prompted, answer_tests
from neuron_opsd.runs.training import train_prepared, trained_model
from neuron_opsd.runs.watching import tell_results
from neuron_opsd.storage.codecs import text_codec
from neuron_opsd.storage.folders import check_folder
from neuron_opsd.storage.run_directory import RunDirectory

SETTINGS = text_codec("config.toml")


@dataclass(frozen=True, slots=True)
class Request:
    """The inputs of a run."""

    pool: str
    """File or dataset of questions; answers in it are never read."""
    tests: Mapping[str, str]
    """Name to file; the first is in-domain unless settings say otherwise."""
    out: Path
    command: str = ""
    model: str = ""
    """The model's name in report and card; by default its own."""


def run(request: Request, config: Config, progress: Progress) -> ReportData:
    """Improve a model from unlabelled questions, and measure the effect.

    Writes the run directory: `config.toml`, rollouts, neurons, selection, contexts,
    `train/`, `adapter/`, `evaluation.json` and `report.html`.
    """
    check_folder(request.out, "run")
    shared_verifier().forget()
    config = name_in_domain(request.tests, with_method(config))
    inputs = read_inputs(request.pool, request.tests, config, progress.warn)
    with machines_for(config, progress) as machines:
        return run_on(machines, request, config, inputs, progress)


def run_on(
    machines: Machines,
    request: Request,
    config: Config,
    inputs: Inputs,
    progress: Progress,
) -> ReportData:
    """Run on the given machines."""
    tokenizer = load_tokenizer(config.model)
    own = for_model(config, tokenizer.facts)
    resolved = resolve_method(
        own, tokenizer, inputs.pool, [request.out], chooses=inputs.chooses
    )
    check_questions(tokenizer, inputs, resolved)
    machines.check_room(tokenizer.facts, resolved)
    model = machines.load(resolved, tokenizer=tokenizer)
    hashes = {**inputs.hashes, "model": model_fingerprint(config.model)}
    with RunDirectory.open(
        request.out,
        run_settings(resolved),
        hashes,
        environment={**environment(resolved.model), **machines.environment},
        warn=progress.warn,
    ) as directory:
        directory.write("config.toml", SETTINGS, to_toml(resolved, comments=True))
        machines.on_others = directory.computed_on_others
        run = RunContext(directory, resolved, progress, machines)
        keep_room(run, model)
        told = remarks(model.facts, resolved, own), method_remarks(config, own)
        for remark in chain(*told):
            directory.warn(remark)
        data = improve(run, model, inputs, request)
        run.note_peak_memory(model.facts.device)
        return data


def improve(
    run: RunContext, model: LanguageModel, inputs: Inputs, request: Request
) -> ReportData:
    """Run all stages in a run directory."""
    run = replace(run, config=centred(run.work, model, inputs.pool).config)
    prepared = prepare_run(run, model, inputs.pool)
    before = answer_tests(run, model, inputs.tests, BEFORE)
    controls: dict[str, Mapping[str, TestResult]] = {}
    if run.config.tests_prompted:
        controls[PROMPTED] = {
            test.name: answer_prompted(run, model, test, prepared, RUN_OUTPUTS)
            for test in inputs.tests
            if test.in_domain
        }

    main, method = Training("distillation"), method_of(run.config)
    metrics = train_prepared(run, model, main, prepared, method)

    model.release()  # frees what training kept of it
    trained = trained_model(run, model, main.adapter)
    after = answer_tests(run, trained, inputs.tests, "after", [main.adapter])
    made = [main.adapter, *RUN_OUTPUTS.all]
    cases = build_cases(
        model,
        prepared,
        answer_cases(run, trained, prepared, made),
        run.config.contexts.num_contexts,
    )
    del trained  # frees memory for the control
    if run.config.evaluation.form_only:
        controls[FORM_ONLY] = form_only(run, model, prepared, inputs.tests)
    findings = Findings(before, after, controls)
    facts = replace(model.facts, name=request.model or model.facts.name)
    data = build_report(
        run, facts, prepared, inputs.tests, findings, metrics, cases, request.command
    )
    data = replace(data, datasets=inputs.datasets)
    finish(run, data, findings, request.model or run.config.model.name)
    measured = {BEFORE: before, "after": after, **controls}
    form = measured.pop(FORM_ONLY, {})
    tell_results(run, main.name, measured)
    if form:
        tell_results(run, FORM_ONLY, {"after": form})
    return data


def form_only(
    run: RunContext, model: LanguageModel, prepared: Prepared, tests: Sequence[TestSet]
) -> Mapping[str, TestResult]:
    """Train the same steps on random choices and answer the tests.

    This gain comes from seeing the form of an answer.
    """
    method = METHODS[FORM_ONLY](run.config)
    training = Training(FORM_ONLY, f"controls/{FORM_ONLY}")
    train_prepared(run, model, training, prepared, method)
    trained = trained_model(run, model, training.adapter)
    return answer_tests(run, trained, tests, FORM_ONLY, [training.adapter])
