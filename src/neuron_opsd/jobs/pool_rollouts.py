"""The pool's rollouts: what the model answers, and what of it can be used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from neuron_opsd.jobs.setting import Job
from neuron_opsd.models.protocol import LanguageModel
from neuron_opsd.records import Question, Rollout, Vote
from neuron_opsd.stages.rollouts import Asked, ask, is_constrained, sample_rollouts
from neuron_opsd.stages.teaching import demonstrable, shown_answers, shown_draws
from neuron_opsd.world.codecs import ROLLOUTS

LACKS: Final = {
    "first": "no answer can be read from their first sample",
    "greedy": "no answer can be read from their greedy completion",
    "voted": "no answer can be read from any of their samples",
}
"""What a question lacks that shows nothing, by `contexts.answer`."""


def roll_out(
    job: Job, model: LanguageModel, pool: Sequence[Question]
) -> Sequence[Rollout]:
    """Answer every question of the pool without a context."""
    config = job.config
    draws = [(config.rollouts.temperature, config.rollouts.num_samples)]
    draws += shown_draws(config.contexts)
    asked = ask(pool, config, constrained=job.constrained)
    with job.progress.stage("rollouts", len(pool), "questions") as done:
        rollouts = job.run.blocks(
            "rollouts",
            ROLLOUTS,
            asked,
            config.rollouts.block_size,
            lambda block: sample_rollouts(model, block, config, "rollout", draws),
            done,
        )
    job.count_tokens("rollouts", rollout_tokens(model, asked, rollouts))
    warn_of_cut(job, rollouts)
    warn_of_free_answers(job, model, asked)
    return rollouts


def rollout_tokens(
    model: LanguageModel, asked: Sequence[Asked], rollouts: Sequence[Rollout]
) -> int:
    """Return the prompt and completion tokens of some rollouts, prompts once each."""
    prompts = sum(len(model.encode(a.prompt)) for a in asked)
    return prompts + sum(len(r.completion.token_ids) for r in rollouts)


def warn_of_cut(job: Job, rollouts: Sequence[Rollout]) -> None:
    """Say how many rollouts were cut, or never came to an answer."""
    cut = sum(not rollout.completion.finished for rollout in rollouts)
    if cut:
        job.run.warn(
            f"{cut} of {len(rollouts)} rollouts were cut at "
            f"{job.config.rollouts.max_new_tokens} tokens; raise "
            "rollouts.max_new_tokens"
        )
    thinking = sum(rollout.completion.final is None for rollout in rollouts)
    if thinking:
        job.run.warn(
            f"{thinking} of {len(rollouts)} rollouts never closed their reasoning and "
            "have no answer: they do not vote, and are neither shown nor imitated"
        )


def warn_of_free_answers(
    job: Job, model: LanguageModel, asked: Sequence[Asked]
) -> None:
    """Say when reasoning keeps answers from being sampled among choices."""
    wanted = is_constrained(job.config.rollouts, model.facts.num_parameters)
    chosen = any(a.question.choices for a in asked)
    if not wanted or job.constrained or not chosen:
        return
    if model.opens_reasoning(model.encode(asked[0].prompt)):
        job.run.warn(
            "the chat template begins every answer with reasoning and has no switch "
            "for it, so answers are written freely and not sampled among choices"
        )


def answers_to_show(
    job: Job,
    model: LanguageModel,
    pool: Sequence[Question],
    rollouts: Sequence[Rollout],
    votes: Mapping[str, Vote],
) -> dict[str, str]:
    """Return what demonstrations would show; say how many questions show nothing."""
    found = shown_answers(rollouts, votes, job.config)
    questions = {question.id: question for question in pool}
    short = demonstrable(model, questions, found, job.config)
    if not job.config.contexts.num_demonstrations:
        return short
    if len(found) < len(pool):
        job.run.warn(
            f"{len(pool) - len(found)} of {len(pool)} questions of the pool become no "
            f"demonstration, because {LACKS[job.config.contexts.answer]}"
        )
    if len(short) < len(found):
        job.run.warn(
            f"{len(found) - len(short)} questions become no demonstration, since with "
            "their answers they are longer than contexts.max_demonstration_tokens "
            f"{job.config.contexts.max_demonstration_tokens}"
        )
    return short
