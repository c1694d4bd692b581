"""Loading the model of a run once more, which must still be the one it began with."""

from __future__ import annotations

from pathlib import Path

from neuron_opsd.config import Config
from neuron_opsd.errors import DataError
from neuron_opsd.models.roles import LanguageModel
from neuron_opsd.runs.fingerprint import model_fingerprint
from neuron_opsd.runs.machines import THIS_MACHINE, Machines
from neuron_opsd.storage.run_directory import RunDirectory


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
