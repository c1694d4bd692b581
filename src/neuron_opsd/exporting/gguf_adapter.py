"""The adapter as GGUF, which llama.cpp adds to the base's own file."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from neuron_opsd.exporting.finished import FinishedRun, need_adapter
from neuron_opsd.exporting.merged import weights_of
from neuron_opsd.exporting.request import Made, Request
from neuron_opsd.models.gguf.writing import write_adapter
from neuron_opsd.progress import Progress

ADAPTER: Final = "adapter.gguf"


def write(run: FinishedRun, request: Request, folder: Path, progress: Progress) -> Made:
    """Write `adapter.gguf`."""
    need_adapter(run, "gguf")
    weights = weights_of(run, request)
    rank = write_adapter(weights, folder / ADAPTER, request.name or run.name)
    warn_of_rounded(run, progress)
    return Made({"rank": rank, "matrices_changed": len(weights.changes)})


def warn_of_rounded(run: FinishedRun, progress: Progress) -> None:
    """Say that an adapter was trained and tested over other weights than it meets."""
    if run.base.quantization != "none":
        progress.warn(
            f"the run trained and tested over a base rounded to "
            f"{run.base.quantization}; over the unrounded base, or one rounded "
            "otherwise, answers differ a little from those in its report"
        )
