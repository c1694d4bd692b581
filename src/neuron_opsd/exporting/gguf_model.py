"""The merged model as one GGUF file, with its tokenizer and chat template."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from neuron_opsd.exporting.finished import FinishedRun
from neuron_opsd.exporting.merged import facts_of, weights_of
from neuron_opsd.exporting.request import Made, Request
from neuron_opsd.models.gguf.writing import write_model
from neuron_opsd.models.load import load_tokenizer
from neuron_opsd.progress import Progress

MODEL: Final = "model.gguf"


def write(run: FinishedRun, request: Request, folder: Path, progress: Progress) -> Made:
    """Write `model.gguf`."""
    weights = weights_of(run, request)
    tokens = load_tokenizer(run.model).tokens
    name = request.name or run.name
    with progress.stage("GGUF", weights.num_bytes, "bytes") as done:
        write_model(weights, tokens, folder / MODEL, name, done)
    return Made(facts_of(run, weights, request.dtype, progress))
