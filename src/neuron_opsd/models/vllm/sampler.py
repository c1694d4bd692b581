"""vLLM as a `Sampler`, for a base, learning or trained model.

Only tokens go in and out; ending and decoding are ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from neuron_opsd.config import Config
from neuron_opsd.errors import NotFiniteError
from neuron_opsd.models.decoding.growing import Ending, Growing, completed, ending_of
from neuron_opsd.models.roles import Finished, ModelFacts, Sampling, ignore
from neuron_opsd.models.tokenizer.encoding import Tokens
from neuron_opsd.models.vllm.adapters import Weights, Write, fixed, moving
from neuron_opsd.models.vllm.engine import SHARED, Engine, Served
from neuron_opsd.models.vllm.library import library
from neuron_opsd.models.weights.location import source_of
from neuron_opsd.models.weights.shards import ADAPTER_SETTINGS, snapshot_of
from neuron_opsd.records import Completion, TokenIds


class VLLMSampler:
    """Writes completions with the process's shared engine."""

    def __init__(
        self,
        engine: Engine,
        tokens: Tokens,
        adapters: Sequence[Path] = (),
        weights: Weights | None = None,
    ) -> None:
        """Answer with constant adapters, or with `weights` that change."""
        self.engine = engine
        self.tokens = tokens
        self.adapters = tuple(adapters)
        self.weights = fixed(adapters) if weights is None else weights

    def following(self, write: Write, rank: int) -> VLLMSampler:
        """Return the sampler of a model that learns on top of this one.

        `write` saves the adapter's current state into a folder at each question.
        """
        weights = moving(write, rank, self.adapters)
        return VLLMSampler(self.engine, self.tokens, self.adapters, weights)

    def give_way(self, network: Any) -> None:
        """Have the engine free its memory whenever a network computes."""
        engine = self.engine
        network.get_decoder().register_forward_pre_hook(lambda *_: engine.rest())

    def sample(
        self,
        prompts: Sequence[TokenIds],
        seeds: Sequence[Sequence[int]],
        sampling: Sampling,
        finished: Finished = ignore,
    ) -> list[list[Completion]]:
        """See `Sampler`; each completion is a request."""
        places = [(i, k) for i, group in enumerate(seeds) for k in range(len(group))]
        if not places:
            return [[] for _ in prompts]
        ending = ending_of(self.tokens, sampling)
        requests = [
            (
                {"prompt_token_ids": list(prompts[i])},
                params_of(sampling, ending, seeds[i][k]),
            )
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
            # A trainer compares its own log-probabilities.
            moves = self.weights is not None and self.weights.moves
            found[i][k] = one if moves else replace(one, logprobs=())
            if len(found[i]) == len(seeds[i]):
                finished(i, in_order(found[i]))
        return [in_order(group) for group in found]


def in_order(group: Mapping[int, Completion]) -> list[Completion]:
    """Return a prompt's completions in seed order."""
    return [group[k] for k in sorted(group)]


def vllm_sampler(
    config: Config, facts: ModelFacts, tokens: Tokens, adapters: Sequence[Path]
) -> VLLMSampler:
    """Return a model's sampler, with the adapters it was loaded with.

    A folder among them with a whole model replaces the base.
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
    """Return the local folder of a model's files."""
    source = source_of(config.model)
    if Path(source.place).is_dir():
        return source.place
    return str(snapshot_of(config.model.name, config.model.revision))


def params_of(sampling: Sampling, ending: Ending, seed: int) -> Any:
    """Return vLLM's sampling parameters for one completion."""
    return library().SamplingParams(
        n=1,
        seed=seed,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        max_tokens=sampling.max_new_tokens,
        logprobs=0,  # of the sampled token only
        # We stop at what the model's settings, tokenizer and template name.
        ignore_eos=True,
        stop_token_ids=sorted(ending.ids),
        stop=list(ending.stop) or None,
        include_stop_str_in_output=True,
        skip_special_tokens=False,
        detokenize=bool(ending.stop),
        output_kind=library().sampling_params.RequestOutputKind.FINAL_ONLY,
    )


def drawn_tokens(output: Any, sampling: Sampling) -> tuple[list[int], list[float]]:
    """Return the tokens of vLLM's one completion, and their log-probabilities."""
    (found,) = output.outputs
    ids = [int(token) for token in found.token_ids]
    steps = zip(ids, found.logprobs, strict=True)
    drawn = [float(step[token].logprob) for token, step in steps]
    if sampling.temperature == 0.0:
        drawn = [0.0 if math.isfinite(nats) else math.nan for nats in drawn]
    return ids, drawn


def completion_of(
    output: Any, sampling: Sampling, ending: Ending, *, opened: bool
) -> Completion:
    """Return a completion as our own decoder would have written it.

    vLLM gives no entropies. The tokens' mean negative log-probability, whose
    expectation is the entropy, replaces them.
    """
    ids, logprobs = drawn_tokens(output, sampling)
    if not math.isfinite(sum(logprobs)):
        wrong = next(n for n, nats in enumerate(logprobs) if not math.isfinite(nats))
        raise NotFiniteError(
            f"the logits of token {wrong + 1} of an answer are not finite, so none can "
            "be drawn"
        )
    size = num_kept(ids, ending)
    row = Growing((0, 0), [], token_ids=ids[:size], logprob=sum(logprobs[:size]))
    row.entropy = -row.logprob
    # An end at the longest length is an end, whatever vLLM calls it.
    stopped = output.outputs[0].finish_reason == "stop"
    row.finished = stopped or ending.reached(row.token_ids)
    found = completed(ending, row, opened=opened)
    return replace(found, logprobs=tuple(logprobs[:size]))


def num_kept(ids: Sequence[int], ending: Ending) -> int:
    """Return how many tokens a completion has, including its end token."""
    first = next((n for n, token in enumerate(ids, 1) if token in ending.ids), len(ids))
    whole = ending.tokens.tokenizer.decode(list(ids[:first])) if ending.stop else ""
    if not any(text in whole for text in ending.stop):
        return first
    ends = (n for n in range(1, first + 1) if ending.reached(ids[:n]))
    return next(ends, first)
