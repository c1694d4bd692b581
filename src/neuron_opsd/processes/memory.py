"""How much memory this process holds on a CUDA device, or else as the system counts."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
FORGET_PEAK = "5"
"""Written to `CLEAR`, it sets the peak back to what is held now."""


def held_memory(device: str) -> int:
    """Return the bytes that are held now; 0 where the system does not say."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.memory_allocated(device))
    return status_bytes("VmRSS") or maximum_resident()


def peak_memory(device: str) -> int:
    """Return the most bytes held since the start, or since `forget_peak`."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated(device))
    return status_bytes("VmHWM") or maximum_resident()


def forget_peak(device: str) -> None:
    """Set the peak back to what is held now, where the system lets us."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        CLEAR.write_text(FORGET_PEAK, encoding="ascii")


def status_bytes(name: str) -> int:
    """Return a size that Linux tells of this process, 0 where it does not."""
    try:
        lines = STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    sizes = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return 1024 * int(sizes[0]) if sizes else 0


def maximum_resident() -> int:
    """Return the peak as other systems than Linux tell it, 0 where none does."""
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # macOS counts bytes, all others kibibytes.
    return peak if sys.platform == "darwin" else 1024 * peak
