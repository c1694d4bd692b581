"""Testing a model, trained or not, without a run directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neuron_opsd.config import Config
from neuron_opsd.data.formats.public_sets import check_targets
from neuron_opsd.errors import ConfigError
from neuron_opsd.models.load import check_engine, load_tokenizer
from neuron_opsd.models.roles import Answerer
from neuron_opsd.progress import Progress
from neuron_opsd.runs.context import TestSet, resolve
from neuron_opsd.runs.elsewhere import machines_for
from neuron_opsd.runs.inputs import check_names, read_tests
from neuron_opsd.runs.model_checks import check_sets
from neuron_opsd.runs.testing import sample_test, scored
from neuron_opsd.stages.centring import is_centring
from neuron_opsd.stages.rollouts import ask
from neuron_opsd.storage.caching import Workspace
from neuron_opsd.storage.codecs import save_json, without_nan
from neuron_opsd.storage.folders import check_result_place


def evaluate(
    tests: Mapping[str, str],
    config: Config,
    out: Path | None,
    progress: Progress,
    adapter: Path | None = None,
) -> dict[str, Any]:
    """Test a model on some sets, exactly as a run tests it."""
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
    chooses = any(question.choices for test in sets for question in test.questions)
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
    """Return the measures of a model on one set."""
    asked = ask(test.questions, work.config)
    result = scored(work, test, "", sample_test(work, model, test.name, "", asked))
    table: dict[str, Any] = without_nan(result.metrics)
    if work.config.answers.may_leave_open:
        table["unsettled_comparisons"] = result.num_unsettled
    return table
