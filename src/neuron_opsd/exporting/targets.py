"""The list of targets. A new one is a module of this room and an entry here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Final

from neuron_opsd.errors import ConfigError

if TYPE_CHECKING:
    from neuron_opsd.exporting.request import Write


@dataclass(frozen=True, slots=True)
class ExportTarget:
    """One kind of files that a finished run is turned into."""

    name: str
    """What `--to` calls it."""
    summary: str
    """What it writes, in a line."""
    module: str
    """Module of this room whose `write` fills the folder, imported when it is asked
    for, so that a help page needs none of the libraries."""
    next_step: str
    """What to do with the files, in a sentence; ``{out}`` is their folder."""

    def writer(self) -> Write:
        """Return what fills the folder."""
        found = import_module(f"neuron_opsd.exporting.{self.module}")
        write: Write = found.write
        return write


_ALL: Final = (
    ExportTarget(
        name="merged",
        summary="the base with the adapter merged into it, as safetensors",
        module="merged",
        next_step="Load {out} as any model folder: transformers, vLLM, SGLang, TGI.",
    ),
    ExportTarget(
        name="gguf",
        summary="the merged model as one GGUF file, for llama.cpp and what is built "
        "on it",
        module="gguf_model",
        next_step="Serve it with `llama-server --model {out}/model.gguf`; "
        "`llama-quantize {out}/model.gguf small.gguf Q4_K_M` makes it smaller.",
    ),
    ExportTarget(
        name="gguf-lora",
        summary="the adapter alone as GGUF, to be used beside the base's own file",
        module="gguf_adapter",
        next_step="Serve it with `llama-server --model BASE.gguf --lora "
        "{out}/adapter.gguf`, where BASE.gguf is a GGUF file of the base.",
    ),
)

TARGETS: Final[Mapping[str, ExportTarget]] = {target.name: target for target in _ALL}
"""Every target by its name, in the order in which they are listed."""


def target_of(name: str) -> ExportTarget:
    """Return the target of a name.

    Raises:
        ConfigError: If there is none.
    """
    if name in TARGETS:
        return TARGETS[name]
    wrong = f"--to is {name!r}, but there is no such target" if name else "no --to"
    raise ConfigError(
        f"{wrong}; targets are {', '.join(TARGETS)} (`neuron-opsd export` alone says "
        "what each writes)"
    )
