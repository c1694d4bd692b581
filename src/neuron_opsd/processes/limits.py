"""What a process that runs a stranger's program may take, seen to by the system."""

from __future__ import annotations

import signal
import sys
from contextlib import suppress
from pathlib import Path


def begin(num_bytes: int, seconds: float) -> None:
    """Say that a worker is ready, as `workers.run_once` expects, and set its limits."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    limit_memory(num_bytes)
    limit_time(seconds)


def limit_memory(most: int) -> None:
    """Let the system refuse memory, files and core dumps, where it can."""
    try:
        import resource
    except ImportError:  # there is none on Windows
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
        # Some systems know a limit and do not let it be set.
        with suppress(ValueError, OSError):
            resource.setrlimit(kind, (value, value))


def limit_time(seconds: float) -> None:
    """Let the system end this process once it took so much processor time; 0: never."""
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_PROF, seconds)
