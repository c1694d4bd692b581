"""Read a model's configuration for its shapes; weights may be absent.

The file is untrusted: it is refused if it asks for code, is not finite, counts more
than any machine has, or leaves sizes to its family's defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from transformers.configuration_utils import PreTrainedConfig

from neuron_opsd.config import ModelConfig
from neuron_opsd.errors import ModelError
from neuron_opsd.models.description import (
    end_ids_of,
    facts_of,
    load_tokens,
    loading,
    quiet,
)
from neuron_opsd.models.forward.layers import as_linear
from neuron_opsd.models.gguf import is_gguf
from neuron_opsd.models.outline import Outline, outline_of
from neuron_opsd.models.tokenizer.encoding import ModelTokenizer
from neuron_opsd.models.weights import refusals
from neuron_opsd.models.weights.location import MOST_SETTINGS, place_of, source_of

FILE: Final = "config.json"

TEXTS: Final = ("tokenizer.json", "tokenizer.model", "vocab.json")

NEEDED: Final = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "vocab_size",
)
"""Sizes that must be given: a family's default describes another model."""

NEEDED_INSIDE: Final = NEEDED[:2]
"""The same for a `text_config`, which may list only differences."""


def read_outline(config: ModelConfig) -> Outline:
    """Return a model's shapes from its `config.json`.

    Args:
        config: `name` is that file, its folder, a GGUF file or a hub id.

    Raises:
        ModelError: If it cannot be read, is of an unknown family or lacks a size.
    """
    network = built(config, place(config))
    with loading(config):
        return outline_of(config.name, network)


def read_tokenizer(config: ModelConfig) -> ModelTokenizer:
    """Load a model's tokenizer; its weights may be absent."""
    found = Path(place(config))
    folder = str(found.parent) if found.is_file() else str(found)
    if found.is_file() and not any((found.parent / name).is_file() for name in TEXTS):
        raise ModelError(
            f"the questions are counted by the model's tokenizer, but {found.parent} "
            f"holds neither of {', '.join(TEXTS)}; put its tokenizer files there, or "
            "leave --pool out"
        )
    beside = config.model_copy(update={"name": folder})
    network = built(config, str(found))
    source = source_of(config, folder)
    tokens = load_tokens(source, beside, end_ids_of(beside, source, network.config))
    return ModelTokenizer(tokens, facts_of(network, tokens, config))


def built(config: ModelConfig, where: str) -> Any:
    """Build a network on the meta device, without memory."""
    quiet()
    source = source_of(config, where)
    with loading(config):
        written, _ = PreTrainedConfig.get_config_dict(where, **source.options)
        settings = settings_from(config.name, where, written)
        with torch.device("meta"):
            return as_linear(AutoModelForCausalLM.from_config(settings))


def place(config: ModelConfig) -> str:
    """Return the file, folder or hub id whose configuration is read."""
    path = Path(config.name).expanduser()
    if not config.name or is_gguf(path):
        return place_of(config)
    file = path / FILE if path.is_dir() else path
    if file.is_file():
        if file.stat().st_size > MOST_SETTINGS:
            raise ModelError(
                f"{file} has {file.stat().st_size} bytes, more than the "
                f"{MOST_SETTINGS} that a configuration can need; give a {FILE}"
            )
        return str(file)
    if path.is_dir():
        raise ModelError(
            f"{path} has no {FILE}; give a folder that holds one, or the file itself"
        )
    local = path.is_absolute() or path.suffix == ".json" or config.name[0] == "."
    if local or path.exists():
        raise ModelError(
            f"{path} is not a file; give a {FILE}, or a folder that holds it"
        )
    return place_of(config)


def settings_from(name: str, where: str, written: Mapping[str, Any]) -> Any:
    """Check a configuration and return it as transformers reads it."""
    refusals.refuse_foreign(name, where, written)
    refusals.refuse_other_families(name, written)
    family = written.get("model_type")
    if not isinstance(family, str) or family not in CONFIG_MAPPING:
        said = "no model_type" if family is None else f"the model_type {family!r}"
        raise ModelError(
            f"the configuration {name} names {said}, but it must be one that "
            "transformers knows, such as llama, qwen3 or gemma3_text; get the file "
            "again, or give a model of another family"
        )
    kind = CONFIG_MAPPING[family]
    refuse_missing(name, written, kind)
    refusals.refuse_absurd(name, written, None)
    settings = kind.from_dict(dict(written))
    refusals.refuse_other_kinds(name, settings)
    return settings


def refuse_missing(name: str, written: Mapping[str, Any], kind: Any) -> None:
    """Refuse a configuration that leaves sizes to its family's defaults."""
    inner = written.get("text_config")
    if isinstance(inner, Mapping):
        missing = [size for size in NEEDED_INSIDE if inner.get(size) is None]
    else:
        known = vars(kind())
        names = [kind.attribute_map.get(size, size) for size in NEEDED]
        missing = [n for n in names if n in known and written.get(n) is None]
    if missing:
        raise ModelError(
            f"the configuration {name} does not say {', '.join(missing)}, so the "
            "model's size is not known; get its config.json again"
        )
