"""The vLLM package: detection, and an import that keeps it quiet."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import torch

from neuron_opsd.errors import (
    ModelError,
    NeuronOpsdError,
    TryAgainError,
    is_out_of_memory,
)
from neuron_opsd.models.library_errors import FAULTS, full_line

PACKAGE: Final = "vllm"

OURS: Final = "set engine.rollouts=transformers"

ALWAYS: Final[Mapping[str, str]] = {
    # No usage reports.
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "DO_NOT_TRACK": "1",
    # In this process, so that it ends with it and can free its memory.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
}
"""What this program relies on."""

USUAL: Final[Mapping[str, str]] = {
    # On errors it would print every question; here one line reports them.
    "VLLM_LOGGING_LEVEL": "CRITICAL",
    # No thread pinning: the trainer uses the threads too.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}
"""What a user may override."""

NO_ROOM: Final = ("no available memory", "free memory on device", "kv cache")
"""vLLM's messages, in lower case, when its memory share is too small."""


def check_installed() -> None:
    """Raise unless the package is installed."""
    if PACKAGE not in sys.modules and find_spec(PACKAGE) is None:
        raise ModelError(
            "engine.rollouts is vllm, which is not installed; install it with pip "
            "install 'neuron-opsd[vllm]' (on a processor: make test-vllm shows how), "
            f"or {OURS}"
        )


def library() -> Any:
    """Import the package on first use."""
    os.environ.update(ALWAYS)
    for name, value in USUAL.items():
        os.environ.setdefault(name, value)
    check_installed()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = importlib.import_module(PACKAGE)
            importlib.import_module(f"{PACKAGE}.lora.request")
    except FAULTS as error:
        raise ModelError(
            f"vLLM cannot be imported: {full_line(error)}; it works with only one "
            f"version of torch, and this is {torch.__version__}: reinstall both in one "
            f"environment, or {OURS}"
        ) from error
    return found


@contextmanager
def engine_errors(what: str) -> Iterator[None]:
    """Turn vLLM's errors into one line; out of memory can be retried."""
    try:
        yield
    except NeuronOpsdError:
        raise
    except FAULTS as error:
        said = full_line(error)
        short = any(sign in said.lower() for sign in NO_ROOM)
        if short or is_out_of_memory(error):
            raise TryAgainError(
                f"vLLM found too little memory for {what}: {said}; raise "
                "engine.memory_share, lower rollouts.max_new_tokens, or close what "
                "else uses the memory"
            ) from error
        raise ModelError(
            f"vLLM cannot take {what}: {said}; {OURS} for this model"
        ) from error


@contextmanager
def computing(device: str) -> Iterator[None]:
    """Run vLLM silently; on a CPU without compiling, which never pays off."""
    stance = "force_eager" if device == "cpu" else "default"
    with warnings.catch_warnings(), torch.compiler.set_stance(stance):
        warnings.simplefilter("ignore")
        yield


@contextmanager
def silenced() -> Iterator[None]:
    """Silence C++ libraries that bypass Python's streams."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
