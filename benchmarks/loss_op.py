"""Time the divergence and its gradient beside TRL's chunked one and the dense formula.

    python -m benchmarks.loss_op --peer-python PEERS/bin/python

PEERS is an environment in which `trl` can be imported, beside the same torch as here:

    python -m venv PEERS && PEERS/bin/pip install torch==2.13.0 trl==1.16.0 peft

Each system runs in a process of its own and repetitions go round, so that whatever else
the machine does meets all alike. All get the same states and the same frozen head and
end with the gradient by the student's states. `products` makes the three matrix
products that no system can do without, and nothing else. A first repetition warms up:
it is not timed, but counts for peak memory, which is what a process takes beyond its
inputs. With `dense` among the systems, losses and gradients are compared with its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.loss_systems import BETAS, MAKERS

ROOT = Path(__file__).resolve().parents[1]

HEADER = (
    "| divergence | N | system | seconds: median (min to max) | times ours "
    "| peak MiB | of it products | loss off by | gradient off by |"
)


@dataclass
class Worker:
    """A process that holds one system and repeats the job when it is told to."""

    process: subprocess.Popen[str]
    first: dict[str, Any] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    def read(self) -> dict[str, Any]:
        """Return the worker's next line.

        Raises:
            SystemExit: If it has ended; it has said why on stderr.
        """
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a worker ended with status {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def repeat(self) -> None:
        """Do the job once more and note how long it took."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.seconds.append(self.read()["seconds"])


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table and return the exit status."""
    args = parser().parse_args(argv)
    if "trl" in args.systems and not can_import_trl(args):
        print(f"{args.peer_python} cannot import trl; {peers_help()}")
        return 2
    cases = [(d, n) for d in args.divergences for n in args.positions]
    for case in cases:
        with workers(args, *case) as systems:
            if case is cases[0]:
                print(heading(args, systems), flush=True)
            for _ in range(args.repeats):
                for worker in systems.values():
                    worker.repeat()
            print("\n".join(table_rows(*case, systems)), flush=True)
    return 0


def can_import_trl(args: argparse.Namespace) -> bool:
    """Return whether the Python of the peers has what is measured."""
    command = [args.peer_python, "-c", "import trl"]
    return subprocess.run(command, env=environment(args), check=False).returncode == 0


def parser() -> argparse.ArgumentParser:
    """Return what the command line understands."""
    result = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = result.add_argument
    add("--peer-python", default=sys.executable, help="a Python that can import trl")
    add("--systems", nargs="+", choices=MAKERS, default=list(MAKERS))
    add("--divergences", nargs="+", choices=BETAS, default=list(BETAS))
    add("--positions", nargs="+", type=int, default=[1024, 4096], help="N")
    add("--width", type=int, default=576, help="D")
    add("--vocabulary", type=int, default=49_152, help="V")
    add("--repeats", type=int, default=5)
    add("--threads", type=int, default=len(os.sched_getaffinity(0)))
    add("--chunk", type=int, default=0, help="positions of a tile of ours; 0: default")
    add("--device", default="cpu")
    return result


def peers_help() -> str:
    """Return how to make an environment of peers."""
    lines = (__doc__ or "").splitlines()
    command = next(line.strip() for line in lines if "venv" in line)
    return f"make an environment that can:\n    {command}\nand name it: --peer-python"


def environment(args: argparse.Namespace) -> dict[str, str]:
    """Return the environment of a worker: few threads, no network."""
    return os.environ | {
        "OMP_NUM_THREADS": str(args.threads),
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TRL_EXPERIMENTAL_SILENCE": "1",
        "PYTHONPATH": str(ROOT / "src"),
    }


@contextmanager
def workers(
    args: argparse.Namespace, divergence: str, positions: int
) -> Iterator[dict[str, Worker]]:
    """Start one worker per system, each warmed up; end them all at the end."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        result = {}
        for system in args.systems:
            process = stack.enter_context(
                subprocess.Popen(
                    worker_command(args, system, divergence, positions, folder),
                    env=environment(args),
                    cwd=ROOT,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            # A worker whose stdin ends is done; leaving its context closes that.
            result[system] = Worker(process)
            result[system].first = result[system].read()
        compare_gradients(result, Path(folder))
        yield result


def worker_command(
    args: argparse.Namespace, system: str, divergence: str, positions: int, folder: str
) -> list[str]:
    """Return the command line of one worker."""
    python = args.peer_python if system == "trl" else sys.executable
    told = {
        "system": system,
        "divergence": divergence,
        "positions": positions,
        "folder": folder,
        "width": args.width,
        "vocabulary": args.vocabulary,
        "threads": args.threads,
        "chunk": args.chunk,
        "device": args.device,
    }
    return [python, "-m", "benchmarks.loss_systems", json.dumps(told)]


def compare_gradients(systems: Mapping[str, Worker], folder: Path) -> None:
    """Note how far each system is from the dense formula, where that was run."""
    if "dense" not in systems:
        return
    exact = np.load(folder / "dense.npy")
    loss = systems["dense"].first["loss"]
    for system, worker in systems.items():
        if system in ("ours", "trl"):
            grad = np.load(folder / f"{system}.npy")
            worker.first["loss_off"] = abs(worker.first["loss"] - loss) / loss
            worker.first["grad_off"] = float(np.abs(grad - exact).max())


def heading(args: argparse.Namespace, systems: Mapping[str, Worker]) -> str:
    """Return what was measured on what, and the head of the table."""
    versions = {name: value for w in systems.values() for name, value in w.first["on"]}
    named = ", ".join(f"{name} {value}" for name, value in versions.items())
    rule = "|---|--:|---|--:|--:|--:|--:|--:|--:|"
    return (
        f"{named}; {args.threads} threads; float32, D = {args.width}, V = "
        f"{args.vocabulary}, frozen head; {args.repeats} rounds.\n\n{HEADER}\n{rule}"
    )


def table_rows(
    divergence: str, positions: int, systems: Mapping[str, Worker]
) -> Iterator[str]:
    """Yield one line for each system."""
    for system, worker in systems.items():
        seconds = worker.seconds
        spread = f"{median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"
        offs = [worker.first.get(key) for key in ("loss_off", "grad_off")]
        cells = [
            divergence,
            f"{positions:,}",
            system,
            spread,
            ratio(worker, systems.get("ours"), "x"),
            f"{worker.first['peak'] / 2**20:,.0f}",
            ratio(systems.get("products"), worker, "%"),
            *("" if off is None else f"{off:.0e}" for off in offs),
        ]
        yield f"| {' | '.join(cells)} |"


def ratio(over: Worker | None, under: Worker | None, unit: str) -> str:
    """Return the median over rounds of one system's time over another's."""
    if over is None or under is None:
        return ""
    pairs = zip(over.seconds, under.seconds, strict=True)
    value = median(a / b for a, b in pairs)
    return f"{value:.0%}" if unit == "%" else f"{value:.2f}{unit}"


if __name__ == "__main__":
    sys.exit(main())
