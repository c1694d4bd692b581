"""Where a model is stored; never pickled weights."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from neuron_opsd.config import ModelConfig
from neuron_opsd.errors import ModelError
from neuron_opsd.models.adapters.reading import pickles_in
from neuron_opsd.models.gguf import is_gguf, unpacked
from neuron_opsd.models.weights.shards import INDEX, Source

MOST_BYTES: Final = {
    ".jinja": 4 << 20,
    ".json": 256 << 20,
    ".model": 256 << 20,
    ".safetensors": 1 << 60,
    ".txt": 256 << 20,
}
"""Most bytes of a model's files, by suffix; the longest are vocabularies."""

MOST_SETTINGS: Final = 16 << 20
"""The same for settings and the tensor index."""

SETTINGS: Final = ("config.json", "generation_config.json", INDEX)


def source_of(config: ModelConfig, place: str = "") -> Source:
    """Return where transformers should load from, by default `place_of`."""
    place = place or place_of(config)
    return Source(place, config.revision, local=not config.allow_download)


def place_of(config: ModelConfig) -> str:
    """Check and return the folder or hub id that the settings name."""
    if not config.name:
        raise ModelError(
            "no model is named; give a folder, a GGUF file or a hub id with --model"
        )
    path = Path(config.name).expanduser()
    if is_gguf(path):
        return str(unpacked(path.resolve()))
    if path.is_file():
        raise ModelError(
            f"{path} is a file; a model is a folder with config.json and safetensors, "
            "a GGUF file or a hub id"
        )
    if path.is_dir():
        check_folder(path)
        # Adapters record it, so it must not depend on the current folder.
        return str(path.resolve())
    if path.is_absolute() or config.name.startswith(".") or config.name.count("/") > 1:
        raise ModelError(f"model folder {path} does not exist")
    return config.name


def check_folder(path: Path) -> None:
    """Refuse a folder without a configuration or safetensors."""
    if not (path / "config.json").exists():
        raise ModelError(
            f"{path} has no config.json; a model folder holds config.json, tokenizer "
            "files and *.safetensors"
        )
    for entry in sorted(path.iterdir()):
        check_entry(entry)
    if any(path.glob("*.safetensors")):
        return
    pickled = pickles_in(path)
    found = f"only {', '.join(pickled)}" if pickled else "none"
    raise ModelError(
        f"{path} must hold weights as *.safetensors but has {found}; pickled weights "
        "can run code when they are loaded, so convert them with save_pretrained in a "
        "place you trust"
    )


def check_entry(entry: Path) -> None:
    """Refuse a file that is a pipe or device, or too long for its kind."""
    usual = MOST_BYTES.get(entry.suffix)
    most = MOST_SETTINGS if entry.name in SETTINGS else usual
    if most is None or entry.is_dir() or not entry.exists():
        return
    if not entry.is_file():
        raise ModelError(f"{entry} is a pipe or a device; a model is made of files")
    if entry.stat().st_size > most:
        raise ModelError(
            f"{entry} has {entry.stat().st_size} bytes, more than the {most} that such "
            "a file can need; get the model's files again from a place that you trust"
        )


def advice(config: ModelConfig) -> str:
    """Return advice for a hub id that is not in the local cache."""
    if Path(config.name).exists() or config.allow_download:
        return ""
    return (
        "it is not a local folder, and nothing is downloaded without --set "
        "model.allow_download=true"
    )
