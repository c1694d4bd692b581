"""The pool's rollouts: what the model answers, and what of it can be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from neuron_opsd.models.roles import Answerer, Tokenizer
from neuron_opsd.outlines import RolloutFacts
from neuron_opsd.records import Question, Rollout, Vote
from neuron_opsd.runs.centring import BIAS_NAME
from neuron_opsd.runs.context import RunContext
from neuron_opsd.stages.rollouts import PromptedQuestion, ask, sample_rollouts
from neuron_opsd.stages.teaching import (
    demonstrable,
    misread,
    shown_answers,
    shown_draws,
)
from neuron_opsd.storage.codecs import ROLLOUTS
from neuron_opsd.storage.kept_rollouts import outlines_of

NAME: Final = "rollouts"
"""Of the output."""

LACKS: Final = {
    "first": "no answer can be read from their first sample",
    "greedy": "no answer can be read from their greedy completion",
    "voted": "no answer can be read from any of their samples",
}
"""What a question lacks that shows nothing, by `contexts.answer`."""


def roll_out(
    run: RunContext, model: Answerer, pool: Sequence[Question]
) -> Sequence[Rollout]:
    """Answer every question of the pool without a context."""
    config = run.config
    draws = [(config.rollouts.temperature, config.rollouts.num_samples)]
    draws += shown_draws(config.contexts)
    asked = ask(pool, config)
    with run.progress.stage("rollouts", len(pool), "questions") as done:
        rollouts = run.directory.blocks(
            NAME,
            ROLLOUTS,
            asked,
            config.rollouts.block_size,
            lambda block: sample_rollouts(model, block, config, "rollout", draws),
            done,
            made_from=[BIAS_NAME],
        )
    told = outlines_of(rollouts)
    run.count_tokens("rollouts", rollout_tokens(model, asked, told))
    told = outlines_of(rollouts)
    for text in remarks_on_rollouts(told, config.rollouts.max_new_tokens):
        run.directory.warn(text)
    return rollouts


def rollout_tokens(
    model: Tokenizer,
    asked: Sequence[PromptedQuestion],
    rollouts: Iterable[RolloutFacts],
) -> int:
    """Return the prompt and completion tokens of some rollouts, prompts once each."""
    prompts = sum(len(model.encode(a.prompt)) for a in asked)
    return prompts + sum(rollout.num_tokens for rollout in rollouts)


def remarks_on_rollouts(rollouts: Iterable[RolloutFacts], longest: int) -> list[str]:
    """Say how many rollouts were cut, or never came to an answer.

    Args:
        rollouts: Of a pool.
        longest: The most tokens that they may have.
    """
    found = []
    facts = Counter((rollout.finished, rollout.is_closed) for rollout in rollouts)
    cut = sum(count for (finished, _), count in facts.items() if not finished)
    if cut:
        found.append(
            f"{cut} of {facts.total()} rollouts were cut at {longest} tokens; raise "
            "rollouts.max_new_tokens"
        )
    thinking = sum(count for (_, closed), count in facts.items() if not closed)
    if thinking:
        found.append(
            f"{thinking} of {facts.total()} rollouts never closed their reasoning and "
            "have no answer: they do not vote, and are neither shown nor imitated"
        )
    return found


def answers_to_show(
    run: RunContext,
    model: Tokenizer,
    pool: Sequence[Question],
    rollouts: Sequence[Rollout],
    votes: Mapping[str, Vote],
) -> dict[str, str]:
    """Return what demonstrations would show; say how many questions show nothing."""
    found = shown_answers(rollouts, votes, run.config)
    questions = {question.id: question for question in pool}
    short = demonstrable(model, questions, found, run.config)
    if not run.config.contexts.num_demonstrations:
        return short
    if len(found) < len(pool):
        run.directory.warn(
            f"{len(pool) - len(found)} of {len(pool)} questions of the pool cannot be "
            f"demonstrations, because {LACKS[run.config.contexts.answer]}"
        )
    spelled = sum(misread(model, answer, run.config) for answer in found.values())
    if spelled:
        run.directory.warn(
            f"{spelled} questions cannot be demonstrations, since their answers spell "
            "a control token, which a conversation would have read as one"
        )
    if long := len(found) - spelled - len(short):
        run.directory.warn(
            f"{long} questions cannot be demonstrations, since with "
            "their answers they are longer than contexts.max_demonstration_tokens "
            f"{run.config.contexts.max_demonstration_tokens}"
        )
    return short
