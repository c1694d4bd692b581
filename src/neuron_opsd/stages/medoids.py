"""Which of a question's rollouts used the neurons that its others used as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from neuron_opsd.config import Config
from neuron_opsd.method.contexts.medoid import medoid_of
from neuron_opsd.models.roles import LanguageModel
from neuron_opsd.records import Completion, NeuronIds, Rollout
from neuron_opsd.records.beliefs import Medoid
from neuron_opsd.stages.capture import capture_answers
from neuron_opsd.stages.rollouts import PromptedQuestion


def find_medoids(
    model: LanguageModel,
    answered: Sequence[tuple[PromptedQuestion, tuple[Rollout, ...]]],
    config: Config,
) -> list[Medoid]:
    """Return for each question its rollout whose neurons are most like the others'.

    Neurons of all its sampled rollouts are read; those with the same tokens share a
    pass. Only one with an answer that can be read is chosen.

    Raises:
        NotFiniteError: If a score is no number.
    """
    distinct: dict[tuple[int, tuple[int, ...]], tuple[PromptedQuestion, Completion]]
    distinct = {
        (place, one.completion.token_ids): (asked, one.completion)
        for place, (asked, rollouts) in enumerate(answered)
        for one in rollouts
    }
    found = capture_answers(model, list(distinct.values()), config)
    sets = {key: one.neuron_ids for key, one in zip(distinct, found, strict=True)}
    lengths = map(len, model.encode_all([asked.prompt for asked, _ in answered]))
    medoids = []
    for place, length in enumerate(lengths):
        asked, rollouts = answered[place]
        tokens = [one.completion.token_ids for one in rollouts]
        own = medoid(asked.question.id, rollouts, [sets[place, ids] for ids in tokens])
        num_read = sum(length + len(ids) for ids in set(tokens))
        medoids.append(replace(own, num_read=num_read))
    return medoids


def medoid(
    question_id: str, rollouts: Sequence[Rollout], sets: Sequence[NeuronIds]
) -> Medoid:
    """Return the medoid of one question, from the neurons of its rollouts."""
    found = medoid_of(sets, [one.answer is not None for one in rollouts])
    if found is None:
        return Medoid(question_id, None, None)
    place, distance = found
    return Medoid(question_id, rollouts[place].index, distance)
