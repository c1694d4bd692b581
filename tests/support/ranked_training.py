"""Trainings of tiny models by several processes, and by one, for their comparison.

Called as a script with a folder and a model it trains every method alone and with
one, two and three ranks, and has ranks fail in several ways; what came of each is left
in the folder. The parent has started no thread, so each rank is forked from it at once.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, TypeAlias

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor

from killed_runs import fork, wait
from neuron_opsd.comparison.variants import Variant, config_of
from neuron_opsd.config import Config
from neuron_opsd.config.tables import load_config
from neuron_opsd.errors import NeuronOpsdError
from neuron_opsd.methods import METHODS, Method, Oracle, Target
from neuron_opsd.models.learner import HFLearner
from neuron_opsd.models.load import learner_of, load_model
from neuron_opsd.processes.process_group import ProcessGroup
from neuron_opsd.processes.ranks import ALONE, Ranks
from neuron_opsd.records import Message, Prompt, Question, TrainingExample
from neuron_opsd.stages.splitting import Split, Splits
from neuron_opsd.stages.training import (
    Batch,
    Earlier,
    RolloutGroups,
    Sequences,
    train,
)

STEPS: Final = 3
STOP: Final = 2
"""Steps before a training is stopped and goes on with another number of ranks."""
PATIENCE: Final = timedelta(seconds=60)
IMPATIENCE: Final = timedelta(seconds=3)
"""How long a rank that is stuck is waited for; it is for twice as long."""
SHORT: Final = 2
"""Steps where every method is trained."""
ONE_OF_EACH: Final = ("neuron-opsd", "lmsi", "ttrl")
"""A method of each family, for what does not depend on the method."""
OTHER_WEIGHTS: Final[dict[str, Any]] = {
    "full": {"distill": {"tuning": "full", "teacher": "ema"}},
    "packed": {"model": {"quantization": "nf4"}},
}
"""Settings under which what is trained, or what is frozen, is held otherwise."""
CHANGES: Final = ((2, 1), (1, 2), (3, 2))
"""Numbers of ranks before and after a stop."""

SETTINGS: Final = (
    "model.compute=float32",
    "model.device=cpu",
    "prompts.form=plain",
    "rollouts.max_new_tokens=6",
    f"distill.steps={STEPS}",
    "distill.batch_size=5",
    "distill.micro_batch_size=4",
    "distill.num_samples=4",
    "distill.warmup_steps=0",
    "distill.learning_rate=0.001",
    "distill.checkpoint_every=2",
    "distill.lora_rank=4",
)

METHODS_AND_SIZES: Final = [
    *((name, 1) for name in ONE_OF_EACH),
    *((name, size) for name in METHODS for size in (2, 3)),
]

Begin: TypeAlias = Callable[[Ranks], None]


def example(number: int) -> TrainingExample:
    """Return one to train on; every other one has choices."""
    asked = f"Question: Is {number} odd?\nAnswer:"
    choices = ("yes", "no", "the other") if number % 2 else ()
    return TrainingExample(
        Question(f"q{number}", (Message("user", f"Is {number} odd?"),), choices),
        Prompt(text=asked),
        Prompt(text=f"Question: the cat?\nAnswer: {'yes ' * number}\n\n{asked}"),
        choices,
    )


EXAMPLES: Final = tuple(map(example, range(7)))


@dataclass(frozen=True)
class Course:
    """A training that several processes take part in."""

    folder: Path
    config: Config

    def learner(self) -> HFLearner:
        """Return a fresh one."""
        with warnings.catch_warnings():
            # PEFT asks transformers for what it calls by a new name now.
            warnings.simplefilter("ignore", FutureWarning)
            model = load_model(self.config.model)
            return learner_of(model, self.config.distill, self.config.seed)

    def method(self) -> Method:
        """Return what is trained; an oracle is told some answers."""
        method = METHODS[self.config.method]
        if issubclass(method, Oracle):
            told = {e.question_id: Target("yes", "yes") for e in EXAMPLES}
            return method(self.config, told)
        return method(self.config)

    def take(
        self,
        name: str,
        ranks: Ranks,
        learner: HFLearner | None = None,
        method: Any = None,
        earlier: Earlier | None = None,
    ) -> None:
        """Take all steps, and leave weights, metrics and the end; rank 0 of them."""
        learner = learner or self.learner()
        found: dict[str, Any] = {"error": "", "metrics": []}
        path = self.folder / f"{name}.rank-{ranks.rank}"
        steps = train(
            learner,
            self.examples(),
            method or self.method(),
            self.config,
            earlier,
            ranks,
        )
        try:
            for entry in steps:
                found["metrics"].append(asdict(entry))
        except NeuronOpsdError as error:
            found["error"], found["kind"] = str(error), type(error).__name__
        path.with_suffix(path.suffix + ".json").write_text(json.dumps(found))
        save_file(learner.state(), path.with_suffix(path.suffix + ".safetensors"))

    def examples(self) -> Sequence[TrainingExample]:
        """Return what is trained on, with choices alone where others lack an answer."""
        if self.config.method in ("form-only", "oracle-opsd", "oracle-grpo"):
            return [one for one in EXAMPLES if one.choices]
        return EXAMPLES


def with_ranks(
    folder: Path, name: str, size: int, work: Begin, patience: timedelta = PATIENCE
) -> list[int]:
    """Do some work in as many processes; return how each ended."""
    meeting = folder / f"{name}.meeting"

    def begin(rank: int) -> None:
        place = f"file://{meeting}"
        dist.init_process_group("gloo", init_method=place, rank=rank, world_size=size)
        work(ProcessGroup(patience))
        dist.destroy_process_group()

    children = [fork(lambda rank=rank: begin(rank)) for rank in range(size)]  # type: ignore[misc]
    return [wait(child) for child in children]


class Summing:
    """Ranks that leave out what they are told to."""

    def __init__(self, ranks: Ranks, lost: str) -> None:
        """Take real ranks; `lost` is `sum`, or `denominator`."""
        self.rank, self.size = ranks.rank, ranks.size
        self._ranks, self._lost = ranks, lost

    def tell(self, word: str) -> list[str]:
        """Tell it, and hear of one's own groups alone where the rest is lost."""
        heard = self._ranks.tell(word)
        if self._lost == "denominator" and json.loads(word)[0] == "groups":
            empty = json.dumps(["groups", []])
            return [w if r == self.rank else empty for r, w in enumerate(heard)]
        if json.loads(word)[0] == "weights":
            return [word] * self.size
        return heard

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Add up, or do nothing."""
        if self._lost != "sum":
            self._ranks.add_up(tensors)

    def copy_first(self, tensors: Sequence[Tensor]) -> None:
        """Copy."""
        self._ranks.copy_first(tensors)


class Faulty:
    """A method that fails on one rank."""

    def __init__(self, real: Method, ranks: Ranks, fault: str) -> None:
        """Take the method, and what happens on the last rank in step 1."""
        self.real, self.fault = real, fault
        self.is_last = ranks.rank == ranks.size - 1
        self.fails = False

    def roll_out(self, learner: Any, batch: Batch) -> RolloutGroups:
        """Return the real rollouts, unless the fault comes here."""
        self.fails = self.is_last and batch.step == 1
        if self.fails and self.fault == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fails and self.fault == "stuck":
            time.sleep(2 * IMPATIENCE.total_seconds())
        if self.fails and self.fault == "other weights":
            with torch.no_grad():
                next(iter(learner.weights.values())).view(-1)[0] += 1e-6
        if self.fails and self.fault == "little room":
            learner.room.tokens = min(learner.room.tokens, 64)
        return self.real.roll_out(learner, batch)

    def loss(self, learner: Any, sequences: Sequences) -> Tensor:
        """Return the real loss, unless the fault comes here."""
        if self.fails and self.fault == "no memory" and len(sequences) > 1:
            raise RuntimeError("not enough memory: you tried to allocate 1 bytes")
        loss = self.real.loss(learner, sequences)
        if self.fails and self.fault == "not finite":
            return loss * float("nan")
        return loss


FAULTS: Final = (
    "killed",
    "stuck",
    "other weights",
    "little room",
    "no memory",
    "not finite",
)


def every_method(course: Course, shared: Config) -> None:
    """Train every method alone and with ranks, and with another number after a stop."""
    short = shared.changed(distill={"steps": SHORT})
    courses = [
        replace(course, config=config_of(Variant(name, name), short))
        for name in METHODS
    ]

    def alone() -> None:
        for one in courses:
            one.take(f"{one.config.method}.alone", ALONE)

    wait(fork(alone))
    for size in (1, 2, 3):

        def together(ranks: Ranks, size: int = size) -> None:
            for one in courses:
                if (one.config.method, size) in METHODS_AND_SIZES:
                    one.take(f"{one.config.method}.{size}", ranks)

        with_ranks(course.folder, f"all-{size}", size, together)


def stopped_and_resumed(course: Course) -> None:
    """Stop with some ranks and go on with others."""
    short = replace(course, config=course.config.changed(distill={"steps": STOP}))
    for before, after in CHANGES:
        name = f"stopped.{before}-{after}"

        def first(ranks: Ranks, name: str = name) -> None:
            short.take(f"{name}.first", ranks)

        def then(ranks: Ranks, name: str = name) -> None:
            learner = course.learner()
            place = course.folder / f"{name}.first.rank-0.safetensors"
            learner.load_state(load_file(place))
            course.take(name, ranks, learner, earlier=Earlier(STOP))

        with_ranks(course.folder, f"{name}.first", before, first)
        with_ranks(course.folder, name, after, then)


def left_out(course: Course) -> None:
    """Leave out what makes ranks do what one process does."""
    for lost in ("sum", "denominator"):

        def work(ranks: Ranks, lost: str = lost) -> None:
            course.take(f"without-{lost}", Summing(ranks, lost))

        with_ranks(course.folder, f"without-{lost}", 2, work)


def faulty(course: Course) -> None:
    """Have the last of some ranks fail."""
    skipping = {"on_nonfinite": "skip"}
    course = replace(course, config=course.config.changed(distill=skipping))
    ends: dict[str, Any] = {}
    for fault in FAULTS:

        def work(ranks: Ranks, fault: str = fault) -> None:
            noted: list[Any] = []

            def note(known: Sequence[Split], said: str) -> None:
                noted[:] = [[asdict(one) for one in known], said]

            method = Faulty(course.method(), ranks, fault)
            earlier = Earlier(splits=Splits((), note))
            course.take(f"fault.{fault}", ranks, method=method, earlier=earlier)
            place = course.folder / f"fault.{fault}.rank-{ranks.rank}.splits"
            place.write_text(json.dumps(noted))

        start = time.perf_counter()
        patience = IMPATIENCE if fault == "stuck" else PATIENCE
        codes = with_ranks(course.folder, f"fault.{fault}", 2, work, patience)
        ends[fault] = {"codes": codes, "seconds": time.perf_counter() - start}
    (course.folder / "faults.json").write_text(json.dumps(ends))


def few_questions(course: Course) -> None:
    """Have more ranks than a batch has questions."""
    few = replace(course, config=course.config.changed(distill={"batch_size": 1}))
    wait(fork(lambda: few.take("few.alone", ALONE)))
    with_ranks(course.folder, "few.3", 3, lambda ranks: few.take("few.3", ranks))


def other_weights(course: Course) -> None:
    """Train all weights, and an adapter of a model in four bits."""
    for name, change in OTHER_WEIGHTS.items():
        one = replace(course, config=course.config.changed(**change))
        if name == "packed" and find_spec("bitsandbytes") is None:
            continue

        def work(ranks: Ranks, name: str = name, one: Course = one) -> None:
            one.take(f"{name}.{ranks.size}", ranks)

        wait(fork(lambda work=work: work(ALONE)))  # type: ignore[misc]
        with_ranks(course.folder, f"{name}.2", 2, work)


def main(folder: Path, model: str) -> None:
    """Take all trainings."""
    shared = load_config(None, [f"model.name={model}", *SETTINGS])
    course = Course(folder, config_of(Variant("neuron-opsd", "neuron-opsd"), shared))
    every_method(course, shared)
    wait(fork(lambda: course.take("alone", ALONE)))
    stopped_and_resumed(course)
    left_out(course)
    few_questions(course)
    other_weights(course)
    faulty(course)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), sys.argv[2])
