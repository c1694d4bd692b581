"""Kill a tiny run at random times, let it go on, and compare the bytes it ends with.

    python benchmarks/kill_sweep.py --kills 20 --seed 0

A run goes through every stage, the form-only control included. Kills are SIGKILLs at
times spread over the whole run; a run that goes on may be killed again. Exit status 1
says that some run ended with an adapter or an evaluation other than the one that
nothing stopped, or did not end.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# Each child is one thread on one processor, so that forking is safe.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from killing import KILLED, Workshop, kill_after, open_workshop, wait  # noqa: E402

AGAIN = 0.5
"""Chance that a run which goes on is killed once more."""


@dataclass(frozen=True)
class Kill:
    """One SIGKILL."""

    run: int
    attempt: int
    """1 for a fresh run, more for one that was going on."""
    seconds: float
    stage: str
    """The last one that the run had come to."""


@dataclass(frozen=True)
class Ending:
    """How one run ended after all its kills."""

    kills: tuple[Kill, ...]
    status: int
    equal: bool


def main(argv: Sequence[str] | None = None) -> int:
    """Sweep, print a table, and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20, help="at least so many")
    parser.add_argument("--seed", type=int, default=0, help="of the times")
    options = parser.parse_args(argv)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="kill-sweep-") as folder:
        shop = open_workshop(Path(folder), "evaluation.form_only=true")
        print(f"a whole run takes {shop.seconds:.2f} s here")
        print(f"{'run':>4} {'attempt':>8} {'killed at':>10}  {'in':<24} equal")
        endings = list(sweep(shop, options.kills, random.Random(options.seed)))
    return summarise(endings, time.perf_counter() - start)


def sweep(shop: Workshop, num_kills: int, rng: random.Random) -> Iterator[Ending]:
    """Kill runs until there were enough kills; show and yield how each run ended."""
    count, run = 0, 0
    while count < num_kills:
        ending = torment(shop, run, rng)
        show(ending)
        count, run = count + len(ending.kills), run + 1
        yield ending


def torment(shop: Workshop, run: int, rng: random.Random) -> Ending:
    """Kill one run, and perhaps again while it goes on, then let it end."""
    name = f"run-{run}"
    kills: list[Kill] = []
    status = KILLED
    while status == KILLED:
        child = shop.start(name)
        if kills and rng.random() > AGAIN:
            status = wait(child)
            continue
        seconds = rng.uniform(0.0, shop.seconds)
        status = kill_after(child, seconds)
        if status == KILLED:
            kills.append(Kill(run, len(kills) + 1, seconds, shop.stage(name)))
    equal = status == 0 and shop.is_whole(name)
    if equal:
        shutil.rmtree(shop.folder / name)
    return Ending(tuple(kills), status, equal)


def show(ending: Ending) -> None:
    """Print one line per kill."""
    for kill in ending.kills:
        last = kill is ending.kills[-1]
        verdict = ("yes" if ending.equal else "NO") if last else ""
        print(
            f"{kill.run:>4} {kill.attempt:>8} {kill.seconds:>8.2f} s  "
            f"{kill.stage:<24} {verdict}"
        )
    if ending.status != 0:
        print(f"     ended with status {ending.status}")


def summarise(endings: Sequence[Ending], seconds: float) -> int:
    """Print the sum of it all; return the exit status."""
    kills = [kill for ending in endings for kill in ending.kills]
    stages = {kill.stage for kill in kills}
    bad = sum(not ending.equal for ending in endings)
    again = sum(kill.attempt > 1 for kill in kills)
    print(
        f"{len(kills)} kills ({again} of runs that were going on) in {len(stages)} "
        f"stages; {len(endings) - bad} of {len(endings)} runs ended with the same "
        f"bytes; {seconds:.0f} s"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
