"""Answering by cluster workers, each with its own model."""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar

import torch

from neuron_opsd.cluster.pool import Pool
from neuron_opsd.cluster.session import (
    CLIENT,
    check_address,
    connected,
    num_workers,
)
from neuron_opsd.cluster.training import Team
from neuron_opsd.config import Config, ModelConfig
from neuron_opsd.errors import DataError
from neuron_opsd.models.load import (
    HFModel,
    ModelTokenizer,
    RemoteModel,
    check_training_room,
    load_answering,
    load_tokenizer,
)
from neuron_opsd.models.roles import LanguageModel, ModelFacts
from neuron_opsd.models.room import Room
from neuron_opsd.progress import Progress
from neuron_opsd.runs.courses import HERE, Course, Job
from neuron_opsd.runs.fingerprint import model_fingerprint
from neuron_opsd.runs.inputs import LIMITS, environment
from neuron_opsd.runs.machines import KeptNotes, Machines, ThisMachine
from neuron_opsd.runs.ranked import led
from neuron_opsd.runs.teams import team_course
from neuron_opsd.storage.caching import Keeping, Remember, ignore
from neuron_opsd.storage.manifest import place_text
from neuron_opsd.storage.mirror import copied
from neuron_opsd.storage.run_directory import changes

Item = TypeVar("Item")
R = TypeVar("R")
M = TypeVar("M")

SAME: Final = tuple(
    f"{name}_"
    for name in ("GOMP", "HF_DATASETS", "HF_HUB", "OMP", "TOKENIZERS", "TRANSFORMERS")
)
"""Prefixes of environment variables copied to workers."""
OWN: Final = frozenset(("HF_HUB_CACHE", "TRANSFORMERS_CACHE"))
"""Exceptions: variables that name places on one machine."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a worker builds a model from."""

    config: Config
    fingerprint: str
    adapters: tuple[Mapping[str, bytes], ...]
    """Files of each adapter by name in its folder."""

    def __call__(self) -> HFModel:
        """Load the model in a worker; its files must be identical."""
        # Lives as long as the model: an engine may read adapters at first use.
        home = TemporaryDirectory(prefix="neuron-opsd-")
        folders = [Path(home.name, str(n)) for n in range(len(self.adapters))]
        for folder, files in zip(folders, self.adapters, strict=True):
            write_files(folder, files)
        model = load_answering(self.config, *folders)
        weakref.finalize(model, home.cleanup)
        if model_fingerprint(self.config.model) != self.fingerprint:
            raise DataError(
                f"the files of model {self.config.model.name} on a machine of the "
                "cluster are not those that this run was started with; copy the same "
                "files to every machine"
            )
        return model


@dataclass(frozen=True, slots=True)
class Done:
    """Results of a chunk, and the worker's news."""

    results: Sequence[Any]
    environment: Mapping[str, str]
    tokens: int
    """Current token limit of the worker's passes."""
    told: tuple[str, ...]
    """Why the limit was lowered."""


def worked_on(
    model: LanguageModel,
    chunk: Sequence[Any],
    function: Callable[[Any, Sequence[Any]], Sequence[Any]],
    config: ModelConfig,
    tokens: int,
    remember: Remember[Any] | None = None,
) -> list[Done]:
    """Work on a chunk in a worker, with at most `tokens` per pass.

    With `remember` a chunk begins with its notes.
    """
    told: list[str] = []
    model.room.tokens = min(tokens, model.room.tokens)
    model.room.told = told.append
    own: Any = model
    if remember is not None:
        notes, *chunk = chunk
        own = remember(model, notes)
    results = function(own, chunk)
    return [Done(results, environment_here(config), model.room.tokens, tuple(told))]


@cache
def environment_here(config: ModelConfig) -> dict[str, str]:
    """Return what may change the last bits in this worker."""
    return environment(config)


def facts_of(model: LanguageModel, nothing: Sequence[None]) -> list[ModelFacts]:
    """Return the facts of a worker's model."""
    return [model.facts for _ in nothing]


def check_room_there(config: Config) -> None:
    """Refuse `full` tuning in a worker before loading weights."""
    check_training_room(load_tokenizer(config.model).facts, config.distill)


def make_nothing(_: None, chunk: Sequence[None]) -> Sequence[None]:
    """Return a chunk unchanged."""
    return chunk


def placed(config: Config) -> Config:
    """Return settings with a path valid in any folder."""
    return config.changed(model={"name": place_text(config.model.name)})


def same_variables() -> dict[str, str]:
    """Return the environment variables to copy to workers."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in LIMITS or (name.startswith(SAME) and name not in OWN)
    }


@contextmanager
def machines_for(config: Config, progress: Progress) -> Iterator[Machines]:
    """Yield the machines that the settings ask for."""
    if not config.cluster.address:
        with led(config) as trainer:
            yield ThisMachine(trainer)
        return
    with ClusterMachines(config, progress.warn) as machines:
        yield machines


class ClusterMachines:
    """Workers of a Ray cluster and their models."""

    def __init__(self, config: Config, warn: Callable[[str], None]) -> None:
        """Check the settings; the cluster is joined at first use."""
        check_address(config.cluster)
        self.on_others: Callable[[Sequence[str]], None] = ignore
        self._settings = config.cluster
        self._warn = warn
        self._joined = ExitStack()
        self._pool: Pool | None = None
        self.environment: Mapping[str, str] = {}
        """What may change the last bits at the first worker."""
        self._told: set[str] = set()

    def __enter__(self) -> ClusterMachines:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self._joined.close()

    @property
    def pool(self) -> Pool:
        """The cluster's workers, joined at first use."""
        if self._pool is None:
            self._joined.enter_context(connected(self._settings))
            threads = torch.get_num_threads()
            self._pool = Pool(self._settings, same_variables(), threads, self._warn)
        return self._pool

    def load(
        self,
        config: Config,
        *adapters: Path,
        tokenizer: ModelTokenizer | None = None,
        base: LanguageModel | None = None,
    ) -> LanguageModel:
        """Have workers load a model, ignoring `base`; return its stand-in."""
        del base
        tokenizer = tokenizer or load_tokenizer(config.model)
        recipe = Recipe(
            placed(config),
            model_fingerprint(config.model),
            tuple(map(copied, adapters)),
        )
        room = Room(config.model.tokens_per_batch)
        here = partial(load_answering, config, *adapters)
        model = RemoteModel(tokenizer, tokenizer.facts, room, recipe, here)
        for _, (facts,) in self.map(model, facts_of, [(0, [None])]):
            model.facts = facts
        return model

    def check_room(self, facts: ModelFacts, config: Config) -> None:
        """Refuse `full` tuning that does not fit a worker."""
        del facts
        if config.distill.tuning == "full":
            recipe = partial(check_room_there, placed(config))
            list(self.pool.map(recipe, make_nothing, [(0, [None])]))

    def map(
        self,
        model: M,
        function: Callable[[M, Sequence[Item]], Sequence[R]],
        chunks: Iterable[tuple[int, Sequence[Item]]],
        keeping: Keeping[M] | None = None,
        look: Callable[[], None] | None = None,
    ) -> Iterator[tuple[int, Sequence[R]]]:
        """Yield the results of numbered chunks as they finish, in any order.

        About every second, and before retries, calls `look`, or with `keeping` keeps
        notes.
        """
        if not isinstance(model, RemoteModel):
            raise TypeError(f"{type(model).__name__} was not loaded by these machines")
        recipe: Any = model.recipe
        told = partial(
            worked_on,
            function=function,
            config=recipe.config.model,
            tokens=model.room.tokens,
        )
        given: Iterable[tuple[int, Sequence[Any]]] = chunks
        kept: KeptNotes | None = None
        if keeping is not None:
            kept = KeptNotes(self.pool.mailbox(), keeping.journal)
            told = partial(told, remember=keeping.remember)
            given, look = kept.with_notes(chunks), kept.take
        for number, (done,) in self.pool.map(recipe, told, given, look):
            if kept is not None:
                kept.end(number)
            self._hear(model.room, done)
            yield number, done.results

    def _hear(self, room: Room, done: Done) -> None:
        """Accept a lower token limit, and an environment unlike the run's."""
        if done.tokens < room.tokens:
            room.tokens = done.tokens
            if room.told is not None:
                room.told(", ".join(done.told))
        self.environment = self.environment or done.environment
        others = changes(self.environment, done.environment)
        if new := [other for other in others if other not in self._told]:
            self._told.update(new)
            self.on_others(new)

    def course(self, job: Job, model: LanguageModel) -> AbstractContextManager[Course]:
        """Begin a training in workers, or here if they cannot."""
        if reason := why_here(job.config, model):
            self._warn(f"the workers of the cluster do not train, {reason}")
            return HERE.course(job, model)
        # Training does not share a GPU with another process.
        share = replace(self.pool.share, gpus=float(math.ceil(self.pool.share.gpus)))
        size = num_workers(self._settings, share)
        team = Team(size, share, same_variables(), self._settings)
        return team_course(team, job, model.room.tokens)

    def release(self) -> None:
        """Release the workers; new ones start when there is work."""
        if self._pool is not None:
            self._pool.close()


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write the files that `copied` returned."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def why_here(config: Config, model: LanguageModel) -> str:
    """Say why workers cannot train a model; empty if they can."""
    if config.engine.rollouts == "vllm":
        return "since vLLM does not run in processes that train together"
    if config.cluster.address.startswith(CLIENT):
        return (
            "since Ray Train needs a process on a machine of the cluster; start the "
            "command there, or with cluster.address HOST:PORT"
        )
    recipe = model.recipe if isinstance(model, RemoteModel) else None
    if not isinstance(recipe, Recipe) or recipe.adapters:
        return "since it begins from an adapter"
    return ""
