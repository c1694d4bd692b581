"""Samples of a run's stages, on a scripted model whose clock is a counter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

import pytest

from neuron_opsd.config import Config
from neuron_opsd.config.tables import load_config
from neuron_opsd.planning import samples, trials
from neuron_opsd.planning.samples import (
    Sample,
    grown,
    make_examples,
    make_sample,
    selected,
    try_capture,
    try_shown,
)
from neuron_opsd.planning.trials import (
    Trial,
    count_questions,
    decoded,
    try_choices,
    try_writing,
)
from neuron_opsd.planning.workload import QuestionTokens
from neuron_opsd.records import Completion, Message, NeuronSet, Question
from neuron_opsd.stages.rollouts import PromptedQuestion, ask
from resolved import sampled_among_choices
from scripted import ScriptedModel

MODEL = ScriptedModel({"Is": ["odd", "even"], "What": ["seven", "eight or so"]})


def settings(*assignments: str) -> Config:
    small = ["prompts.form=plain", "rollouts.num_samples=2", "neurons.per_layer=2"]
    small += ["contexts.num_demonstrations=2", "selection.keep_fraction=0.5"]
    return load_config(assignments=[*small, *assignments])


def trial(*assignments: str) -> Trial:
    ticks = count()
    return Trial(MODEL, settings(*assignments), lambda: float(next(ticks)))


def choosing(numbers: Sequence[int]) -> list[PromptedQuestion]:
    questions = [
        Question(f"q{n}", (Message("user", f"Is {n} odd?"),), choices=("odd", "even"))
        for n in numbers
    ]
    return ask(questions, sampled_among_choices(settings()))


def free(numbers: Sequence[int]) -> list[PromptedQuestion]:
    questions = [
        Question(f"f{n}", (Message("user", f"What is {n}?"),)) for n in numbers
    ]
    return ask(questions, sampled_among_choices(settings()))


def test_a_call_is_timed_by_the_trials_clock() -> None:
    assert trial().timed(lambda: "done") == ("done", 1.0)
    still = replace(trial(), clock=lambda: 0.0)
    assert still.timed(lambda: None)[1] > 0.0


def choosing_among(*choices: str) -> PromptedQuestion:
    question = Question("q", (Message("user", "Is it?"),), choices=choices)
    return ask([question], sampled_among_choices(settings()))[0]


PROMPT = len("Question: Is it?\nAnswer:")


def test_choices_that_part_at_once_are_read_off_one_prompt() -> None:
    # A token is a byte, and all choices begin with a space.
    found = count_questions(MODEL, [choosing_among("odd", "even")])
    expected = QuestionTokens(
        *(1, PROMPT), choice_tokens=5 + 6, num_choices=2, extra_tokens=1
    )
    assert found == expected
    assert trial().length(choosing_among("odd", "even")) == PROMPT + 1


def test_choices_that_part_in_two_places_are_read_off_two_prompts() -> None:
    # They part after "a" and after "b", and both places lie behind the first one.
    asked = choosing_among("ax", "ay", "bx", "by")
    found = count_questions(MODEL, [asked, *free([1])])
    assert (found.extra_rows, found.extra_tokens) == (1, PROMPT + 2 + 2)
    assert (found.num_questions, found.num_free) == (2, 1)
    assert trial().tokens([asked]) == 2 * (PROMPT + 2)
    assert count_questions(MODEL, []) == QuestionTokens(0, 0)


def test_a_question_with_one_choice_is_counted_as_a_prompt() -> None:
    assert trial().length(choosing_among("odd")) == PROMPT


def test_choices_are_answered_as_often_as_in_the_run() -> None:
    asked = choosing(range(30))
    found = try_choices(trial("contexts.answer=greedy"), asked)
    # Four questions in the first second leave time for sixteen in four.
    assert len(found.asked) == 16
    assert len(found.rollouts) == 16 * (2 + 1)
    tokens = trial().tokens(found.asked)
    assert found.seconds_per_token == pytest.approx(1.0 / tokens)


def test_a_slow_model_answers_no_more_than_a_few(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trials, "ANSWERING_SECONDS", 0.5)
    assert len(try_choices(trial(), choosing(range(30))).asked) == 4
    assert len(try_choices(trial(), choosing(range(2))).asked) == 2


def test_a_sample_is_never_larger_than_a_block() -> None:
    found = try_choices(trial("rollouts.block_size=6"), choosing(range(30)))
    assert len(found.asked) == 6


def test_free_answers_are_cut_and_their_length_is_foretold() -> None:
    asked = free(range(10))
    found, written = try_writing(trial("rollouts.max_new_tokens=9"), asked)
    # The first sample took a second, less what reading takes, so four fit or a little
    # more; each has two answers, of 7 tokens and of 13 that are cut at 9.
    assert len(found.asked) >= 4
    assert {len(r.completion.token_ids) for r in found.rollouts} == {7, 9}
    assert {r.completion.finished for r in found.rollouts} == {True, False}
    assert 7 < written.length(9) < 9
    assert written.num_positions == len(found.rollouts) * 9
    made = len(found.asked) * (7 + 9)
    total = 9 * written.decoding.step_seconds + made * written.decoding.token_seconds
    assert 0.0 < total <= 1.0


def test_steps_are_those_of_the_longest_completion() -> None:
    found, _ = try_writing(trial(), free(range(2)))
    assert decoded(found.rollouts)[0] == len(" eight or so\n")


def completion(text: str, *, finished: bool = True) -> Completion:
    return Completion(tuple(text.encode()), text, finished, 0.0, 0.0)


def test_a_completion_that_was_cut_grows_by_repeating_itself() -> None:
    cut = completion("abc", finished=False)
    assert grown(cut, 4.0).token_ids == tuple(b"abcabca")
    assert grown(cut, 4.0).text == "abc abc abc"
    assert grown(cut, 0.4) == cut
    assert grown(completion("abc"), 4.0) == completion("abc")


def test_questions_without_an_answer_borrow_one() -> None:
    pool = [*choosing(range(6)), *free(range(6))]
    now = trial()
    one, written = try_writing(now, free([3]))
    sample = make_sample(now, pool, [one], written.rest(now, 512))
    assert len(sample.asked) == len(sample.completions) == 12
    for asked, made in zip(sample.asked, sample.completions, strict=True):
        texts = asked.written or ("seven",)
        assert made.text in texts


def test_a_sample_keeps_the_answers_of_its_own() -> None:
    pool = choosing(range(6))
    answered = try_choices(trial(), pool)
    sample = make_sample(trial(), pool, [answered], 0.0)
    first = {r.question_id: r.completion for r in answered.rollouts if not r.index}
    assert [c.text for c in sample.completions] == [
        first[a.question.id].text for a in sample.asked
    ]


@pytest.fixture
def sample() -> Sample:
    pool = choosing(range(6))
    return make_sample(trial(), pool, [try_choices(trial(), pool)], 0.0)


def test_neurons_are_read_off_at_seconds_per_token(sample: Sample) -> None:
    seconds, sets = try_capture(trial(), sample, 1e-6)
    tokens = sum(
        len(MODEL.encode(a.prompt)) + len(c.token_ids)
        for a, c in zip(sample.asked, sample.completions, strict=True)
    )
    assert seconds == pytest.approx(1.0 / tokens)
    assert [entry.question_id for entry in sets] == [
        a.question.id for a in sample.asked
    ]
    # At a second a token, one question is all that fits.
    assert len(try_capture(trial(), sample, 1.0)[1]) == 1


def test_a_run_would_select_by_its_own_rule(sample: Sample) -> None:
    _, found = try_capture(trial(), sample, 1e-6)
    sets = [replace(entry, neuron_count=n) for n, entry in enumerate(found)]
    first = frozenset(a.question.id for a in sample.asked[:3])
    assert selected(trial(), sample, sets) == first
    everything = selected(trial("selection.rule=all"), sample, sets)
    assert len(everything) == 6
    nothing: list[NeuronSet] = []
    assert len(selected(trial(), sample, nothing)) == 6


def test_examples_show_as_many_demonstrations_as_the_run(sample: Sample) -> None:
    for config in (settings(), settings("contexts.num_demonstrations=9")):
        shown = config.contexts.num_demonstrations
        found = make_examples(replace(trial(), config=config), sample)
        assert len(found) == 6
        for example in found:
            assert example.teacher_prompt.text.count("Answer:") == shown + 1
            assert example.student_prompt.text.count("Answer:") == 1
            assert example.other_prompts == ()
            assert example.teacher_prompt.text.endswith(
                example.student_prompt.text.rpartition("\n\n")[2]
            )


def test_examples_have_as_many_contexts_as_in_the_run(sample: Sample) -> None:
    config = settings("contexts.num_demonstrations=2", "contexts.num_contexts=2")
    for example in make_examples(replace(trial(), config=config), sample):
        one, other = (prompt.text for prompt in example.teacher_prompts)
        assert one != other
        assert one.count("Answer:") == other.count("Answer:") == 3


def test_about_a_batch_is_answered_with_demonstrations(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = trial("model.tokens_per_batch=300")
    examples = make_examples(now, sample)
    asked, made, seconds = try_shown(now, sample, examples, 1e-9)
    assert seconds == 1.0
    assert 1 <= len(asked) < 6
    assert now.tokens(asked) <= 300
    assert len(made) == 2 * len(asked)
    monkeypatch.setattr(samples, "SHOWING_SECONDS", 1e-9)
    assert len(try_shown(now, sample, examples, 1.0)[0]) == 1
