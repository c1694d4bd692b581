"""The plan of a short run: measured on a tiny model, and held against the run."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch

from loaded import learning, loaded
from neuron_opsd.config import Config
from neuron_opsd.config.tables import load_config
from neuron_opsd.methods.distillation import NeuronOPSD
from neuron_opsd.methods.imitation import FormOnly
from neuron_opsd.methods.method import PoolAnswers
from neuron_opsd.models.learner import HFLearner
from neuron_opsd.planning.estimate import (
    Reading,
    clock_of,
    estimate,
    longest_step_bytes,
    of_kind,
    scaled_peak,
)
from neuron_opsd.planning.samples import Sample
from neuron_opsd.planning.step_trials import (
    StepSize,
    size_of_step,
    try_saving,
    try_step,
    warm_up,
)
from neuron_opsd.planning.trials import Trial, Written
from neuron_opsd.planning.workload import Plan, Rates
from neuron_opsd.progress import Silent
from neuron_opsd.records import Message, Question
from neuron_opsd.runs.context import PEAK
from neuron_opsd.stages.rollouts import ask
from neuron_opsd.storage.manifest import read_manifest
from resolved import sampled_among_choices
from tiny_runs import SETTINGS, FinishedRun, tiny_config, tiny_examples, tiny_request
from vllm_stand_in import stand_in

EXAMPLES = tiny_examples(3)


@pytest.fixture(autouse=True)
def quiet_peft() -> Iterator[None]:
    # PEFT asks transformers for what it calls by a new name now.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def settings(*assignments: str) -> Config:
    return load_config(None, [*SETTINGS, "prompts.form=plain", *assignments])


def names(found: Plan) -> list[str]:
    return [stage.name for stage in found.stages]


@pytest.mark.parametrize("kind", ["choices", "free"])
def test_every_stage_of_a_run_is_foretold(
    tiny_llama: Path, tmp_path: Path, kind: str
) -> None:
    request = tiny_request(tmp_path, kind=kind)
    config = tiny_config(tiny_llama, "evaluation.form_only=true")
    found = estimate(request.pool, request.tests, config, Silent())
    assert names(found) == [
        *("loading", "rollouts", "neurons", "teacher_check"),
        *("training", "evaluation", "form-only control"),
    ]
    assert all(0.0 < (stage.seconds or 0.0) < 60.0 for stage in found.stages)
    assert all(stage.tokens for stage in found.stages[1:])
    assert 50 * 2**20 < found.peak_memory_bytes < 20 * 2**30


def test_a_plan_with_vllm_times_what_it_does_not_write(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = stand_in(monkeypatch)
    request = tiny_request(tmp_path, kind="free")
    config = tiny_config(tiny_llama, "engine.rollouts=vllm")
    found = estimate(request.pool, request.tests, config, Silent())
    timed = [stage.name for stage in found.stages if stage.seconds is not None]
    assert timed == ["loading", "neurons"]
    num_parameters = loaded(tiny_llama).facts.num_parameters
    assert found.engine_memory_bytes == 4 * num_parameters + 2**30
    assert found.peak_memory_bytes > found.engine_memory_bytes + 50 * 2**20
    assert not calls.made


def test_a_run_without_demonstrations_has_a_plan(
    tiny_llama: Path, tmp_path: Path
) -> None:
    request = tiny_request(tmp_path)
    config = tiny_config(
        tiny_llama, "contexts.num_demonstrations=0", "distill.tuning=full"
    )
    found = estimate(request.pool, request.tests, config, Silent())
    assert names(found) == ["loading", "rollouts", "neurons", "training", "evaluation"]


def test_a_run_keeps_the_most_memory_that_it_held(finished_run: FinishedRun) -> None:
    facts = read_manifest(finished_run.folder).facts
    assert 50 * 2**20 < facts[PEAK] < 50 * 2**30


def test_a_plan_leaves_the_model_as_it_is(tiny_llama: Path) -> None:
    learner, trial = learner_and_trial(tiny_llama)
    before = {k: v for k, v in learner.state().items() if k.startswith("student.")}
    objective = NeuronOPSD(trial.config)
    warm_up(trial, learner, EXAMPLES, objective, StepSize(written=4, trained=2))
    try_step(trial, learner, EXAMPLES, objective, StepSize(written=4, trained=2))
    after = learner.state()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def learner_and_trial(folder: Path, *assignments: str) -> tuple[HFLearner, Trial]:
    learner = learning(folder)
    ticks = count()
    return learner, Trial(learner, settings(*assignments), lambda: float(next(ticks)))


def test_a_step_is_the_sum_of_its_parts(tiny_llama: Path) -> None:
    # Batches of four in micro-batches of two; every timed part takes one tick.
    learner, trial = learner_and_trial(tiny_llama)
    objective = NeuronOPSD(trial.config)

    def seconds(size: StepSize, of: Trial = trial) -> float:
        return try_step(of, learner, EXAMPLES, objective, size)

    warm_up(trial, learner, EXAMPLES, objective, StepSize(4, 2))
    # Rollouts, two micro-batches, update.
    assert seconds(StepSize(written=4, trained=2)) == 1 + 2 + 1
    # A quarter of the rollouts, and of the micro-batches one example of two.
    assert seconds(StepSize(written=1, trained=1)) == 4 + 4 + 1
    assert seconds(StepSize(4, 2, write_scale=3.0)) == 3 + 2 + 1
    whole = replace(trial, config=settings("distill.micro_batch_size=4"))
    assert seconds(StepSize(4, 4), whole) == 1 + 1 + 1


def test_a_slow_model_takes_a_smaller_step(tiny_llama: Path) -> None:
    _, trial = learner_and_trial(tiny_llama)
    quick = size_of_step(trial, EXAMPLES, Rates(1e-6, 1e-6, 0.0))
    assert quick == StepSize(written=4, trained=2)
    slow = size_of_step(trial, EXAMPLES, Rates(1.0, 1.0, 0.0))
    assert slow == StepSize(written=1, trained=1)


def test_saving_counts_all_of_a_checkpoint(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, trial = learner_and_trial(tiny_llama)
    seconds, held = try_saving(trial, learner)
    assert seconds == 1 + 1
    assert held > sum(v.numel() * v.element_size() for v in learner.state().values())
    monkeypatch.setattr("neuron_opsd.planning.step_trials.SAVED_BYTES", 1)
    # One tensor of many takes a tick, so all take many.
    assert try_saving(trial, learner)[0] > 3


def test_a_part_of_a_micro_batch_foretells_the_memory_of_the_whole() -> None:
    config = settings("distill.micro_batch_size=4")
    assert scaled_peak(100, 130, StepSize(4, 1), config) == 100 + 4 * 30
    assert scaled_peak(100, 130, StepSize(4, 4), config) == 130
    assert scaled_peak(100, 90, StepSize(4, 1), config) == 100


def test_the_longest_answers_take_memory_that_no_sample_has(tiny_llama: Path) -> None:
    model = loaded(tiny_llama)

    def bytes_of(longest: int, written: Written) -> int:
        lengths = [f"rollouts.max_new_tokens={longest}", f"model.name={tiny_llama}"]
        trial = Trial(model, settings(*lengths), lambda: 0.0)
        sample = Sample((), ())
        found = Reading(written, sample, EXAMPLES, EXAMPLES, Rates(0.0, 0.0, 0.0), 0)
        return longest_step_bytes(trial, found)

    free = Written(num_positions=1)
    assert bytes_of(64, Written()) == 0
    assert 0 < 2 * bytes_of(64, free) < bytes_of(512, free)


def test_questions_of_a_kind_are_the_pools_before_the_tests() -> None:
    plain = Question("a", (Message("user", "Why?"),))
    choosing = replace(plain, id="b", choices=("x", "y"))
    first = ask([plain], sampled_among_choices(settings()))
    second = ask([choosing, replace(plain, id="c")], sampled_among_choices(settings()))
    assert [a.question.id for a in of_kind(first, second, free=True)] == ["a"]
    assert [a.question.id for a in of_kind(first, second, free=False)] == ["b"]
    assert of_kind(first, [], free=False) == []


def test_the_control_draws_from_answers_where_there_are_no_choices() -> None:
    free = replace(EXAMPLES[0], choices=())
    answers = PoolAnswers(lambda: {"0": "seven"}, {})
    found = FormOnly(Config()).examples([free, EXAMPLES[1]], answers)
    assert [example.choices for example in found] == [("seven",), ("yes", "no")]


def test_the_clock_of_a_processor_does_not_wait() -> None:
    assert clock_of("cpu")() <= clock_of("cpu")()
