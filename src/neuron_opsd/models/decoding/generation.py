"""Free sampling: a prompt is read once for all its samples, and places never idle.

As soon as all samples of a prompt have ended, the next prompt is let in. What is drawn
depends on (prompt, seed) alone: on a processor the tokens are the same whatever else is
made at the same time, since sizes are kept to those for which products and sums of a
row are made in one order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from neuron_opsd.models.decoding.growing import Decoder, Growing, Request, ending_of
from neuron_opsd.models.decoding.library_cache import LibraryCache
from neuron_opsd.models.decoding.shared_prefix import PrefixMemory, enough, extend, read
from neuron_opsd.models.roles import Sampling
from neuron_opsd.models.room import MAX_ROWS, ROOM, attempt, batches, refuse_single
from neuron_opsd.records import Completion, TokenIds


def generate(
    model: Decoder,
    prompts: Sequence[TokenIds],
    seeds: Sequence[Sequence[int]],
    sampling: Sampling,
) -> list[list[Completion]]:
    """Sample one completion per seed for every prompt, as a `Sampler` does."""
    ending = ending_of(model.tokens, sampling)
    return written(model, Request(prompts, seeds, sampling, ending))


def written(model: Decoder, request: Request) -> list[list[Completion]]:
    """Return the completions of a request.

    Where memory runs out, what has not ended is started again with half as much side by
    side, and with half the samples of a prompt where there is one prompt alone.
    """
    way = SharedPrefixes if model.facts.shares_prompts else LibraryCache
    said = attempt(lambda: way(model, request).run())
    found = request.completions()
    if not said:
        return found
    num_ended = Counter(row.place[0] for row in request.ended)
    left = [i for i, group in enumerate(request.seeds) if num_ended[i] < len(group)]
    rest = request.part(left)
    used, alone = way(model, rest).holds()
    if alone:
        again = in_two(model, rest, said)
    else:
        model.room.lower(used, said)
        again = written(model, rest)
    for i, group in zip(left, again, strict=True):
        found[i] = group
    return found


def in_two(model: Decoder, request: Request, said: str) -> list[list[Completion]]:
    """Sample half the completions of every prompt, then the other half."""
    most = max(map(len, request.seeds))
    longest = max(map(len, request.prompts)) + request.sampling.max_new_tokens
    refuse_single(most, f"one completion of up to {longest} tokens", said)
    places = range(len(request.prompts))
    first, second = (
        written(model, request.part(places, some))
        for some in (slice(most // 2), slice(most // 2, None))
    )
    return [a + b for a, b in zip(first, second, strict=True)]


class SharedPrefixes:
    """Decodes over one copy of each prompt: those that wait, and samples that grow."""

    def __init__(self, model: Decoder, request: Request) -> None:
        """Begin with everything waiting, the longest prompt first."""
        self.model = model
        self.request = request
        self.waiting = request.by_length
        self.growing: list[Growing] = []
        self.num_samples = max(map(len, request.seeds), default=1)
        most = ROOM * model.room.tokens // self._positions()
        most = max(1, min(most, MAX_ROWS // self.num_samples))
        self.size = min(most, len(self.waiting))
        self.free = list(range(self.size))[::-1]
        self.memory = PrefixMemory(self.size, self.num_samples, model.device)

    def run(self) -> None:
        """Write every completion."""
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
        request = self.request
        longest = max((len(request.prompts[i]) for i in self.waiting), default=0)
        return longest + self.num_samples * request.sampling.max_new_tokens

    def _admit(self) -> None:
        """Read as many of the longest prompts as there are places for."""
        count = min(len(self.free), len(self.waiting))
        chosen = [self.waiting.pop() for _ in range(count)]
        places = [self.free.pop() for _ in chosen]
        texts = [self.request.prompts[i] for i in chosen]
        states = self._read(texts, places)
        groups = [self.request.begin(i) for i in chosen]
        for group, place in zip(groups, places, strict=True):
            for k, row in enumerate(group):
                row.slot = place * self.num_samples + k
        rows = [row for group in groups for row in group]
        parents = [number for number, group in enumerate(groups) for _ in group]
        logits = self.model.next_logits(enough(states))[parents]
        self.request.draw(rows, logits)
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
        both = torch.tensor([(row.token_ids[-1], row.slot) for row in rows])
        last, slots = both.to(self.model.device).unbind(dim=1)
        states = extend(self.memory, self.model.run_decoder, last, slots)
        logits = self.model.next_logits(enough(states))[: len(rows)]
        self.request.draw(rows, logits)
        places = {row.slot // self.num_samples for row in rows}
        self.growing = [row for row in rows if row.grows]
        self._release(sorted(places))

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
