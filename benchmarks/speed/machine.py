"""What the machine can do at best, and which machine it is."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter

import torch

from benchmarks.speed.job import Job, Turns, settle

PACKAGES = ("torch", "transformers", "peft", "trl", "xllamacpp", "neuron-opsd")
SIDE = 2048
"""Rows and columns of the matrices that are multiplied."""
NUMBERS = 64 * 1024 * 1024
"""Float32 numbers that are read, 256 MB: more than a cache holds."""


def machine(job: Job, turns: Turns) -> None:
    """Serve the machine's rates: operations and bytes per second."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    device = device if job.device == "auto" else job.device
    turns.ready(
        {
            "device": device,
            "processor": name_of(device),
            "threads": torch.get_num_threads(),
            "versions": {"python": platform.python_version(), **versions()},
        }
    )
    while turns.wait():
        turns.done(
            {
                "float32": product_rate(device, torch.float32),
                "bfloat16": product_rate(device, torch.bfloat16),
                "bandwidth": bandwidth(device),
            }
        )


def product_rate(device: str, dtype: torch.dtype) -> float:
    """Return the operations per second of a large square matrix product."""
    left = torch.ones(SIDE, SIDE, dtype=dtype, device=device)
    right = torch.ones(SIDE, SIDE, dtype=dtype, device=device)
    return 2.0 * SIDE**3 / fastest(device, lambda: left @ right)


def bandwidth(device: str) -> float:
    """Return the bytes per second that are read from memory."""
    numbers = torch.ones(NUMBERS, device=device)
    return 4.0 * NUMBERS / fastest(device, numbers.sum)


def fastest(device: str, call: Callable[[], object], tries: int = 4) -> float:
    """Return the seconds of the fastest of a few calls."""
    seconds = []
    for _ in range(tries):
        settle(device)
        start = perf_counter()
        call()
        settle(device)
        seconds.append(perf_counter() - start)
    return min(seconds)


def name_of(device: str) -> str:
    """Return the name of the GPU or of the processor."""
    if device.startswith("cuda"):
        return str(torch.cuda.get_device_name(device))
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    name = names[0] if names else platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def versions() -> dict[str, str]:
    """Return the versions of what is measured."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
