"""Whether there is anything to learn: a student with one answer, a teacher who agrees.

A model that gives one answer to nearly everything shows demonstrations of that answer,
and a teacher that sees them says it as well. Training then teaches it to say what it
says, and a test whose most frequent gold answer it is makes that look like a result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from neuron_opsd.config import TeacherCheckConfig
from neuron_opsd.errors import TeacherError
from neuron_opsd.records import TeacherCheck, Vote

FEWEST = 10
"""Questions below which shares of them tell nothing."""

ADVICE = (
    "other wording of the choices or of prompts.question_label and answer_label, "
    "rollouts.centre_choices=true with selection.balance=true, or demonstrations of "
    "both answers "
    "(contexts.rule=random and more contexts.num_demonstrations)"
)
UNREAD_ADVICE = (
    "another answers.reader or prompts.instruction, or a larger "
    "rollouts.max_new_tokens, so that answers can be read"
)


def advice(answer: str) -> str:
    """Return what to try where one answer is nearly all."""
    return ADVICE if answer else UNREAD_ADVICE


def most_given(votes: Mapping[str, Vote]) -> tuple[str, float]:
    """Return the answer that the pool's samples give most often, and its share.

    What cannot be read counts as one answer, which is empty. The share is 0 where there
    are too few questions to tell.
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
    """Say when the student gives one answer to nearly all of the pool."""
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
    """Say when the teacher is where the student is."""
    if check.divergence is None or check.divergence >= config.min_divergence:
        return ()
    return (
        f"the teacher says what the student says: {check.divergence:.2g} nats apart, "
        f"below teacher_check.min_divergence {config.min_divergence:g}, so there is "
        "next to nothing to learn; try more demonstrations or contexts.rule=random",
    )


def refuse_one_answer(check: TeacherCheck, config: TeacherCheckConfig) -> None:
    """Stop where there is nothing to learn, unless the settings say to train.

    There is nothing where the student gives one answer to nearly everything and the
    teacher is where the student is, or gives that answer as often.
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
        f"the teacher says the same ({check.top_answer_share:.0%} of questions"
        f"{apart}); try {advice(check.pool_answer)}; teacher_check.one_answer=warn "
        "trains all the same"
    )


def spelled(answer: str) -> str:
    """Name an answer in a message."""
    return f"the answer {answer[:40]!r}" if answer else "no readable answer"
