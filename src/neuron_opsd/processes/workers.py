"""Worker processes for work that may not end, or may fill memory or crash.

The last functions are for the workers themselves.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from neuron_opsd.errors import TryAgainError

SOURCES: Final = Path(__file__).resolve().parents[2]
READY: Final = b"ready"
"""Written by a one-shot worker when it begins."""

SECONDS: Final = 1.0
"""Processor time per piece of work; milliseconds are normal."""
BYTES: Final = 160 << 20
"""Memory allowed above the process's start."""


def start(
    worker: ModuleType, what: str, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a worker that answers lines until input ends."""
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
    """Run a worker to its end, or raise a `TryAgainError`."""
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
    """Return `subprocess` arguments for a worker."""
    given = os.environ if environment is None else environment
    paths = [str(SOURCES), given.get("PYTHONPATH", "")]
    return {
        # -P keeps this package's modules from shadowing the standard library's.
        "args": [sys.executable, "-P", str(worker.__file__), *arguments],
        "env": {**given, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        # The parent handles a stop from the terminal.
        "start_new_session": True,
    }


@contextmanager
def starting(what: str) -> Iterator[None]:
    """Turn a failure to start into a `TryAgainError`."""
    try:
        yield
    except OSError as error:
        raise TryAgainError(
            f"the process that {what} cannot be started: {error.strerror or error}; "
            "free memory or processes and run the same command again"
        ) from error


def begin(num_bytes: int, seconds: float) -> None:
    """Report a worker ready, and set its limits."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    limit_memory(num_bytes)
    limit_time(seconds)


def limit_memory(most: int) -> None:
    """Limit memory, files and core dumps, if possible."""
    try:
        import resource
    except ImportError:  # missing on Windows
        return
    taken = 0
    with suppress(OSError):
        pages = Path("/proc/self/statm").read_text("ascii").split()[0]
        taken = int(pages) * resource.getpagesize()
    limits = [
        (resource.RLIMIT_AS, taken + most),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ]
    for kind, value in limits:
        # Some systems know a limit but do not allow it to be set.
        with suppress(ValueError, OSError):
            resource.setrlimit(kind, (value, value))


def limit_time(seconds: float) -> None:
    """End this process after `seconds` of processor time, 0 for never."""
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_PROF, seconds)
