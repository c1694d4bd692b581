"""How much memory is held, as the system tells it."""

from __future__ import annotations

from mmap import mmap
from pathlib import Path

import pytest

from neuron_opsd.processes import memory
from neuron_opsd.processes.memory import (
    forget_peak,
    held_memory,
    line_bytes,
    maximum_resident,
    peak_memory,
)

SIZE = 64 * 2**20


def fill_memory() -> None:
    """Hold memory from the system for a moment, whatever the process keeps in store."""
    with mmap(-1, SIZE) as held:
        held.write(b"x" * SIZE)


def test_a_large_array_raises_the_peak_and_not_what_is_held_after() -> None:
    forget_peak("cpu")
    before = held_memory("cpu")
    fill_memory()
    assert peak_memory("cpu") - before > 0.8 * SIZE
    assert held_memory("cpu") <= peak_memory("cpu")


@pytest.mark.skipif(not memory.CLEAR.exists(), reason="Linux alone forgets peaks")
def test_a_peak_can_be_forgotten() -> None:
    fill_memory()
    high = peak_memory("cpu")
    forget_peak("cpu")
    assert peak_memory("cpu") < high


def test_sizes_are_read_in_kibibytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmHWM:\t    12 kB\nVmRSS:\t     7 kB\n")
    monkeypatch.setattr(memory, "STATUS", status)
    assert peak_memory("cpu") == 12 * 1024
    assert held_memory("cpu") == 7 * 1024
    assert line_bytes(status, "VmSwap") == 0


def test_where_there_is_no_status_the_resource_use_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "STATUS", tmp_path / "missing")
    monkeypatch.setattr(memory, "CLEAR", tmp_path / "missing" / "clear")
    forget_peak("cpu")
    assert peak_memory("cpu") == maximum_resident()
    if maximum_resident():
        assert maximum_resident() > 2**20


@pytest.mark.gpu
def test_a_devices_memory_is_its_own() -> None:
    import torch

    forget_peak("cuda")
    before = held_memory("cuda")
    torch.ones(SIZE // 4, device="cuda")
    assert peak_memory("cuda") - before >= SIZE
    assert held_memory("cuda") == before
