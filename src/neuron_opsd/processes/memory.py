"""Memory used and free, on a GPU or the host."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

STATUS = Path("/proc/self/status")
AVAILABLE = Path("/proc/meminfo")
GROUP = Path("/sys/fs/cgroup")
"""A container's limits, which are not the machine's."""
CLEAR = Path("/proc/self/clear_refs")
FORGET_PEAK = "5"
"""Resets the peak to current use."""


def cuda_of(device: str) -> Any:
    """Return `torch.cuda`, imported only for a GPU, else `None`."""
    return import_module("torch.cuda") if device.startswith("cuda") else None


def held_memory(device: str) -> int:
    """Return the bytes in use; 0 if unknown."""
    if cuda := cuda_of(device):
        return int(cuda.memory_allocated(device))
    return line_bytes(STATUS, "VmRSS") or maximum_resident()


def peak_memory(device: str) -> int:
    """Return the peak since the start or `forget_peak`, in bytes."""
    if cuda := cuda_of(device):
        return int(cuda.max_memory_allocated(device))
    return line_bytes(STATUS, "VmHWM") or maximum_resident()


def free_memory(device: str) -> int:
    """Return the free bytes, including torch's reserve.

    If unknown, half of the machine's memory.
    """
    if cuda := cuda_of(device):
        cuda.empty_cache()
        return int(cuda.mem_get_info(device)[0])
    free = line_bytes(AVAILABLE, "MemAvailable") or total_memory("cpu") // 2
    return min(free, free_in_group())


def total_memory(device: str) -> int:
    """Return the bytes of all memory; 0 if unknown."""
    if cuda := cuda_of(device):
        return int(cuda.mem_get_info(device)[1])
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 0


def free_in_group() -> int:
    """Return what this process's container leaves free."""
    try:
        most, used = (
            int((GROUP / name).read_text(encoding="ascii"))
            for name in ("memory.max", "memory.current")
        )
    except (OSError, ValueError):  # no container, or one without a limit
        return sys.maxsize
    return max(0, most - used)


def forget_peak(device: str) -> None:
    """Reset the peak to current use, if possible."""
    if cuda := cuda_of(device):
        cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        CLEAR.write_text(FORGET_PEAK, encoding="ascii")


def line_bytes(path: Path, name: str) -> int:
    """Return a Linux file's named size in bytes, or 0."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    sizes = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return 1024 * int(sizes[0]) if sizes else 0


def maximum_resident() -> int:
    """Return the peak on systems other than Linux, or 0."""
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # macOS counts bytes, others kibibytes.
    return peak if sys.platform == "darwin" else 1024 * peak
