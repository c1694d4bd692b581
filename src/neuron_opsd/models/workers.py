"""Processes of our own that run what came with a model, and may be lost."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def worker(name: str, *arguments: str) -> dict[str, Any]:
    """Return how `subprocess` starts a worker, which may import this package.

    Args:
        name: Of its module, beside this one.
        arguments: For its command line.
    """
    paths = [str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]
    return {
        # -P keeps this package's modules from shadowing the standard library's.
        "args": [sys.executable, "-P", str(HERE / f"{name}.py"), *arguments],
        "env": {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        # A stop from the terminal is the parent's to follow.
        "start_new_session": True,
    }
