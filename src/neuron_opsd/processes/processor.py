"""Features of this machine's processor."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

CPU_INFO = Path("/proc/cpuinfo")


def listed_flags() -> frozenset[str]:
    """Return the processor features listed by Linux."""
    text = ""
    with suppress(OSError):
        text = CPU_INFO.read_text(encoding="utf-8", errors="replace")
    return processor_flags(text)


def processor_flags(cpu_info: str) -> frozenset[str]:
    """Return the features of the first processor."""
    line = re.search(r"^(?:flags|Features)\s*:(.*)$", cpu_info, re.MULTILINE)
    return frozenset(line[1].split()) if line else frozenset()


def processor_features() -> Mapping[str, Any]:
    """Return features by name from PyTorch, or else Linux."""
    told = getattr(torch.cpu, "get_capabilities", None)
    return told() if told else dict.fromkeys(listed_flags(), True)
