"""Say when the guard would have fired, and what the step that it keeps scores.

    python -m benchmarks.guard train --out runs/guard
    python -m benchmarks.guard table runs/guard

Trains methods as benchmarks/comparison.py does, for 40 steps, with the
guard looking every 5, tests each on the way, and makes a table from what the
folder holds. Labels are read for the table alone. What came of it is in
docs/lab-notebook/results.md. Trainings are done one after the other; the command goes
on where it was stopped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.comparison import SETTINGS, name_of, part
from neuron_opsd.cli import main as neuron_opsd
from neuron_opsd.cli.terminal import open_terminal
from neuron_opsd.comparison.run_group import CellResult
from neuron_opsd.config import GuardConfig
from neuron_opsd.demo.fetch import fetch_demo
from neuron_opsd.method.guard import best_step, collapses
from neuron_opsd.method.settings import SCORES
from neuron_opsd.records import StepMetrics
from neuron_opsd.runs.metrics import read_metrics
from neuron_opsd.storage.codecs import record_codec
from neuron_opsd.storage.download_cache import cache_folder

METHODS = (
    "neuron-opsd",
    "neuron-opsd-balanced=neuron-opsd:selection.balance=true",
    "lmsi",
    "ttrl",
    "intuitor",
)
STEPS, EVERY = 40, 5
SHOWN = (5, 10, 20, 30)
"""Steps after which models are tested besides the last."""
POOL, TESTS = 400, 200
TRAINED = {
    "sst2": ("neuron-opsd", "intuitor", "neuron-opsd-balanced", "lmsi", "ttrl"),
    "arc-easy": ("ttrl", "lmsi", "neuron-opsd-balanced"),
}
"""Methods by source; which of them collapse is seen from the table."""


def main() -> int:
    """Train, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train")
    train.add_argument("--out", type=Path, required=True)
    train.add_argument("--sources", nargs="+", choices=TRAINED, default=[*TRAINED])
    train.add_argument("--methods", nargs="+", choices=[*map(name_of, METHODS)])
    table = commands.add_parser("table")
    table.add_argument("folder", type=Path)
    options = parser.parse_args()
    if options.command == "table":
        print(table_of(options.folder))
        return 0
    for source in options.sources:
        wanted = options.methods or TRAINED[source]
        for method in (m for m in TRAINED[source] if m in wanted):
            if status := train_one(options.out, source, method):
                return status
    return 0


def train_one(out: Path, source: str, method: str) -> int:
    """Train a method on a source, and test it in its own domain along the way."""
    with open_terminal(quiet=False) as terminal:
        files = fetch_demo(cache_folder(), terminal, (source,))
    questions = files.questions[source]
    folder = out.parent / f"{out.name}-questions"
    pool = part(questions["pool"], folder / f"{source}-pool.jsonl", 0, POOL)
    first = 0 if source == "sst2" else TESTS
    test = part(questions["test"], folder / f"{source}-test.jsonl", first, TESTS)
    (written,) = (one for one in METHODS if name_of(one) == method)
    words = ["compare", "--model", str(files.model), "--out", str(out / source)]
    words += ["--source", f"{source}={pool}", "--test", f"{source}={test}"]
    words += ["--methods", written, "--seeds", "1", "--set", *SETTINGS]
    words += [f"distill.steps={STEPS}", f"distill.checkpoint_every={EVERY}"]
    words += [f"guard.every={EVERY}", "guard.num_questions=64"]
    words += ["evaluation.prompted=false", "--at", *map(str, SHOWN)]
    return neuron_opsd(words)


@dataclass(frozen=True, slots=True)
class Trained:
    """A training of the folder: what its steps measured, and its accuracy by step."""

    name: str
    metrics: tuple[StepMetrics, ...]
    accuracy: dict[int, float]
    """After so many steps, in per cent; the untrained model has taken none."""


def trained_in(folder: Path) -> Iterator[Trained]:
    """Yield every training below a folder whose models have been tested."""
    for path in sorted(folder.rglob("methods/*/result.json")):
        source = path.relative_to(folder).parts[0]
        base, own = (
            record_codec("result.json", CellResult).load(place)
            for place in (path.parent.parent / "base/result.json", path)
        )
        metrics = read_metrics(path.parent / "train")
        if not metrics:
            continue
        tests = {0: base.tests[0], **own.tests}
        accuracy = {
            step: 100 * found[source].metrics["avg_at_k"]
            for step, found in sorted(tests.items())
        }
        yield Trained(f"{source}, {path.parent.name}", metrics, accuracy)


def table_of(folder: Path) -> str:
    """Return a table in Markdown: a row for each training."""
    names = [f"kept by {name}" for name in SCORES]
    head = ["training", "Avg@8 by step", "first sign", "best by labels", "last", *names]
    rows = [head, ["---"] * len(head)]
    rows += [row_of(one) for one in trained_in(folder)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def row_of(trained: Trained) -> list[str]:
    """Return what is said of a training."""
    accuracy = trained.accuracy
    best = max(accuracy, key=accuracy.__getitem__)
    signs = collapses(trained.metrics, GuardConfig())
    first = f"step {signs[0].step + 1}: {signs[0].sign}" if signs else "none"
    cells = [
        trained.name,
        " ".join(f"{value:.1f}" for value in accuracy.values()),
        first,
        f"{accuracy[best]:.1f} (step {best})",
        f"{list(accuracy.values())[-1]:.1f}",
    ]
    for name in SCORES:
        kept = best_step(trained.metrics, GuardConfig(score=name))
        step = 0 if kept is None else kept.num_steps
        cells.append(f"{accuracy[step]:.1f} (step {step})")
    return cells


if __name__ == "__main__":
    sys.exit(main())
