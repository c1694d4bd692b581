"""Checking, without labels, whether a teacher can teach, before it does.

A context can make a small model worse than it is without one. What can be seen without
labels: whether the teacher agrees with the student's own majority less than the student
does, whether one answer takes over, in what it says or in what is selected, and whether
another context changes everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from neuron_opsd.answers.readers import Same
from neuron_opsd.answers.votes import tally
from neuron_opsd.config import Config, TeacherCheckConfig
from neuron_opsd.models.roles import Answerer
from neuron_opsd.records import (
    Prompt,
    Question,
    RolloutSummary,
    SelectionEntry,
    TeacherCheck,
    Vote,
)
from neuron_opsd.stages import one_answer
from neuron_opsd.stages.beliefs import (
    answer_distributions,
    divergences_of,
    equality_of,
)
from neuron_opsd.stages.rollouts import Employed, PromptedQuestion, top_share


def check_teacher(
    model: Employed[Answerer],
    asked: Sequence[PromptedQuestion],
    teacher_prompts: Sequence[Prompt],
    other_prompts: Sequence[Prompt],
    votes: Mapping[str, Vote],
    config: Config,
) -> TeacherCheck:
    """Compare student and teacher, which still are one model, on some questions.

    The three ways of asking may be worked on side by side: as the student is asked,
    with the teacher's demonstrations, and with random ones, to see what they change.
    """
    student, teacher, other = answer_distributions(
        model, asked, (teacher_prompts, other_prompts), votes, config
    )
    same = equality_of(asked, config)
    top, share = top_answer([b.answer for b in teacher], same)
    pool_answer, pool_share = one_answer.most_given(votes)
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
    """Return what a teacher must hold to.

    One that is told something about each question may know better than the vote, and
    answers otherwise when it is told something about another.
    """
    if not config.shows_given:
        return config.teacher_check
    return config.teacher_check.model_copy(
        update={"max_agreement_loss": 1.0, "min_stability": 0.0}
    )


def top_answer(answers: Sequence[str], same: Same) -> tuple[str, float]:
    """Return the most frequent answer, the earliest of equals, and its share."""
    if not answers:
        return "", 0.0
    vote = tally("", answers, same)
    return vote.pseudo_label or "", vote.agreement


def with_findings(check: TeacherCheck, config: TeacherCheckConfig) -> TeacherCheck:
    """Add what speaks against the teacher, each with advice."""
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
    findings += one_answer.same_findings(check, config)
    return replace(check, findings=tuple(findings))


def pool_findings(
    questions: Sequence[Question],
    rollouts: Iterable[RolloutSummary],
    config: TeacherCheckConfig,
) -> tuple[str, ...]:
    """Say when one free-text answer takes too much of the pool.

    Demonstrations drawn from such a pool all say the same, and the teacher copies it.
    """
    free = {question.id for question in questions if not question.choices}
    answers = [
        rollout.answer or ""
        for rollout in rollouts
        if rollout.question_id in free
        and rollout.index == 0
        and rollout.temperature > 0.0
    ]
    top, share = top_share(answers)
    if len(answers) < one_answer.FEWEST or share <= config.max_pool_share:
        return ()
    if not top:
        return (
            f"no answer can be read from {share:.0%} of the pool, above "
            f"teacher_check.max_pool_share {config.max_pool_share:.0%}: those are "
            f"neither shown nor counted; try {one_answer.UNREAD_ADVICE}",
        )
    return (
        f"{one_answer.spelled(top)} is given to {share:.0%} of the pool, above "
        f"teacher_check.max_pool_share {config.max_pool_share:.0%}: demonstrations "
        "would all say the same; give choices, change prompts.form or answers.reader, "
        "or raise the limit if the questions really have few answers",
    )


def selection_findings(
    selection: Sequence[SelectionEntry],
    answers: Mapping[str, str | None],
    config: TeacherCheckConfig,
) -> tuple[str, ...]:
    """Say when one answer takes over what is selected.

    Questions with the same short answer use much the same neurons, and so much the
    same number of them: the fewest-neuron share of a pool with two labels can have one
    label only, and what is trained on it learns to say nothing else.
    """
    pool = [answers.get(entry.question_id) or "" for entry in selection]
    kept = [a for a, entry in zip(pool, selection, strict=True) if entry.kept]
    top, share = top_share(kept)
    before = fmean(answer == top for answer in pool) if pool else 0.0
    if len(kept) < one_answer.FEWEST or share - before <= config.max_top_answer_gain:
        return ()
    return (
        f"{one_answer.spelled(top)} is the model's own to {share:.0%} of the selected "
        f"questions and to {before:.0%} of the pool: training would teach it that "
        "answer; try selection.balance=true",
    )
