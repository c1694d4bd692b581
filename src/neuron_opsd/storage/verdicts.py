"""Kept verdicts on which answers are equal: for the `latex` reader only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from neuron_opsd.answers.readers import readers_for
from neuron_opsd.answers.verifier import Verdict, shared_verifier, unsettled_text
from neuron_opsd.answers.votes import sampled_rollouts, tally_votes
from neuron_opsd.config import Config
from neuron_opsd.records import Question, Rollout, RolloutSummary, Vote
from neuron_opsd.storage.caching import Task, Workspace
from neuron_opsd.storage.codecs import Codec, records_codec
from neuron_opsd.storage.stored_rollouts import summaries_of

SUFFIX = ".verdicts"


def verdicts_name(source: str) -> str:
    """Name the verdicts on an output's answers."""
    return source + SUFFIX


def verdicts_codec(name: str) -> Codec[Sequence[Verdict]]:
    """Return the codec of verdicts."""
    return records_codec(f"{name}.json", Verdict)


def settle_equality(
    work: Workspace,
    source: str,
    questions: Sequence[Question],
    judge: Callable[[Sequence[Question]], object],
    made_from: Sequence[str] = (),
) -> tuple[Verdict, ...]:
    """Settle by chunk which answers to questions are equal, and keep it.

    Warns of unsettled ones. `source` is the output with the answers, `judge` makes all
    comparisons, `made_from` names what else answers are compared with.

    Returns:
        All verdicts that are not obvious; none with another reader.

    Raises:
        TryAgainError: If it takes longer than `answers.max_minutes`.
    """
    if not work.config.answers.may_leave_open:
        return ()
    name = verdicts_name(source)
    found = work.by_question(
        name,
        verdicts_codec(name),
        questions,
        Task(judge, verdicts_of),
        [source, *made_from],
        f"{source}: comparing",
    )
    shared_verifier().learn(found)
    if text := unsettled_text(found):
        work.progress.warn(f"{source}: {text}")
    return tuple(found)


def verdicts_of(
    judge: Callable[[Sequence[Question]], object], questions: Sequence[Question]
) -> tuple[Verdict, ...]:
    """Return the verdicts needed to judge questions."""
    with shared_verifier().noting() as notes:
        judge(questions)
    return tuple(notes.values())


def num_unsettled(verdicts: Sequence[Verdict]) -> int:
    """Count the unsettled comparisons."""
    return sum(bool(verdict.unsettled) for verdict in verdicts)


def hold_votes(
    work: Workspace,
    questions: Sequence[Question],
    rollouts: Sequence[Rollout],
    source: str,
) -> dict[str, Vote]:
    """Vote on all questions; `source` is the output with their rollouts."""
    listed = work.config.prompts.list_choices
    readers = readers_for(questions, work.config.answers, listed)
    sampled = grouped(work.config, rollouts)

    def judge(chunk: Sequence[Question]) -> None:
        tally_votes(of_questions(sampled, chunk), readers)

    settle_equality(work, source, questions, judge)
    return tally_votes(summaries_of(rollouts), readers)


def grouped(
    config: Config, rollouts: Sequence[Rollout]
) -> dict[str, list[RolloutSummary]]:
    """Return rollouts by question, if anything needs settling."""
    return (
        sampled_rollouts(summaries_of(rollouts))
        if config.answers.may_leave_open
        else {}
    )


def of_questions(
    sampled: Mapping[str, Sequence[RolloutSummary]], questions: Sequence[Question]
) -> list[RolloutSummary]:
    """Return the `grouped` rollouts of some questions."""
    return [one for question in questions for one in sampled.get(question.id, ())]
