"""Questions as vLLM takes them, and completions as it gives them.

Tokens go in and tokens come out; what ends a completion, and its text, are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from neuron_opsd.errors import NotFiniteError
from neuron_opsd.models.decoding.growing import Ending, Growing, completed
from neuron_opsd.models.roles import Sampling
from neuron_opsd.models.vllm.library import library
from neuron_opsd.records import Completion, TokenIds


def params_of(sampling: Sampling, ending: Ending, seed: int) -> Any:
    """Return how one completion is drawn, in vLLM's words."""
    return library().SamplingParams(
        n=1,
        seed=seed,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        max_tokens=sampling.max_new_tokens,
        logprobs=0,  # of the token that was drawn, and of no other
        # Ours are what the model's settings, its tokenizer and its template name.
        ignore_eos=True,
        stop_token_ids=sorted(ending.ids),
        stop=list(ending.stop) or None,
        include_stop_str_in_output=True,
        skip_special_tokens=False,
        detokenize=bool(ending.stop),
        output_kind=library().sampling_params.RequestOutputKind.FINAL_ONLY,
    )


def prompt_of(prompt: TokenIds) -> dict[str, Any]:
    """Return a prompt of tokens."""
    return {"prompt_token_ids": list(prompt)}


def drawn_tokens(output: Any, sampling: Sampling) -> tuple[list[int], list[float]]:
    """Return the tokens of vLLM's one completion of a prompt, and their logprobs.

    These are of what was drawn from; the most probable token is no draw.
    """
    (found,) = output.outputs
    ids = [int(token) for token in found.token_ids]
    if sampling.temperature == 0.0:
        return ids, [
            0.0 if math.isfinite(step[token].logprob) else math.nan
            for token, step in zip(ids, found.logprobs, strict=True)
        ]
    return ids, [
        float(step[token].logprob)
        for token, step in zip(ids, found.logprobs, strict=True)
    ]


def completion_of(
    output: Any, sampling: Sampling, ending: Ending, *, opened: bool
) -> Completion:
    """Return a completion as our own decoder would have written it.

    vLLM tells no entropies. The mean of minus the log-probabilities of the tokens takes
    their place, whose expectation the entropy is.

    Raises:
        NotFiniteError: If a log-probability is no number.
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
    """Return how many tokens a completion has, the one that ends it included.

    vLLM ends it there too; this holds for any version of it.
    """
    first = next((n for n, token in enumerate(ids, 1) if token in ending.ids), len(ids))
    whole = ending.tokens.tokenizer.decode(list(ids[:first])) if ending.stop else ""
    if not any(text in whole for text in ending.stop):
        return first
    ends = (n for n in range(1, first + 1) if ending.reached(ids[:n]))
    return next(ends, first)
