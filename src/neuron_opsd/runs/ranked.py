"""Training by several processes, for example under torchrun.

Rank 0 does all of a run and owns its directory. The others wait for a training, load
the model and take its steps too. Settings that several processes cannot train with
raise a `ConfigError`; a rank that ends raises a `LostRankError` in all others.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor

from neuron_opsd.config import Config
from neuron_opsd.errors import (
    ConfigError,
    DataError,
    NeuronOpsdError,
    TrainingError,
    listing,
)
from neuron_opsd.models.load import learner_of, load_model
from neuron_opsd.models.roles import LanguageModel, Learner
from neuron_opsd.models.weights.precision import device_of
from neuron_opsd.processes.process_group import ProcessGroup, joined
from neuron_opsd.processes.ranks import LostRankError, Ranks, launched_rank
from neuron_opsd.processes.stopping import STOPPING
from neuron_opsd.records import StepMetrics
from neuron_opsd.runs.courses import (
    HERE,
    Course,
    Job,
    LocalCourse,
    Order,
    Trainer,
    order_text,
    read_order,
)
from neuron_opsd.runs.fingerprint import model_fingerprint
from neuron_opsd.stages.splitting import Split, Splits
from neuron_opsd.stages.together import check_alike, done_by_all, told, unlike_first
from neuron_opsd.stages.training import Earlier
from neuron_opsd.storage.manifest import installed_versions

END: Final = "end"
"""Sent by rank 0 when no training is left."""
SPLITTING: Final = tuple(
    f"ACCELERATE_USE_{name}" for name in ("FSDP", "DEEPSPEED", "MEGATRON_LM")
)
"""Variables of `accelerate launch` that split a model's weights."""
NEXT: Final = "next"
"""Exchanged before a step; rank 0 says whether it is taken."""


class LedCourse(LocalCourse):
    """A training led by rank 0."""

    is_under_way = False
    """Whether the others wait for a next step."""

    def take(self, earlier: Earlier) -> Iterator[StepMetrics]:
        """Take the remaining steps with all ranks."""
        share_start(self, earlier)
        self.is_under_way = True
        steps = super().take(earlier)
        for _ in range(earlier.num_steps, self.job.config.distill.steps):
            told(self.ranks, NEXT, value=True)
            entry = next(steps)
            hear_stop(self.ranks)
            yield entry

    def end(self) -> None:
        """Release the other ranks."""
        if self.is_under_way:
            self.is_under_way = False
            told(self.ranks, NEXT, value=False)


class Leader:
    """Trainings led by rank 0."""

    def __init__(self, group: ProcessGroup) -> None:
        self.group = group

    @contextmanager
    def course(self, job: Job, model: LanguageModel) -> Iterator[Course]:
        """Begin a training on all ranks."""
        config = job.config.changed(model={"compute": model.facts.compute})
        known = model_fingerprint(config.model)
        told_job = replace(job, config=config)
        threads = torch.get_num_threads()
        order = Order(told_job, model.room.tokens, known, threads)
        self.group.hear_first(order_text(order))
        course = LedCourse(job, begin(order, lambda: model, self.group), self.group)
        try:
            yield course
        except BaseException:
            with suppress(LostRankError):
                course.end()
            raise
        course.end()

    def dismiss(self) -> None:
        """Tell the others that no training is left."""
        with suppress(LostRankError):
            self.group.hear_first(END)


def follow(group: ProcessGroup) -> None:
    """Join rank 0's trainings until it ends them."""
    while (text := group.hear_first()) != END:
        with taking_steps(), unless_lost():
            follow_course(read_order(text), group)


@contextmanager
def taking_steps() -> Iterator[None]:
    """Delay signals to the end of a step; elsewhere they end the process."""
    STOPPING.has_begun = True
    with STOPPING.after_the_step():
        yield
    STOPPING.has_begun = False


@contextmanager
def unless_lost() -> Iterator[None]:
    """Ignore an error that rank 0 raises as well."""
    try:
        yield
    except LostRankError:
        raise
    except NeuronOpsdError:
        pass


def follow_course(order: Order, group: ProcessGroup) -> None:
    """Take the steps of rank 0's training."""
    load = partial(load_model, order.job.config.model)
    course = LocalCourse(order.job, begin(order, load, group), group)
    steps = course.take(share_start(course, Earlier()))
    while told(group, NEXT, value=True)[0]:
        with unless_lost():
            next(steps)
            hear_stop(group)


def begin(order: Order, load: Callable[[], LanguageModel], ranks: Ranks) -> Learner:
    """Return a learner; models must be identical on all ranks.

    Raises:
        DataError: If the model's files differ between ranks.
        TrainingError: If installed software differs between ranks.
    """

    def made() -> Learner:
        model = load()
        model.room.tokens = order.tokens
        config = order.job.config
        if model_fingerprint(config.model) != order.fingerprint:
            raise DataError(
                f"the files of model {config.model.name} are not those of rank 0; "
                "copy the same files to every machine"
            )
        return learner_of(model, config.distill, config.seed)

    versions = told(ranks, "versions", dict(installed_versions()))
    for rank, found in enumerate(versions):
        others = [f"{n} {v}" for n, v in found.items() if versions[0].get(n) != v]
        if others:
            raise TrainingError(
                f"rank {rank} has {listing(others)}, unlike rank 0; install the same "
                "versions on every machine"
            )
    return done_by_all(ranks, made)


def share_start(course: LocalCourse, earlier: Earlier) -> Earlier:
    """Copy rank 0's state to every rank; return its earlier steps."""
    ranks = course.ranks
    known: dict[str, Any] = {
        "steps": earlier.num_steps,
        "skipped": earlier.num_skipped,
        "splits": [asdict(split) for split in earlier.splits.known],
    }
    first = told(ranks, "start", known)[0]
    if unlike_first(ranks, course.learner):  # a new training is alike on all ranks
        copy_state(course)
        check_alike(ranks, course.learner, "before the first step")
    if ranks.rank == 0:
        return earlier
    splits = Splits([Split(**row) for row in first["splits"]])
    return Earlier(first["steps"], first["skipped"], splits)


def copy_state(course: LocalCourse) -> None:
    """Copy rank 0's training state to every rank."""
    ranks, state = course.ranks, course.state()
    forms: dict[str, Any] = {
        name: [str(v.dtype), list(v.shape)] for name, v in state.items()
    }
    first = told(ranks, "state", forms)[0]
    if ranks.rank > 0:
        state = {name: empty(*form) for name, form in first.items()}
    ranks.copy_first(list(state.values()))
    course.load_state(state)


def empty(dtype: str, shape: Sequence[int]) -> Tensor:
    """Return an uninitialised tensor of a dtype as printed."""
    kind: torch.dtype = getattr(torch, dtype.removeprefix("torch."))
    return torch.empty(list(shape), dtype=kind)


def hear_stop(ranks: Ranks) -> None:
    """Make a signal to any rank stop all after this step."""
    numbers = told(ranks, "stop", STOPPING.number)
    STOPPING.number = STOPPING.number or next(filter(None, numbers), 0)


def refuse_unsupported(config: Config) -> None:
    """Refuse settings for which several processes cannot train."""
    on = ("1", "true", "yes", "y", "t", "on")
    if split := [n for n in SPLITTING if os.environ.get(n, "").lower() in on]:
        raise ConfigError(
            f"{listing(split)} asks for weights that are split over processes, but "
            "here each holds all of them; start with torchrun, or with accelerate "
            "launch --multi_gpu; where a GPU has too little memory for that, take "
            "distill.tuning=lora or model.quantization=nf4"
        )
    if config.engine.rollouts == "vllm":
        raise ConfigError(
            "engine.rollouts is vllm, which does not run in processes that train "
            "together; set it to transformers, or train with one process"
        )
    if config.model.device not in ("auto", "cpu", "cuda"):
        raise ConfigError(
            f"model.device is {config.model.device}, but each of several processes "
            "takes a GPU of its own; set it to auto, cuda or cpu"
        )


def together(config: Config) -> AbstractContextManager[ProcessGroup]:
    """Join the processes started with this one."""
    refuse_unsupported(config)
    return joined(device_of(config.model), config.cluster.step_timeout)


@contextmanager
def led(config: Config) -> Iterator[Trainer]:
    """Yield where to train: this process, or all started with it."""
    rank = launched_rank()
    if rank is None:
        yield HERE
        return
    if rank > 0:
        raise ConfigError(
            f"this process is rank {rank} of several, and only rank 0 owns a run "
            "directory; call neuron_opsd.follow with the same settings here"
        )
    with together(config) as group:
        leader = Leader(group)
        try:
            yield leader
        finally:
            leader.dismiss()


def follow_run(config: Config) -> None:
    """Join the trainings of rank 0's run."""
    STOPPING.speaks = False
    with together(config) as group:
        follow(group)
