"""The cost of a run, worked out by hand, and measured on a model that is a script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_opsd.config import Config
from neuron_opsd.models.protocol import Sampling
from neuron_opsd.records import Completion, Prompt
from neuron_opsd.settings import load_config
from neuron_opsd.world.measure import (
    count_questions,
    expected_length,
    halve,
    measure,
)
from neuron_opsd.world.plan import (
    QuestionTokens,
    Rates,
    StagePlan,
    Work,
    plan,
    scaled_keep,
    teacher_prompt,
    trained_parameters,
)
from scripted import FACTS, ScriptedModel

RATES = Rates(prefill=100.0, decode=10.0, train=20.0, capture=50.0)

FREE = Work(
    pool=QuestionTokens(num_questions=10, prompt_tokens=200, longest_prompt=30),
    tests=QuestionTokens(num_questions=5, prompt_tokens=100, longest_prompt=30),
    completion_tokens=4.0,
    constrained=False,
)
CONSTRAINED = replace(
    FREE,
    pool=replace(FREE.pool, choice_tokens=60),
    tests=replace(FREE.tests, choice_tokens=30),
    constrained=True,
)


def settings(*assignments: str) -> Config:
    small = ["distill.steps=2", "distill.batch_size=3", "rollouts.num_samples=2"]
    small += ["evaluation.num_samples=2", "contexts.num_demonstrations=2"]
    return load_config(assignments=[*small, *assignments])


def stages(work: Work, config: Config) -> dict[str, StagePlan]:
    return {stage.name: stage for stage in plan(work, RATES, FACTS, config).stages}


def tokens(stage: StagePlan) -> tuple[int, int, int]:
    return stage.prefill_tokens, stage.decode_tokens, stage.train_tokens


def test_free_answers_cost_what_the_sum_on_paper_says() -> None:
    found = stages(FREE, settings("fitness.num_questions=1"))
    # A prompt of the teacher: 20 + 2 * (20 + 4) = 68 tokens.
    assert teacher_prompt(FREE, settings()) == 68
    assert {name: tokens(stage) for name, stage in found.items()} == {
        "rollouts": (200, 10 * 2 * 4, 0),
        "neurons": (200 + 10 * 4, 0, 0),
        "fitness": (20 + 2 * 68 + 3 * 4, 0, 0),
        "training": (6 * (20 + 68 + 4), 6 * 4, 6 * (20 + 4)),
        # Before, after, own answers, prompted (each 48 tokens longer), and once read.
        "evaluation": (4 * 100 + 5 * 48 + 100 + 5 * 4, 4 * 5 * 2 * 4, 0),
    }
    assert found["rollouts"].seconds == 200 / 100 + 80 / 10
    assert found["rollouts"].low == 7.5
    assert found["rollouts"].high == 12.5
    assert found["neurons"].seconds == 240 / 50
    assert found["training"].seconds == 552 / 100 + 24 / 10 + 144 / 20


def test_constrained_answers_are_read_and_not_written() -> None:
    found = stages(CONSTRAINED, settings("evaluation.prompted=false"))
    assert tokens(found["rollouts"]) == (260, 0, 0)
    assert tokens(found["training"]) == (6 * (26 + 68 + 4), 0, 6 * 24)
    assert tokens(found["evaluation"]) == (2 * 130, 0, 0)


def test_demonstrations_are_shown_to_the_in_domain_test_alone() -> None:
    work = replace(FREE, in_domain=QuestionTokens(1, 20))
    found = stages(work, settings())["evaluation"]
    shown = 2 * 20 + 48 + 20 + 4
    assert tokens(found) == (2 * 100 + shown, 2 * 40 + 2 * 8, 0)


def test_the_length_of_constrained_answers_is_that_of_the_choices() -> None:
    pool = replace(CONSTRAINED.pool, num_choices=20)
    found = stages(replace(CONSTRAINED, pool=pool), settings())
    # 60 tokens of 20 choices are 3 each, whatever free answers are like.
    assert tokens(found["neurons"]) == (200 + 10 * 3, 0, 0)


def test_what_is_switched_off_is_not_in_the_plan() -> None:
    names = set(stages(FREE, settings("fitness.action=off")))
    assert names == {"rollouts", "neurons", "training", "evaluation"}
    untested = replace(FREE, tests=QuestionTokens(0, 0))
    assert "evaluation" not in stages(untested, settings())


def test_greedy_demonstrations_and_the_control_cost_more() -> None:
    config = settings("contexts.answer=greedy", "evaluation.form_only=true")
    found = stages(FREE, config)
    assert found["rollouts"].decode_tokens == 10 * 3 * 4
    assert tokens(found["form-only control"]) == (100, 5 * 2 * 4, 6 * 24)


def test_the_sums_are_those_of_the_stages() -> None:
    found = plan(FREE, RATES, FACTS, settings())
    assert found.seconds == sum(stage.seconds for stage in found.stages)
    assert found.low == pytest.approx(0.75 * found.seconds)
    assert found.high == pytest.approx(1.25 * found.seconds)


def test_an_adapter_has_rank_times_the_sides_of_every_matrix() -> None:
    # Four square matrices of width 4 and three of 4 x 8, in each of two layers.
    expected = 16 * 2 * (4 * (4 + 4) + 3 * (4 + 8))
    assert trained_parameters(FACTS, settings()) == expected
    full = trained_parameters(FACTS, settings("distill.tuning=full"))
    assert full == FACTS.num_parameters


def test_memory_holds_the_weights_and_what_training_needs() -> None:
    memory = plan(FREE, RATES, FACTS, settings()).peak_memory_bytes
    assert memory > 4 * FACTS.num_parameters
    full = plan(FREE, RATES, FACTS, settings("distill.tuning=full")).peak_memory_bytes
    assert full - memory > 4 * 4 * FACTS.num_parameters
    half = replace(FACTS, compute="bfloat16")
    assert plan(FREE, RATES, half, settings()).peak_memory_bytes > memory


def test_the_disk_holds_the_neurons_of_the_pool() -> None:
    few = plan(FREE, RATES, FACTS, settings("neurons.keep=10")).disk_bytes
    many = plan(FREE, RATES, FACTS, settings("neurons.keep=1010")).disk_bytes
    assert many - few == 10 * 1000 * 8
    assert scaled_keep(replace(FACTS, num_layers=36, num_neurons=9728)) == 5000


@given(st.integers(0, 500), st.integers(0, 500), st.floats(1, 300), st.booleans())
def test_more_work_never_costs_less(
    pool: int, more: int, length: float, constrained: bool
) -> None:
    def cost(num_questions: int) -> float:
        questions = QuestionTokens(num_questions, 20 * num_questions, 5)
        work = Work(questions, questions, length, constrained)
        return plan(work, RATES, FACTS, settings()).seconds

    assert 0 <= cost(pool) <= cost(pool + more) + 1e-9


MODEL = ScriptedModel({"red": ["yes"], "blue": ["no", "never"]})
PROMPTS = [tuple(b"is red a colour? red "), tuple(b"is blue one? blue ")]


def test_questions_are_counted_in_the_models_tokens() -> None:
    questions = [(Prompt(text="abc"), ("x", "yz")), (Prompt(text="abcde"), ())]
    found = count_questions(MODEL, questions)
    # An answer is a space, its text and a line break.
    assert found == QuestionTokens(
        2, 8, choice_tokens=3 + 4, num_choices=2, longest_prompt=5
    )
    assert count_questions(MODEL, []) == QuestionTokens(0, 0)


def test_rates_are_tokens_over_the_time_of_short_calls() -> None:
    ticks = count(step=1.0)
    sampling = Sampling(temperature=1.0, max_new_tokens=32)
    found = measure(MODEL, PROMPTS, sampling, num_samples=2, clock=lambda: next(ticks))
    prompts = sum(map(len, PROMPTS))
    # The prompts are read over and over until there are 1,024 tokens, in one second.
    read = prompts * math.ceil(1024 / prompts)
    assert found.rates.prefill == read
    assert found.rates.train == read / 3
    assert found.rates.capture == read
    made = 2 * len(" yes\n") + len(" no\n") + len(" never\n")
    # Sampling also takes a second, of which the prompts take their part.
    assert found.rates.decode == pytest.approx(made / (1 - prompts / read))


def test_measuring_needs_a_prompt() -> None:
    with pytest.raises(ValueError, match="at least one prompt"):
        measure(MODEL, [], Sampling(temperature=1.0))


def test_a_prompt_of_one_token_can_be_halved() -> None:
    assert halve((7,)) == ((7,), (7,))
    assert halve((1, 2, 3)) == ((1,), (2, 3))


def completions(*lengths: tuple[int, bool]) -> Sequence[Completion]:
    made: dict[str, Any] = {"text": "", "logprob": 0.0, "entropy": 0.0}
    return [Completion((0,) * n, finished=ended, **made) for n, ended in lengths]


def test_the_length_of_completions_is_what_a_constant_chance_to_end_gives() -> None:
    # Two ends in eight tokens: a quarter; at most 2 tokens: 1 + 3/4.
    drawn = completions((2, True), (4, False), (2, True))
    assert expected_length(drawn, 2) == pytest.approx(1.75)
    assert expected_length(drawn, 10_000) == pytest.approx(4)
    assert expected_length(completions((3, False)), 50) == 50
    assert expected_length(completions((1, True)), 50) == 1


@given(st.integers(1, 60), st.integers(1, 400))
def test_the_expected_length_lies_between_one_and_the_longest(
    ended_after: int, longest: int
) -> None:
    length = expected_length(completions((ended_after, True)), longest)
    assert 1 - 1e-9 <= length <= longest + 1e-9
