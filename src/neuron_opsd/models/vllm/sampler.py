"""vLLM in the role of a `Sampler`: of the base model, a learning or a trained one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from neuron_opsd.config import Config
from neuron_opsd.errors import NotFiniteError
from neuron_opsd.models.decoding.growing import ending_of
from neuron_opsd.models.roles import Finished, ModelFacts, Sampling, ignore
from neuron_opsd.models.tokenizer.encoding import Tokens
from neuron_opsd.models.vllm.adapters import Weights, Write, fixed, moving
from neuron_opsd.models.vllm.engine import SHARED, Engine, Served
from neuron_opsd.models.vllm.requests import completion_of, params_of, prompt_of
from neuron_opsd.models.weights.location import source_of
from neuron_opsd.models.weights.shards import ADAPTER_SETTINGS, snapshot_of
from neuron_opsd.records import Completion, TokenIds


class VLLMSampler:
    """Writes completions with the engine that all models of the process share."""

    def __init__(
        self,
        engine: Engine,
        tokens: Tokens,
        adapters: Sequence[Path] = (),
        weights: Weights | None = None,
    ) -> None:
        """Answer with adapters that stay as they are, or with `weights` that move."""
        self.engine = engine
        self.tokens = tokens
        self.adapters = tuple(adapters)
        self.weights = fixed(adapters) if weights is None else weights

    def following(self, write: Write, rank: int) -> VLLMSampler:
        """Return the sampler of a model that learns on top of this one.

        `write` writes its adapter, as it is when a question is asked, into a folder.
        """
        weights = moving(write, rank, self.adapters)
        return VLLMSampler(self.engine, self.tokens, self.adapters, weights)

    def give_way(self, network: Any) -> None:
        """Have the engine free its memory whenever a network computes."""
        engine = self.engine

        def before(*_: object) -> None:
            engine.rest()

        network.get_decoder().register_forward_pre_hook(before)

    def sample(
        self,
        prompts: Sequence[TokenIds],
        seeds: Sequence[Sequence[int]],
        sampling: Sampling,
        finished: Finished = ignore,
    ) -> list[list[Completion]]:
        """Draw one completion per seed for every prompt, a request for each."""
        places = [(i, k) for i, group in enumerate(seeds) for k in range(len(group))]
        if not places:
            return [[] for _ in prompts]
        ending = ending_of(self.tokens, sampling)
        requests = [
            (prompt_of(prompts[i]), params_of(sampling, ending, seeds[i][k]))
            for i, k in places
        ]
        longest = max(len(prompts[i]) for i, _ in places) + sampling.max_new_tokens
        opened = list(map(self.tokens.opens_reasoning, prompts))
        found: list[dict[int, Completion]] = [{} for _ in prompts]
        for number, output in self.engine.answer(requests, longest, self.weights):
            i, k = places[number]
            try:
                one = completion_of(output, sampling, ending, opened=opened[i])
            except NotFiniteError as error:
                raise NotFiniteError(error.what, [i]) from error
            found[i][k] = one if self._moves else replace(one, logprobs=())
            if len(found[i]) == len(seeds[i]):
                finished(i, in_order(found[i]))
        return [in_order(group) for group in found]

    @property
    def _moves(self) -> bool:
        """Whether a trainer compares its own log-probabilities."""
        return self.weights is not None and self.weights.moves


def in_order(group: Mapping[int, Completion]) -> list[Completion]:
    """Return the completions of a prompt in the order of their seeds."""
    return [group[k] for k in sorted(group)]


def vllm_sampler(
    config: Config, facts: ModelFacts, tokens: Tokens, adapters: Sequence[Path]
) -> VLLMSampler:
    """Return the sampler of a model, with the adapters that it was loaded with.

    A folder among these that holds a whole model takes the base's place.
    """
    place, above = base_folder(config), []
    for adapter in adapters:
        if (adapter / ADAPTER_SETTINGS).exists():
            above.append(adapter)
        else:
            place, above = str(adapter), []
    served = Served(place, facts.compute, facts.device, facts.max_positions)
    engine = SHARED.get(served, config.engine)
    engine.rank = max(engine.rank, config.distill.lora_rank)
    return VLLMSampler(engine, tokens, above)


def base_folder(config: Config) -> str:
    """Return the folder on this machine that holds a model's files."""
    source = source_of(config.model)
    if Path(source.place).is_dir():
        return source.place
    return str(snapshot_of(config.model.name, config.model.revision))
