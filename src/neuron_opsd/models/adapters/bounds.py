"""Numbers and patterns of an adapter's settings that would cost more than it is worth.

PEFT takes memory for the rank that the settings name before it reads a weight, and
matches the name of every module by patterns that came with the adapter.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from neuron_opsd.models.adapters import pattern_worker
from neuron_opsd.processes import workers

MOST_NAMES: Final = 10_000
"""Names, layers or patterns that one setting may hold."""

MOST_SCALE: Final = 1e6

PLAIN: Final = re.compile(r"[\w.\-]*")
"""Patterns that are names, and match in no time."""


def problem_of(
    settings: Mapping[str, Any],
    *,
    rank: int,
    num_layers: int,
    names: Sequence[str],
) -> tuple[str, Any, str] | None:
    """Return what is wrong with an adapter's settings: name, value and reason.

    Args:
        settings: Of the adapter.
        rank: The largest of its weights.
        num_layers: Of the base.
        names: Of the base's modules.

    Raises:
        TryAgainError: If its patterns cannot be tried.
    """
    for name, value, reason in (
        *kind_problems(settings),
        *rank_problems(settings, rank),
        *scale_problems(settings),
        *layer_problems(settings, num_layers),
    ):
        return name, value, reason
    patterns = list(patterns_of(settings))
    for name, pattern in patterns:
        try:
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            return name, pattern, f"it is no regular expression ({error})"
    if patterns and not matches_in_time([p for _, p in patterns], names):
        # One of them, and which is found by trying each alone.
        for name, pattern in patterns:
            if not matches_in_time([pattern], names[:1]):
                return name, pattern, BACKTRACKS
        return patterns[0][0], patterns[0][1], BACKTRACKS
    return None


BACKTRACKS: Final = "matching the names of modules by it takes more than a second"

TEXTS: Final = (
    "target_modules",
    "exclude_modules",
    "modules_to_save",
    "layers_pattern",
)
TABLES: Final = ("rank_pattern", "alpha_pattern")

Found = Iterator[tuple[str, Any, str]]


def kind_problems(settings: Mapping[str, Any]) -> Found:
    """Yield settings that are not of the kind that PEFT reads."""
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


def rank_problems(settings: Mapping[str, Any], most: int) -> Found:
    """Yield ranks that are none, or larger than those of the weights."""
    for name, value in numbers_of(settings, "r", "rank_pattern"):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            yield name, value, "a rank is a whole number from 1"
        elif value > most:
            yield name, value, f"the largest rank of its weights is {most}"


def scale_problems(settings: Mapping[str, Any]) -> Found:
    """Yield scales that are none, or would undo what was trained."""
    for name, value in numbers_of(settings, "lora_alpha", "alpha_pattern"):
        if isinstance(value, bool) or not isinstance(value, int | float):
            yield name, value, "it must be a number"
        elif not (math.isfinite(value) and 0 < value <= MOST_SCALE):
            yield name, value, f"it must be above 0 and at most {MOST_SCALE:g}"


def numbers_of(
    settings: Mapping[str, Any], name: str, table: str
) -> Iterator[tuple[str, Any]]:
    """Yield a number that holds for all layers, and those of single ones."""
    if name in settings:
        yield name, settings[name]
    patterns = settings.get(table) or {}
    if isinstance(patterns, dict):
        yield from ((table, value) for value in patterns.values())


def layer_problems(settings: Mapping[str, Any], num_layers: int) -> Found:
    """Yield layers that the base does not have."""
    value = settings.get("layers_to_transform")
    if value is None:
        return
    layers = value if isinstance(value, list) else [value]
    if len(layers) > MOST_NAMES:
        yield "layers_to_transform", f"{len(layers)} layers", f"{MOST_NAMES} at most"
        return
    for layer in layers:
        whole = isinstance(layer, int) and not isinstance(layer, bool)
        if not (whole and 0 <= layer < num_layers):
            reason = f"the base has the layers 0 to {num_layers - 1}"
            yield "layers_to_transform", layer, reason


def patterns_of(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the patterns of the settings that are more than names."""
    for name in (*TEXTS, *TABLES):
        value = settings.get(name) or []
        for text in [value] if isinstance(value, str) else value:
            if not PLAIN.fullmatch(text):
                yield name, text


def matches_in_time(patterns: Sequence[str], names: Sequence[str]) -> bool:
    """Say whether names are matched by patterns within a second.

    Raises:
        TryAgainError: If that cannot be tried.
    """
    given = json.dumps({"patterns": patterns, "names": names}).encode()
    done = workers.run_once(pattern_worker, "tries an adapter", given=given)
    return b"done" in done.stdout
