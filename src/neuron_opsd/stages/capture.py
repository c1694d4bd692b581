"""Read which neurons pushed the tokens of existing completions."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from neuron_opsd.config import Config, NeuronsConfig
from neuron_opsd.errors import DataError, naming
from neuron_opsd.method.contexts.search import medoid_of
from neuron_opsd.method.neurons import Activated, NeuronCounter, Sizes, scaled_sizes
from neuron_opsd.models.roles import Capturer, LanguageModel, ModelFacts, Tokenizer
from neuron_opsd.records import Completion, NeuronSet, Pair, Rollout, TokenIds
from neuron_opsd.records.beliefs import Medoid
from neuron_opsd.stages.rollouts import PromptedQuestion


def sizes_of(config: NeuronsConfig, facts: ModelFacts) -> Sizes:
    """Return how many entries the rules keep for a model."""
    return scaled_sizes(
        facts.num_layers,
        facts.num_neurons,
        per_layer=config.per_layer,
        keep=config.keep,
        chunk_tokens=config.chunk_tokens,
    )


def pair_of(
    model: Tokenizer, prompt: TokenIds, completion: Completion, config: NeuronsConfig
) -> Pair:
    """Return a prompt and the counted span of a completion.

    What precedes the span joins the prompt; a completion without the span counts whole.
    `neurons.first_tokens` cuts either.
    """
    ids = completion.token_ids
    if config.span == "completion" or lacks_span(completion, config):
        return prompt, first_tokens(ids, config)
    start = first_final_token(model, completion)
    if config.span == "reasoning":
        return prompt, first_tokens(ids[: max(1, start)], config)
    return prompt + ids[:start], first_tokens(ids[start:], config)


def first_tokens(ids: TokenIds, config: NeuronsConfig) -> TokenIds:
    """Return a span's tokens that count."""
    return ids[: config.first_tokens or None]


def pairs_of(
    model: Tokenizer,
    asked: Sequence[PromptedQuestion],
    completions: Sequence[Completion],
    config: NeuronsConfig,
) -> list[Pair]:
    """Apply `pair_of` to the completions of some questions."""
    prompts = model.encode_all([a.prompt for a in asked])
    return [
        pair_of(model, prompt, completion, config)
        for prompt, completion in zip(prompts, completions, strict=True)
    ]


def lacks_span(completion: Completion, config: NeuronsConfig) -> bool:
    """Whether a completion lacks the span of `neurons.span`.

    One without reasoning is all answer; one with unclosed reasoning has none.
    """
    start = completion.final_start
    if config.span == "reasoning":
        return start == 0
    if config.span == "answer":
        return start is None or not completion.text[start:].strip()
    return False


def first_final_token(model: Tokenizer, completion: Completion) -> int:
    """Return the place of the token with the final answer's first character.

    White space before it belongs to the reasoning. Without an answer, returns the
    length.

    Raises:
        DataError: If the completion's tokens do not spell its text.
    """
    ids, text, start = completion.token_ids, completion.text, completion.final_start
    if start == 0:
        return 0
    if start is None or not text[start:].strip():
        return len(ids)
    begun = text[: len(text) - len(text[start:].lstrip()) + 1]
    # Decoding more tokens gives a text that begins with that of fewer.
    place = bisect_left(
        range(1, len(ids) + 1),
        True,  # noqa: FBT003 - what the key is to be
        key=lambda count: model.decode(ids[:count]).startswith(begun),
    )
    if place == len(ids):
        raise DataError(
            f"the tokens of the completion {text[:40]!r} do not spell its text, so its "
            "final answer cannot be found among them; set neurons.span to completion"
        )
    return place


def capture_answers(
    model: LanguageModel,
    answered: Sequence[tuple[PromptedQuestion, Completion]],
    config: Config,
) -> list[NeuronSet]:
    """Return the neuron sets of questions, from a completion of each."""
    asked, completions = zip(*answered, strict=True)
    pairs = pairs_of(model, asked, completions, config.neurons)
    return capture_pairs(
        model,
        [(a.question.id, pair) for a, pair in zip(asked, pairs, strict=True)],
        config,
    )


def capture_pairs(
    model: Capturer, pairs: Sequence[tuple[str, Pair]], config: Config
) -> list[NeuronSet]:
    """Return the neuron sets of pairs, given with their question ids."""
    ids, chosen = zip(*pairs, strict=True)
    tokens = config.model.tokens_per_batch
    return capture_neurons(model, ids, chosen, config.neurons, tokens)


def find_medoids(
    model: LanguageModel,
    answered: Sequence[tuple[PromptedQuestion, tuple[Rollout, ...]]],
    config: Config,
) -> list[Medoid]:
    """Return each question's rollout whose neurons are most like the others'.

    Equal tokens share a pass. Only rollouts with a readable answer qualify.

    Raises:
        NotFiniteError: If a score is not finite.
    """
    distinct = {
        (place, one.completion.token_ids): (asked, one.completion)
        for place, (asked, rollouts) in enumerate(answered)
        for one in rollouts
    }
    found = capture_answers(model, list(distinct.values()), config)
    sets = {key: one.neuron_ids for key, one in zip(distinct, found, strict=True)}
    prompts = model.encode_all([asked.prompt for asked, _ in answered])
    medoids = []
    for place, (asked, rollouts) in enumerate(answered):
        tokens = [one.completion.token_ids for one in rollouts]
        readable = [one.answer is not None for one in rollouts]
        chosen = medoid_of([sets[place, ids] for ids in tokens], readable)
        index = None if chosen is None else rollouts[chosen[0]].index
        distance = None if chosen is None else chosen[1]
        num_read = sum(len(prompts[place]) + len(ids) for ids in set(tokens))
        medoids.append(Medoid(asked.question.id, index, distance, num_read))
    return medoids


def not_read(question_ids: Sequence[str]) -> list[NeuronSet]:
    """Return placeholders for questions whose neurons are not needed."""
    ids, scores = np.empty(0, np.uint32), np.empty(0, np.float32)
    return [NeuronSet(name, None, ids, scores, num_tokens=0) for name in question_ids]


def capture_neurons(
    model: Capturer,
    question_ids: Sequence[str],
    pairs: Sequence[Pair],
    config: NeuronsConfig,
    tokens_per_batch: int,
) -> list[NeuronSet]:
    """Return the neuron sets of completions, in one forward pass over each.

    `pairs` are as from `pair_of`, with no empty completion; a pass has at most
    `tokens_per_batch` tokens, padding included.

    Raises:
        NotFiniteError: If a score is not finite.
    """
    sizes = sizes_of(config, model.facts)
    found: dict[int, Activated] = {}

    def read_off(batch: list[int]) -> None:
        chosen = [pairs[i] for i in batch]
        counter = NeuronCounter([len(c) for _, c in chosen], config.rule, sizes)
        with naming([question_ids[i] for i in batch]):
            read_scores(model, chosen, counter.add, config)
        found.update(zip(batch, counter.finish(), strict=True))

    model.room.each_pass(pairs, read_off, tokens_per_batch)
    return [
        NeuronSet(
            question_id=question_id,
            neuron_count=found[i].neuron_count,
            neuron_ids=found[i].neuron_ids,
            scores=found[i].scores,
            num_tokens=len(pairs[i][1]),
        )
        for i, question_id in enumerate(question_ids)
    ]


def read_scores(
    model: Capturer,
    pairs: Sequence[Pair],
    take: Callable[[int, Tensor], None],
    config: NeuronsConfig,
) -> None:
    """Pass on the contribution scores of pairs, layer by layer, from one pass."""
    half = config.rule == "neufs"
    model.capture(pairs, config.value, take, half_projections=half)
