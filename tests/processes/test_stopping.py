"""Signals: what was started is kept, the status says which it was, and twice is now."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import places
import signalled_runs
from neuron_opsd.processes.stopping import (
    SIGNALS,
    STOPPING,
    TOGETHER,
    StoppedError,
    Stopping,
    stoppable,
)
from signalled_runs import PLACES, SLOW, until_it_hears
from tiny import tiny_model
from tiny_runs import command_line, tiny_request

SOURCES = os.pathsep.join(str(folder) for folder in (places.SOURCES, places.SUPPORT))
ENVIRONMENT = {"PYTHONPATH": SOURCES, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "7"}
STATUSES = {int(number): 128 + number for number in SIGNALS}


def signal_runs(folder: Path, *more: str) -> dict[str, Any]:
    """Signal runs in one process of its own, which may fork."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", signalled_runs.__file__, str(folder), *more],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=os.environ | ENVIRONMENT,
    )
    table: dict[str, Any] = json.loads(done.stdout)
    return table


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return signal_runs(tmp_path_factory.mktemp("signalled"))


def test_a_run_that_is_signalled_in_turn_ends_with_the_same_bytes(
    found: dict[str, Any],
) -> None:
    assert found["places"]["ends"] == {place: end for place, (_, end) in PLACES.items()}
    assert found["places"]["whole"]


def assert_whole(run: dict[str, Any]) -> None:
    for number, status in run["ends"]:
        assert status in (STATUSES[number], 0)
    assert (run["last"], run["whole"], run["traceback"]) == (0, True, False)


def test_the_step_is_finished_and_kept(found: dict[str, Any]) -> None:
    step = found["step"]
    assert step["ends"] == [143, 0]
    # A checkpoint is due after two steps only; this one is there for the signal.
    assert step["kept"] == ["step-000001"]
    assert step["taken"] == [1, 2, 3]
    assert step["whole"]
    assert "stopping after this step; stop again to end at once\n" in step["said"]
    assert "neuron-opsd: stopped; the same command resumes\n" in step["said"]


def test_two_signals_in_a_checkpoint_leave_none_and_lose_nothing_else(
    found: dict[str, Any],
) -> None:
    assert found["twice"] == {"ends": [143, 0], "kept": 0, "whole": True}


def test_grace_is_a_step_and_twice_is_at_once(found: dict[str, Any]) -> None:
    once, twice = found["grace"]["1"], found["grace"]["2"]
    assert (once["status"], twice["status"]) == (130, 130)
    assert once["seconds"] < SLOW + 2.0
    # The main thread is in one long call then, which no handler interrupts.
    assert twice["seconds"] < SLOW / 2
    assert "Traceback" not in once["said"] + twice["said"]


# --- before anything has begun, and when nobody is left ---


def starting(*words: str) -> subprocess.Popen[str]:
    """Start a command; return once it hears of signals."""
    child = subprocess.Popen(
        [sys.executable, "-m", "neuron_opsd", *words],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | ENVIRONMENT,
    )
    until_it_hears(child.pid)
    return child


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Give the arguments of a run that has not begun."""
    folder = tmp_path_factory.mktemp("starting")
    request = tiny_request(folder)
    return command_line(request, tiny_model(folder / "model"))


def assert_stops_while_starting(
    words: list[str], number: signal.Signals, after: float
) -> None:
    child = starting(*words)
    time.sleep(after)
    child.send_signal(number)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 128 + number, said
    assert said.endswith("neuron-opsd: stopped; the same command resumes\n")
    assert "Traceback" not in said
    assert "Exception" not in said


@pytest.mark.parametrize(
    ("number", "after"), [(signal.SIGTERM, 0.05), (signal.SIGINT, 0.6)]
)
def test_a_signal_in_the_imports_is_a_line(
    words: list[str], number: signal.Signals, after: float
) -> None:
    assert_stops_while_starting(words, number, after)


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    script = (
        "import os, signal\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from neuron_opsd.processes.stopping import stoppable\n"
        "with stoppable():\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "print('alive')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env=os.environ | ENVIRONMENT,
        check=True,
    )
    assert done.stdout == "alive\n"


def test_a_terminal_that_goes_away_stops_a_run_without_a_word(
    words: list[str], tmp_path: Path
) -> None:
    loud = [word for word in words if word != "--quiet"]
    status = tmp_path / "status"
    script = (
        "import sys\nfrom neuron_opsd.cli import main\n"
        f"status = main(sys.argv[1:])\nopen({str(status)!r}, 'w').write(str(status))\n"
    )
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(ENVIRONMENT)
        os.execv(sys.executable, [sys.executable, "-c", script, *loud])
    shown = b""
    while b"rollouts" not in shown:  # the bars are on the screen
        shown += os.read(terminal, 4096)
    os.close(terminal)  # the system sends SIGHUP, and every write fails from now on
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert status.read_text() == "129"


# --- the parts ---


def test_what_waits_is_told_and_checked() -> None:
    stopping = Stopping()
    stopping.has_begun = True
    with stopping.after_the_step():
        stopping.take(signal.SIGTERM)
        stopping.check()
    with pytest.raises(StoppedError):
        stopping.check()
    # It unwinds already; another handler does not throw it off its way.
    stopping.take(signal.SIGINT)
    assert stopping.status == 143


def test_a_signal_that_arrives_twice_at_once_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As `timeout` does, which signals the process and then its group.
    ended: list[str] = []
    monkeypatch.setattr(STOPPING, "end", ended.append)
    with stoppable():
        STOPPING.has_begun = True
        with STOPPING.after_the_step():
            for _ in range(3):
                signal.raise_signal(signal.SIGTERM)
                time.sleep(TOGETHER / 10)
            assert (STOPPING.number, ended) == (signal.SIGTERM, [])
            time.sleep(TOGETHER)
            signal.raise_signal(signal.SIGTERM)
            time.sleep(TOGETHER / 3)
            assert len(ended) == 1


def test_an_interrupt_that_got_lost_is_raised_again() -> None:
    with stoppable():
        STOPPING.has_begun = True
        with pytest.raises(StoppedError):
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(StoppedError):
            STOPPING.check()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    STOPPING.check()  # what is trained next in this process was not asked to stop


# --- the sweep ---


@pytest.mark.long
def test_runs_signalled_at_random_times_end_with_the_same_bytes(
    tmp_path: Path,
) -> None:
    table = signal_runs(tmp_path / "sweep", "60")
    seconds = [s for run in table["runs"] for s in run["seconds"]]
    for run in table["runs"]:
        assert_whole(run)
    assert max(seconds) < table["seconds"] + 2.0


@pytest.mark.long
@pytest.mark.parametrize("number", SIGNALS)
def test_signals_all_through_the_imports_are_a_line(
    words: list[str], number: signal.Signals
) -> None:
    for tenths in range(16):
        assert_stops_while_starting(words, number, tenths / 10)
