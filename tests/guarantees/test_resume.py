"""A run that is killed anywhere and goes on ends with the same bytes.

`benchmarks/kill_sweep.py` does the same at as many random times as one likes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

import killed_runs
import places
from killed_runs import FRACTIONS, KILLED, PLACES
from tiny_runs import FinishedRun, outcome_of

SOURCES = os.pathsep.join(str(folder) for folder in (places.SOURCES, places.SUPPORT))


@pytest.fixture(scope="session")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Kill runs in one process of its own, which may fork, for all of pytest's."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    result = folder / "killed.json"
    with FileLock(folder / "killed.lock"):
        if not result.exists():
            result.write_text(kill_runs(folder / "killed"))
    table: dict[str, Any] = json.loads(result.read_text())
    return table


def kill_runs(folder: Path) -> str:
    """Return what came of runs that were killed, as JSON."""
    folder.mkdir()
    environment = {
        "PYTHONPATH": SOURCES,
        "OMP_NUM_THREADS": "1",
        "PYTHONHASHSEED": "7",
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", killed_runs.__file__, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
        check=True,
        env=os.environ | environment,
    )
    return done.stdout


@pytest.mark.parametrize("place", PLACES)
def test_a_run_can_be_killed_at_every_place(place: str, found: dict[str, Any]) -> None:
    assert found["at places"]["places"][place] == KILLED


def test_a_run_killed_at_every_place_in_turn_ends_with_the_same_bytes(
    found: dict[str, Any],
) -> None:
    assert found["at places"]["ends"] == [0]
    assert found["at places"]["whole"]


@pytest.mark.parametrize("share", FRACTIONS)
def test_a_run_killed_from_outside_ends_with_the_same_bytes(
    share: float, found: dict[str, Any]
) -> None:
    assert found[f"after {share:.0%}"] == {"ends": [0], "whole": True}


def test_a_run_killed_again_and_again_ends_with_the_same_bytes(
    found: dict[str, Any],
) -> None:
    again = found["again and again"]
    assert again["ends"][-1] == 0
    assert set(again["ends"][:-1]) == {KILLED}
    assert 5 < len(again["ends"]) < 60
    assert again["whole"]


def test_a_second_process_is_refused_and_told_who_holds_the_run(
    found: dict[str, Any],
) -> None:
    two = found["two at once"]
    assert two["ends"] == [75, KILLED, 0]
    assert two["whole"]
    text = " ".join(two["said"].split())
    assert f"is in use by process {two['holder']} on " in text
    assert "wait until it has ended, or choose another --out" in text


def test_another_process_trains_the_same_weights(
    found: dict[str, Any], finished_run: FinishedRun
) -> None:
    name = "adapter/adapter_model.safetensors"
    assert found["outcome"][name] == outcome_of(finished_run.folder)[name].hex()
    there = json.loads(bytes.fromhex(found["outcome"]["evaluation.json"]))
    for test, entry in finished_run.evaluation().items():
        assert there[test]["delta"] == entry["delta"]
