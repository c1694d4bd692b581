"""Answering test sets with several models, in a run or without one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from neuron_opsd.answers.readers import Reader, readers_for
from neuron_opsd.answers.verifier import Verdict
from neuron_opsd.answers.votes import tally_votes
from neuron_opsd.config import Config
from neuron_opsd.data.formats.public_sets import check_targets
from neuron_opsd.errors import ConfigError
from neuron_opsd.known import (
    MEDOIDS_NAME,
    MedoidNames,
    look_up,
    names_read,
    with_medoids,
)
from neuron_opsd.method.contexts.search import OF_ANSWERS, Known
from neuron_opsd.method.selection import PoolSignals
from neuron_opsd.models.load import check_engine, load_tokenizer
from neuron_opsd.models.remembering import remembering
from neuron_opsd.models.roles import Answerer, LanguageModel
from neuron_opsd.pipeline import BIAS_NAME, Prepared, read_neurons
from neuron_opsd.progress import Progress
from neuron_opsd.records import NeuronSet, Question, Rollout, TeacherContext, Vote
from neuron_opsd.records.scores import TestResult
from neuron_opsd.runs.context import RunContext, TestSet, have_choices, resolve
from neuron_opsd.runs.elsewhere import machines_for
from neuron_opsd.runs.inputs import check_names, read_tests
from neuron_opsd.runs.model_checks import check_sets
from neuron_opsd.runs.prepare import (
    PoolOutputs,
    prompt_tokens,
    tokens_read,
    written_tokens,
)
from neuron_opsd.stages.capture import not_read
from neuron_opsd.stages.centring import is_centring
from neuron_opsd.stages.remarks import on_search
from neuron_opsd.stages.rollouts import (
    PromptedQuestion,
    ask,
    sample_rollouts,
    shown_draws,
)
from neuron_opsd.stages.scoring import score_rollouts, summarise
from neuron_opsd.stages.teaching import (
    build_contexts,
    fitted_prompt,
    representatives,
)
from neuron_opsd.storage.caching import Workspace
from neuron_opsd.storage.codecs import ROLLOUTS, save_json, without_nan
from neuron_opsd.storage.folders import check_result_place
from neuron_opsd.storage.stored_rollouts import Chosen, summaries_of
from neuron_opsd.storage.verdicts import (
    grouped,
    num_unsettled,
    of_questions,
    settle_equality,
    verdicts_name,
)

BEFORE = "before"
"""The untrained model; its answers also choose demonstrations."""


def answer_tests(
    run: RunContext,
    model: Answerer,
    tests: Sequence[TestSet],
    label: str,
    made_from: Sequence[str] = (),
) -> dict[str, TestResult]:
    """Answer all test sets with one model, with the prompts it was trained on.

    Seeds do not depend on the label: all models get the same.
    """
    return {
        test.name: answer_test(
            run, model, test, label, ask(test.questions, run.config), made_from
        )
        for test in tests
    }


def answer_test(
    run: RunContext,
    model: Answerer,
    test: TestSet,
    label: str,
    asked: Sequence[PromptedQuestion],
    made_from: Sequence[str] = (),
) -> TestResult:
    """Answer and score one test set, put as `asked`."""
    rollouts = sample_test(run.work, model, test.name, label, asked, made_from)
    tokens = prompt_tokens(model, asked) + written_tokens(rollouts)
    run.count_tokens(rollouts_name(test.name, label), tokens)
    return scored(run.work, test, label, rollouts)


def sample_test(
    work: Workspace,
    model: Answerer,
    test: str,
    label: str,
    asked: Sequence[PromptedQuestion],
    made_from: Sequence[str] = (),
) -> Sequence[Rollout]:
    """Sample answers to one test set."""
    config, name = work.config, rollouts_name(test, label)
    draws = [(config.evaluation.temperature, config.evaluation.num_samples)]
    if label == BEFORE:
        draws += shown_draws(config.contexts)
    stage = f"{test}: {label}" if label else test
    sample = partial(
        sample_rollouts,
        config=config,
        stage=f"test {test}",
        draws=draws,
        longest=config.test_tokens,
    )
    task = work.task(model, sample, remembering)
    sources = [BIAS_NAME, *made_from]
    return work.by_question(name, ROLLOUTS, asked, task, sources, stage)


def scored(
    work: Workspace, test: TestSet, label: str, rollouts: Sequence[Rollout]
) -> TestResult:
    """Settle which answers are equal, and score them."""
    verdicts = settle_test(work, test, label, rollouts)
    readers, told = test_readers(test, work.config), summaries_of(rollouts)
    scores = score_rollouts(test.questions, told, test.gold, readers)
    result = summarise(test.name, scores, work.config.evaluation)
    return replace(result, num_unsettled=num_unsettled(verdicts))


def settle_test(
    work: Workspace, test: TestSet, label: str, rollouts: Sequence[Rollout]
) -> tuple[Verdict, ...]:
    """Settle which answers equal each other or the gold ones."""
    readers, sampled = test_readers(test, work.config), grouped(work.config, rollouts)

    def judge(chunk: Sequence[Question]) -> None:
        score_rollouts(chunk, of_questions(sampled, chunk), test.gold, readers)

    name = rollouts_name(test.name, label)
    return settle_equality(work, name, test.questions, judge, ["inputs"])


def test_readers(test: TestSet, config: Config) -> dict[str, Reader]:
    """Return the reader for each question id."""
    return readers_for(test.questions, config.answers, config.prompts.list_choices)


def compared(test: str, label: str) -> list[str]:
    """Return the names of a model's answers and verdicts."""
    name = rollouts_name(test, label)
    return [name, verdicts_name(name)]


def rollouts_name(test: str, label: str) -> str:
    """Name a model's answers to a test set."""
    return f"tests/{test}/{label}" if label else test


def test_folder(test: str) -> str:
    """Return a test set's folder with a trailing slash."""
    return f"tests/{test}/"


def neurons_name(test: str) -> str:
    """Name the neurons of the untrained model's answers."""
    return f"{test_folder(test)}neurons"


def answer_prompted(
    run: RunContext,
    model: LanguageModel,
    test: TestSet,
    prepared: Prepared,
    made: PoolOutputs,
) -> TestResult:
    """Answer a test set with pool demonstrations in every prompt.

    Nothing is trained and no label is read: test questions get demonstrations as the
    teacher's do, found by the untrained model's answers, which must exist.
    """
    plain = ask(test.questions, run.config)
    known = test_signals(run, model, test)
    contexts = build_contexts(known, prepared.library, run.config)
    for text in on_search(contexts, prepared.library):
        run.warn(f"{test.name}: {text}")

    def shown(a: PromptedQuestion, context: TeacherContext) -> PromptedQuestion:
        found = fitted_prompt(model, a.question, context, prepared.library, run.config)
        return replace(a, prompt=found[0])

    asked = [shown(a, context) for a, context in zip(plain, contexts, strict=True)]
    own = [*compared(test.name, BEFORE), neurons_name(test.name)]
    own += names_read(run.config, test_folder(test.name))
    return answer_test(run, model, test, "prompted", asked, [*made.all, *own])


def test_signals(run: RunContext, model: LanguageModel, test: TestSet) -> Known:
    """Return what finds demonstrations for a test set, from the untrained model."""
    config, ids = run.config, [question.id for question in test.questions]
    answered = PoolSignals(not_read(ids))
    if config.context_signals & OF_ANSWERS:
        codec = ROLLOUTS.named(rollouts_name(test.name, BEFORE))
        rollouts = codec.load(run.path(codec.file_name))
        settle_test(run.work, test, BEFORE, rollouts)
        votes = medoid_votes(run, model, test, rollouts)
        own = representatives(summaries_of(rollouts), votes, config)
        chosen = Chosen(rollouts, own)
        answered = PoolSignals(test_neurons(run, model, test, chosen), own, votes)
    folder = test_folder(test.name)
    return look_up(run.work, model, test.questions, answered, folder)


def medoid_votes(
    run: RunContext, model: LanguageModel, test: TestSet, rollouts: Sequence[Rollout]
) -> Mapping[str, Vote]:
    """Vote on a test set's answers, with any medoids."""
    votes = tally_votes(summaries_of(rollouts), test_readers(test, run.config))
    own = f"{test_folder(test.name)}{MEDOIDS_NAME}"
    names = MedoidNames(rollouts_name(test.name, BEFORE), own)
    return with_medoids(run.work, model, test.questions, rollouts, votes, names)


def test_neurons(
    run: RunContext, model: LanguageModel, test: TestSet, chosen: Chosen
) -> Sequence[NeuronSet]:
    """Return the chosen answers' neurons, if needed."""
    if not run.config.shows_by_neurons:
        return not_read([question.id for question in test.questions])
    neurons = read_neurons(
        run.work,
        model,
        test.questions,
        chosen,
        neurons_name(test.name),
        compared(test.name, BEFORE),
    )
    asked = ask(test.questions, run.config)
    read = tokens_read(neurons, chosen.facts, run.config.neurons)
    run.count_tokens(neurons_name(test.name), prompt_tokens(model, asked) + read)
    return neurons


def evaluate(
    tests: Mapping[str, str],
    config: Config,
    out: Path | None,
    progress: Progress,
    adapter: Path | None = None,
) -> dict[str, Any]:
    """Test a model on some sets, as a run does."""
    adapters = [] if adapter is None else [adapter]
    if out is not None:
        places = [Path(config.model.name), *map(Path, tests.values()), *adapters]
        check_result_place(out, places)
    check_engine(config)
    if not tests:
        raise ConfigError("no test set is given; add --test NAME=FILE")
    check_names(tests)
    check_targets(config.questions.format, tuple(tests))
    if is_centring(config.rollouts):
        raise ConfigError(
            "rollouts.centre_choices needs the means over a pool, and a test has "
            "none; set rollouts.choice_bias to what choice-bias.json of the run holds"
        )
    sets = read_tests(tests, "", config, progress.warn)
    tokenizer = load_tokenizer(config.model)
    chooses = any(have_choices(test.questions) for test in sets)
    resolved = resolve(config, tokenizer, chooses=chooses)
    named = {test.name: test.questions for test in sets}
    check_sets(tokenizer, named, resolved, tests)
    with machines_for(resolved, progress) as machines:
        model = machines.load(resolved, *adapters, tokenizer=tokenizer)
        model.room.told = progress.warn
        work = Workspace(resolved, progress=progress, workers=machines)
        table = {test.name: tested(work, model, test) for test in sets}
    if out is not None:
        save_json(table, out)
    return table


def tested(work: Workspace, model: Answerer, test: TestSet) -> dict[str, Any]:
    """Measure a model on one set."""
    asked = ask(test.questions, work.config)
    result = scored(work, test, "", sample_test(work, model, test.name, "", asked))
    table: dict[str, Any] = without_nan(result.metrics)
    if work.config.answers.may_leave_open:
        table["unsettled_comparisons"] = result.num_unsettled
    return table
