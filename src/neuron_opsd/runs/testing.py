"""Answering test sets with one model after another, in a run directory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from neuron_opsd.answers.readers import Reader, readers_for
from neuron_opsd.answers.verifier import Verdict
from neuron_opsd.answers.votes import tally_votes
from neuron_opsd.config import Config
from neuron_opsd.config.needs import shows_by_neurons
from neuron_opsd.models.roles import Answerer, LanguageModel
from neuron_opsd.records import NeuronSet, Question, Rollout
from neuron_opsd.results.scores import TestResult
from neuron_opsd.runs.centring import BIAS_NAME
from neuron_opsd.runs.context import RunContext, TestSet
from neuron_opsd.runs.neurons import Chosen, capture
from neuron_opsd.runs.pool_rollouts import rollout_tokens
from neuron_opsd.runs.prepare import Prepared, PreparedNames, representatives
from neuron_opsd.runs.verdicts import (
    grouped,
    num_unsettled,
    of_questions,
    settle_equality,
    verdicts_name,
)
from neuron_opsd.stages.capture import not_read
from neuron_opsd.stages.library import search_remarks
from neuron_opsd.stages.rollouts import PromptedQuestion, ask, sample_rollouts
from neuron_opsd.stages.scoring import score_rollouts, summarise
from neuron_opsd.stages.teaching import build_contexts, fitted_prompt, shown_draws
from neuron_opsd.storage.codecs import ROLLOUTS
from neuron_opsd.storage.kept_rollouts import outlines_of

BEFORE = "before"
"""Label of the untrained model, whose answers also choose demonstrations."""


def answer_tests(
    run: RunContext,
    model: Answerer,
    tests: Sequence[TestSet],
    label: str,
    made_from: Sequence[str] = (),
) -> dict[str, TestResult]:
    """Answer all test sets with one model, by the prompts it was trained on.

    Args:
        run: Where rollouts are kept.
        model: Answers.
        tests: The sets.
        label: Names the model, for example ``before``; the draws do not depend on it,
            so models are compared on the same random numbers.
        made_from: Names of the adapters that the model has, if any.
    """
    return {
        test.name: answer_test(
            run,
            model,
            test,
            label,
            ask(test.questions, run.config),
            made_from,
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
    """Answer one test set, its questions put as `asked`, and score the answers."""
    rollouts = test_rollouts(run, model, test.name, label, asked, made_from)
    verdicts = settle_test(run, test, label, rollouts)
    result = score(test, rollouts, run.config)
    return replace(result, num_unsettled=num_unsettled(verdicts))


def settle_test(
    run: RunContext, test: TestSet, label: str, rollouts: Sequence[Rollout]
) -> tuple[Verdict, ...]:
    """Settle which answers to a test set equal each other and the gold ones."""
    readers, sampled = test_readers(test, run.config), grouped(run, rollouts)

    def judge(block: Sequence[Question]) -> None:
        score_rollouts(block, of_questions(sampled, block), test.gold, readers)

    source = rollouts_name(test.name, label)
    return settle_equality(run, source, test.questions, judge, ["inputs"])


def test_readers(test: TestSet, config: Config) -> dict[str, Reader]:
    """Return question id to reader of a test set's answers."""
    return readers_for(test.questions, config.answers, config.prompts.list_choices)


def compared(test: str, label: str) -> list[str]:
    """Return the names of a model's answers to a test set, and of what equals what."""
    name = rollouts_name(test, label)
    return [name, verdicts_name(name)]


def test_rollouts(
    run: RunContext,
    model: Answerer,
    test: str,
    label: str,
    asked: Sequence[PromptedQuestion],
    made_from: Sequence[str],
) -> Sequence[Rollout]:
    """Sample the answers to one test set."""
    config = run.config
    draws = [(config.evaluation.temperature, config.evaluation.num_samples)]
    if label == BEFORE:
        draws += shown_draws(config.contexts)
    name = rollouts_name(test, label)
    with run.progress.stage(f"{test}: {label}", len(asked), "questions") as done:
        rollouts = run.directory.blocks(
            name,
            ROLLOUTS.at(f"{name}.parquet"),
            asked,
            config.rollouts.block_size,
            lambda block: sample_rollouts(
                model, block, config, f"test {test}", draws, config.test_tokens
            ),
            done,
            made_from=[BIAS_NAME, *made_from],
        )
    run.count_tokens(name, rollout_tokens(model, asked, outlines_of(rollouts)))
    return rollouts


def rollouts_name(test: str, label: str) -> str:
    """Return the name of a model's answers to a test set in the run directory."""
    return f"tests/{test}/{label}"


def neurons_name(test: str) -> str:
    """Return the name of the neurons of the untrained model's answers to a test set."""
    return f"tests/{test}/neurons"


def score(test: TestSet, rollouts: Sequence[Rollout], config: Config) -> TestResult:
    """Compare the answers to a test set with its gold answers."""
    readers, told = test_readers(test, config), outlines_of(rollouts)
    scores = score_rollouts(test.questions, told, test.gold, readers)
    return summarise(test.name, scores, config.evaluation)


def answer_prompted(
    run: RunContext,
    model: LanguageModel,
    test: TestSet,
    prepared: Prepared,
    made: PreparedNames,
) -> TestResult:
    """Answer a test set with demonstrations from the pool in every prompt.

    It is what a user could have without any training: each test question gets the
    demonstrations that it would get as the teacher's question, and no label is read.
    The untrained model's own answers, which find them, must be there already.
    """
    plain = ask(test.questions, run.config)
    contexts = build_contexts(
        test_neurons(run, model, test),
        prepared.library,
        run.config,
        asked={question.id: question for question in test.questions},
    )
    for text in search_remarks(contexts, prepared.library):
        run.directory.warn(f"{test.name}: {text}")
    asked = [
        replace(
            a,
            prompt=fitted_prompt(
                model, a.question, context, prepared.library, run.config
            )[0],
        )
        for a, context in zip(plain, contexts, strict=True)
    ]
    own = [*compared(test.name, BEFORE), neurons_name(test.name)]
    return answer_test(run, model, test, "prompted", asked, [*made.all, *own])


def test_neurons(
    run: RunContext, model: LanguageModel, test: TestSet
) -> Sequence[NeuronSet]:
    """Return the neurons of the untrained model's answers, if demonstrations need them.

    Other rules find demonstrations by the questions alone.
    """
    if not shows_by_neurons(run.config):
        return not_read([question.id for question in test.questions])
    codec = ROLLOUTS.at(rollouts_name(test.name, BEFORE) + ".parquet")
    rollouts = codec.load(run.directory.path(codec.file_name))
    settle_test(run, test, BEFORE, rollouts)
    votes = tally_votes(outlines_of(rollouts), test_readers(test, run.config))
    own = Chosen(rollouts, representatives(outlines_of(rollouts), votes, run.config))
    source = compared(test.name, BEFORE)
    return capture(run, model, test.questions, own, neurons_name(test.name), source)
