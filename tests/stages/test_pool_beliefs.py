"""What student and teacher believe of a pool, on models that replay their answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from neuron_opsd.config import Config
from neuron_opsd.config.tables import load_config
from neuron_opsd.records import (
    Completion,
    Demonstration,
    Message,
    Pair,
    Question,
    Rollout,
    StoredSummary,
    TeacherContext,
    Vote,
)
from neuron_opsd.stages.pool_beliefs import (
    ANSWER_TOKENS,
    Given,
    Lesson,
    entropies_of,
    first_givers,
    first_samples,
    pool_beliefs,
    pool_divergences,
    stating,
)
from neuron_opsd.stages.rollouts import ask
from resolved import sampled_among_choices, written_freely
from scripted import ScriptedModel

OTHER = Question("other", (Message("user", "Is it odd?"),))
STUDENT, TEACHER = "Question: Is it air?", "yes it is\n\nQuestion: Is it air?"


def config_of(*assignments: str) -> Config:
    return load_config(None, ["prompts.form=plain", *assignments])


def lesson(config: Config, *choices: str, given: tuple[Given, ...] = ()) -> Lesson:
    """Return a question that the teacher sees after another, answered "yes it is"."""
    question = Question("air", (Message("user", "Is it air?"),), choices)
    mode = sampled_among_choices if choices else written_freely
    (asked,) = ask([question], mode(config))
    context = TeacherContext("air", (Demonstration("other", "yes it is", 0.5, ""),))
    return Lesson(asked, context, {"other": OTHER}, given)


def completion(answer: str) -> Completion:
    ids = tuple(f" {answer}\n".encode())
    return Completion(ids, answer, finished=True, logprob=-1.0, entropy=0.5)


def script(student: list[str], teacher: list[str]) -> ScriptedModel:
    # Both parts end where the teacher's prompt does, and the first of them counts.
    return ScriptedModel({TEACHER: teacher, STUDENT: student})


def test_among_choices_beliefs_are_exact_and_those_of_the_loss() -> None:
    """At temperature 1 and without a bias, whatever the pool was sampled with."""
    config = config_of(
        "rollouts.temperature=0.5", "rollouts.choice_bias={yes = -0.1, no = -3.0}"
    )
    model = script(["yes", "yes", "yes", "no"], ["yes", "no"])
    (found,) = pool_beliefs(model, [lesson(config, "yes", "no")], config)
    assert found.question_id == "air"
    assert found.answers == ("yes", "no")
    assert np.exp(found.student).tolist() == pytest.approx([0.75, 0.25], rel=1e-5)
    assert np.exp(found.teacher).tolist() == pytest.approx([0.5, 0.5], rel=1e-5)
    expected = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert found.divergence == pytest.approx(expected, rel=1e-5)
    # Bytes of both prompts; the teacher's holds the demonstration besides.
    assert found.num_tokens > 2 * len("Question: Is it air?")


def test_a_vote_is_reweighted_by_how_the_teacher_scores_its_answers() -> None:
    given = (Given("7", 6, completion("7")), Given("8", 2, completion("8")))
    model = script(["7", "7", "7", "8"], ["7", "8"])
    config = config_of()
    (found,) = pool_beliefs(model, [lesson(config, given=given)], config)
    assert found.answers == ("7", "8")
    assert np.exp(found.student).tolist() == pytest.approx([0.75, 0.25])
    # 7 goes from three quarters to a half, 8 from a quarter to a half.
    weights = [6 * (0.5 / 0.75), 2 * (0.5 / 0.25)]
    expected = [w / sum(weights) for w in weights]
    assert np.exp(found.teacher).tolist() == pytest.approx(expected)
    assert found.divergence is None


class Counting(ScriptedModel):
    """Counts what it scores."""

    def __init__(self) -> None:
        super().__init__({STUDENT: ["7"]})
        self.scored = 0

    def logprobs(self, pairs: Sequence[Pair]) -> list[float]:
        """Score completions."""
        self.scored += len(pairs)
        return super().logprobs(pairs)


def test_samples_that_all_agree_are_not_scored_and_have_no_shift() -> None:
    model, config = Counting(), config_of()
    agreed = lesson(config, given=(Given("7", 8),))
    (found,) = pool_beliefs(model, [agreed], config)
    assert model.scored == 0
    assert (found.answers, found.student, found.teacher) == (("7",), (0.0,), (0.0,))
    assert found.num_tokens == 0


def test_where_no_sample_can_be_read_nothing_is_believed() -> None:
    config = config_of()
    (found,) = pool_beliefs(Counting(), [lesson(config)], config)
    assert found.answers == ()
    assert found.divergence is None


def test_lessons_of_both_kinds_come_back_in_their_order() -> None:
    config = config_of()
    model = script(["yes", "no"], ["yes", "no"])
    free = lesson(config, given=(Given("yes", 1),))
    other = replace(free.asked, question=replace(free.asked.question, id="bee"))
    both = [replace(free, asked=other), lesson(config, "yes", "no")]
    found = pool_beliefs(model, both, config)
    assert [belief.question_id for belief in found] == ["bee", "air"]
    assert [len(belief.answers) for belief in found] == [1, 2]


def test_only_the_end_of_a_completion_is_scored_and_no_reasoning() -> None:
    model = script(["7"], ["7"])
    asked = lesson(config_of()).asked
    text = "<think>" + 200 * "a" + "</think>7 it is"
    start = text.index("7 it")
    made = Completion(tuple(text.encode()), text, True, -1.0, 0.5, start)  # noqa: FBT003
    prompt, end = stating(model, asked.prompt, Given("7", 1, made))
    assert bytes(end).decode() == "7 it is"
    assert bytes(prompt).decode().endswith("</think>")
    # A long answer without marked reasoning counts by its last tokens.
    long = Completion(tuple(text.encode()), text, True, -1.0, 0.5)  # noqa: FBT003
    prompt, end = stating(model, asked.prompt, Given("7", 1, long))
    assert len(end) == ANSWER_TOKENS
    assert bytes(prompt + end).decode().endswith(text)


def test_tokens_that_do_not_spell_their_text_are_scored_at_their_end() -> None:
    model = script(["7"], ["7"])
    odd = Completion(tuple(b"?" * 80), "<think>a</think>7", True, -1.0, 0.5, 16)  # noqa: FBT003
    _, end = stating(model, lesson(config_of()).asked.prompt, Given("7", 1, odd))
    assert len(end) == ANSWER_TOKENS


def test_divergence_of_free_answers_is_that_of_the_first_sample() -> None:
    config = config_of()
    given = (Given("", 1, completion("7")),)
    apart = script(["7"], ["8"])
    (found,) = pool_divergences(apart, [lesson(config, given=given)], config)
    assert (found.answers, found.divergence) == ((), 1.0)
    (same,) = pool_divergences(
        script(["7"], ["7"]), [lesson(config, given=given)], config
    )
    assert same.divergence == 0.0
    assert same.num_tokens > 2 * 3


def summary(
    name: str, index: int, answer: str | None, heat: float = 0.6, **more: Any
) -> StoredSummary:
    made = StoredSummary(name, index, heat, answer, 4, True, True, -1.0, 0.5, 0)  # noqa: FBT003
    return replace(made, **more)


def test_the_first_sample_of_each_answer_stands_for_it() -> None:
    votes = {
        "q0": Vote("q0", "7", {"7": 2, "8": 1}, 4, {"7": "7", "7.0": "7", "8": "8"}),
        "q1": Vote("q1", "7", {"7": 4}, 4, {"7": "7"}),
    }
    samples = [
        summary("q0", 0, "8", 0.0),
        summary("q0", 0, None),
        summary("q0", 1, "7.0"),
        summary("q0", 2, "7"),
        summary("q0", 3, "8"),
        *(summary("q1", n, "7") for n in range(4)),
    ]
    found = first_givers(samples, votes)
    assert {n: {a: s.index for a, s in of.items()} for n, of in found.items()} == {
        "q0": {"7": 1, "8": 3}
    }
    assert {n: s.index for n, s in first_samples(samples).items()} == {"q0": 0, "q1": 0}
    assert first_samples(samples)["q0"].temperature > 0.0


def test_entropies_are_of_samples_and_of_the_whole_choice() -> None:
    samples = [
        summary("free", 0, "a", 0.0, entropy=0.0),
        summary("free", 0, "a", entropy=0.2),
        summary("free", 1, "b", entropy=0.6),
        # Of one choice with entropy 0.8, spread over two tokens and over four.
        summary("among", 0, "a", entropy=0.4, num_tokens=2),
        summary("among", 1, "b", entropy=0.2, num_tokens=4),
    ]
    found = entropies_of(samples, frozenset({"among"}))
    assert found == pytest.approx({"free": 0.4, "among": 0.8})


def test_a_rollout_in_full_is_as_good_as_its_summary() -> None:
    rollout = Rollout("q", 0, 0.6, completion("a"), "a")
    assert entropies_of([rollout], frozenset()) == {"q": 0.5}
