"""Take one safeguard at a time out of the source, and see the sweep of faults notice.

    python benchmarks/fault_mutants.py
    python benchmarks/fault_mutants.py --only "file is not synced"

Each mutant is a copy of `src` with one piece of text replaced; `fault_sweep.py` goes
through the areas that ought to notice, up to the first failure. Exit status 1 says that
some mutant went unnoticed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "neuron_opsd"
TRIALS = 120

POWER, KILL, FAIL = "power cut", "killed at each call", "each call fails"
EARLY, HALF = "damage amid the answers", "damage amid the training"
FINISHED = "damage to a finished run"
COMPARED, COMPARED_POWER = "damage to a comparison", "comparison: power cut"
RACE = "races for a run"


@dataclass(frozen=True, slots=True)
class Mutant:
    """A piece of source that is replaced."""

    name: str
    file: str
    old: str
    new: str
    area: str
    """What ought to notice."""


MUTANTS = (
    Mutant(
        "a file is not synced before it gets its name",
        "storage/files.py",
        "            sync(temporary)\n",
        "",
        POWER,
    ),
    Mutant(
        "a folder is not synced after a file in it got its name",
        "storage/files.py",
        "  # noqa: PTH105 - one call to shim in tests\n            sync(path.parent)\n",
        "\n",
        POWER,
    ),
    Mutant(
        "a new folder's name is not synced",
        "storage/files.py",
        "    folder.mkdir(exist_ok=True)\n    sync(folder.parent)\n",
        "    folder.mkdir(exist_ok=True)\n",
        POWER,
    ),
    Mutant(
        "the files of a folder are not synced before it gets its name",
        "storage/files.py",
        '(*temporary.rglob("*"), temporary)',
        "()",
        POWER,
    ),
    Mutant(
        "a folder's new name is not synced",
        "storage/files.py",
        "        folder.rename(path)\n        sync(path.parent)\n",
        "        folder.rename(path)\n",
        POWER,
    ),
    Mutant(
        "metrics are not synced when a training ends",
        "runs/training.py",
        "    sync_metrics(run.directory.path(training.work))\n",
        "",
        POWER,
    ),
    Mutant(
        "a file is written in its place instead of renamed to it",
        "storage/files.py",
        "os.replace(temporary, path)",
        "path.write_bytes(temporary.read_bytes())",
        KILL,
    ),
    Mutant(
        "what killed processes left is not cleared away",
        "storage/files.py",
        "            discard(entry)\n        elif aside:",
        "            pass\n        elif aside:",
        KILL,
    ),
    Mutant(
        "metrics of steps that will be taken again are kept",
        "runs/checkpoints.py",
        "        cut_metrics(home, first)\n",
        "        pass\n",
        KILL,
    ),
    Mutant(
        "blocks that are no longer needed stay",
        "storage/run_directory.py",
        "            run.clear_parts()\n",
        "",
        COMPARED_POWER,
    ),
    Mutant(
        "anything that ends in .tmp counts as ours",
        "storage/files.py",
        r'rf"\.(.+)\.[0-9a-f]{{8}}\.{OWN}\.tmp"',
        r'r"\.(.+)\.tmp"',
        KILL,
    ),
    Mutant(
        "a changed file is taken for whole",
        "storage/integrity.py",
        'return "" if hash_now(path, output) == output.sha256 else CHANGED',
        'return ""',
        FINISHED,
    ),
    Mutant(
        "a chunk is believed without its hash",
        "storage/chunks.py",
        "if receipt and receipt.sha256 == found else None",
        "if receipt else None",
        EARLY,
    ),
    Mutant(
        "a checkpoint is taken whatever the metrics are",
        "runs/checkpoints.py",
        "if bound.metrics != hash_metrics(home, bound.step):",
        "if False:",
        HALF,
    ),
    Mutant(
        "a full disk is no reason to try again",
        "storage/disk.py",
        '    return TryAgainError(\n        f"could not write',
        '    return ConfigError(\n        f"could not write',
        FAIL,
    ),
    Mutant(
        "nothing is locked",
        "storage/lock.py",
        "            lock.acquire()\n",
        "            pass\n",
        RACE,
    ),
    Mutant(
        "nobody says what is harmed in a comparison",
        "comparison/grid.py",
        'group.run.progress.warn(f"{fault}; no result depends on it")',
        "pass",
        COMPARED,
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Try every mutant, print a table, and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default="", help="those whose name holds this")
    options = parser.parse_args(argv)
    unnoticed = 0
    for mutant in MUTANTS:
        if options.only not in mutant.name:
            continue
        start = time.perf_counter()
        said = noticed(mutant)
        unnoticed += not said
        seconds = time.perf_counter() - start
        print(f"| {mutant.name} | {mutant.area} | {said or 'NO'} | {seconds:.0f} |")
        sys.stdout.flush()
    return 1 if unnoticed else 0


def noticed(mutant: Mutant) -> str:
    """Say after how many trials the sweep notices a mutant; nothing if it does not.

    Raises:
        ValueError: If the text that it replaces does not stand in the source once.
        RuntimeError: If the sweep itself fails.
    """
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        sources = Path(shutil.copytree(ROOT / "src", Path(folder) / "src"))
        change(sources / PACKAGE / mutant.file, mutant)
        table = Path(folder) / "table.json"
        sweep = str(ROOT / "benchmarks/fault_sweep.py")
        words = ["--areas", mutant.area, "--until-failed", "--trials", str(TRIALS)]
        done = subprocess.run(
            [sys.executable, "-W", "ignore", sweep, *words, "--json", str(table)],
            env=os.environ | {"FAULTS_SOURCES": str(sources)},
            capture_output=True,
            text=True,
            check=False,
        )
        if not table.exists():
            raise RuntimeError(done.stderr[-2000:])
        (row,) = json.loads(table.read_text())
    return f"after {row['tried']} trials" if row["failed"] else ""


def change(path: Path, mutant: Mutant) -> None:
    """Replace a mutant's text.

    Raises:
        ValueError: If it does not stand there once.
    """
    text = path.read_text()
    if text.count(mutant.old) != 1:
        raise ValueError(f"{mutant.file} does not hold once: {mutant.old!r}")
    path.write_text(text.replace(mutant.old, mutant.new))


if __name__ == "__main__":
    sys.exit(main())
