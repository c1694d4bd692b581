"""Adapter settings from other trainers: followed, or refused in one line.

PEFT follows the rest. Before reading weights it allocates memory for the configured
rank and matches module names against the adapter's patterns.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from neuron_opsd.errors import ModelError
from neuron_opsd.models.adapters import pattern_worker
from neuron_opsd.models.library_errors import full_line, shortened
from neuron_opsd.models.weights.shards import ADAPTER_SETTINGS
from neuron_opsd.processes import workers

Settings: TypeAlias = Mapping[str, Any]

Problems: TypeAlias = Iterator[tuple[str, Any, str]]
"""Setting, value, and what is wrong with it."""

MOST_BYTES: Final = 1 << 20
"""Of the settings file; most have a few thousand."""

MOST_NAMES: Final = 10_000
"""Most entries of one setting."""

MOST_SCALE: Final = 1e6

PLAIN: Final = re.compile(r"[\w.\-]*")
"""Patterns that are plain names, so matching is instant."""

TEXTS: Final = "target_modules", "exclude_modules", "modules_to_save", "layers_pattern"
TABLES: Final = "rank_pattern", "alpha_pattern"

BACKTRACKS: Final = "matching the names of modules by it takes more than a second"

STARTS = {True, False, "gaussian", "orthogonal", "eva"}
"""Values of `init_lora_weights` that leave the base unchanged."""

REFUSED: Final[Mapping[str, str]] = {
    "alora_invocation_tokens": "works only after certain tokens",
    "arrow_config": "chooses among several adapters for each token",
    "kasa_config": "changes the base's weights",
    "layer_replication": "repeats layers of the base",
    "lora_bias": "adds biases that the base has no place for",
    "megatron_config": "is made for Megatron's layers",
    "monteclora_config": "draws its weights anew for each pass",
    "target_parameters": "changes weights that are not layers",
    "trainable_token_indices": "changes single rows of the embedding",
    "use_bdlora": "is split into blocks",
    "use_qalora": "pools its inputs in groups",
    "velora_config": "compresses what it computes",
}
"""Settings that prevent adding an adapter to the base's weights, and why."""


def check_settings(adapter: Path, network: Any, rank: int) -> None:
    """Refuse an adapter that is not low-rank or has unsupported settings.

    `rank` is the largest among its weights.
    """
    settings = read_settings(adapter)
    num_layers = network.config.get_text_config().num_hidden_layers
    modules = [name for name, _ in network.named_modules()]
    problems = (
        kinds(settings),
        containers(settings),
        ranks(settings, rank),
        scales(settings),
        layers(settings, num_layers),
        patterns(settings, modules),
    )
    for name, value, why in (one for some in problems for one in some):
        raise ModelError(
            f"adapter {adapter} sets {name} = {shortened(json.dumps(value))}: {why}; "
            "merge it into its base with its own trainer and give the merged model"
        )


def read_settings(adapter: Path) -> dict[str, Any]:
    """Read an adapter's settings."""
    path = adapter / ADAPTER_SETTINGS
    if path.stat().st_size > MOST_BYTES:
        raise ModelError(
            f"{path} has {path.stat().st_size} bytes, more than the {MOST_BYTES} that "
            "settings can need; get the adapter again from a place that you trust"
        )
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read: {full_line(error)}") from error
    if not isinstance(settings, dict):
        raise ModelError(f"{path} holds {type(settings).__name__}, not an object")
    return settings


def kinds(settings: Settings) -> Problems:
    """Yield settings that only other kinds of adapters have."""
    kind, task = settings.get("peft_type"), settings.get("task_type")
    if kind != "LORA":
        yield "peft_type", kind, "only LORA adapters can be used here"
    if task not in (None, "CAUSAL_LM"):
        yield "task_type", task, "it must be trained as CAUSAL_LM"
    start = settings.get("init_lora_weights", True)
    if not isinstance(start, bool | str) or start not in STARTS:
        yield "init_lora_weights", start, "it changes the base's weights"
    for name, does in REFUSED.items():
        if settings.get(name):
            yield name, settings[name], f"such an adapter {does}"


def containers(settings: Settings) -> Problems:
    """Yield settings of the wrong type or with too many entries."""
    for name in TEXTS:
        value = settings.get(name)
        texts = value if isinstance(value, list) else [value or ""]
        if not all(isinstance(text, str) for text in texts):
            yield name, value, "it must be a text or a list of texts"
        elif len(texts) > MOST_NAMES:
            yield name, f"{len(texts)} names", f"{MOST_NAMES} are the most"
    for name in TABLES:
        value = settings.get(name) or {}
        if not isinstance(value, dict):
            yield name, value, "it must be an object"
        elif len(value) > MOST_NAMES:
            yield name, f"{len(value)} patterns", f"{MOST_NAMES} are the most"


def ranks(settings: Settings, most: int) -> Problems:
    """Yield ranks that are invalid or above those of the weights."""
    for name, value in numbers_of(settings, "r", "rank_pattern"):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            yield name, value, "a rank is a whole number from 1"
        elif value > most:
            yield name, value, f"the largest rank of its weights is {most}"


def scales(settings: Settings) -> Problems:
    """Yield scales that are invalid or undo the training."""
    for name, value in numbers_of(settings, "lora_alpha", "alpha_pattern"):
        if isinstance(value, bool) or not isinstance(value, int | float):
            yield name, value, "it must be a number"
        elif not (math.isfinite(value) and 0 < value <= MOST_SCALE):
            yield name, value, f"it must be above 0 and at most {MOST_SCALE:g}"


def numbers_of(settings: Settings, name: str, table: str) -> Iterator[tuple[str, Any]]:
    """Yield the value for all layers, then those for single ones."""
    if name in settings:
        yield name, settings[name]
    yield from ((table, value) for value in (settings.get(table) or {}).values())


def layers(settings: Settings, num_layers: int) -> Problems:
    """Yield layers that the base does not have."""
    name, value = "layers_to_transform", settings.get("layers_to_transform")
    chosen = value if isinstance(value, list) else [] if value is None else [value]
    if len(chosen) > MOST_NAMES:
        yield name, f"{len(chosen)} layers", f"{MOST_NAMES} at most"
    for layer in chosen:
        whole = isinstance(layer, int) and not isinstance(layer, bool)
        if not (whole and 0 <= layer < num_layers):
            yield name, layer, f"the base has the layers 0 to {num_layers - 1}"


def patterns(settings: Settings, modules: Sequence[str]) -> Problems:
    """Yield patterns that do not compile or match too slowly."""
    found = [
        (name, text)
        for name in (*TEXTS, *TABLES)
        for text in listed(settings.get(name) or [])
        if not PLAIN.fullmatch(text)
    ]
    for name, pattern in found:
        try:
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            yield name, pattern, f"it is not a regular expression ({error})"
    if found and not matches_in_time([pattern for _, pattern in found], modules):
        # Try each alone to find the slow one.
        for name, pattern in found:
            if not matches_in_time([pattern], modules[:1]):
                yield name, pattern, BACKTRACKS
        yield *found[0], BACKTRACKS


def listed(value: Any) -> Any:
    """Return a setting's texts as a list."""
    return [value] if isinstance(value, str) else value


def matches_in_time(some: Sequence[str], modules: Sequence[str]) -> bool:
    """Return whether patterns match all module names within a second."""
    given = json.dumps({"patterns": some, "names": modules}).encode()
    done = workers.run_once(pattern_worker, "tries an adapter", given=given)
    return b"done" in done.stdout
