"""The list of targets. A new one is a module of this room and an entry here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from neuron_opsd.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ExportTarget:
    """One kind of files that a finished run is turned into."""

    name: str
    """As in `--to`."""
    summary: str
    module: str
    """Module of this room whose `function` fills the folder; imported on use, so that
    help needs none of the libraries."""
    next_step: str
    """What to do with the files, in a sentence; ``{out}`` is their folder."""
    function: str = "write"


_ALL: Final = (
    ExportTarget(
        name="merged",
        summary="the base with the adapter merged into it, as safetensors",
        module="merged",
        next_step="Load {out} as any model folder: transformers, vLLM, SGLang, TGI.",
    ),
    ExportTarget(
        name="lm-eval",
        summary="the test sets as tasks of lm-eval, with answers read as in the run",
        module="lm_eval",
        next_step="Run them with `lm_eval --include_path {out}`; lm-eval and "
        "neuron-opsd must be in one environment (pip install lm-eval).",
    ),
    ExportTarget(
        name="inspect",
        summary="the test sets as tasks of inspect, with answers read as in the run",
        module="inspect_ai",
        next_step="Run them with `inspect eval {out}/tasks.py`; inspect-ai and "
        "neuron-opsd must be in one environment (pip install inspect-ai).",
    ),
    ExportTarget(
        name="gguf",
        summary="the merged model as one GGUF file, for llama.cpp and what is built "
        "on it",
        module="gguf",
        next_step="Serve it with `llama-server --model {out}/model.gguf`; "
        "`llama-quantize {out}/model.gguf small.gguf Q4_K_M` makes it smaller.",
    ),
    ExportTarget(
        name="gguf-lora",
        summary="the adapter alone as GGUF, to be used beside the base's own file",
        module="gguf",
        next_step="Serve it with `llama-server --model BASE.gguf --lora "
        "{out}/adapter.gguf`, where BASE.gguf is a GGUF file of the base.",
        function="write_lora",
    ),
    ExportTarget(
        name="vllm",
        summary="the adapter with the `vllm serve` line that loads it, or a whole "
        "model with its line",
        module="vllm_server",
        next_step="Serve it with `sh {out}/serve.sh`.",
    ),
    ExportTarget(
        name="ollama",
        summary="a Modelfile with template, stops and parameters, and its GGUF file",
        module="ollama",
        next_step="Change into {out}.",
    ),
    ExportTarget(
        name="trl",
        summary="what the teacher was shown, as rows for TRL's SDFTTrainer; needs "
        "--pool",
        module="trl_rows",
        next_step="Train with `python {out}/train.py`, where trl 1.16 is installed.",
    ),
)

TARGETS: Final[Mapping[str, ExportTarget]] = {target.name: target for target in _ALL}
"""In the order in which they are listed."""


def target_of(name: str) -> ExportTarget:
    """Return the target of a name; refuse unknown names."""
    if name in TARGETS:
        return TARGETS[name]
    wrong = f"--to is {name!r}, but there is no such target" if name else "no --to"
    raise ConfigError(
        f"{wrong}; targets are {', '.join(TARGETS)} (`neuron-opsd export` alone says "
        "what each writes)"
    )
