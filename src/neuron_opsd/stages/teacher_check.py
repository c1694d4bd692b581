"""Check, without labels, whether a teacher can teach and there is something to learn.

A context can make a small model worse. Visible without labels: whether the teacher
agrees less with the student's majority than the student does, whether one answer takes
over, and whether another context changes everything.

A model that answers nearly everything alike shows demonstrations of that answer, which
the teacher repeats. If a test's most frequent gold answer is the same, such a training
looks like a success.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from neuron_opsd.answers.readers import Same
from neuron_opsd.answers.votes import tally
from neuron_opsd.config import Config, TeacherCheckConfig
from neuron_opsd.errors import TeacherError
from neuron_opsd.models.roles import Answerer
from neuron_opsd.records import (
    Prompt,
    Question,
    RolloutSummary,
    SelectionEntry,
    TeacherCheck,
    Vote,
)
from neuron_opsd.stages.beliefs import (
    answer_distributions,
    divergences_of,
    equality_of,
)
from neuron_opsd.stages.rollouts import Employed, PromptedQuestion, top_share

FEWEST = 10
"""Fewest questions for shares of them to mean something."""

ADVICE = (
    "other wording of the choices or of prompts.question_label and answer_label, "
    "rollouts.centre_choices=true with selection.balance=true, or demonstrations of "
    "both answers (contexts.rule=random and more contexts.num_demonstrations)"
)
UNREAD_ADVICE = (
    "another answers.reader or prompts.instruction, or a larger "
    "rollouts.max_new_tokens, so that answers can be read"
)


def check_teacher(
    model: Employed[Answerer],
    asked: Sequence[PromptedQuestion],
    teacher_prompts: Sequence[Prompt],
    other_prompts: Sequence[Prompt],
    votes: Mapping[str, Vote],
    config: Config,
) -> TeacherCheck:
    """Compare student and teacher, still one model, on some questions.

    Asked as the student is, with the teacher's demonstrations, and with random ones.
    """
    student, teacher, other = answer_distributions(
        model, asked, (teacher_prompts, other_prompts), votes, config
    )
    same = equality_of(asked, config)
    top, share = top_answer([b.answer for b in teacher], same)
    pool_answer, pool_share = most_given(votes)
    check = TeacherCheck(
        num_questions=len(asked),
        student_agreement=fmean(b.agreement for b in student),
        teacher_agreement=fmean(b.agreement for b in teacher),
        student_entropy=fmean(b.entropy for b in student),
        teacher_entropy=fmean(b.entropy for b in teacher),
        top_answer=top,
        top_answer_share=share,
        top_answer_share_student=fmean(same(b.answer, top) for b in student),
        stability=fmean(
            same(a.answer, b.answer) for a, b in zip(teacher, other, strict=True)
        ),
        divergence=fmean(
            divergences_of(model, asked, teacher_prompts, student, teacher)
        ),
        pool_answer=pool_answer,
        pool_answer_share=pool_share,
    )
    return with_findings(check, limits_of(config))


def limits_of(config: Config) -> TeacherCheckConfig:
    """Return the limits for a teacher.

    One with given context may know better than the vote.
    """
    if not config.shows_given:
        return config.teacher_check
    return config.teacher_check.model_copy(
        update={"max_agreement_loss": 1.0, "min_stability": 0.0}
    )


def top_answer(answers: Sequence[str], same: Same) -> tuple[str, float]:
    """Return the most frequent answer, the earliest of ties, and its share."""
    if not answers:
        return "", 0.0
    vote = tally("", answers, same)
    return vote.pseudo_label or "", vote.agreement


def with_findings(check: TeacherCheck, config: TeacherCheckConfig) -> TeacherCheck:
    """Add what speaks against the teacher, with advice."""
    lost = check.student_agreement - check.teacher_agreement
    gained = check.top_answer_share - check.top_answer_share_student
    findings = []
    if lost > config.max_agreement_loss:
        findings.append(
            f"the teacher agrees with the vote {check.teacher_agreement:.2f}, the "
            f"student {check.student_agreement:.2f}: this context makes the model "
            "worse by its own measure; try contexts.answer=greedy or voted, or fewer "
            "demonstrations"
        )
    if gained > config.max_top_answer_gain:
        findings.append(
            f"the teacher answers {check.top_answer[:40]!r} to "
            f"{check.top_answer_share:.0%} of questions, the student to "
            f"{check.top_answer_share_student:.0%}: demonstrations pull it to one "
            "answer; try selection.balance=true or contexts.rule=random, or look at "
            "them with `preview`"
        )
    if check.stability < config.min_stability:
        findings.append(
            f"another context leaves only {check.stability:.0%} of the teacher's "
            "answers as they are: what it teaches depends on chance; try more "
            "demonstrations"
        )
    findings += same_findings(check, config)
    return replace(check, findings=tuple(findings))


def pool_findings(
    questions: Sequence[Question],
    rollouts: Iterable[RolloutSummary],
    config: TeacherCheckConfig,
) -> tuple[str, ...]:
    """Warn if one free-text answer dominates the pool: a teacher would copy it."""
    free = {question.id for question in questions if not question.choices}
    answers = [
        rollout.answer or ""
        for rollout in rollouts
        if rollout.question_id in free
        and rollout.index == 0
        and rollout.temperature > 0.0
    ]
    top, share = top_share(answers)
    if len(answers) < FEWEST or share <= config.max_pool_share:
        return ()
    if not top:
        return (
            f"no answer can be read from {share:.0%} of the pool, above "
            f"teacher_check.max_pool_share {config.max_pool_share:.0%}: those are "
            f"neither shown nor counted; try {UNREAD_ADVICE}",
        )
    return (
        f"{spelled(top)} is given to {share:.0%} of the pool, above "
        f"teacher_check.max_pool_share {config.max_pool_share:.0%}: demonstrations "
        "would all say the same; give choices, change prompts.form or answers.reader, "
        "or raise the limit if the questions really have few answers",
    )


def selection_findings(
    selection: Sequence[SelectionEntry],
    answers: Mapping[str, str | None],
    config: TeacherCheckConfig,
) -> tuple[str, ...]:
    """Warn if one answer takes over the selection.

    Questions with the same short answer use similar neurons, and as many.
    """
    pool = [answers.get(entry.question_id) or "" for entry in selection]
    kept = [a for a, entry in zip(pool, selection, strict=True) if entry.kept]
    top, share = top_share(kept)
    before = fmean(answer == top for answer in pool) if pool else 0.0
    if len(kept) < FEWEST or share - before <= config.max_top_answer_gain:
        return ()
    return (
        f"{spelled(top)} is the model's own answer to {share:.0%} of the selected "
        f"questions and to {before:.0%} of the pool: training would teach it that "
        "answer; try selection.balance=true",
    )


def advice(answer: str) -> str:
    """Return what to try if nearly all answers are one."""
    return ADVICE if answer else UNREAD_ADVICE


def most_given(votes: Mapping[str, Vote]) -> tuple[str, float]:
    """Return the most frequent answer of the pool's samples, and its share.

    Unreadable ones count as one empty answer. The share is 0 for too few questions.
    """
    given: Counter[str] = Counter()
    for vote in votes.values():
        given.update(vote.counts)
        given[""] += vote.num_rollouts - sum(vote.counts.values())
    if len(votes) < FEWEST:
        return "", 0.0
    ((answer, count),) = given.most_common(1)
    return answer, count / given.total()


def one_answer_findings(
    votes: Mapping[str, Vote], config: TeacherCheckConfig
) -> tuple[str, ...]:
    """Warn if the student gives one answer to nearly all of the pool."""
    answer, share = most_given(votes)
    if share < config.max_answer_share:
        return ()
    return (
        f"{spelled(answer)} takes {share:.2%} of the model's own answers to the pool, "
        f"at or above teacher_check.max_answer_share {config.max_answer_share:.0%}: "
        "its votes, demonstrations and rewards hold hardly anything else; try "
        f"{advice(answer)}",
    )


def same_findings(check: TeacherCheck, config: TeacherCheckConfig) -> tuple[str, ...]:
    """Warn if the teacher says what the student says."""
    if check.divergence is None or check.divergence >= config.min_divergence:
        return ()
    return (
        f"the teacher says what the student says: {check.divergence:.2g} nats apart, "
        f"below teacher_check.min_divergence {config.min_divergence:g}, so there is "
        "next to nothing to learn; try more demonstrations or contexts.rule=random",
    )


def refuse_one_answer(check: TeacherCheck, config: TeacherCheckConfig) -> None:
    """Raise TeacherError if there is nothing to learn, unless settings allow it.

    That is if the student answers nearly everything alike, and the teacher is close to
    the student or gives that answer as often.
    """
    if config.one_answer != "stop" or check.pool_answer_share < config.max_answer_share:
        return
    follows = (
        check.top_answer == check.pool_answer
        and check.top_answer_share >= config.max_answer_share
    )
    if not follows and not same_findings(check, config):
        return
    apart = "" if check.divergence is None else f", {check.divergence:.2g} nats apart"
    raise TeacherError(
        f"nothing to learn here: {spelled(check.pool_answer)} takes "
        f"{check.pool_answer_share:.2%} of the model's own answers to the pool, and "
        f"the teacher says the same ({check.top_answer_share:.0%} of "
        f"questions{apart}); try {advice(check.pool_answer)}; "
        "teacher_check.one_answer=warn trains anyway"
    )


def spelled(answer: str) -> str:
    """Name an answer in a message."""
    return f"the answer {answer[:40]!r}" if answer else "no readable answer"
