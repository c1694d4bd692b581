"""Free sampling: one prefill per prompt, shared by all its samples.

Axes: B rows (one per sample), P prompts of a group, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import DynamicCache

from neuron_opsd.models.protocol import Sampling
from neuron_opsd.models.sampling import Draw, draw_tokens
from neuron_opsd.records import Completion, TokenIds
from neuron_opsd.seeds import uniforms

if TYPE_CHECKING:
    from neuron_opsd.models.hf import HFModel


@dataclass(slots=True, eq=False)
class Row:
    """One completion while it grows."""

    place: tuple[int, int]
    """Number of its prompt and of its seed."""
    uniforms: Tensor
    """``(max_new_tokens,)`` random numbers, one for each token to come."""
    token_ids: list[int] = field(default_factory=list)
    logprob: float = 0.0
    entropy: float = 0.0
    finished: bool = False

    def add(self, token: int, logprob: float, entropy: float, *, end: bool) -> None:
        """Append one token."""
        self.token_ids.append(token)
        self.logprob += logprob
        self.entropy += entropy
        self.finished = end


def generate(
    model: HFModel,
    prompts: Sequence[TokenIds],
    seeds: Sequence[Sequence[int]],
    sampling: Sampling,
) -> list[list[Completion]]:
    """Sample completions for many prompts, group by group."""
    results: list[list[Completion]] = [[] for _ in prompts]
    for group in groups(model, prompts, seeds, sampling):
        for row in run_group(model, group, prompts, seeds, sampling):
            results[row.place[0]].append(completed(model, row))
    return results


def groups(
    model: HFModel,
    prompts: Sequence[TokenIds],
    seeds: Sequence[Sequence[int]],
    sampling: Sampling,
) -> Iterator[list[int]]:
    """Group prompts of like length whose samples together fit into a batch."""
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
    group: list[int] = []
    rows = 0
    for i in order:
        length = len(prompts[i]) + sampling.max_new_tokens
        # Decoding holds one position a row at a time, so eight times the tokens of a
        # training batch still fit.
        too_many = (rows + len(seeds[i])) * length > 8 * model.tokens_per_batch
        if group and too_many:
            yield group
            group, rows = [], 0
        group.append(i)
        rows += len(seeds[i])
    if group:
        yield group


def run_group(
    model: HFModel,
    group: Sequence[int],
    prompts: Sequence[TokenIds],
    seeds: Sequence[Sequence[int]],
    sampling: Sampling,
) -> list[Row]:
    """Prefill the prompts of a group once and decode all their samples together."""
    rows = [
        Row((i, k), torch.from_numpy(uniforms(seed, sampling.max_new_tokens)))
        for i in group
        for k, seed in enumerate(seeds[i])
    ]
    where = {i: p for p, i in enumerate(group)}
    state = prefill(model, [prompts[i] for i in group])
    state.select(torch.tensor([where[row.place[0]] for row in rows]))
    ends = model.tokens.end_ids
    if sampling.stop_at_newline:
        ends = ends | model.tokens.newline_ids
    alive = list(rows)
    for t in range(sampling.max_new_tokens):
        uniform = torch.stack([row.uniforms[t] for row in alive])
        draw = draw_tokens(state.logits, uniform, sampling.temperature, sampling.top_p)
        keep = append(alive, draw, ends)
        if not keep or t + 1 == sampling.max_new_tokens:
            break
        tokens = draw.tokens
        if len(keep) < len(alive):
            alive = [alive[i] for i in keep]
            kept = torch.tensor(keep)
            tokens = tokens[kept.to(tokens.device)]
            state.select(kept)
        decode_step(model, state, tokens)
    return rows


def append(rows: Sequence[Row], draw: Draw, ends: frozenset[int]) -> list[int]:
    """Append a step's tokens to their rows; return the places of rows not ended."""
    tokens, logprobs = draw.tokens.tolist(), draw.logprobs.tolist()
    entropies = draw.entropies.tolist()
    for row, token, logprob, entropy in zip(
        rows, tokens, logprobs, entropies, strict=True
    ):
        row.add(token, logprob, entropy, end=token in ends)
    return [place for place, row in enumerate(rows) if not row.finished]


@dataclass(slots=True, eq=False)
class DecodingState:
    """What decoding carries from one token to the next."""

    cache: Any
    mask: Tensor
    """``(B, T)``: 1 where a position holds a token, 0 where it pads on the left."""
    logits: Tensor
    """``(B, V)`` of the next token."""

    def select(self, places: Tensor) -> None:
        """Keep (or repeat) the rows at these places."""
        places = places.to(self.mask.device)
        self.cache.batch_select_indices(places)
        self.mask = self.mask[places]
        self.logits = self.logits[places]


def prefill(model: HFModel, prompts: Sequence[TokenIds]) -> DecodingState:
    """Run the prompts, padded on the left, and keep their keys and values."""
    longest = max(map(len, prompts))
    ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    mask = torch.zeros(len(prompts), longest, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    mask = mask.to(model.device)
    cache = DynamicCache(config=model.network.config)
    output = model.network(
        input_ids=ids.to(model.device),
        attention_mask=mask,
        position_ids=(mask.cumsum(dim=-1) - 1).clamp(min=0),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return DecodingState(cache, mask, output.logits[:, -1])


def decode_step(model: HFModel, state: DecodingState, tokens: Tensor) -> None:
    """Run one more token of every row and put the next logits into the state."""
    one = state.mask.new_ones(len(tokens), 1)
    state.mask = torch.cat([state.mask, one], dim=1)
    output = model.network(
        input_ids=tokens.unsqueeze(-1),
        attention_mask=state.mask,
        position_ids=state.mask.sum(dim=-1, keepdim=True) - 1,
        past_key_values=state.cache,
        use_cache=True,
        logits_to_keep=1,
    )
    state.logits = output.logits[:, -1]


def completed(model: HFModel, row: Row) -> Completion:
    """Turn a row that has ended into a completion."""
    ids = tuple(row.token_ids)
    text_ids = ids[:-1] if row.finished else ids
    # A line-break token may carry text before its break, which belongs to the answer.
    tail = ids[-1:] if row.finished and ids[-1] not in model.tokens.end_ids else ()
    text = model.decode(text_ids + tail)
    return Completion(
        token_ids=ids,
        text=text,
        finished=row.finished,
        logprob=row.logprob,
        entropy=row.entropy / max(len(ids), 1),
    )
