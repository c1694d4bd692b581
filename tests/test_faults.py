"""Faults given to a tiny run at its system calls, and harm done to its files: a sample.

All of it is `make test-faults`; docs/faults.md says what that is and what came of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

from faults.calls import Call
from faults.disk import Disk
from faults.seccomp import Notice, why_not

SWEEP = Path(__file__).parents[1] / "benchmarks/fault_sweep.py"
SEED = "3"
"""Draws one trial of each area, a race of three among them."""
AREAS = (
    "killed at each call",
    "each call fails",
    "each write is short",
    "power cut",
    "killed at random",
    "damage amid the training",
    "damage to a finished run",
    "damage to a comparison",
    "races for a run",
    "a comparison shared out",
)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Sweep a little of each area, in a process that may fork."""
    if reason := why_not():
        pytest.skip(reason)
    path = tmp_path_factory.mktemp("faults") / "table.json"
    words = ["--trials", "1", "--seed", SEED, "--json", str(path), "--areas", *AREAS]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(SWEEP), *words],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONHASHSEED": "7"},
    )
    assert path.exists(), done.stderr
    return {row["area"]: row for row in json.loads(path.read_text())}


@pytest.mark.parametrize("area", AREAS)
def test_a_sample_of_faults_is_survived(area: str, table: dict[str, Any]) -> None:
    row = table[area]
    assert row["complaints"] == []
    # A run may be faster than the one that its time was taken from.
    assert row["tried"] > 0 or area == "killed at random"
    assert row["held"] == row["tried"]


# --- the model of a disk: what it calls safe stays, and only that


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    disk = Disk(tmp_path)
    disk.begin()
    return disk


def tell(disk: Disk, name: str, path: Path) -> None:
    """Tell a disk of a call, as it is about to happen."""
    disk.see(Call(name, str(path), changes=True, notice=Notice(0, 0, 0, ())))


def left(disk: Disk, seed: int) -> dict[str, bytes]:
    """Cut the power; return what is left."""
    disk.cut(Random(seed))
    return {
        path.relative_to(disk.root).as_posix(): path.read_bytes()
        for path in sorted(disk.root.rglob("*"))
        if path.is_file()
    }


def states(folder: Path, *, sync_file: bool, sync_folder: bool) -> set[bytes | None]:
    """Return what a file holds after cuts, by what was synced after it was replaced."""
    found: set[bytes | None] = set()
    for seed in range(40):
        home = folder / str(seed)
        home.mkdir(parents=True)
        (home / "a").write_bytes(b"old")
        disk = Disk(home)
        disk.begin()
        (home / "b").write_bytes(b"new" * 2000)
        if sync_file:
            tell(disk, "fsync", home / "b")
        tell(disk, "rename", home / "b")
        (home / "b").rename(home / "a")
        if sync_folder:
            tell(disk, "fsync", home)
        found.add(left(disk, seed).get("a"))
    return found


def test_what_is_synced_survives_every_power_cut(tmp_path: Path) -> None:
    assert states(tmp_path, sync_file=True, sync_folder=True) == {b"new" * 2000}


def test_a_name_that_is_not_synced_may_be_the_old_one(tmp_path: Path) -> None:
    found = states(tmp_path, sync_file=True, sync_folder=False)
    assert found == {b"old", b"new" * 2000}


def test_bytes_that_are_not_synced_may_be_torn_although_the_name_is_new(
    tmp_path: Path,
) -> None:
    found = states(tmp_path, sync_file=False, sync_folder=True)
    assert {b"", b"new" * 2000, bytes(6000)} <= found
    assert any(
        data and data.startswith(b"newnew") and len(data) < 6000 for data in found
    )
    assert b"old" not in found


def test_a_folder_whose_name_is_not_synced_may_be_gone_with_all_in_it(
    disk: Disk,
) -> None:
    folder = disk.root / "deep"
    tell(disk, "mkdir", folder)
    folder.mkdir()
    tell(disk, "openat", folder / "a")
    (folder / "a").write_bytes(b"x")
    tell(disk, "fsync", folder / "a")
    tell(disk, "fsync", folder)
    safe = {number for number, _ in disk.paths(disk.safe)}
    assert safe == set()
    tell(disk, "fsync", disk.root)
    assert left(disk, 0) == {"deep/a": b"x"}
