"""Run, resume, report and evaluate for minutes in one process; what it holds is flat.

    python benchmarks/soak.py --minutes 10

One round stops a tiny run half-way, resumes it, looks at it, writes its page again,
and tests its adapter; answers are also compared as LaTeX, in a process of its own.
Exit status 1 says that descriptors, threads or child processes grew, that memory
grew faster than `--slope`, or that some round ended in other bytes than the first.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests" / "support")]

import numpy as np  # noqa: E402
import torch  # noqa: E402

from repeated_runs import Held, held, one_round  # noqa: E402
from tiny import tiny_model  # noqa: E402

WARM_SHARE = 1 / 4
"""Share of the rounds, from the first, in which caches may still fill."""


def main(argv: Sequence[str] | None = None) -> int:
    """Soak, print what is held, and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument(
        "--slope", type=float, default=0.25, help="megabytes a round that pass"
    )
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    start = time.monotonic()
    seen: list[tuple[float, Held]] = []
    first: dict[int, dict[str, bytes]] = {}
    unequal = 0
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        model = tiny_model(Path(folder, "model"), "llama")
        while (passed := time.monotonic() - start) < 60 * options.minutes:
            outcome = one_round(Path(folder), model, len(seen))
            unequal += outcome != first.setdefault(len(seen) % 2, outcome)
            seen.append((time.monotonic() - start, held()))
            if len(seen) % 10 == 1:
                show(len(seen), passed, seen[-1][1])
    return summarise(seen, unequal, options.slope)


def show(rounds: int, seconds: float, one: Held) -> None:
    """Print what is held after a round."""
    print(
        f"round {rounds:5d}  {seconds:7.0f} s  {one.memory / 1e6:8.1f} MB  "
        f"{one.descriptors} descriptors  {one.threads} threads  "
        f"{one.children} children",
        flush=True,
    )


def summarise(seen: Sequence[tuple[float, Held]], unequal: int, most: float) -> int:
    """Print slopes, and return the exit status."""
    warm = seen[int(len(seen) * WARM_SHARE) :]
    memory = np.array([one.memory / 1e6 for _, one in warm])
    rounds = np.arange(len(warm))
    slope = float(np.polyfit(rounds, memory, 1)[0]) if len(warm) > 2 else 0.0
    hours = (warm[-1][0] - warm[0][0]) / 3600 or 1.0
    flat = all(
        max(getattr(one, name) for _, one in warm)
        == min(getattr(one, name) for _, one in warm)
        for name in ("descriptors", "threads", "children")
    )
    print(
        f"{len(seen)} rounds; after the first quarter memory goes from "
        f"{memory[0]:.1f} to {memory[-1]:.1f} MB, {slope:+.2f} MB a round "
        f"({slope * len(warm) / hours:+.0f} an hour); descriptors, threads and "
        f"children {'flat' if flat else 'GREW'}; {unequal} rounds ended in other bytes"
    )
    return int(slope > most or not flat or unequal > 0)


if __name__ == "__main__":
    sys.exit(main())
