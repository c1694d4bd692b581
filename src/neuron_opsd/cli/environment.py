"""What the environment sets, except the cache, and what libraries read from it."""

from __future__ import annotations

import os
import sys
from contextvars import ContextVar

COMMAND_LINE: ContextVar[str] = ContextVar("COMMAND_LINE", default="")
"""The command as it was typed, for the records of a run."""

_ALWAYS = {
    # Threads that wait for each other spin for some microseconds, since sleeping made
    # decoding a third slower; longer, and two busy cores are slower than one.
    "OMP_WAIT_POLICY": "passive",
    "GOMP_SPINCOUNT": "1000",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    # Torch makes this folder on import, in /tmp by default, though nothing is compiled
    # here; a folder that exists need not be made.
    "TORCHINDUCTOR_CACHE_DIR": sys.prefix,
}

_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
}


def prepare_libraries(*, allow_download: bool) -> None:
    """Set what the libraries read when they are first imported; a user's own wins."""
    for name, value in (_ALWAYS if allow_download else _ALWAYS | _OFFLINE).items():
        os.environ.setdefault(name, value)
