"""Processes of our own for work that can run on or fill all memory, and may be lost."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from neuron_opsd.errors import TryAgainError

SOURCES: Final = Path(__file__).resolve().parents[2]
READY: Final = b"ready"
"""What a worker that is run once writes when it begins."""


def start(
    worker: ModuleType, what: str, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a worker that answers lines with lines until its input ends.

    Raises:
        TryAgainError: If the system has no room for one more.
    """
    with starting(what):
        return subprocess.Popen(
            **command(worker, environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )


def run_once(
    worker: ModuleType, what: str, *arguments: str, given: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """Run a worker to its end, whatever that is.

    Raises:
        TryAgainError: If it could not begin.
    """
    with starting(what):
        done = subprocess.run(
            **command(worker, None, *arguments),
            input=given,
            capture_output=True,
            check=False,
        )
    if READY not in done.stdout:
        last = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise TryAgainError(
            f"the process that {what} does not start: {last or done.returncode}; run "
            "the same command again, and reinstall this package if that does not help"
        )
    return done


def command(
    worker: ModuleType, environment: Mapping[str, str] | None, *arguments: str
) -> dict[str, Any]:
    """Return how `subprocess` starts a worker, which may import this package."""
    given = os.environ if environment is None else environment
    paths = [str(SOURCES), given.get("PYTHONPATH", "")]
    return {
        # -P keeps this package's modules from shadowing the standard library's.
        "args": [sys.executable, "-P", str(worker.__file__), *arguments],
        "env": {**given, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        # A stop from the terminal is the parent's to follow.
        "start_new_session": True,
    }


@contextmanager
def starting(what: str) -> Iterator[None]:
    """Turn what the system says where it starts no process into a line.

    Raises:
        TryAgainError: If it says something.
    """
    try:
        yield
    except OSError as error:
        raise TryAgainError(
            f"the process that {what} cannot be started: {error.strerror or error}; "
            "free memory or processes and run the same command again"
        ) from error
