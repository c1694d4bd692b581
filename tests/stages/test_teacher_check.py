"""Whether a teacher is fit to teach, on models whose every answer is written down."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from neuron_opsd.config import Config, TeacherCheckConfig
from neuron_opsd.config.tables import load_config
from neuron_opsd.records import (
    Completion,
    Message,
    Prompt,
    Question,
    Rollout,
    SelectionEntry,
    TeacherCheck,
    Vote,
)
from neuron_opsd.stages.rollouts import ask
from neuron_opsd.stages.teacher_check import (
    check_teacher,
    pool_findings,
    selection_findings,
    with_findings,
)
from neuron_opsd.storage.caching import Employed
from resolved import sampled_among_choices, written_freely
from scripted import ScriptedModel

NAMES = ("air", "bee", "cow", "dew")


def config_of(*assignments: str) -> Config:
    strict = "teacher_check.max_agreement_loss=0.02"
    hot = "rollouts.temperature=1.0"
    alike = "teacher_check.min_divergence=0"
    return load_config(None, ["prompts.form=plain", hot, strict, alike, *assignments])


def question(name: str, *choices: str) -> Question:
    return Question(name, (Message("user", f"Is it {name}?"),), choices)


def votes_for(**labels: str | None) -> dict[str, Vote]:
    """Return votes that all agree."""
    return {
        name: Vote(name, label, {} if label is None else {label: 8}, 8)
        for name, label in labels.items()
    }


def under(context: str) -> list[Prompt]:
    """Return a prompt for each question with some words before it."""
    return [Prompt(text=f"{context} Is it {name}?\nAnswer:") for name in NAMES]


def check(
    replies: dict[str, list[str]],
    config: Config,
    votes: dict[str, Vote],
    *choices: str,
) -> TeacherCheck:
    """Compare a student with a teacher whose prompts begin with T, others with O."""
    mode = sampled_among_choices if choices else written_freely
    return check_teacher(
        Employed(ScriptedModel(replies)),
        ask([question(name, *choices) for name in NAMES], mode(config)),
        under("T"),
        under("O"),
        votes,
        config,
    )


def same_answers(*, teacher: list[str], student: list[str]) -> dict[str, list[str]]:
    """Return a script: the teacher's answers also under another context."""
    script = {f"Question: Is it {name}?": student for name in NAMES}
    return script | {
        f"{seat} Is it {name}?": teacher for seat in "TO" for name in NAMES
    }


ALL_YES = votes_for(**dict.fromkeys(NAMES, "yes"))


def test_a_teacher_that_agrees_more_is_fit() -> None:
    script = same_answers(teacher=["yes", "yes", "yes", "no"], student=["yes", "no"])
    found = check(script, config_of(), ALL_YES, "yes", "no")
    assert found.num_questions == 4
    assert found.student_agreement == pytest.approx(1 / 2)
    assert found.teacher_agreement == pytest.approx(3 / 4)
    assert found.student_entropy == pytest.approx(np.log(2), rel=1e-5)
    p = np.array([3 / 4, 1 / 4])
    assert found.teacher_entropy == pytest.approx(float(-(p * np.log(p)).sum()))
    assert found.stability == 1.0
    assert found.findings == ()


def test_the_divergence_is_that_of_the_loss_which_centres_nothing() -> None:
    script = same_answers(teacher=["yes", "yes", "yes", "no"], student=["yes", "no"])
    centred = "rollouts.choice_bias={yes = -0.1, no = -3.0}"
    found = check(script, config_of(centred), ALL_YES, "yes", "no")
    # Even odds against three to one.
    assert found.divergence == pytest.approx(np.log(4 / 3) / 2, rel=1e-5)
    assert found.student_agreement < 0.1


def test_agreement_is_the_probability_at_the_temperature_of_the_pool() -> None:
    script = same_answers(teacher=["yes", "yes", "no"], student=["yes", "yes", "no"])
    config = config_of("rollouts.temperature=0.5")
    found = check(script, config, ALL_YES, "yes", "no")
    # Odds of 2 to 1 become 4 to 1.
    assert found.student_agreement == pytest.approx(4 / 5, rel=1e-5)


def test_a_context_that_makes_the_model_worse_is_found() -> None:
    script = same_answers(teacher=["yes", "no"], student=["yes", "yes", "yes", "no"])
    found = check(script, config_of(), ALL_YES, "yes", "no")
    (finding,) = found.findings
    assert finding == (
        "the teacher agrees with the vote 0.50, the student 0.75: this context makes "
        "the model worse by its own measure; try contexts.answer=greedy or voted, or "
        "fewer demonstrations"
    )
    patient = config_of("teacher_check.max_agreement_loss=0.3")
    assert check(script, patient, ALL_YES, "yes", "no").findings == ()


def test_one_answer_that_takes_over_is_found() -> None:
    script = {
        "Question: Is it air?": ["yes"],
        "Question: Is it bee?": ["no"],
        "Question: Is it cow?": ["no"],
        "Question: Is it dew?": ["yes"],
        **{f"{seat} Is it {name}?": ["yes"] for seat in "TO" for name in NAMES},
    }
    votes = votes_for(air="yes", bee="yes", cow="yes", dew="yes")
    found = check(script, config_of(), votes, "yes", "no")
    assert (found.top_answer, found.top_answer_share) == ("yes", 1.0)
    assert found.top_answer_share_student == 0.5
    (finding,) = found.findings
    assert finding.startswith(
        "the teacher answers 'yes' to 100% of questions, the student to 50%: "
        "demonstrations pull it to one answer"
    )
    patient = config_of("teacher_check.max_top_answer_gain=0.5")
    assert check(script, patient, votes, "yes", "no").findings == ()


def test_answers_that_hang_on_the_context_are_found() -> None:
    script = same_answers(teacher=["yes"], student=["yes"])
    script |= {f"O Is it {name}?": ["no"] for name in NAMES[:3]}
    found = check(script, config_of(), ALL_YES, "yes", "no")
    assert found.stability == 0.25
    (finding,) = found.findings
    assert finding.startswith("another context leaves only 25% of the teacher's")
    patient = config_of("teacher_check.min_stability=0.25")
    assert check(script, patient, ALL_YES, "yes", "no").findings == ()


def test_all_findings_are_told_together() -> None:
    teacher_check = TeacherCheck(4, 0.9, 0.1, 0.5, 0.5, "yes", 0.9, 0.1, 0.0)
    assert len(with_findings(teacher_check, TeacherCheckConfig()).findings) == 3


def test_the_divergence_of_choices_is_that_of_the_plain_logits() -> None:
    script = same_answers(teacher=["yes", "yes", "yes", "no"], student=["yes", "no"])
    config = config_of("rollouts.temperature=0.5", "teacher_check.min_divergence=0.2")
    found = check(script, config, ALL_YES, "yes", "no")
    expected = 0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(0.5 / 0.25)
    assert found.divergence == pytest.approx(expected, rel=1e-4)
    (finding,) = found.findings
    assert finding.startswith(
        "the teacher says what the student says: 0.14 nats apart, below "
        "teacher_check.min_divergence 0.2"
    )
    near = config_of("rollouts.temperature=0.5", "teacher_check.min_divergence=0.1")
    assert check(script, near, ALL_YES, "yes", "no").findings == ()


def test_the_divergence_of_free_answers_is_asked_of_the_model() -> None:
    script = {f"Question: Is it {name}?": ["yes"] for name in NAMES}
    script |= {f"{seat} Is it {name}?": ["yes"] for seat in "TO" for name in NAMES}
    script["T Is it air?"] = ["yes", "no"]
    assert check(script, config_of(), ALL_YES).divergence == 1 / 4


def test_a_vote_for_no_choice_is_agreed_with_by_nobody() -> None:
    script = same_answers(teacher=["yes"], student=["yes"])
    votes = votes_for(air="yes", bee="yes", cow=None, dew="maybe")
    found = check(script, config_of(), votes, "yes", "no")
    # The scripted model leaves 0.2 % to a choice that it never gives.
    assert found.student_agreement == pytest.approx(0.5, abs=0.01)
    assert found.teacher_agreement == found.student_agreement


def test_free_answers_are_compared_by_one_sample_each() -> None:
    script = {f"Question: Is it {name}?": [name] for name in NAMES}
    script |= {f"{seat} Is it {name}?": ["gas"] for seat in "TO" for name in NAMES}
    votes = votes_for(air="air", bee="bee", cow="cow", dew="gas")
    found = check(script, config_of(), votes)
    assert found.student_agreement == 3 / 4
    assert found.teacher_agreement == 1 / 4
    assert (found.top_answer, found.top_answer_share) == ("gas", 1.0)
    assert found.top_answer_share_student == 0.0
    assert found.student_entropy == 0.5
    assert len(found.findings) == 2


def test_student_and_teacher_are_asked_with_the_same_draws() -> None:
    model = ScriptedModel({"Is it": ["yes"]})
    config = config_of()
    asked = ask([question(name) for name in NAMES], written_freely(config))
    check_teacher(Employed(model), asked, under("T"), under("O"), ALL_YES, config)
    seeds = [row for _, row, _ in model.asked]
    assert seeds[:4] == seeds[4:8] == seeds[8:]
    assert len(set(seeds[:4])) == 4


def test_what_cannot_be_read_agrees_with_nothing() -> None:
    script = same_answers(teacher=["..."], student=["yes"])
    found = check(script, config_of(), ALL_YES)
    assert found.teacher_agreement == 0.0
    assert found.top_answer == ""
    assert "the teacher answers '' to 100%" in found.findings[1]


def rollout(
    name: str, answer: str | None, index: int = 0, heat: float = 0.6
) -> Rollout:
    completion = Completion((1,), answer or "", finished=True, logprob=0, entropy=0)
    return Rollout(name, index, heat, completion, answer)


FREE = [question(f"q{n}") for n in range(20)]


def answered(*answers: str | None) -> list[Rollout]:
    return [rollout(q.id, answers[n % len(answers)]) for n, q in enumerate(FREE)]


def test_one_free_answer_to_much_of_the_pool_is_found() -> None:
    drawn = [
        replace(r, answer="7" if n < 5 else str(n)) for n, r in enumerate(answered("x"))
    ]
    (finding,) = pool_findings(FREE, drawn, TeacherCheckConfig())
    assert finding.startswith(
        "the answer '7' is given to 30% of the pool, above "
        "teacher_check.max_pool_share 20%"
    )
    assert pool_findings(FREE, drawn, TeacherCheckConfig(max_pool_share=0.3)) == ()


def test_a_pool_that_cannot_be_read_is_found() -> None:
    drawn = answered(None, None, "a", "b")
    (finding,) = pool_findings(FREE, drawn, TeacherCheckConfig())
    assert finding.startswith("no answer can be read from 50% of the pool")
    assert "demonstrations would all say the same" not in finding
    assert "rollouts.max_new_tokens" in finding


def test_only_first_sampled_free_answers_of_a_large_enough_pool_count() -> None:
    varied = answered(*[str(n) for n in range(20)])
    later = [rollout(q.id, "7", 1) for q in FREE]
    greedy = [rollout(q.id, "7", 0, 0.0) for q in FREE]
    config = TeacherCheckConfig()
    assert pool_findings(FREE, varied + later + greedy, config) == ()
    choosing = [question(q.id, "7", "8") for q in FREE]
    assert pool_findings(choosing, answered("7"), config) == ()
    assert pool_findings(FREE[:9], answered("7")[:9], config) == ()
    assert len(pool_findings(FREE[:10], answered("7")[:10], config)) == 1


def selected(*kept: bool) -> list[SelectionEntry]:
    return [SelectionEntry(f"q{n}", 5, n, one, "") for n, one in enumerate(kept)]


def test_one_answer_that_takes_over_the_selection_is_found() -> None:
    # Twenty of forty are kept, 18 of them positive; of the rest, 2 are.
    own = ["positive"] * 18 + ["negative"] * 20 + ["positive"] * 2
    answers = {f"q{n}": answer for n, answer in enumerate(own)}
    selection = selected(*[n < 20 for n in range(40)])
    (finding,) = selection_findings(selection, answers, TeacherCheckConfig())
    assert finding.startswith(
        "the answer 'positive' is the model's own answer to 90% of the selected "
        "questions and to 50% of the pool"
    )
    loose = TeacherCheckConfig(max_top_answer_gain=0.4)
    assert selection_findings(selection, answers, loose) == ()


def test_a_selection_like_the_pool_or_of_few_is_left_alone() -> None:
    own = ["positive", "negative"] * 20
    answers = {f"q{n}": answer for n, answer in enumerate(own)}
    alike = selected(*[n < 20 for n in range(40)])
    assert selection_findings(alike, answers, TeacherCheckConfig()) == ()
    few = selected(*[n < 18 and n % 2 == 0 for n in range(40)])
    assert selection_findings(few, answers, TeacherCheckConfig()) == ()
    ten = selected(*[n < 20 and n % 2 == 0 for n in range(40)])
    assert len(selection_findings(ten, answers, TeacherCheckConfig())) == 1
    assert selection_findings([], {}, TeacherCheckConfig()) == ()


def test_a_selection_that_cannot_be_read_is_found() -> None:
    answers = {f"q{n}": None if n < 20 else str(n) for n in range(60)}
    selection = selected(*[n < 20 for n in range(60)])
    (finding,) = selection_findings(selection, answers, TeacherCheckConfig())
    assert finding.startswith("no readable answer is the model's own answer to 100%")


def test_free_answers_are_compared_as_their_reader_says() -> None:
    config = config_of("answers.reader=latex")
    replies = {f"Question: Is it {name}?": ["1/2"] for name in NAMES}
    replies |= {f"T Is it {name}?": [r"$\frac{1}{2}$"] for name in NAMES}
    replies |= {f"O Is it {name}?": ["0.5"] for name in NAMES}
    teacher_check = check(replies, config, votes_for(**dict.fromkeys(NAMES, "0.50")))
    assert teacher_check.student_agreement == 1.0
    assert teacher_check.teacher_agreement == 1.0
    assert teacher_check.stability == 1.0
    assert teacher_check.top_answer_share_student == 1.0
