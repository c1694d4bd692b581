"""Testing a model, trained or not, without a run directory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from neuron_opsd.answers.verifier import shared_verifier, unsettled_text
from neuron_opsd.config import Config
from neuron_opsd.data.formats.public_sets import check_targets
from neuron_opsd.errors import ConfigError
from neuron_opsd.models.load import load_model, load_tokenizer
from neuron_opsd.models.roles import Answerer
from neuron_opsd.progress import Progress
from neuron_opsd.records import Rollout
from neuron_opsd.results.scores import TestResult
from neuron_opsd.runs.context import TestSet, resolve
from neuron_opsd.runs.findings import metric_table
from neuron_opsd.runs.inputs import check_names, read_tests
from neuron_opsd.runs.kept_room import tell_of_room
from neuron_opsd.runs.model_checks import check_sets
from neuron_opsd.runs.testing import score
from neuron_opsd.runs.verdicts import num_unsettled
from neuron_opsd.stages.centring import is_centring
from neuron_opsd.stages.rollouts import ask, sample_rollouts
from neuron_opsd.storage.codecs import save_json
from neuron_opsd.storage.folders import check_result_place


def evaluate(
    tests: Mapping[str, str],
    config: Config,
    out: Path | None,
    progress: Progress,
    adapter: Path | None = None,
) -> dict[str, Any]:
    """Test a model on some sets, exactly as a run tests it.

    Args:
        tests: Name to file; every question needs its answer.
        config: Model, prompts and sampling.
        out: Where the measures are written as JSON, if anywhere.
        progress: Told of every question.
        adapter: What training made, if that is to be tested.

    Returns:
        Measures by name of the test set.

    Raises:
        NeuronOpsdError: For anything that the user can mend.
    """
    if out is not None:
        check_result_place(out, inputs_of(tests, config, adapter))
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
    asked = {test.name: test.questions for test in sets}
    chooses = any(q.choices for questions in asked.values() for q in questions)
    resolved = resolve(config, tokenizer, chooses=chooses)
    check_sets(tokenizer, asked, resolved, tests)
    adapters = [] if adapter is None else [adapter]
    model = load_model(config.model, *adapters, tokenizer=tokenizer)
    tell_of_room(model, progress.warn)
    table = {}
    for test in sets:
        result = test_model(model, test, resolved, progress)
        table[test.name] = metric_table(result)
        if resolved.answers.reader == "latex":
            table[test.name]["unsettled_comparisons"] = result.num_unsettled
    if out is not None:
        save_json(table, out)
    return table


def inputs_of(
    tests: Mapping[str, str], config: Config, adapter: Path | None
) -> list[Path]:
    """Return the files and folders that a test of a model reads, hub ids as well."""
    adapters = [] if adapter is None else [adapter]
    return [Path(config.model.name), *map(Path, tests.values()), *adapters]


def test_model(
    model: Answerer,
    test: TestSet,
    config: Config,
    progress: Progress,
) -> TestResult:
    """Answer one test set block by block, as a run does, and score the answers."""
    asked = ask(test.questions, config)
    draws = [(config.evaluation.temperature, config.evaluation.num_samples)]
    size = config.rollouts.block_size
    rollouts: list[Rollout] = []
    with progress.stage(test.name, len(asked), "questions") as done:
        for start in range(0, len(asked), size):
            block = asked[start : start + size]
            rollouts += sample_rollouts(
                model, block, config, f"test {test.name}", draws, config.test_tokens
            )
            done(len(block))
    with shared_verifier().noting() as notes:
        result = score(test, rollouts, config)
    verdicts = tuple(notes.values())
    if text := unsettled_text(verdicts):
        progress.warn(f"{test.name}: {text}")
    return replace(result, num_unsettled=num_unsettled(verdicts))
