"""What an atlas needs besides the analysis: settings, model shape, texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from neuron_opsd.analysis.atlas.counting import Shape
from neuron_opsd.analysis.cases import Findings
from neuron_opsd.analysis.inputs import MODEL, PreparedRun
from neuron_opsd.analysis.places import Place, group_of, kept_settings, place_of
from neuron_opsd.config import Config
from neuron_opsd.config.tables import as_config
from neuron_opsd.errors import ConfigError, DataError, ModelError
from neuron_opsd.models.load import load_tokenizer
from neuron_opsd.records import Question
from neuron_opsd.results.comparison import BASE
from neuron_opsd.runs.fingerprint import model_fingerprint
from neuron_opsd.runs.inputs import POOL, questions_hash, read_pool
from neuron_opsd.storage.integrity import fault_of

ADAPTER: Final = "adapter"


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A run with its model's shape and its pool's texts."""

    found: Findings
    folder: Path
    place: Place
    config: Config
    """All settings, with the model's present location."""
    shape: Shape
    texts: Mapping[str, Question]
    """By id; empty if not given."""

    @property
    def run(self) -> PreparedRun:
        """The prepared run."""
        return self.found.run

    @property
    def adapter(self) -> Path:
        """Path of the run's adapter."""
        return self.place.folder / self.place.own(ADAPTER)


def source_of(
    found: Findings, folder: Path, texts: Mapping[str, Question], model: str = ""
) -> Source:
    """Gather what the atlas of a run needs.

    Args:
        found: The run's analysis.
        folder: The run's folder.
        texts: The pool's questions, if known.
        model: The model's location, if it was moved.

    Raises:
        ModelError: If the model's files are missing, or its neurons cannot be read.
    """
    place = place_of(folder)
    config = as_config(kept_settings(place))
    if model:
        config = config.changed(model={"name": model})
    facts = load_tokenizer(config.model).facts
    if facts.why_no_neurons:
        raise ModelError(facts.why_no_neurons)
    shape = Shape(facts.num_layers, facts.num_neurons)
    return Source(found, folder, place, config, shape, texts)


def read_texts(
    run: PreparedRun, file: str, warn: Callable[[str], None]
) -> dict[str, Question]:
    """Read the pool's questions by id, without answers.

    Raises:
        DataError: If they are not those that the run was asked.
    """
    found = read_pool(file, run.config)
    for note in found.notes:
        warn(note)
    if questions_hash(found.questions) != run.manifest.inputs.get(POOL):
        raise DataError(
            f"{file} does not hold the questions that run {run.name} was asked; name "
            "the file that it had as its --pool"
        )
    return {question.id: question for question in found.questions}


def check_readable(source: Source) -> None:
    """Refuse to read a model other than the one the run read.

    Raises:
        ConfigError: If the run began from another model than it names.
        DataError: If the model's files have changed.
    """
    if (group := group_of(source.folder)) is not None and group.name != BASE:
        raise ConfigError(
            f"{source.folder} began from the model in {group}, not from "
            f"{source.config.model.name}, so its neurons cannot be read again; name a "
            f"method below {group.parent / BASE}, or leave --read-model out"
        )
    known = source.place.manifest.inputs.get(MODEL)
    if known is not None and known != model_fingerprint(source.config.model):
        raise DataError(
            f"the files of model {source.config.model.name} are not those that "
            f"{source.folder} was started with; name these with --model"
        )


def why_not_trained(source: Source) -> str:
    """Say why a run has no trained model to read; empty if it has one."""
    output = source.place.manifest.outputs.get(source.place.own(ADAPTER))
    if output is None:
        return "the run has no adapter yet"
    if fault := fault_of(source.place.folder, output):
        return f"the adapter is not as the run wrote it: {fault}"
    return ""
