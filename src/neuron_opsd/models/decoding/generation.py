"""Free sampling: each prompt is read once for all its samples, and no slot idles.

A finished sample's memory and slot go to waiting ones at once. Tokens depend only on
(prompt, seed). On a CPU other samples do not change them, since only sizes are used for
which a row's products and sums run in one order.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from neuron_opsd.models.decoding.growing import Decoder, Growing, Request, ending_of
from neuron_opsd.models.decoding.library_cache import LibraryCache
from neuron_opsd.models.decoding.paged_decoder import PagedDecoder, enough
from neuron_opsd.models.decoding.pages import (
    Limits,
    Pages,
    decoding_bytes,
    kept_bytes,
    page_of,
    pages_within,
)
from neuron_opsd.models.decoding.scheduling import Admitted, Schedule
from neuron_opsd.models.roles import Finished, Sampling
from neuron_opsd.models.room import attempt, batches, refuse_single
from neuron_opsd.records import Completion, TokenIds


def generate(
    model: Decoder,
    prompts: Sequence[TokenIds],
    seeds: Sequence[Sequence[int]],
    sampling: Sampling,
    finished: Finished,
) -> list[list[Completion]]:
    """Sample one completion per seed for every prompt, as a `Sampler` does.

    If memory runs out, unfinished completions restart with half the memory.
    """
    ending = ending_of(model.tokens, sampling)
    request = Request(prompts, seeds, sampling, ending, finished)
    way = PagedSamples if model.facts.shares_prompts else LibraryCache
    while any(left := request.left()):
        rows = min(model.room.rows, sum(map(len, left)))
        memory = decoding_bytes(model)

        def work(rows: int = rows, memory: int = memory) -> None:
            way(model, request, rows, memory).run()

        if said := attempt(work):
            longest = max(map(len, prompts)) + sampling.max_new_tokens
            refuse_single(rows, f"one completion of up to {longest} tokens", said)
            model.room.lower_decoding(rows, memory, said)
    return request.completions()


class PagedSamples:
    """Decodes over pages, following a schedule."""

    def __init__(
        self, model: Decoder, request: Request, rows: int, memory: int
    ) -> None:
        self.model = model
        self.request = request
        self.growing: dict[int, Growing] = {}
        """Keyed by slot."""
        lengths, left = list(map(len, request.prompts)), request.left()
        page = page_of(model.device.type)
        limits = Limits(rows, request.sampling.max_new_tokens, page)
        asked = [(n, len(some)) for n, some in zip(lengths, left, strict=True) if some]
        pages = Pages(pages_within(memory, page * kept_bytes(model), limits, asked))
        self.schedule = Schedule(lengths, left, pages, limits)
        self.decoder = PagedDecoder(self.schedule, model, model.next_logits)

    def run(self) -> None:
        """Write every completion."""
        while not self.schedule.done:
            if admitted := self.schedule.admit():
                self._begin(admitted)
            if self.growing:
                self._step()

    def _begin(self, admitted: Sequence[Admitted]) -> None:
        """Read new prompts and sample the first tokens."""
        self._read([one.prompt for one in admitted if one.is_new])
        states = torch.stack([self.decoder.ends[one.prompt] for one in admitted])
        parents = [number for number, one in enumerate(admitted) for _ in one.slots]
        logits = self.model.next_logits(enough(states))[parents]
        slots = [slot for one in admitted for slot in one.slots]
        groups = (self.request.begin(one.prompt, one.samples) for one in admitted)
        rows = [row for group in groups for row in group]
        self.growing |= zip(slots, rows, strict=True)
        self._draw(slots, logits)

    def _read(self, prompts: Sequence[int]) -> None:
        texts = [self.request.prompts[i] for i in prompts]
        for batch in batches([(text, ()) for text in texts], self.model.room.tokens):
            self.decoder.read({prompts[i]: texts[i] for i in batch})

    def _step(self) -> None:
        for slot in self.decoder.make_room():
            del self.growing[slot]
        slots = self.schedule.slots
        last = [self.growing[slot].token_ids[-1] for slot in slots.tolist()]
        self._draw(slots.tolist(), self.decoder.step(slots, last))

    def _draw(self, slots: Sequence[int], logits: Tensor) -> None:
        """Sample a token per slot, and free slots of finished samples."""
        rows = [self.growing[slot] for slot in slots]
        self.request.draw(rows, logits)
        for slot, row in zip(slots, rows, strict=True):
            if not row.grows:
                del self.growing[slot]
                self.schedule.end(slot)
