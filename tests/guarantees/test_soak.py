"""Rounds in one process leave no open file, thread or child behind."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from repeated_runs import held, one_round

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux says what a process holds"
)


def test_rounds_leave_nothing_open(tiny_llama: Path, tmp_path: Path) -> None:
    first = one_round(tmp_path, tiny_llama, 0)
    before = held()
    one_round(tmp_path, tiny_llama, 1)
    assert one_round(tmp_path, tiny_llama, 2) == first
    after = held()
    assert after.descriptors == before.descriptors
    assert after.children == before.children
    assert after.threads == before.threads
