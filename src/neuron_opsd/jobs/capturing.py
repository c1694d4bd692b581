"""The neurons of the rollouts that stand for their questions, block by block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from neuron_opsd.config import NeuronsConfig
from neuron_opsd.jobs.setting import Job
from neuron_opsd.models.protocol import LanguageModel, Pair
from neuron_opsd.records import NeuronSet, Question, Rollout
from neuron_opsd.stages.capture import capture_neurons, lacks_span, pair_of
from neuron_opsd.stages.rollouts import Asked, ask
from neuron_opsd.world.codecs import NEURONS


def capture(
    job: Job,
    model: LanguageModel,
    questions: Sequence[Question],
    chosen: Mapping[str, Rollout],
    name: str = "neurons",
    made_from: Sequence[str] = (),
) -> Sequence[NeuronSet]:
    """Read off the neurons that pushed each question's rollout.

    Args:
        job: Keeps them.
        model: That wrote the rollouts.
        questions: All that are asked.
        chosen: Question id to its rollout.
        name: Of the output.
        made_from: Names of what holds the rollouts.
    """
    config = job.config
    asked = ask(questions, config, constrained=job.constrained)

    def pair(a: Asked) -> Pair:
        own = chosen[a.question.id].completion
        return pair_of(model, model.encode(a.prompt), own, config.neurons)

    def compute(block: Sequence[Asked]) -> Sequence[NeuronSet]:
        return capture_neurons(
            model,
            [a.question.id for a in block],
            [pair(a) for a in block],
            config.neurons,
            config.model.tokens_per_batch,
        )

    with job.progress.stage(name, len(asked), "questions") as done:
        neurons = job.run.blocks(
            name,
            NEURONS.at(f"{name}.parquet"),
            asked,
            config.rollouts.block_size,
            compute,
            done,
            made_from=made_from,
        )
    prompts = sum(len(model.encode(a.prompt)) for a in asked)
    job.count_tokens(name, prompts + tokens_read(neurons, chosen, config.neurons))
    warn_of_spans(job, chosen, config.neurons)
    return neurons


def tokens_read(
    neurons: Sequence[NeuronSet], chosen: Mapping[str, Rollout], config: NeuronsConfig
) -> int:
    """Return how many tokens of completions passes went over.

    Those before a span are read as well, those after it are not.
    """
    if config.span == "answer":
        ids = (entry.question_id for entry in neurons)
        return sum(len(chosen[name].completion.token_ids) for name in ids)
    return sum(entry.num_tokens for entry in neurons)


def warn_of_spans(
    job: Job, chosen: Mapping[str, Rollout], config: NeuronsConfig
) -> None:
    """Say how many completions do not hold the span whose neurons count."""
    lacking = sum(lacks_span(one.completion, config) for one in chosen.values())
    if lacking:
        job.run.warn(
            f"{lacking} of {len(chosen)} completions hold no {config.span}; the "
            "neurons of all their tokens count instead"
        )
