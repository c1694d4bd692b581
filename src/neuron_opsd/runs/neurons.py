"""The neurons of the rollouts that stand for their questions, block by block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neuron_opsd.config import NeuronsConfig
from neuron_opsd.models.roles import LanguageModel
from neuron_opsd.outlines import RolloutFacts
from neuron_opsd.records import Completion, NeuronSet, Pair, Question, Rollout
from neuron_opsd.runs.context import RunContext
from neuron_opsd.stages.capture import capture_neurons, lacks_span, pair_of
from neuron_opsd.stages.rollouts import PromptedQuestion, ask
from neuron_opsd.storage.codecs import NEURONS
from neuron_opsd.storage.kept_rollouts import ROWS_READ, in_full


@dataclass(frozen=True, slots=True)
class Chosen:
    """The rollout that stands for each question."""

    rollouts: Sequence[Rollout]
    """That they were chosen from."""
    facts: Mapping[str, RolloutFacts]
    """By question id, without texts where a file keeps these."""

    def completions(self, ids: Sequence[str]) -> list[Completion]:
        """Return the completions of some questions in full."""
        some = in_full(self.rollouts, [self.facts[name] for name in ids])
        return [rollout.completion for rollout in some]


def capture(
    run: RunContext,
    model: LanguageModel,
    questions: Sequence[Question],
    chosen: Chosen,
    name: str = "neurons",
    made_from: Sequence[str] = (),
) -> Sequence[NeuronSet]:
    """Read off the neurons that pushed each question's rollout.

    Args:
        run: Keeps them.
        model: That wrote the rollouts.
        questions: All that are asked.
        chosen: The rollout of each.
        name: Of the output.
        made_from: Names of what holds the rollouts.
    """
    config = run.config
    asked = ask(questions, config)

    def pair(a: PromptedQuestion, own: Completion) -> Pair:
        return pair_of(model, model.encode(a.prompt), own, config.neurons)

    def compute(block: Sequence[PromptedQuestion]) -> Sequence[NeuronSet]:
        ids = [a.question.id for a in block]
        return capture_neurons(
            model,
            ids,
            [pair(*one) for one in zip(block, chosen.completions(ids), strict=True)],
            config.neurons,
            config.model.tokens_per_batch,
        )

    with run.progress.stage(name, len(asked), "questions") as done:
        neurons = run.directory.blocks(
            name,
            NEURONS.at(f"{name}.parquet"),
            asked,
            config.rollouts.block_size,
            compute,
            done,
            made_from=made_from,
        )
    prompts = sum(len(model.encode(a.prompt)) for a in asked)
    run.count_tokens(name, prompts + tokens_read(neurons, chosen, config.neurons))
    warn_of_spans(run, chosen, config.neurons)
    return neurons


def tokens_read(
    neurons: Sequence[NeuronSet], chosen: Chosen, config: NeuronsConfig
) -> int:
    """Return how many tokens of completions passes went over.

    Those before a span are read as well, those after it are not.
    """
    if config.span == "answer":
        ids = (entry.question_id for entry in neurons)
        return sum(chosen.facts[name].num_tokens for name in ids)
    return sum(entry.num_tokens for entry in neurons)


def warn_of_spans(run: RunContext, chosen: Chosen, config: NeuronsConfig) -> None:
    """Say how many completions do not hold the span whose neurons count."""
    if config.span == "completion":
        return
    ids = list(chosen.facts)
    lacking = sum(
        lacks_span(own, config)
        for start in range(0, len(ids), ROWS_READ)
        for own in chosen.completions(ids[start : start + ROWS_READ])
    )
    if lacking:
        run.directory.warn(
            f"{lacking} of {len(ids)} completions hold no {config.span}; the "
            "neurons of all their tokens count instead"
        )
