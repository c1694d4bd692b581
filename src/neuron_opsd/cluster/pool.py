"""Cluster workers that share a stage's chunks.

A lost worker is replaced and its chunk retried. Each worker has one chunk at a time; at
most one more is held than there are workers.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final

import neuron_opsd
from neuron_opsd.cluster.session import (
    beside_this,
    cluster_text,
    load_ray,
    num_workers,
    share_of,
)
from neuron_opsd.cluster.worker import Reply, Worker
from neuron_opsd.config import ClusterConfig
from neuron_opsd.errors import ConfigError, TryAgainError

MOST_LOSSES: Final = 3
"""How often a chunk, or a worker's start, may be lost."""
TICK: Final = 1.0
"""Seconds between checks."""
TIDY: Final = 5.0
"""Seconds for workers to clean up."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """An unfinished chunk."""

    number: int
    items: Sequence[Any]
    losses: int = 0


@dataclass(slots=True, eq=False)
class Hand:
    """A worker as seen by the pool."""

    actor: Any
    errand: Any
    """Ray's reference to its current call; `None` once done."""
    recipe: object = None
    """Of the model it has or is loading."""
    chunk: Chunk | None = None
    process: int = 0
    """Process id on its machine; 0 before it has arrived."""


class Pool:
    """The workers of one command."""

    def __init__(
        self,
        settings: ClusterConfig,
        environment: Mapping[str, str],
        threads: int,
        warn: Callable[[str], None],
    ) -> None:
        """Set what workers copy from here, and where warnings go."""
        self._ray = load_ray()
        self.settings = settings
        self.share = share_of(settings, threads)
        self.size = num_workers(settings, self.share)
        self._given = dict(environment), settings.cpus_per_worker or threads
        self._warn = warn
        self.hands: list[Hand] = []
        self._lost_starts = 0
        self._since = 0.0
        """When workers were first requested, or one last came or went."""
        self._told = False
        """Whether missing workers were reported."""

    def map(
        self,
        recipe: Callable[[], Any],
        function: Callable[[Any, Sequence[Any]], Sequence[Any]],
        chunks: Iterable[tuple[int, Sequence[Any]]],
        look: Callable[[], None] | None = None,
    ) -> Iterator[tuple[int, Sequence[Any]]]:
        """Yield the results of numbered chunks as they finish, in any order.

        Args:
            recipe: Builds the model in a worker, once per recipe object.
            function: Called with the model and a chunk; importable elsewhere.
            chunks: Consumed only as workers become free.
            look: Called about every second, before yielding, and before retries.

        Raises:
            NeuronOpsdError: What the work raised.
            TryAgainError: If no worker comes in time, or a chunk was lost too often.
        """
        source = (Chunk(number, list(items)) for number, items in chunks)
        waiting: deque[Chunk] = deque()
        shared = self._ray.put(function)
        try:
            while True:
                waiting.extend(islice(source, 0 if waiting else 1))
                if waiting and (hand := self._free(recipe)):
                    self.give(hand, waiting.popleft(), shared)
                elif waiting or any(hand.chunk for hand in self.hands):
                    yield from self._done(waiting, look)
                else:
                    return
        finally:
            for hand in [hand for hand in self.hands if hand.chunk]:
                self._dismiss(hand)  # its results are no longer needed

    def give(self, hand: Hand, chunk: Chunk, function: Any) -> None:
        """Have a worker apply a function to a chunk."""
        hand.chunk = chunk
        hand.errand = hand.actor.work.remote(function, chunk.items)

    def mailbox(self) -> Mailbox:
        """Return the mailbox for messages that precede results."""
        return Mailbox()

    def close(self) -> None:
        """Dismiss all workers; idle ones clean up first."""
        resting = [hand for hand in self.hands if hand.errand is None]
        if leaving := [hand.actor.leave.remote() for hand in resting]:
            self._ray.wait(leaving, num_returns=len(leaving), timeout=TIDY)
        for hand in list(self.hands):
            self._dismiss(hand)

    def _free(self, recipe: object) -> Hand | None:
        self._ask_for_workers()
        for hand in self.hands:
            if hand.errand is None and hand.recipe is recipe:
                return hand
            if hand.errand is None:
                hand.recipe = recipe
                hand.errand = hand.actor.load.remote(self._ray.put(recipe))
        return None

    def _ask_for_workers(self) -> None:
        if not self.hands:
            self._since = time.monotonic()
        while len(self.hands) < self.size:
            kind = self._ray.remote(Worker).options(
                num_gpus=self.share.gpus, num_cpus=self.share.cpus
            )
            actor = kind.remote(*self._given)
            self.hands.append(Hand(actor, actor.arrive.remote()))

    def _done(
        self, waiting: deque[Chunk], look: Callable[[], None] | None
    ) -> Iterator[tuple[int, Sequence[Any]]]:
        """Wait for calls; yield the results of chunks.

        Chunks to retry join `waiting`.
        """
        errands = {hand.errand: hand for hand in self.hands if hand.errand is not None}
        ended, _ = self._ray.wait(list(errands), num_returns=1, timeout=TICK)
        if not ended:
            self._check_arrivals()
        if look is not None:
            look()
        for errand in ended:
            hand = errands[errand]
            chunk, hand.chunk, hand.errand = hand.chunk, None, None
            reply = self._reply(hand, errand, chunk)
            if isinstance(reply, Reply) and reply.error is not None:
                again = chunk is not None and isinstance(reply.error, TryAgainError)
                if not (again and chunk and chunk.losses + 1 < MOST_LOSSES):
                    raise reply.error
                reply = None
            if chunk is None:
                continue
            if reply is None:
                waiting.append(replace(chunk, losses=chunk.losses + 1))
            else:
                yield chunk.number, reply.value

    def _reply(self, hand: Hand, errand: Any, chunk: Chunk | None) -> Any:
        """Return a call's result, if its worker was not lost."""
        errors = self._ray.exceptions
        try:
            reply = self._ray.get(errand)
        except errors.RayTaskError:
            raise  # a bug in the program would only recur
        except errors.RayError as error:
            self._lose(hand, chunk, str(error))
            return None
        if not isinstance(reply, Reply):
            self._welcome(hand, *reply)
        elif chunk is None:
            self._lost_starts = 0
        return reply

    def _welcome(self, hand: Hand, machine: str, process: int, version: str) -> None:
        """Record where a worker is; refuse other package versions."""
        hand.process = process
        self._since = time.monotonic()
        if version != neuron_opsd.__version__:
            raise ConfigError(
                f"{machine} has neuron-opsd {version}, this machine "
                f"{neuron_opsd.__version__}; install the same on every machine of the "
                "cluster"
            )

    def _lose(self, hand: Hand, chunk: Chunk | None, said: str) -> None:
        """Give up a worker; stop if that happens too often."""
        self._dismiss(hand)
        self._since = time.monotonic()
        why = why_lost(said)
        if chunk is None:
            self._lost_starts += 1
        losses = self._lost_starts if chunk is None else chunk.losses + 1
        if losses >= MOST_LOSSES:
            what = "a worker did not start" if chunk is None else "a chunk was lost"
            raise TryAgainError(
                f"{what} {losses} times, last because {why}; finished work is kept, "
                "and the same command resumes; if memory ran out, lower "
                "rollouts.block_size or model.tokens_per_batch, or use machines with "
                "more"
            )
        self._warn(f"a worker was lost because {why}; another takes its place")

    def _dismiss(self, hand: Hand) -> None:
        self.hands.remove(hand)
        self._ray.kill(hand.actor)

    def _check_arrivals(self) -> None:
        """Stop if no worker came in time; warn once if some did not."""
        if time.monotonic() - self._since < self.settings.timeout:
            return
        missing = sum(not hand.process for hand in self.hands)
        text = (
            f"{missing} of {self.size} workers, each with {self.share}, did not start "
            f"within {self.settings.timeout} s (cluster.timeout); the cluster at "
            f"{self.settings.address} has {cluster_text()}; lower cluster.workers, "
            "cluster.gpus_per_worker or cluster.cpus_per_worker, or add machines"
        )
        if missing and missing == len(self.hands):
            raise TryAgainError(text)
        if missing and not self._told:
            self._told = True
            self._warn(text)


def why_lost(said: str) -> str:
    """Extract from Ray's message why a worker was lost."""
    if "low on memory" in said or "memory pressure" in said:
        return "memory ran out on its machine"
    for line in said.splitlines():
        if "Error:" in line and not line.startswith("ray."):
            return line.strip()
    if "node has been marked dead" in said or "node died" in said:
        return "its machine was lost"
    return "its process ended, as it does when the system runs out of memory"


class Letters:
    """A cluster process that holds letters, which outlive their sender."""

    def __init__(self) -> None:
        self._letters: list[Any] = []

    def put(self, letter: Any) -> None:
        """Hold a letter."""
        self._letters.append(letter)

    def take(self) -> list[Any]:
        """Take all letters, oldest first."""
        letters, self._letters = self._letters, []
        return letters


class Mailbox:
    """Where workers send letters; can be passed to them."""

    def __init__(self) -> None:
        kind = load_ray().remote(Letters).options(**beside_this())
        self._actor = kind.remote()

    def send(self, letter: Any) -> None:
        """Send a letter; returns once it has arrived."""
        self._get(self._actor.put.remote(letter))

    def take(self) -> list[Any]:
        """Take the letters that have arrived."""
        found: list[Any] = self._get(self._actor.take.remote())
        return found

    def _get(self, reference: Any) -> Any:
        ray = load_ray()
        try:
            return ray.get(reference)
        except ray.exceptions.RayError as error:
            raise TryAgainError(
                "the process that collects what workers send was lost; the same "
                "command resumes"
            ) from error
