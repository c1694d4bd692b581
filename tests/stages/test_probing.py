"""Hearing student and teacher, on models whose every answer is written down."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from neuron_opsd.config import Config
from neuron_opsd.config.tables import load_config
from neuron_opsd.records import Completion, Message, Prompt, Question, Rollout, Vote
from neuron_opsd.stages.probing import (
    Heard,
    Probe,
    Subject,
    hear,
    subject_of,
    to_be_scored,
    views_of,
)
from neuron_opsd.stages.rollouts import ask
from resolved import sampled_among_choices, written_freely
from scripted import ScriptedModel

STUDENT = "Question: Is it air?"
SCRIPT = {
    STUDENT: ["yes", "no", "yes", "yes"],
    "T Is it air?": ["no", "no", "no", "yes"],
}


def config_of(*assignments: str) -> Config:
    hot = "rollouts.temperature=1.0"
    return load_config(None, ["prompts.form=plain", hot, *assignments])


def question(*choices: str) -> Question:
    return Question("air", (Message("user", "Is it air?"),), choices)


def tokens(answer: str) -> tuple[int, ...]:
    return tuple(f" {answer}\n".encode())


def rollout(answer: str | None, index: int = 0) -> Rollout:
    text = answer or "?"
    made = Completion(tokens(text), text, finished=True, logprob=0.0, entropy=0.0)
    return Rollout("air", index, 1.0, made, answer)


def voted(*answers: str | None) -> tuple[list[Rollout], Vote]:
    """Return rollouts with these answers, and the vote that they hold."""
    rollouts = [rollout(answer, index) for index, answer in enumerate(answers)]
    read = [answer for answer in answers if answer is not None]
    counts = {answer: read.count(answer) for answer in dict.fromkeys(read)}
    label = max(counts, key=counts.__getitem__, default=None)
    vote = Vote("air", label, counts, len(answers), {a: a for a in counts})
    return rollouts, vote


def heard_by(
    config: Config, *choices: str, own: Sequence[str] = (), num_written: int = 0
) -> tuple[Heard, Heard]:
    """Return what student and teacher say of the question."""
    (asked,) = ask([question(*choices)], config)
    completions = tuple(map(tokens, own))
    shown = Prompt(text="T Is it air?\nAnswer:")
    model = ScriptedModel(SCRIPT)
    (student,) = hear(model, [Probe(asked, asked.prompt, completions)], config)
    probes = [Probe(asked, shown, completions)]
    (teacher,) = hear(model, probes, config, num_written)
    return student, teacher


def test_choices_are_heard_exactly() -> None:
    config = sampled_among_choices(config_of())
    student, teacher = heard_by(config, "yes", "no")
    _, vote = voted("yes", "no", "yes", "yes")
    views = views_of(subject_of(question("yes", "no"), vote, None), student, teacher)
    assert views.student == pytest.approx([0.75, 0.25])
    assert views.teacher == pytest.approx([0.25, 0.75])
    assert views.voted == 0
    assert views.away == pytest.approx(0.5)
    assert views.divergence == pytest.approx(0.5 * math.log(3.0))


def test_own_completions_are_scored_and_none_is_written() -> None:
    config = written_freely(config_of("answers.reader=text"))
    model_asked = heard_by(config, own=("yes", "no"))
    student, teacher = model_asked
    assert student.logprobs == pytest.approx((math.log(0.75), math.log(0.25)))
    assert teacher.logprobs == pytest.approx((math.log(0.25), math.log(0.75)))
    assert student.divergence == 0.0  # under its own prompt there is none
    assert teacher.divergence == 1.0  # the scripts differ
    rollouts, vote = voted("yes", "no", "yes", "yes")
    views = views_of(subject_of(question(), vote, rollouts[:2]), student, teacher)
    # Ratios are 1/3 and 3, whose logarithms are log 3 from their mean: e and 1/e.
    weights = np.array([0.75 / math.e, 0.25 * math.e])
    assert views.student.tolist() == [0.75, 0.25]
    assert views.teacher == pytest.approx(weights / weights.sum())


def test_free_answers_may_be_written_anew() -> None:
    config = written_freely(config_of("answers.reader=text"))
    student, teacher = heard_by(config, own=("yes", "no"), num_written=4)
    assert teacher.answers == ("no", "no", "no", "yes")
    rollouts, vote = voted("yes", "no", "yes", "yes")
    subject = subject_of(question(), vote, rollouts[:2], teacher.answers)
    views = views_of(subject, student, teacher)
    assert views.teacher.tolist() == [0.25, 0.75]


def test_scoring_asks_a_model_to_write_nothing() -> None:
    config = written_freely(config_of("answers.reader=text"))
    (asked,) = ask([question()], config)
    model = ScriptedModel(SCRIPT)
    hear(model, [Probe(asked, asked.prompt, (tokens("yes"),))], config)
    assert model.asked == []
    hear(model, [Probe(asked, asked.prompt, (tokens("yes"),))], config, 2)
    assert len(model.asked) == 1


def test_a_pool_of_both_kinds_keeps_its_order() -> None:
    config = sampled_among_choices(config_of("answers.reader=text"))
    free, among = ask([question(), question("yes", "no")], config)
    probes = [
        Probe(free, free.prompt, (tokens("yes"),)),
        Probe(among, among.prompt),
        Probe(free, free.prompt, (tokens("no"),)),
    ]
    found = hear(ScriptedModel(SCRIPT), probes, config)
    assert [len(one.plain) for one in found] == [0, 2, 0]
    assert found[0].logprobs == pytest.approx((math.log(0.75),))
    assert found[2].logprobs == pytest.approx((math.log(0.25),))


def test_of_one_answer_only_the_first_completion_is_scored() -> None:
    rollouts, vote = voted("yes", "yes", "yes")
    assert to_be_scored(rollouts, vote, 4) == rollouts[:1]


def test_every_answer_is_scored_before_any_twice() -> None:
    rollouts, vote = voted("yes", "yes", None, "no", "yes")
    chosen = to_be_scored(rollouts, vote, 4)
    assert [one.index for one in chosen] == [0, 2, 3, 1]
    assert [one.index for one in to_be_scored(rollouts, vote, 2)] == [0, 2]


def subject(*answers: str | None, scored: int = 0, more: Sequence[str] = ()) -> Subject:
    rollouts, vote = voted(*answers)
    chosen = rollouts[: scored or len(rollouts)]
    return subject_of(question(), vote, chosen, more, lambda a, b: a[0] == b[0])


def test_what_cannot_be_read_is_an_answer_of_its_own() -> None:
    found = subject("yes", None, "no", None)
    assert set(found.answers) == {"yes", "no", ""}
    assert found.shares[found.places[""]] == 0.5
    assert found.voted == 0
    assert found.scored == tuple(found.places[a] for a in ("yes", "", "no", ""))


def test_unread_answers_keep_their_share_where_they_are_not_scored() -> None:
    found = subject("yes", "no", None, scored=2)
    assert found.shares.sum() == pytest.approx(1.0)
    assert found.answers[-1] == ""


def test_answers_that_are_the_same_stand_in_one_place() -> None:
    found = subject("yes", "no", more=("yup", "maybe", "mm", "no"))
    assert found.places["yup"] == found.places["yes"]
    assert found.places["mm"] == found.places["maybe"] == 2
    assert found.answers == ("yes", "no", "maybe")
    assert found.shares.tolist() == [0.5, 0.5, 0.0]


def test_without_any_readable_answer_there_is_no_vote() -> None:
    found = subject(None, None)
    assert found.shares.tolist() == [1.0]
    assert found.vote.pseudo_label is None
    assert found.voted is None
