"""Where the outputs of a prepared run are: in its own folder or in a group's.

Methods of a group share rollouts and neurons; each has a folder with its selection and
contexts, which stands for the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from neuron_opsd.comparison.run_group import cell_folder, outputs_for
from neuron_opsd.config import Config
from neuron_opsd.config.tables import as_config
from neuron_opsd.errors import ConfigError, DataError
from neuron_opsd.methods import needs_contexts
from neuron_opsd.runs.prepare import RUN_OUTPUTS, PoolOutputs, inside
from neuron_opsd.storage import codecs
from neuron_opsd.storage.files import sha256_file
from neuron_opsd.storage.folders import METHOD_FOLDERS
from neuron_opsd.storage.integrity import changed_sources
from neuron_opsd.storage.manifest import MANIFEST, Manifest, read_manifest

T = TypeVar("T")

SECTIONS = ("answers", "contexts", "neurons", "prompts", "questions", "selection")
"""Settings that decide how rollouts and neurons are read."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a prepared run's outputs are, and their names."""

    folder: Path
    """Of the manifest, which lists every output and its file."""
    manifest: Manifest
    config: Config
    """Those in `SECTIONS`, else defaults."""
    outputs: PoolOutputs = RUN_OUTPUTS

    def own(self, name: str) -> str:
        """Name an output that is this run's alone."""
        return inside(self.outputs.folder, name)

    def named(self, name: str) -> str:
        """Translate `prepare`'s name of an output."""
        (found,) = self.outputs.of([name])
        return found

    def holds(self, name: str) -> bool:
        """Return whether an output exists."""
        return self.named(name) in self.manifest.outputs

    def hash_of(self, name: str) -> str:
        """Return the SHA-256 of an output."""
        return self.manifest.outputs[self.named(name)].sha256


def place_of(folder: Path) -> Place:
    """Find the outputs of a run, or of a method of a comparison."""
    group = group_of(folder)
    if group is not None:
        return place_in_group(group, cell_folder(folder.resolve().name))
    manifest = read_manifest(folder)
    if any(name.startswith(f"{METHOD_FOLDERS}/") for name in manifest.outputs):
        raise DataError(
            f"{folder} is a part of a comparison, which several methods share; name "
            f"the folder of one, for example {folder / cell_folder('neuron-opsd')}"
        )
    return Place(folder, manifest, settings_of(manifest.settings))


def group_of(folder: Path) -> Path | None:
    """Return the group of a method's folder, `None` for other folders."""
    parent = folder.resolve().parent
    is_method = parent.name == METHOD_FOLDERS and (parent.parent / MANIFEST).is_file()
    return parent.parent if is_method else None


def place_in_group(group: Path, method: str) -> Place:
    """Find the outputs of one method in its group."""
    manifest = read_manifest(group)
    shared = Place(group, manifest, settings_of(manifest.settings))
    own = replace(shared, outputs=PoolOutputs(method))
    config = settings_of(kept_settings(own))
    if not needs_contexts(config):
        raise DataError(
            f"{group / method} belongs to a method without demonstrations, so there is "
            "nothing to analyse; name a method that shows some"
        )
    outputs = outputs_for(shared.config, config, method)
    return Place(group, manifest, config, outputs)


def kept_settings(place: Place) -> Mapping[str, Any]:
    """Return all settings of a run, or of a method, by dotted name."""
    if not place.outputs.folder:
        return place.manifest.settings
    name = place.own("settings")
    found: Mapping[str, Any] = read_output(
        place, name, codecs.json_codec(f"{name}.json")
    )
    return found


def name_of(folder: Path) -> str:
    """Name a run by its folder; in a comparison, also by those above."""
    if group_of(folder) is None:
        return folder.name if folder.name not in ("", "..") else folder.resolve().name
    *_, source, seed, start, _, method = folder.resolve().parts
    return "-".join((source, seed, start, method))


def named_runs(folders: Sequence[Path]) -> dict[str, Path]:
    """Name runs by their folders; refuse duplicates."""
    if not folders:
        raise ConfigError("no run is given; name the folder of at least one")
    runs: dict[str, Path] = {}
    for folder in folders:
        name = name_of(folder)
        if name in runs:
            raise ConfigError(
                f"two runs are named {name!r}: {runs[name]} and {folder}; runs are "
                "told apart by the names of their folders, so rename one of them"
            )
        runs[name] = folder
    return runs


def read_output(place: Place, name: str, codec: codecs.Codec[T]) -> T:
    """Read one output of a run, checked by its hash."""
    output = place.manifest.outputs.get(place.named(name))
    if output is None or not (place.folder / output.file).is_file():
        raise DataError(
            f"{place.folder} has no {codec.file_name}: the run is not prepared yet; "
            "the command that started it resumes it"
        )
    path = place.folder / output.file
    if sha256_file(path) != output.sha256:
        raise DataError(
            f"{path} is not as the run wrote it; the command that started the run "
            "computes it again"
        )
    other = changed_sources(output, place.manifest)
    if other:
        raise DataError(
            f"{path} {other}; the command that started the run computes it again"
        )
    return codec.load(path)


def settings_of(flat: Mapping[str, Any]) -> Config:
    """Return the method and the settings of `SECTIONS`."""
    sections = ("method", *SECTIONS)
    return as_config({n: v for n, v in flat.items() if n.split(".")[0] in sections})
