"""Free sampling: a prompt is read once for all its samples, and places never idle.

As soon as all samples of a prompt have ended, the next prompt is let in. What is drawn
depends on (prompt, seed) alone: on a processor the tokens are the same whatever else is
made at the same time, since sizes are kept to those for which products and sums of a
row are made in one order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from neuron_opsd.errors import is_out_of_memory
from neuron_opsd.models.decoding.growing import (
    Row,
    append,
    begin,
    completions,
    ending_of,
)
from neuron_opsd.models.decoding.library_cache import Groups
from neuron_opsd.models.decoding.prefix_memory import PrefixMemory
from neuron_opsd.models.decoding.sampling import draw_tokens
from neuron_opsd.models.decoding.shared_prefix import DecoderPass, enough, extend, read
from neuron_opsd.models.forward.attention import replacing
from neuron_opsd.models.forward.batches import batches
from neuron_opsd.models.library_errors import FAULTS
from neuron_opsd.models.roles import Sampling
from neuron_opsd.models.room import attempt, refuse_single
from neuron_opsd.records import Completion, TokenIds

if TYPE_CHECKING:
    from neuron_opsd.models.hf import HFModel

MAX_ROWS: Final = 256
"""Rows decoded side by side; more make no product faster."""

TOLERANCE: Final = 1e-3
"""How far apart states of two ways of decoding may be, beside the largest of them."""

ROOM: Final = 4
"""Decoding holds this many times the positions of a forward pass's batch."""


def generate(
    model: HFModel,
    prompts: Sequence[TokenIds],
    seeds: Sequence[Sequence[int]],
    sampling: Sampling,
) -> list[list[Completion]]:
    """Sample one completion per seed for every prompt.

    Where memory runs out, what has not ended is begun again with half as much side by
    side, and with half the samples of a prompt where there is one prompt alone.

    Raises:
        NotFiniteError: If a logit is no number; its places are prompts'.
        TryAgainError: If a single completion has no room.
    """
    shares = model.facts.shares_prompts
    way = Batch if shares else Groups
    ended: list[Row] = []
    said = attempt(lambda: way(model, prompts, seeds, sampling, ended).run())
    ending = ending_of(model.tokens, sampling)
    if not said:
        return completions(ending, ended, prompts)
    num_ended = Counter(row.place[0] for row in ended)
    whole = [i for i, group in enumerate(seeds) if num_ended[i] == len(group)]
    left = [i for i in range(len(prompts)) if i not in set(whole)]
    rest = [prompts[i] for i in left], [seeds[i] for i in left]
    used, alone = way(model, *rest, sampling, []).holds()
    if not alone:
        model.room.lower(used, said)
        found = generate(model, *rest, sampling)
    else:
        found = in_two(model, *rest, sampling, said)
    kept = completions(ending, [r for r in ended if r.place[0] in set(whole)], prompts)
    for i, group in zip(left, found, strict=True):
        kept[i] = group
    return kept


def in_two(
    model: HFModel,
    prompts: Sequence[TokenIds],
    seeds: Sequence[Sequence[int]],
    sampling: Sampling,
    said: str,
) -> list[list[Completion]]:
    """Sample half the completions of every prompt, then the other half.

    Raises:
        TryAgainError: If there is one of each alone.
    """
    most = max(map(len, seeds))
    longest = max(map(len, prompts)) + sampling.max_new_tokens
    refuse_single(most, f"one completion of up to {longest} tokens", said)
    first, second = (
        generate(model, prompts, [group[part] for group in seeds], sampling)
        for part in (slice(most // 2), slice(most // 2, None))
    )
    return [a + b for a, b in zip(first, second, strict=True)]


def decodes_alike(model: HFModel) -> bool:
    """Whether decoding over shared prompts gives what whole passes give.

    Prompts of two lengths are read and two samples of each take a few steps; the states
    must be those of passes over the whole sequences, up to rounding.
    """
    prompts: list[TokenIds] = [tuple(range(1, 12)), tuple(range(3, 8))]
    written: TokenIds = (2, 1, 3)
    decoder: Any = model.decoder

    def run(**inputs: Any) -> Tensor:
        # In float32, where two right ways differ by next to nothing.
        states: Tensor = decoder(use_cache=False, **inputs).last_hidden_state
        return states

    with torch.inference_mode():
        whole = [torch.tensor([p + written], device=model.device) for p in prompts]
        wanted = torch.cat([run(input_ids=ids)[:, -1] for ids in whole])
        try:
            with replacing(decoder.config):
                found = read_and_write(run, model.device, prompts, written)
        except FAULTS as error:
            if is_out_of_memory(error):
                raise
            # Attention of another kind may not even take what is asked for here.
            return False
    return bool((found - wanted).abs().max() < TOLERANCE * wanted.abs().max())


def read_and_write(
    run: DecoderPass,
    device: torch.device,
    prompts: Sequence[TokenIds],
    written: TokenIds,
) -> Tensor:
    """Return the last states after reading prompts and writing the same after each.

    The second of two samples is followed, so that a mistake in the places shows.
    """
    memory = PrefixMemory(len(prompts), 2, device)
    states = read(memory, run, prompts, range(len(prompts)))
    slots = torch.arange(len(prompts), device=device) * 2 + 1
    for token in written:
        states = extend(memory, run, torch.full_like(slots, token), slots)
    return states


class Batch:
    """The prompts that wait, the samples that grow, and those that have ended."""

    def __init__(
        self,
        model: HFModel,
        prompts: Sequence[TokenIds],
        seeds: Sequence[Sequence[int]],
        sampling: Sampling,
        ended: list[Row],
    ) -> None:
        """Begin with everything waiting, the longest prompt first.

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
        self.ending = ending_of(model.tokens, sampling)
        self.waiting = sorted(
            (i for i, row in enumerate(seeds) if row),
            key=lambda i: (len(prompts[i]), i),
        )
        self.growing: list[Row] = []
        self.ended = ended
        self.num_samples = max(map(len, seeds), default=1)
        self.size = min(self._most_places(), len(self.waiting))
        self.free = list(range(self.size))[::-1]
        self.memory = PrefixMemory(self.size, self.num_samples, model.device)

    def run(self) -> None:
        """Make every completion."""
        while self.waiting or self.growing:
            # Prompts are read several at a time, which is faster than one by one.
            if self.waiting and 4 * len(self.free) >= self.size:
                self._admit()
            elif not self.waiting and 2 * len(self.free) >= self.size:
                self._shrink()
            if self.growing:
                self._step()

    def holds(self) -> tuple[int, bool]:
        """Return what it holds at its fullest, and whether that is of one prompt alone.

        In tokens of a pass's room.
        """
        return -(-self.size * self._positions() // ROOM), self.size <= 1

    def _positions(self) -> int:
        """Return the positions of a prompt and all that is written after it."""
        longest = max((len(self.prompts[i]) for i in self.waiting), default=0)
        return longest + self.num_samples * self.sampling.max_new_tokens

    def _most_places(self) -> int:
        room = ROOM * self.model.room.tokens // self._positions()
        return max(1, min(room, MAX_ROWS // self.num_samples))

    def _admit(self) -> None:
        """Read as many of the longest prompts as there are places for."""
        count = min(len(self.free), len(self.waiting))
        chosen = [self.waiting.pop() for _ in range(count)]
        places = [self.free.pop() for _ in chosen]
        texts = [self.prompts[i] for i in chosen]
        states = self._read(texts, places)
        rows: list[Row] = []
        parents: list[int] = []
        for number, (i, place) in enumerate(zip(chosen, places, strict=True)):
            for k, row in enumerate(begin(i, self.seeds[i], self.sampling)):
                row.slot = place * self.num_samples + k
                rows.append(row)
                parents.append(number)
        logits = self.model.next_logits(enough(states))[parents]
        self._draw(rows, logits)
        self.growing += [row for row in rows if row.grows]
        self._release(places)

    def _read(self, texts: Sequence[TokenIds], places: Sequence[int]) -> Tensor:
        """Return the states at the ends of prompts, read with others of like length."""
        states: dict[int, Tensor] = {}
        for batch in batches([(t, ()) for t in texts], self.model.room.tokens):
            some = [texts[i] for i in batch], [places[i] for i in batch]
            found = read(self.memory, self.model.run_decoder, *some)
            states |= zip(batch, found, strict=True)
        return torch.stack([states[i] for i in range(len(texts))])

    def _step(self) -> None:
        """Let every sample grow by one token."""
        rows = self.growing
        last = torch.tensor([row.token_ids[-1] for row in rows])
        slots = torch.tensor([row.slot for row in rows])
        device = self.model.device
        states = extend(
            self.memory, self.model.run_decoder, last.to(device), slots.to(device)
        )
        self._draw(rows, self.model.next_logits(enough(states))[: len(rows)])
        places = {row.slot // self.num_samples for row in rows}
        self.growing = [row for row in rows if row.grows]
        self._release(sorted(places))

    def _draw(self, rows: Sequence[Row], logits: Tensor) -> None:
        numbers = torch.tensor([row.number for row in rows], dtype=torch.float64)
        draw = draw_tokens(logits, numbers, self.sampling)
        append(rows, draw, self.ending)
        self.ended += [row for row in rows if not row.grows]

    def _release(self, places: Sequence[int]) -> None:
        """Free the places of prompts whose samples have all ended."""
        used = {row.slot // self.num_samples for row in self.growing}
        self.free += [place for place in reversed(places) if place not in used]

    def _shrink(self) -> None:
        """Drop the memory of places that nothing will fill again."""
        used = sorted({row.slot // self.num_samples for row in self.growing})
        self.memory.keep(used)
        moved = {place: new for new, place in enumerate(used)}
        for row in self.growing:
            place, k = divmod(row.slot, self.num_samples)
            row.slot = moved[place] * self.num_samples + k
        self.size, self.free = len(used), []
