"""Give a tiny run every fault that a disk, a kill or another process can give it.

    python benchmarks/fault_sweep.py                          # all of it: hours
    python benchmarks/fault_sweep.py --trials 50 --seed 1     # so many an area, drawn
    python benchmarks/fault_sweep.py --minutes 5              # so long an area
    python benchmarks/fault_sweep.py --areas "power cut" --json faults.json

Each trial is a real command in a process of its own, whose system calls are handed to
this one by the kernel. After its fault the same command must end with the same bytes.
Prints a table; exit status 1 says that something did not hold, and what.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

# Each child is one thread on one processor, so that forking is safe.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [
    os.environ.get("FAULTS_SOURCES", str(ROOT / "src")),
    str(ROOT / "tests" / "support"),
]

from faults.damage import damaged, finished, runs  # noqa: E402
from faults.races import raced, shared_out  # noqa: E402
from faults.seccomp import why_not  # noqa: E402
from faults.sweeps import (  # noqa: E402
    RUN_AREAS,
    Area,
    Plan,
    Trial,
    without_power,
)
from faults.workshop import Task, open_comparison, open_run  # noqa: E402

NUM_BLOCKS = 2
"""Of the comparison."""
DAMAGED = {
    "damage amid the answers": "early",
    "damage amid the training": "half",
    "damage to a finished run": "whole",
}
"""Areas to how far the run came whose files are harmed."""


@dataclass(frozen=True, slots=True)
class Row:
    """What came of an area."""

    area: str
    tried: int
    held: int
    failed: int
    seconds: int
    complaints: tuple[str, ...]


class Tasks:
    """The commands that are disturbed, each made ready when it is first needed."""

    def __init__(self, folder: Path) -> None:
        """Take the folder that all happens in."""
        self.folder = folder
        self.made: dict[str, Task] = {}

    def get(self, name: str) -> Task:
        """Return one of `TASKS`."""
        if name not in self.made:
            self.made[name] = TASKS[name](self.folder / name)
        return self.made[name]


TASKS: dict[str, Callable[[Path], Task]] = {
    "run": open_run,
    "comparison": partial(open_comparison, num_seeds=NUM_BLOCKS),
}


def areas(tasks: Tasks, plan: Plan) -> dict[str, Callable[[], Iterator[Trial]]]:
    """Return what begins each area, by its name."""

    def on(name: str, area: Area) -> Callable[[], Iterator[Trial]]:
        return lambda: area(tasks.get(name), plan)

    def damage(stage: str) -> Area:
        return lambda task, plan: damaged(runs(task)[stage], plan)

    return {
        **{name: on("run", area) for name, area in RUN_AREAS.items()},
        **{name: on("run", damage(stage)) for name, stage in DAMAGED.items()},
        "races for a run": on("run", raced),
        "comparison: power cut": on("comparison", without_power),
        "damage to a comparison": on("comparison", damaged_comparison),
        "a comparison shared out": on("comparison", shared),
    }


def damaged_comparison(task: Task, plan: Plan) -> Iterator[Trial]:
    """Harm the files of a comparison that has ended."""
    return damaged(finished(task), plan)


def shared(task: Task, plan: Plan) -> Iterator[Trial]:
    """Let several processes fill a comparison."""
    del plan
    return shared_out(task, NUM_BLOCKS)


def main(argv: Sequence[str] | None = None) -> int:
    """Sweep, print a table, and return the exit status."""
    options = parsed(argv)
    if reason := why_not():
        print(f"no faults are given here: {reason}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="faults-", dir=memory()) as folder:
        plan = Plan(options.trials, options.seed)
        known = areas(Tasks(Path(folder).resolve()), plan)
        rows = []
        print("| area | tried | held | failed | seconds |\n|---|---|---|---|---|")
        for name in options.areas or known:
            rows.append(swept(name, known[name](), options))
            show(rows[-1])
    if options.json:
        table = [asdict(row) for row in rows]
        Path(options.json).write_text(json.dumps(table, indent=2) + "\n")
    return 1 if any(row.failed for row in rows) else 0


def parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of a command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--areas", nargs="*", help="only these")
    parser.add_argument("--trials", type=int, help="so many of each area, drawn")
    parser.add_argument("--minutes", type=float, help="so long for each area")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn")
    parser.add_argument("--json", help="file for the table")
    parser.add_argument(
        "--until-failed", action="store_true", help="end an area at its first failure"
    )
    return parser.parse_args(argv)


def memory() -> str | None:
    """Return a folder in memory where there is one: the power is cut in a model."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def swept(name: str, trials: Iterator[Trial], options: argparse.Namespace) -> Row:
    """Go through an area, and tell at once of what does not hold."""
    start = time.perf_counter()
    tried, complaints = 0, []
    for trial in trials:
        tried += trial.reached
        if trial.complaints:
            complaints.append(f"{trial.what}: {'; '.join(trial.complaints)}")
            print(f"FAILED {name}, {complaints[-1]}", file=sys.stderr, flush=True)
            if options.until_failed:
                break
        if options.minutes and time.perf_counter() - start > 60 * options.minutes:
            break
    seconds = round(time.perf_counter() - start)
    failed = len(complaints)
    return Row(name, tried, tried - failed, failed, seconds, tuple(complaints))


def show(row: Row) -> None:
    """Print a row of the table."""
    values = (row.area, row.tried, row.held, row.failed, row.seconds)
    print(f"| {' | '.join(map(str, values))} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
