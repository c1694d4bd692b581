"""Trainings in progress, wherever their steps run.

The user's process owns the run directory. A course takes steps for it, here or in other
processes, and returns metrics, states and the adapter. Other processes receive
settings, examples and the method's name as text; each loads the model's files itself
and checks their hash.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from pydantic import TypeAdapter
from torch import Tensor

from neuron_opsd.config import Config
from neuron_opsd.errors import ConfigError
from neuron_opsd.methods import METHODS, Method, Oracle
from neuron_opsd.models.load import learner_of
from neuron_opsd.models.roles import LanguageModel, Learner
from neuron_opsd.processes.ranks import ALONE, Ranks
from neuron_opsd.records import StepMetrics, TrainingExample
from neuron_opsd.stages.looking import with_looks
from neuron_opsd.stages.rollouts import PromptedQuestion
from neuron_opsd.stages.training import Earlier, Objective, train

EXAMPLES: Final = TypeAdapter(tuple[TrainingExample, ...])
QUESTIONS: Final = TypeAdapter(tuple[PromptedQuestion, ...])


@dataclass(frozen=True, slots=True)
class Job:
    """What to train, on what and how."""

    config: Config
    """Resolved for the model."""
    examples: Sequence[TrainingExample]
    objective: Objective
    guarded: Sequence[PromptedQuestion] = ()


class Course(Protocol):
    """A training in progress."""

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned."""

    def take(self, earlier: Earlier) -> Iterator[StepMetrics]:
        """Take the remaining steps, as in `stages.training.train`."""

    def state(self) -> dict[str, Tensor]:
        """Return everything a checkpoint must hold."""

    def save_adapter(self, folder: Path) -> None:
        """Write the trained adapter."""

    @property
    def num_bytes(self) -> int:
        """Bytes of the trained weights."""

    @property
    def num_ranks(self) -> int:
        """Number of processes taking its steps."""


class Trainer(Protocol):
    """Where trainings run."""

    def course(self, job: Job, model: LanguageModel) -> AbstractContextManager[Course]:
        """Begin to train a copy of a model."""


class LocalCourse:
    """A training in this process, alone or as a rank."""

    def __init__(self, job: Job, learner: Learner, ranks: Ranks = ALONE) -> None:
        self.job = job
        self.learner = learner
        self.ranks = ranks
        self.load_state, self.state = learner.load_state, learner.state
        self.save_adapter = learner.save_adapter
        self.num_bytes, self.num_ranks = learner.num_bytes, ranks.size

    def take(self, earlier: Earlier) -> Iterator[StepMetrics]:
        """Take the remaining steps."""
        job = self.job
        steps = train(
            self.learner, job.examples, job.objective, job.config, earlier, self.ranks
        )
        return with_looks(steps, self.learner, job.guarded, job.config, self.ranks)


class Here:
    """This process alone."""

    @contextmanager
    def course(self, job: Job, model: LanguageModel) -> Iterator[Course]:
        """Begin a training."""
        yield LocalCourse(job, learner_of(model, job.config.distill, job.config.seed))


HERE: Final = Here()


@dataclass(frozen=True, slots=True)
class Order:
    """A job for other processes, and what they must share."""

    job: Job
    tokens: int
    """Initial token limit of a pass without gradient."""
    fingerprint: str
    """`runs.fingerprint` of the model's files."""
    threads: int


def order_text(order: Order) -> str:
    """Return a job as JSON, or refuse what cannot be sent."""
    job = order.job
    return json.dumps(
        {
            "config": job.config.model_dump(mode="json"),
            "method": name_of(job.objective),
            "examples": EXAMPLES.dump_python(tuple(job.examples)),
            "guarded": QUESTIONS.dump_python(tuple(job.guarded)),
            "tokens": order.tokens,
            "fingerprint": order.fingerprint,
            "threads": order.threads,
        }
    )


def name_of(objective: object) -> str:
    """Return the name other processes find a method by."""
    if not isinstance(objective, Method) or METHODS.get(objective.name) is not type(
        objective
    ):
        raise ConfigError(
            f"{type(objective).__name__} is not a method that other processes know, so "
            "they cannot train it; train with one process"
        )
    if isinstance(objective, Oracle):
        raise ConfigError(
            f"{objective.name} needs gold answers, which other processes do not get; "
            "train with one process"
        )
    return objective.name


def read_order(text: str) -> Order:
    """Read the job that `order_text` wrote."""
    table: dict[str, Any] = json.loads(text)
    config = Config.model_validate(table["config"])
    method = METHODS[table["method"]](config)
    examples = EXAMPLES.validate_python(table["examples"])
    job = Job(config, examples, method, QUESTIONS.validate_python(table["guarded"]))
    return Order(job, table["tokens"], table["fingerprint"], table["threads"])
