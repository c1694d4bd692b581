"""Adapters that attack whoever merges them, each spoilt in the folder of a good one."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

Spoil: TypeAlias = Callable[[Path], None]

SETTINGS = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"

BACKTRACKS = "(model|layers|[a-z_.0-9]+)+(([a-z_]+)+\\.?)+=$"


def settings(**fields: Any) -> Spoil:
    """Return what changes fields of an adapter's settings."""

    def spoil(folder: Path) -> None:
        table = json.loads((folder / SETTINGS).read_text("utf-8")) | fields
        (folder / SETTINGS).write_text(json.dumps(table), "utf-8")

    return spoil


def without(name: str) -> Spoil:
    """Return what takes a field out of an adapter's settings."""

    def spoil(folder: Path) -> None:
        table = json.loads((folder / SETTINGS).read_text("utf-8"))
        del table[name]
        (folder / SETTINGS).write_text(json.dumps(table), "utf-8")

    return spoil


def text(content: str) -> Spoil:
    """Return what replaces an adapter's settings by a text."""
    return lambda folder: put(folder / SETTINGS, content.encode("utf-8"))


def put(path: Path, data: bytes) -> None:
    """Write a file."""
    path.write_bytes(data)


def weights(change: Callable[[dict[str, Any]], Any]) -> Spoil:
    """Return what changes an adapter's weights."""

    def spoil(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        state = load_file(folder / WEIGHTS)
        change(state)
        save_file({name: w.contiguous() for name, w in state.items()}, folder / WEIGHTS)

    return spoil


def first(state: dict[str, Any]) -> str:
    """Return the name of the first weight."""
    return min(state)


def spoil_value(value: float) -> Spoil:
    """Return what puts a value in the place of a weight."""
    return weights(lambda state: state[first(state)].view(-1)[0].fill_(value))


ADAPTERS: dict[str, Spoil] = {
    "unknown kind": settings(peft_type="NOPE"),
    "kind that is a list": settings(peft_type=["LORA"]),
    "kind that is an object": settings(peft_type={"a": 1}),
    "no kind": without("peft_type"),
    "settings are empty": text(""),
    "settings are nothing": text("{}"),
    "settings are a list": text("[]"),
    "settings are a number": text("1"),
    "settings are deep": text('{"a":' * 50_000 + "1" + "}" * 50_000),
    "settings of 50 MB": text('{"a": "' + "a" * 50_000_000 + '"}'),
    "settings are no UTF-8": lambda folder: put(folder / SETTINGS, b'{"a": "\xff"}'),
    "half a pair in a name": text('{"peft_type": "LORA\\ud800"}'),
    "half a pair as target": settings(target_modules=["\ud800"]),
    "target that backtracks": settings(target_modules=BACKTRACKS),
    "target that backtracks over letters": settings(target_modules="([a-z._0-9]+)+$!"),
    "target that is none": settings(target_modules="(((("),
    "target that is a number": settings(target_modules=7),
    "target that is nothing": settings(target_modules=None),
    "no targets": settings(target_modules=[]),
    "a million targets": settings(target_modules=[f"t{n}" for n in range(10**6)]),
    "exclusion that backtracks": settings(exclude_modules="([a-z._0-9]+)+$!"),
    "rank of a pattern that backtracks": settings(rank_pattern={"([a-z._0-9]+)+$!": 4}),
    "scale of a pattern that backtracks": settings(
        alpha_pattern={"([a-z._0-9]+)+$!": 4}
    ),
    "rank of a pattern that is enormous": settings(rank_pattern={"q_proj": 10**9}),
    "patterns that are a list": settings(rank_pattern=["q_proj"]),
    "many patterns": settings(alpha_pattern={f"x{n}": 1 for n in range(10**5)}),
    "modules that are kept whole": settings(modules_to_save=["nope"]),
    "kept whole that is a number": settings(modules_to_save=7),
    "enormous rank": settings(r=10**9),
    "boundless rank": settings(r=10**30),
    "no rank": settings(r=0),
    "negative rank": settings(r=-4),
    "rank that is a text": settings(r="4"),
    "rank that is a fraction": settings(r=4.5),
    "rank that is true": settings(r=True),
    "scale that is none": settings(lora_alpha=float("nan")),
    "infinite scale": settings(lora_alpha=float("inf")),
    "negative scale": settings(lora_alpha=-8),
    "no scale": settings(lora_alpha=0),
    "enormous scale": settings(lora_alpha=1e308),
    "scale that is a text": settings(lora_alpha="8"),
    "scale of a pattern that is none": settings(alpha_pattern={"q_proj": float("nan")}),
    "enormous layers": settings(layers_to_transform=10**9),
    "a million layers": settings(layers_to_transform=list(range(10**6))),
    "negative layers": settings(layers_to_transform=[-1]),
    "pattern of layers that backtracks": settings(
        target_modules=["q_proj"],
        layers_to_transform=[0],
        layers_pattern="([a-z._0-9]+)+$!",
    ),
    "own code": settings(
        auto_mapping={"base_model_class": "X", "parent_library": "antigravity"}
    ),
    "own code as the base": settings(base_model_name_or_path="os.system"),
    "a field of the future": settings(of_the_future=1),
    "runtime settings": settings(runtime_config={"ephemeral_gpu_offload": 7}),
    "weights are missing": lambda folder: (folder / WEIGHTS).unlink(),
    "weights are empty": lambda folder: put(folder / WEIGHTS, b""),
    "weights are a pickle": lambda folder: put(folder / WEIGHTS, pickle.dumps([1])),
    "weights of a long header": lambda folder: put(
        folder / WEIGHTS, (90_000_000).to_bytes(8, "little") + b"{}" + b" " * 90_000_000
    ),
    "weight is missing": weights(lambda state: state.pop(first(state))),
    "weight too many": weights(
        lambda state: state.update(zq=state[first(state)].clone())
    ),
    "weight of another shape": weights(
        lambda state: state.update({first(state): state[first(state)][:1]})
    ),
    "weight of another base": weights(
        lambda state: state.update(
            {name: w.repeat(1, 2) for name, w in state.items() if "lora_A" in name}
        )
    ),
    "weight is not a number": spoil_value(float("nan")),
    "weight is infinite": spoil_value(float("inf")),
    "weights are whole numbers": weights(
        lambda state: state.update({name: w.int() for name, w in state.items()})
    ),
}
"""Names of attacks, and what each does to the folder of a good adapter."""

UNHEARD = (
    "a field of the future",
    "modules that are kept whole",
    "own code as the base",
    "own code",
    "runtime settings",
)
"""What changes nothing of what an adapter does, or is what it says; used whole."""
