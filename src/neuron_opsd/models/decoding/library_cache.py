"""Free sampling with the library's own cache: what `generation` is checked against.

It takes over for models whose attention `shared_prefix` cannot follow. Prompts of a
group are padded on the left, and each sample has a copy of its prompt's keys.

Axes: B rows (one per sample), P prompts of a group, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor
from transformers import DynamicCache

from neuron_opsd.errors import ModelError
from neuron_opsd.models.decoding.growing import Row, append, begin, ending_of
from neuron_opsd.models.decoding.sampling import draw_tokens
from neuron_opsd.models.roles import Sampling
from neuron_opsd.records import TokenIds

if TYPE_CHECKING:
    from neuron_opsd.models.hf import HFModel

ROOM: Final = 8
"""Decoding holds one position a row at a time, so this many times the tokens of a
training batch still fit."""

TOLERANCE: Final = 1e-3
"""How far apart logits of two ways of decoding may be, beside the largest of them."""


class Groups:
    """Prompts of like length whose samples together fit into a batch."""

    def __init__(
        self,
        model: HFModel,
        prompts: Sequence[TokenIds],
        seeds: Sequence[Sequence[int]],
        sampling: Sampling,
        ended: list[Row],
    ) -> None:
        """Group the prompts.

        Args:
            model: Writes.
            prompts: Before the completions.
            seeds: Of every prompt's completions.
            sampling: How they are drawn.
            ended: Gets the rows that have ended.
        """
        self.model = model
        self.prompts = prompts
        self.seeds = seeds
        self.sampling = sampling
        self.ended = ended
        self.groups = list(groups(model, prompts, seeds, sampling))

    def run(self) -> None:
        """Make every completion, group by group."""
        for group in self.groups:
            rows = run_group(self.model, group, self.prompts, self.seeds, self.sampling)
            self.ended.extend(rows)

    def holds(self) -> tuple[int, bool]:
        """Return what its fullest group holds, and whether that is of one prompt alone.

        In tokens of a pass's room.
        """
        held = [
            sum(len(self.seeds[i]) for i in group)
            * (max(len(self.prompts[i]) for i in group) + self.sampling.max_new_tokens)
            for group in self.groups
        ]
        return -(-max(held) // ROOM), all(len(group) == 1 for group in self.groups)


def groups(
    model: HFModel,
    prompts: Sequence[TokenIds],
    seeds: Sequence[Sequence[int]],
    sampling: Sampling,
) -> Iterator[list[int]]:
    """Group prompts of like length whose samples together fit into a batch."""
    wanted = [i for i, group in enumerate(seeds) if group]
    order = sorted(wanted, key=lambda i: (len(prompts[i]), i))
    group: list[int] = []
    rows = 0
    for i in order:
        length = len(prompts[i]) + sampling.max_new_tokens
        too_many = (rows + len(seeds[i])) * length > ROOM * model.room.tokens
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
    rows = [row for i in group for row in begin(i, seeds[i], sampling)]
    where = {i: p for p, i in enumerate(group)}
    state = prefill(model, [prompts[i] for i in group])
    state.select(torch.tensor([where[row.place[0]] for row in rows]))
    ending = ending_of(model.tokens, sampling)
    alive = list(rows)
    while True:
        numbers = torch.tensor([row.number for row in alive], dtype=torch.float64)
        draw = draw_tokens(state.logits, numbers, sampling)
        keep = append(alive, draw, ending)
        if not keep:
            break
        tokens = draw.tokens
        if len(keep) < len(alive):
            alive = [alive[i] for i in keep]
            kept = torch.tensor(keep)
            tokens = tokens[kept.to(tokens.device)]
            state.select(kept)
        decode_step(model, state, tokens)
    return rows


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
        self.cache.reorder_cache(places)
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
    states = model.run_decoder(
        input_ids=ids.to(model.device),
        attention_mask=mask,
        position_ids=(mask.cumsum(dim=-1) - 1).clamp(min=0),
        use_cache=True,
        **cached(model, cache),
    )
    return DecodingState(cache, mask, model.next_logits(states[:, -1]))


def decode_step(model: HFModel, state: DecodingState, tokens: Tensor) -> None:
    """Run one more token of every row and put the next logits into the state."""
    one = state.mask.new_ones(len(tokens), 1)
    state.mask = torch.cat([state.mask, one], dim=1)
    states = model.run_decoder(
        input_ids=tokens.unsqueeze(-1),
        attention_mask=state.mask,
        position_ids=state.mask.sum(dim=-1, keepdim=True) - 1,
        use_cache=True,
        **cached(model, state.cache),
    )
    state.logits = model.next_logits(states[:, -1])


def check_plain_decoding(model: HFModel) -> None:
    """Refuse a model whose logits over its cache are not those of whole passes.

    Two prompts are read, the shorter one padded; their rows change places, as they do
    when a completion ends, and a few tokens are written after each.

    Args:
        model: Computes in float32, where two right ways differ by next to nothing.

    Raises:
        ModelError: If they are not.
    """
    prompts: list[TokenIds] = [tuple(range(1, 12)), tuple(range(3, 8))]
    written: TokenIds = (2, 1, 3)
    with torch.inference_mode():
        wanted = model.next_logits(
            torch.cat([model.states([(p, written)], after=1)[-1:] for p in prompts])
        )
        state = prefill(model, prompts)
        state.select(torch.tensor([1, 0, 1]))
        for token in written:
            decode_step(model, state, torch.full((3,), token, device=model.device))
    apart = (state.logits - wanted[[1, 0, 1]]).abs().max()
    if not apart < TOLERANCE * wanted.abs().max():
        raise ModelError(
            f"a {model.facts.family} model writes other tokens over its cache than "
            "over whole texts, so nothing can be sampled from it here; use a model of "
            "another family"
        )


def cached(model: HFModel, cache: Any) -> dict[str, Any]:
    """Return a cache under the name that this version of transformers has for it."""
    named = inspect.signature(model.decoder.forward).parameters
    return {"cache" if "cache" in named else "past_key_values": cache}
