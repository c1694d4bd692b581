"""Where a run's model answers: in this process, or in workers of a Ray cluster.

Only the process that was started by the user owns the run directory. Workers are given
values and return values; of files they need the model's own, on their machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import Final, Protocol

from neuron_opsd.config import Config
from neuron_opsd.errors import DataError
from neuron_opsd.models.load import ModelTokenizer, check_training_room, load_answering
from neuron_opsd.models.roles import LanguageModel, ModelFacts
from neuron_opsd.runs.courses import HERE, Course, Job, Trainer
from neuron_opsd.runs.fingerprint import model_fingerprint
from neuron_opsd.storage.caching import Here, Workers, ignore
from neuron_opsd.storage.run_directory import RunDirectory


class Machines(Workers, Trainer, Protocol):
    """Workers that also load the models which they work with."""

    on_others: Callable[[Sequence[str]], None]
    """Told what is otherwise where a worker works, as ``threads 2 -> 1``."""

    def load(
        self,
        config: Config,
        *adapters: Path,
        tokenizer: ModelTokenizer | None = None,
        base: LanguageModel | None = None,
    ) -> LanguageModel:
        """Load a frozen model, as `models.load.load_answering` does."""

    def check_room(self, facts: ModelFacts, config: Config) -> None:
        """Refuse `full` tuning that there is no room for.

        Raises:
            ModelError: Saying what it needs, what is free and what to take instead.
        """

    @property
    def environment(self) -> Mapping[str, str]:
        """What may change the last bits, where it is not as in this process."""

    def release(self) -> None:
        """Free what workers hold, before this process trains."""


class ThisMachine(Here):
    """This process, and those that were started with it to train."""

    on_others: Callable[[Sequence[str]], None] = ignore
    environment: Mapping[str, str] = MappingProxyType({})

    def __init__(self, trainer: Trainer = HERE) -> None:
        """Train where a trainer does."""
        self._trainer = trainer

    def load(
        self,
        config: Config,
        *adapters: Path,
        tokenizer: ModelTokenizer | None = None,
        base: LanguageModel | None = None,
    ) -> LanguageModel:
        """Load a model here."""
        return load_answering(config, *adapters, tokenizer=tokenizer, base=base)

    def check_room(self, facts: ModelFacts, config: Config) -> None:
        """Refuse `full` tuning that this machine has no room for."""
        check_training_room(facts, config.distill)

    def course(self, job: Job, model: LanguageModel) -> AbstractContextManager[Course]:
        """Begin a training here."""
        return self._trainer.course(job, model)

    def release(self) -> None:
        """Do nothing: what is held is what will be trained."""


THIS_MACHINE: Final = ThisMachine()


def load_again(
    run: RunDirectory,
    config: Config,
    *adapters: Path,
    machines: Machines = THIS_MACHINE,
    base: LanguageModel | None = None,
) -> LanguageModel:
    """Load the model that a run was started with, once more and with adapters.

    They are put beside the weights of `base` where that is given.

    Raises:
        DataError: If its files were changed since.
        ModelError: If it or an adapter cannot be loaded.
    """
    model = machines.load(config, *adapters, base=base)
    known = run.manifest.inputs.get("model")
    if known is not None and known != model_fingerprint(config.model):
        raise DataError(
            f"the files of model {config.model.name} were changed while {run.folder} "
            "was running; put them back and run the same command again, or choose "
            "another --out"
        )
    return model
