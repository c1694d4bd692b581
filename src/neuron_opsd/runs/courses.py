"""Trainings under way, wherever their steps are taken.

A run directory belongs to the process that was started by the user. A course takes
steps for it, here or in other processes, and gives it what it writes: metrics, states
and the adapter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from torch import Tensor

from neuron_opsd.config import Config
from neuron_opsd.models.load import learner_of
from neuron_opsd.models.roles import LanguageModel, Learner
from neuron_opsd.processes.ranks import ALONE, Ranks
from neuron_opsd.records import StepMetrics, TrainingExample
from neuron_opsd.stages.looking import with_looks
from neuron_opsd.stages.rollouts import PromptedQuestion
from neuron_opsd.stages.training import Earlier, Objective, train


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be trained, on what and how."""

    config: Config
    """Resolved for the model."""
    examples: Sequence[TrainingExample]
    objective: Objective
    guarded: Sequence[PromptedQuestion] = ()
    """The guard's questions."""


class Course(Protocol):
    """A training under way."""

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go back to what `state` returned."""

    def take(self, earlier: Earlier) -> Iterator[StepMetrics]:
        """Take the steps that are left, as `stages.training.train` does."""

    def state(self) -> dict[str, Tensor]:
        """Return all that a checkpoint must hold."""

    def save_adapter(self, folder: Path) -> None:
        """Write what training made."""

    @property
    def num_bytes(self) -> int:
        """Size of what is trained."""

    @property
    def num_ranks(self) -> int:
        """How many processes take its steps."""


class Trainer(Protocol):
    """Where trainings take their steps."""

    def course(self, job: Job, model: LanguageModel) -> AbstractContextManager[Course]:
        """Begin a training of a model, which itself never changes."""


class LocalCourse:
    """A training whose steps this process takes, alone or as one of some ranks."""

    def __init__(self, job: Job, learner: Learner, ranks: Ranks = ALONE) -> None:
        """Begin where the learner is."""
        self.job = job
        self.learner = learner
        self.ranks = ranks

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go back to what `state` returned."""
        self.learner.load_state(state)

    def take(self, earlier: Earlier) -> Iterator[StepMetrics]:
        """Take the steps that are left."""
        job = self.job
        steps = train(
            self.learner, job.examples, job.objective, job.config, earlier, self.ranks
        )
        return with_looks(steps, self.learner, job.guarded, job.config, self.ranks)

    def state(self) -> dict[str, Tensor]:
        """Return all that a checkpoint must hold."""
        return self.learner.state()

    def save_adapter(self, folder: Path) -> None:
        """Write what training made."""
        self.learner.save_adapter(folder)

    @property
    def num_bytes(self) -> int:
        """Size of what is trained."""
        return self.learner.num_bytes

    @property
    def num_ranks(self) -> int:
        """How many processes take its steps."""
        return self.ranks.size


class Here:
    """This process alone."""

    @contextmanager
    def course(self, job: Job, model: LanguageModel) -> Iterator[Course]:
        """Begin a training."""
        yield LocalCourse(job, learner_of(model, job.config.distill, job.config.seed))


HERE: Final = Here()
