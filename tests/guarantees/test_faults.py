"""Faults given to a tiny run at its system calls, and harm done to its files: a sample.

All of it is `make test-faults`; docs/explanation/faults.md says what that is and what
came of it.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import places
from faults.calls import Call
from faults.disk import Disk
from faults.seccomp import Notice, supervise, why_not
from faults.watching import Watch
from neuron_opsd.errors import TryAgainError
from neuron_opsd.records import NeuronSet, StepMetrics
from neuron_opsd.runs.metrics import append_metrics, sync_metrics
from neuron_opsd.storage.codecs import NEURONS
from neuron_opsd.storage.files import write_atomic, write_folder

SWEEP = places.ROOT / "benchmarks/fault_sweep.py"
SEED = "1"
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


# --- what is written, call by call


def watched(watch: Watch, said: Path, work: Callable[[], object]) -> int:
    """Do some work in a child that is watched; return its exit status."""
    if reason := why_not():
        pytest.skip(reason)

    def begin() -> None:
        status = 1
        sys.stderr = said.open("w", buffering=1)
        sys.unraisablehook = sys.__unraisablehook__
        try:
            work()
            status = 0
        except TryAgainError as error:
            status = error.exit_status
            sys.stderr.write(f"{error}\n")
        finally:
            os._exit(status)

    return supervise(begin, watch.numbers, watch.judge)


def step(number: int) -> StepMetrics:
    return StepMetrics(number, 1.0, 1.0, 1.0, 1, 1.0, 0.0, 1.0, 1.0)


def write_metrics(folder: Path) -> None:
    append_metrics(folder, step(0))
    append_metrics(folder, step(1))
    sync_metrics(folder)


def fill_state(folder: Path) -> None:
    save_file({"weight": torch.zeros(100)}, folder / "state.safetensors")


NEURON_SETS = [
    NeuronSet(f"q{n}", 64, np.arange(3, dtype=np.uint32), np.ones(3, np.float32), 5)
    for n in range(3)
]

WRITERS: dict[str, Callable[[Path], object]] = {
    "file": lambda home: write_atomic(home / "new/deep/a", b"bytes"),
    "folder": lambda home: write_folder(home / "new/deep", fill_state),
    "table": lambda home: NEURONS.save(NEURON_SETS, home / "new/deep/a.parquet"),
    "metrics": lambda home: write_metrics(home / "new/deep"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_all_that_is_written_is_safe_when_it_is_written(
    name: str, tmp_path: Path
) -> None:
    home = tmp_path.resolve() / "home"
    home.mkdir()
    watch = Watch(str(home), disk=Disk(home))
    assert watch.disk is not None
    watch.disk.begin()
    assert watched(watch, tmp_path / "said", lambda: WRITERS[name](home)) == 0
    watch.disk.look()
    assert watch.disk.pending == []
    files = {
        path: watch.disk.bytes_safe.get(number)
        for number, path in watch.disk.paths(watch.disk.safe)
        if path.is_file()
    }
    assert files
    assert files == {path: path.read_bytes() for path in files}
    assert watch.disk.safe == watch.disk.live


@pytest.mark.parametrize("name", ["file", "table", "metrics"])
def test_a_disk_that_is_full_from_any_write_on_is_told_in_a_line(
    name: str, tmp_path: Path
) -> None:
    home, said = tmp_path.resolve() / "home", tmp_path / "said"
    home.mkdir()
    scout = Watch(str(home), looks_too=True)
    assert watched(scout, said, lambda: WRITERS[name](home)) == 0
    writes = [at for at, call in enumerate(scout.log, start=1) if call.name == "write"]
    assert writes
    for at in writes:
        shutil.rmtree(home)
        home.mkdir()
        watch = replace(scout, at=at, kind="error", code=errno.ENOSPC, log=[])
        watch.for_good = True
        assert watched(watch, said, lambda: WRITERS[name](home)) == 75
        assert watch.fired
        text = said.read_text()
        assert text.count("\n") == 1
        assert "the disk is full" in text


def test_a_rename_that_goes_past_the_c_library_is_seen(tmp_path: Path) -> None:
    home = tmp_path.resolve()
    watch = Watch(str(home))
    assert watched(watch, tmp_path / "said", lambda: fill_state(home)) == 0
    assert "renameat" in {call.name for call in watch.log}


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
