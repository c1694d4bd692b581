"""The cost of a run, worked out by hand from what samples took."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_opsd.config import Config
from neuron_opsd.config.tables import load_config
from neuron_opsd.method.selection import (
    PoolSignals,
    kept_ids,
    select_questions,
)
from neuron_opsd.models.roles import ModelFacts
from neuron_opsd.planning.costs import (
    num_positions,
    num_selected,
    plan,
    trained_parameters,
)
from neuron_opsd.planning.workload import (
    Decoding,
    Held,
    Plan,
    QuestionTokens,
    Rates,
    StagePlan,
    Work,
    Writing,
    answer_length,
    decoding_steps,
    expected_longest,
    part_of,
    rows_of,
)
from neuron_opsd.stages.capture import not_read
from scripted import FACTS

RATES = Rates(
    reading=0.01,
    showing=0.02,
    capture=0.03,
    distil_step=5.0,
    form_step=2.0,
    saving=0.5,
    loading=3.0,
    decoding=Decoding(step_seconds=0.0, token_seconds=0.1),
)
HELD = Held(answering=1000, training=1500, network=100)

POOL = QuestionTokens(num_questions=10, prompt_tokens=200, num_free=10)
TESTS = QuestionTokens(num_questions=5, prompt_tokens=100, num_free=5)
FOUR = Writing(mean=4.0, limit=512)
FREE = Work(
    pool=POOL,
    tests=TESTS,
    in_domain=TESTS,
    written=FOUR,
    trained=FOUR,
    tested=FOUR,
    trained_prompt=18.0,
    shown_tokens=48.0,
)
# 20 choices of 3 tokens for the pool's questions, 10 for the tests'; in one question
# they part in two places, so that its prompt is read again.
CHOICES = replace(
    POOL,
    num_free=0,
    choice_tokens=60,
    num_choices=20,
    extra_rows=1,
    extra_tokens=30,
)
TEST_CHOICES = replace(TESTS, choice_tokens=30, num_choices=10, num_free=0)
CONSTRAINED = replace(FREE, pool=CHOICES, tests=TEST_CHOICES, in_domain=TEST_CHOICES)


def settings(*assignments: str) -> Config:
    small = ["distill.steps=2", "distill.batch_size=3", "rollouts.num_samples=2"]
    small += ["evaluation.num_samples=2", "contexts.num_demonstrations=2"]
    return load_config(assignments=[*small, *assignments])


def stages(work: Work, config: Config, rates: Rates = RATES) -> dict[str, StagePlan]:
    found = plan(work, rates, HELD, FACTS, config)
    return {stage.name: stage for stage in found.stages}


def tokens(stage: StagePlan) -> tuple[int, int, int]:
    return stage.prefill_tokens, stage.decode_tokens, stage.train_tokens


def test_free_answers_cost_what_the_sum_on_paper_says() -> None:
    found = stages(FREE, settings("teacher_check.num_questions=1"))
    assert {name: tokens(stage) for name, stage in found.items()} == {
        "loading": (0, 0, 0),
        "rollouts": (200, 10 * 2 * 4, 0),
        "neurons": (200 + 10 * 4, 0, 0),
        # The student's prompt, and twice the teacher's, which is 48 tokens longer.
        "teacher_check": (20 + 2 * 68, 3 * 4, 0),
        # Read by the writer, by the teacher with its context and the answer.
        "training": (6 * (2 * 18 + 48 + 4), 6 * 4, 6 * (18 + 4)),
        # Before, after, prompted (each 48 longer), and once read with the answers.
        "evaluation": (3 * 100 + 5 * 48 + 100 + 5 * 4, 3 * 5 * 2 * 4, 0),
    }
    assert found["loading"].seconds == 2 * 3.0
    assert found["rollouts"].seconds == pytest.approx(200 * 0.01 + 80 * 0.1)
    assert found["rollouts"].low == pytest.approx(7.5)
    assert found["rollouts"].high == pytest.approx(12.5)
    assert found["neurons"].seconds == pytest.approx(240 * 0.03)
    assert found["teacher_check"].seconds == pytest.approx(0.2 + 136 * 0.02 + 1.2)
    assert found["training"].seconds == 2 * 5.0
    prompted = 340 * 0.02 + 4.0
    assert found["evaluation"].seconds == pytest.approx(
        2 * (1.0 + 4.0) + 120 * 0.03 + prompted
    )


def test_every_rollout_of_a_question_is_counted() -> None:
    several = settings("distill.num_samples=3")
    # Written three times, and read three times by the teacher and by the student.
    assert tokens(stages(FREE, several)["training"]) == (
        6 * (2 * 18 + 48 + 3 * 4),
        6 * 3 * 4,
        6 * (18 + 3 * 4),
    )
    voting = settings("method=ttrl", "distill.num_samples=3", "policy.num_votes=5")
    assert stages(FREE, voting)["training"].decode_tokens == 6 * 5 * 4
    # Of two choices of 3 tokens, no more than two are different.
    chosen = stages(CONSTRAINED, several)["training"]
    assert chosen.train_tokens == 6 * (18 + 2 * 3)


def test_every_context_that_a_rollout_sees_is_counted() -> None:
    once = stages(FREE, settings("distill.num_samples=3"))["training"]
    for number, read in ((2, 2), (3, 3), (8, 3)):
        config = settings("distill.num_samples=3", f"contexts.num_contexts={number}")
        more = stages(FREE, config)["training"].prefill_tokens - once.prefill_tokens
        assert more == 6 * (read - 1) * (18 + 48)
    bare = settings("contexts.num_demonstrations=0", "contexts.num_contexts=2")
    none = settings("contexts.num_demonstrations=0")
    assert tokens(stages(FREE, bare)["training"]) == tokens(
        stages(FREE, none)["training"]
    )


def test_pool_training_and_tests_have_lengths_of_their_own() -> None:
    work = replace(FREE, trained=Writing(3.0, 3), tested=Writing(7.0, 9))
    config = settings("evaluation.prompted=false")
    usual, found = stages(FREE, config), stages(work, config)
    for name in ("rollouts", "neurons", "teacher_check"):
        assert found[name] == usual[name]
    assert found["training"].decode_tokens == 6 * 3
    assert found["evaluation"].decode_tokens == 2 * 5 * 2 * 7


def test_choices_are_read_once_whatever_is_drawn() -> None:
    config = settings("evaluation.prompted=false", "contexts.answer=greedy")
    found = stages(CONSTRAINED, config)
    assert tokens(found["rollouts"]) == (230, 0, 0)
    assert tokens(found["neurons"]) == (200 + 10 * 3, 0, 0)
    # Of the 30 tokens more, six of ten questions read 18.
    assert tokens(found["training"]) == (6 * (36 + 48 + 3) + 18, 0, 6 * 21)
    assert tokens(found["evaluation"]) == (2 * 100, 0, 0)
    assert found["evaluation"].seconds == pytest.approx(2.0)


def test_demonstrations_are_read_as_often_as_the_prompt() -> None:
    found = stages(CONSTRAINED, settings("teacher_check.num_questions=10"))[
        "teacher_check"
    ]
    # Two of ten are selected; a fifth of a row is rounded away, six tokens are not.
    assert tokens(found) == (3 * (40 + 6) + 2 * 2 * 48, 0, 0)
    every = settings("teacher_check.num_questions=10", "selection.rule=all")
    assert tokens(stages(CONSTRAINED, every)["teacher_check"]) == (
        *(3 * 230 + 2 * 11 * 48, 0, 0),
    )


@given(st.integers(1, 500), st.integers(1, 100))
def test_as_many_are_selected_as_a_selection_keeps(size: int, percent: int) -> None:
    share = f"selection.keep_fraction={percent / 100}"
    config = settings(share, "selection.rule=random")
    pool = PoolSignals(not_read([f"q{i}" for i in range(size)]))
    kept = select_questions(pool, config.selection, seed=0)
    work = replace(FREE, pool=replace(POOL, num_questions=size))
    assert num_selected(work, config) == len(kept_ids(kept))


def test_demonstrations_are_shown_to_the_in_domain_test_alone() -> None:
    work = replace(FREE, in_domain=QuestionTokens(1, 20, num_free=1))
    found = stages(work, settings())["evaluation"]
    assert tokens(found) == (2 * 100 + 68 + 24, 2 * 40 + 8, 0)


def test_what_is_switched_off_is_not_in_the_plan() -> None:
    names = set(stages(FREE, settings("teacher_check.action=off")))
    assert names == {"loading", "rollouts", "neurons", "training", "evaluation"}
    none = QuestionTokens(0, 0)
    assert "evaluation" not in stages(
        replace(FREE, tests=none, in_domain=none), settings()
    )
    alone = settings("contexts.num_demonstrations=0")
    assert "teacher_check" not in stages(FREE, alone)
    assert tokens(stages(FREE, alone)["evaluation"]) == (200, 2 * 40, 0)


def test_greedy_answers_are_begun_anew_and_the_control_costs_more() -> None:
    config = settings("contexts.answer=greedy", "evaluation.form_only=true")
    found = stages(FREE, config)
    assert tokens(found["rollouts"]) == (2 * 200, 10 * 3 * 4, 0)
    assert tokens(found["form-only control"]) == (100, 5 * 2 * 4, 6 * 22)
    assert found["form-only control"].seconds == pytest.approx(2 * 2.0 + 1.0 + 4.0)
    assert found["loading"].seconds == 3 * 3.0


def test_every_checkpoint_takes_time() -> None:
    found = stages(FREE, settings("distill.steps=25", "distill.checkpoint_every=10"))
    assert found["training"].seconds == 25 * 5.0 + 2 * 0.5


def test_the_sums_are_those_of_the_stages() -> None:
    found = plan(FREE, RATES, HELD, FACTS, settings())
    assert found.seconds is not None
    assert found.seconds == sum(stage.seconds or 0.0 for stage in found.stages)
    assert found.low == pytest.approx(0.75 * found.seconds)
    assert found.high == pytest.approx(1.25 * found.seconds)


def test_an_adapter_has_rank_times_the_sides_of_every_matrix() -> None:
    # Four square matrices of width 4 and three of 4 x 8, in each of two layers.
    expected = 16 * 2 * (4 * (4 + 4) + 3 * (4 + 8))
    assert trained_parameters(FACTS, settings()) == expected
    full = trained_parameters(FACTS, settings("distill.tuning=full"))
    assert full == FACTS.num_parameters


def test_the_most_memory_is_that_of_training_or_of_testing_the_trained() -> None:
    def peak(held: Held, *assignments: str) -> int:
        config = settings(*assignments)
        return plan(CONSTRAINED, RATES, held, FACTS, config).peak_memory_bytes

    # What training leaves; a trained model of its own beside it where all is trained.
    assert peak(HELD) == 1500
    assert peak(replace(HELD, training=0)) == 1000
    assert peak(HELD, "evaluation.form_only=true") == 1500
    assert peak(HELD, "distill.tuning=full") == 1600
    assert peak(Held(answering=0, training=0, network=0)) == 0


def test_completions_that_grow_side_by_side_take_memory() -> None:
    config = settings()
    cut = Writing(mean=4.0, limit=4)
    # Ten questions, two samples each, of four tokens.
    work = replace(FREE, written=cut, tested=cut)
    assert num_positions(work, config) == 80
    held = Held(answering=1000, training=0, network=0, position=2.0, num_positions=30)
    assert plan(work, RATES, held, FACTS, config).peak_memory_bytes == 1100
    assert num_positions(CONSTRAINED, config) == 0


def with_vllm(work: Work, held: Held) -> Plan:
    config = settings("evaluation.form_only=true").changed(engine={"rollouts": "vllm"})
    return plan(work, RATES, held, FACTS, config)


def test_stages_that_vllm_writes_for_have_no_time() -> None:
    found = with_vllm(FREE, HELD)
    assert {stage.name: stage.seconds is None for stage in found.stages} == {
        "loading": False,
        "rollouts": True,
        "neurons": False,
        "teacher_check": True,
        "training": True,
        "evaluation": True,
        "form-only control": True,
    }
    assert all((s.seconds is None) == (s.low is None) for s in found.stages)
    assert (found.seconds, found.low, found.high) == (None, None, None)
    assert "small part of the pool" in found.why_untimed
    # It has nothing to write where answers are choices.
    chosen = with_vllm(CONSTRAINED, HELD)
    assert chosen.seconds == pytest.approx(sum(s.seconds or 0 for s in chosen.stages))
    assert chosen.seconds
    assert not chosen.why_untimed


def test_vllm_stands_beside_what_is_held_between_steps() -> None:
    def peak(work: Work = FREE, *, sleeps: bool, between: int = 800) -> tuple[int, int]:
        own = replace(HELD, engine=500, between=between, sleeps=sleeps, position=9.0)
        found = with_vllm(work, own)
        return found.peak_memory_bytes, found.engine_memory_bytes

    assert peak(sleeps=False) == (1500 + 500, 500)
    assert peak(sleeps=True) == (1500, 500)
    assert peak(sleeps=True, between=1200) == (1200 + 500, 500)
    assert peak(CONSTRAINED, sleeps=False) == (1500, 0)


def test_the_disk_holds_the_neurons_of_the_pool() -> None:
    def disk(keep: int, facts: ModelFacts = FACTS) -> int:
        config = settings(f"neurons.keep={keep}")
        return plan(FREE, RATES, HELD, facts, config).disk_bytes

    assert disk(1010) - disk(10) == 10 * 1000 * 8
    for num_layers in (36, 80):  # no run keeps more than the paper does
        large = replace(FACTS, num_layers=num_layers, num_neurons=9728)
        assert disk(0, large) == disk(5000, large)


def test_an_answer_is_a_choice_or_free() -> None:
    assert answer_length(FOUR, POOL) == 4.0
    assert answer_length(FOUR, CHOICES) == 3.0
    assert answer_length(FOUR, replace(CHOICES, num_free=5)) == 3.5
    assert answer_length(FOUR, QuestionTokens(0, 0)) == 0.0


def test_a_part_of_questions_is_like_the_whole() -> None:
    assert part_of(CHOICES, 20) == QuestionTokens(20, 400, 120, 40, 2, 60, 0)
    assert part_of(POOL, 20) == QuestionTokens(20, 400, num_free=20)


def test_waiting_samples_take_the_places_of_those_that_ended() -> None:
    config = settings("rollouts.max_new_tokens=256", "rollouts.block_size=256")
    assert rows_of(8, 2) == 16
    assert rows_of(256, 2) == 256
    writing = Writing(mean=256.0, limit=256)
    # Twice as many samples as rows: twice as many steps as the longest has tokens.
    assert decoding_steps(writing, 256, 2, config) == 2 * 256
    assert decoding_steps(writing, 512, 2, config) == 4 * 256
    assert decoding_steps(writing, 2, 2, config) == 256
    assert decoding_steps(writing, 0, 2, config) == 0


def test_the_longest_of_many_is_longer_than_the_mean_and_never_above_the_limit() -> (
    None
):
    assert expected_longest(4.0, 1, 100) == pytest.approx(4.0)
    assert 8.0 < expected_longest(4.0, 8, 100) < 12.0
    assert expected_longest(4.0, 8, 6) == 6.0
    assert expected_longest(1.0, 50, 6) == 1.0
    assert expected_longest(6.0, 1, 6) == 6.0


@given(st.floats(1.01, 50), st.integers(1, 500), st.integers(1, 500))
def test_more_completions_have_a_longer_longest(
    mean: float, rows: int, more: int
) -> None:
    fewer, many = (expected_longest(mean, n, 60) for n in (rows, rows + more))
    assert mean - 1e-9 <= fewer <= many <= 60


@given(st.integers(0, 500), st.integers(1, 500), st.floats(1, 300), st.floats(0.0, 1.0))
def test_more_work_never_costs_less(
    pool: int, more: int, length: float, free: float
) -> None:
    def cost(num_questions: int) -> float:
        num_free = int(free * num_questions)
        questions = QuestionTokens(num_questions, 20 * num_questions, num_free=num_free)
        writing = Writing(length, 512)
        sets, lengths = (questions,) * 3, (writing,) * 3
        work = Work(*sets, *lengths, 20.0, 30.0)
        return plan(work, RATES, HELD, FACTS, settings()).seconds or 0.0

    assert 0 <= cost(pool) <= cost(pool + more) + 1e-6


def test_rules_that_read_the_teacher_ask_the_whole_pool_twice() -> None:
    shift = stages(CONSTRAINED, settings("selection.rule=belief-shift"))["beliefs"]
    far = stages(CONSTRAINED, settings("selection.rule=divergence"))["beliefs"]
    # Ten prompts of 20 and 30 tokens more for the one read again, without and with 48
    # tokens of demonstrations before each of eleven.
    assert tokens(shift) == tokens(far) == (2 * 230 + 11 * 48, 0, 0)
    assert shift.seconds == pytest.approx(230 * 0.01 + (230 + 11 * 48) * 0.02)
    for rule in ("random", "low-entropy", "high-vote", "fewest-neurons"):
        found = stages(CONSTRAINED, settings(f"selection.rule={rule}"))
        assert not {"beliefs", "divergences"} & found.keys()


def test_free_beliefs_take_two_answers_and_divergences_one_sample() -> None:
    shift = stages(FREE, settings("selection.rule=belief-shift"))["beliefs"]
    assert tokens(shift) == (2 * 20 * (20 + 4) + 20 * 48, 0, 0)
    far = stages(FREE, settings("selection.rule=divergence"))["divergences"]
    assert tokens(far) == (2 * 10 * (20 + 4) + 10 * 48, 0, 0)
    long = replace(FREE, written=Writing(2000.0, 4000))
    cut = stages(long, settings("selection.rule=divergence"))["divergences"]
    assert tokens(cut) == (2 * 10 * (20 + 512) + 10 * 48, 0, 0)


def test_only_the_first_tokens_are_read_for_their_neurons() -> None:
    usual, cut, answers = (
        tokens(stages(FREE, settings(*given))["neurons"])
        for given in (
            (),
            ("neurons.first_tokens=2",),
            ("neurons.first_tokens=2", "neurons.span=answer"),
        )
    )
    assert usual == answers == (200 + 10 * 4, 0, 0)
    assert cut == (200 + 10 * 2, 0, 0)


def test_passes_over_questions_and_over_all_samples_are_counted() -> None:
    shown = ("selection.rule=all", "evaluation.prompted=false")
    medoid = "contexts.answer=neuron-medoid"
    found = stages(FREE, settings("contexts.rule=question-neurons", medoid, *shown))
    assert "neurons" not in found
    assert tokens(found["question-neurons"]) == (200, 0, 0)
    assert found["question-neurons"].seconds == pytest.approx(200 * 0.03)
    # Two samples of each question.
    assert tokens(found["medoids"]) == (2 * (200 + 10 * 4), 0, 0)
    assert found["medoids"].seconds == pytest.approx(480 * 0.03)
    # No more of a question than it has choices: 20 of ten, though five are drawn.
    drawn = settings("contexts.rule=words", medoid, "rollouts.num_samples=5", *shown)
    found = stages(CONSTRAINED, drawn)
    assert tokens(found["medoids"]) == (2 * (200 + 10 * 3), 0, 0)
    found = stages(FREE, settings("contexts.rule=hidden-state", *shown))
    assert tokens(found["hidden-states"]) == (200, 0, 0)
    assert found["hidden-states"].seconds == pytest.approx(200 * 0.01)


@pytest.mark.parametrize(
    ("told", "more"),
    [
        (("contexts.rule=words",), 0),
        (("contexts.rule=hidden-state",), 100),
        (("contexts.rule=question-neurons",), 100),
        (("contexts.rule=nearest",), 100 + 5 * 4),
        # The test's own answers find nothing where words do.
        (("contexts.rule=words", "contexts.answer=neuron-medoid"), 0),
        (("contexts.rule=same-answer", "contexts.answer=neuron-medoid"), 2 * 120),
    ],
)
def test_the_prompted_control_reads_what_its_rule_reads(
    told: tuple[str, ...], more: int
) -> None:
    found = stages(FREE, settings("selection.rule=all", *told))
    assert found["evaluation"].prefill_tokens == 3 * 100 + 5 * 48 + more
