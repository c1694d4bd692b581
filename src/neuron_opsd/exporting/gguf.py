"""GGUF files for llama.cpp: the merged model with its tokenizer, or the adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from neuron_opsd.errors import ConfigError
from neuron_opsd.exporting.export import Made, Request
from neuron_opsd.exporting.finished import FinishedRun
from neuron_opsd.exporting.merged import facts_of, warn_of_rounded, weights_of
from neuron_opsd.models.gguf.writing import write_adapter, write_model
from neuron_opsd.models.load import load_tokenizer
from neuron_opsd.progress import Progress

MODEL: Final = "model.gguf"
ADAPTER: Final = "adapter.gguf"


def write(run: FinishedRun, request: Request, folder: Path, progress: Progress) -> Made:
    """Write `MODEL`."""
    weights = weights_of(run, request)
    tokens = load_tokenizer(run.model).tokens
    name = request.name or run.name
    with progress.stage("GGUF", weights.num_bytes, "bytes") as done:
        write_model(weights, tokens, folder / MODEL, name, done)
    return Made(facts_of(run, weights, request.dtype, progress))


def write_lora(
    run: FinishedRun, request: Request, folder: Path, progress: Progress
) -> Made:
    """Write `ADAPTER`, which llama.cpp adds to the base's own file."""
    if run.is_whole_model:
        raise ConfigError(
            f"{run.folder} trained all weights (distill.tuning is full), so there is "
            "no adapter; use --to gguf"
        )
    weights = weights_of(run, request)
    rank = write_adapter(weights, folder / ADAPTER, request.name or run.name)
    warn_of_rounded(run, progress)
    return Made({"rank": rank, "matrices_changed": len(weights.changes)})
