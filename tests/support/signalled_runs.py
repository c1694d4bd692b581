"""Tiny runs that are sent signals, in processes of their own, and then go on.

Called as a script with a folder, it signals runs in several ways and prints what came
of them as JSON; with a number besides, it does so at as many random times.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from killed_runs import Arm, Workshop, at_rename, fork, open_workshop, wait
from neuron_opsd.models.learner import HFLearner
from neuron_opsd.processes.stopping import SIGNALS, TOGETHER
from neuron_opsd.runs import training
from neuron_opsd.runs.metrics import append_metrics
from tiny_runs import run_command

SLOW = 1.5
"""Seconds that a slow step takes."""
APART = TOGETHER + 0.1
"""Seconds between signals that are two."""


def begin(shop: Workshop, name: str, arm: Arm | None = None) -> int:
    """Begin a run by its command in a child; return its process id."""
    said = shop.folder / f"{name}.said"

    def work() -> None:
        if arm is not None:
            arm()
        with said.open("ab") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        os._exit(run_command(shop.request(name), shop.folder / "model"))

    return fork(work)


def until_it_hears(process: int) -> None:
    """Wait until a process handles the last signal that the command takes."""
    status = Path(f"/proc/{process}/status")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        (caught,) = re.findall(r"^SigCgt:\s*([0-9a-f]+)$", status.read_text(), re.M)
        if int(caught, 16) >> (SIGNALS[-1] - 1) & 1:
            return
        time.sleep(0.005)
    raise RuntimeError(f"process {process} never heard of signals")


def what_was_said(shop: Workshop, name: str) -> str:
    """Return what a run has written to its terminal."""
    return (shop.folder / f"{name}.said").read_text()


def wait_and_see(child: int) -> tuple[int, float]:
    """Return how a child ended, and after how many seconds."""
    start = time.perf_counter()
    return wait(child), time.perf_counter() - start


def at_times(shop: Workshop, times: Sequence[float], name: str) -> dict[str, Any]:
    """Send one signal after another to one run, each after a time, until it ends."""
    ends, seconds = [], []
    for place, after in enumerate(times):
        number = SIGNALS[place % len(SIGNALS)]
        child = begin(shop, name)
        until_it_hears(child)
        time.sleep(after)
        os.kill(child, number)
        status, took = wait_and_see(child)
        ends.append([int(number), status])
        seconds.append(round(took, 3))
    last = wait(begin(shop, name))
    said = what_was_said(shop, name)
    return {
        "ends": ends,
        "seconds": seconds,
        "last": last,
        "whole": shop.is_whole(name),
        "traceback": "Traceback" in said or "Exception ignored" in said,
    }


def send(number: int, times: int = 1) -> Callable[[], None]:
    """Return what sends this process a signal, a few times."""

    def act() -> None:
        for _ in range(times):
            os.kill(os.getpid(), number)
            time.sleep(APART if times > 1 else 0.05)

    return act


def in_step(step: int, act: Callable[[], None]) -> Arm:
    """Act in the middle of a step, when its gradient is there."""

    def arm() -> None:
        real, taken = HFLearner.step, [0]

        def watched(self: HFLearner, rate: float) -> float:
            taken[0] += 1
            if taken[0] == step + 1:
                act()
            return real(self, rate)

        setattr(HFLearner, "step", watched)  # noqa: B010 - a method of a class

    return arm


def stopped_in_step(shop: Workshop, name: str) -> dict[str, Any]:
    """Stop a run in a step and let it go on; say which steps were taken when."""
    first = wait(begin(shop, name, in_step(0, send(signal.SIGTERM))))
    kept = sorted(p.name for p in (shop.folder / name / "train/checkpoints").iterdir())
    taken = shop.folder / f"{name}.taken"

    def arm() -> None:
        def append(work: Path, entry: Any) -> None:
            with taken.open("a") as file:
                file.write(f"{entry.step}\n")
            append_metrics(work, entry)

        vars(training)["append_metrics"] = append

    last = wait(begin(shop, name, arm))
    return {
        "ends": [first, last],
        "kept": kept,
        "taken": [int(line) for line in taken.read_text().split()],
        "whole": shop.is_whole(name),
        "said": what_was_said(shop, name),
    }


def slow_steps() -> None:
    """Make every training step take a while, in one call that nothing interrupts."""
    real = HFLearner.step

    def slow(self: HFLearner, rate: float) -> float:
        end = time.perf_counter() + SLOW
        while time.perf_counter() < end:  # sleep would return at a signal
            pass
        return real(self, rate)

    setattr(HFLearner, "step", slow)  # noqa: B010 - a method of a class


def until_training(shop: Workshop, name: str) -> None:
    """Wait until a run has taken a step."""
    metrics = shop.folder / name / "train/metrics.jsonl"
    deadline = time.perf_counter() + 60
    while time.perf_counter() < deadline:
        if metrics.exists() and metrics.stat().st_size:
            return
        time.sleep(0.02)
    raise RuntimeError("the run never came to its first step")


def grace(shop: Workshop, name: str) -> dict[str, Any]:
    """Measure how long a run in a slow step takes to end after one signal, and two."""
    found: dict[str, Any] = {}
    for times in (1, 2):
        run = f"{name}-{times}"
        child = begin(shop, run, slow_steps)
        until_training(shop, run)
        time.sleep(0.3)
        for _ in range(times):
            os.kill(child, signal.SIGINT)
            time.sleep(APART)
        status, took = wait_and_see(child)
        said = what_was_said(shop, run)
        found[str(times)] = {"status": status, "seconds": took, "said": said}
    return found


PLACES: dict[str, tuple[Arm, int]] = {
    "in a block": (
        at_rename("parts/rollouts/00001.parquet", "before", send(signal.SIGTERM)),
        143,
    ),
    "between an output and the manifest": (
        at_rename("rollouts.parquet", "after", send(signal.SIGUSR1)),
        138,
    ),
    "in a checkpoint that has no name yet": (
        at_rename("step-000002", "before", send(signal.SIGHUP)),
        129,
    ),
    "before the adapter": (at_rename("adapter", "before", send(signal.SIGINT)), 130),
    "between evaluation and report": (
        at_rename("evaluation.json", "after", send(signal.SIGTERM)),
        143,
    ),
    "at the end": (lambda: None, 0),
}
"""Where one run is sent signals, in its order, and how it ends each time."""


def at_places(shop: Workshop, name: str) -> dict[str, Any]:
    """Send one run a signal at every place in turn, and let it end."""
    ends = {place: wait(begin(shop, name, arm)) for place, (arm, _) in PLACES.items()}
    return {"ends": ends, "whole": shop.is_whole(name)}


def twice(shop: Workshop, name: str) -> dict[str, Any]:
    """Send a run two signals while it writes a checkpoint, and let it go on."""
    arm = at_rename("checkpoint.json", "after", send(signal.SIGTERM, 2))
    ends = [wait(begin(shop, name, arm))]
    kept = list((shop.folder / name / "train/checkpoints").glob("step-*"))
    ends.append(wait(begin(shop, name)))
    return {"ends": ends, "kept": len(kept), "whole": shop.is_whole(name)}


def go_through(folder: Path) -> dict[str, Any]:
    """Signal runs in several ways; return what came of each, by name."""
    shop = open_workshop(folder)
    return {
        "places": at_places(shop, "places"),
        "twice": twice(shop, "twice"),
        "step": stopped_in_step(shop, "step"),
        "grace": grace(shop, "grace"),
    }


def sweep(folder: Path, count: int) -> dict[str, Any]:
    """Signal runs at random times, a few each, as many times as is asked."""
    shop = open_workshop(folder)
    rng = random.Random(0)
    found = []
    for number in range(count // 4):
        times = [rng.uniform(0.0, 1.1 * shop.seconds) for _ in range(4)]
        found.append(at_times(shop, times, f"run-{number}"))
    return {"runs": found, "seconds": shop.seconds}


if __name__ == "__main__":
    place_given, *counts = sys.argv[1:]
    result = (
        sweep(Path(place_given), int(counts[0]))
        if counts
        else go_through(Path(place_given))
    )
    json.dump(result, sys.stdout)
