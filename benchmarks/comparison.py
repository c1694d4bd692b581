"""Compare the methods on the embedded model and question sets.

What came of it is in docs/lab-notebook/results.md.

    python benchmarks/comparison.py --out runs/comparison
    python benchmarks/comparison.py --out runs/comparison-quick --quick
    python benchmarks/comparison.py --out runs/long --long --sources sst2
    python benchmarks/comparison.py --out runs/warm --warm --methods lmsi ttrl

Fetches what it needs, writes the question files and runs `neuron-opsd compare`. It goes
on where it was stopped. `--quick` is a reduced comparison that ends within ten minutes
on two cores; `--long` trains 150 steps with one seed and tests on the way; `--warm`
begins training from the form-only model. Each takes an --out of its own. Fewer sources,
methods or seeds can be asked for, and more later with the same --out.

The same command started twice, each time with OMP_NUM_THREADS=1, shares the seeds and
sources between two processes, which takes three quarters of the time on two cores.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neuron_opsd.cli import main as neuron_opsd
from neuron_opsd.cli.terminal import open_terminal
from neuron_opsd.data.questions import read_questions, write_questions
from neuron_opsd.demo.fetch import fetch_demo
from neuron_opsd.storage.download_cache import cache_folder

SOURCES = ("sst2", "arc-easy")
TESTS = (*SOURCES, "csqa", "piqa")

METHODS = (
    "neuron-opsd",
    "neuron-opsd-greedy=neuron-opsd:contexts.answer=greedy",
    "neuron-opsd-words=neuron-opsd:contexts.answer=greedy,contexts.rule=words",
    "neuron-opsd-balanced=neuron-opsd:contexts.answer=greedy,selection.balance=true",
    "random-opsd=random-opsd:contexts.answer=greedy",
    "ema-only=ema-only:contexts.num_demonstrations=0",
    "lmsi",
    "ttrl",
    "intuitor",
)
QUICK_METHODS = (METHODS[3], "lmsi", "ttrl")

SETTINGS = (
    "prompts.form=plain",
    "rollouts.max_new_tokens=64",
    "contexts.num_demonstrations=5",
    "distill.steps=30",
    "distill.batch_size=8",
    "distill.num_samples=8",
    "distill.micro_batch_size=64",
    "distill.learning_rate=3e-4",
    "distill.warmup_steps=5",
    "teacher_check.num_questions=16",
)


@dataclass(frozen=True, slots=True)
class Size:
    """How much a comparison asks."""

    pool: int
    first_test: int
    """Where a test begins; the questions before were asked by earlier results."""
    test: int
    seeds: int
    methods: Sequence[str]
    steps: int
    shown_steps: Sequence[int] = ()


FULL = Size(400, 200, 400, 3, METHODS, 30)
LONG = Size(400, 200, 400, 1, METHODS, 150, (10, 30, 60, 100))
QUICK = Size(120, 200, 60, 1, QUICK_METHODS, 10)


def main() -> int:
    """Write the files and run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--warm", action="store_true")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--sources", nargs="+", choices=SOURCES, default=SOURCES)
    parser.add_argument("--methods", nargs="+", choices=[*map(name_of, METHODS)])
    parser.add_argument("--seeds", type=int)
    options = parser.parse_args()
    size = QUICK if options.quick else LONG if options.long else FULL
    wanted = options.methods or [*map(name_of, size.methods)]
    methods = [method for method in METHODS if name_of(method) in wanted]
    with open_terminal(quiet=False) as terminal:
        files = fetch_demo(cache_folder(), terminal, TESTS)
    folder = options.out.parent / f"{options.out.name}-questions"
    words = ["compare", "--model", str(files.model), "--out", str(options.out)]
    for name in options.sources:
        pool = part(
            files.questions[name]["pool"], folder / f"{name}-pool.jsonl", 0, size.pool
        )
        words += ["--source", f"{name}={pool}"]
    for name in TESTS:
        test = part(
            files.questions[name]["test"],
            folder / f"{name}-test.jsonl",
            0 if name == "sst2" else size.first_test,
            size.test,
        )
        words += ["--test", f"{name}={test}"]
    words += ["--methods", *methods, "--seeds", str(options.seeds or size.seeds)]
    words += ["--set", *SETTINGS, f"distill.steps={size.steps}"]
    if size.shown_steps:
        words += ["--at", *map(str, size.shown_steps)]
    if options.warm:
        words += ["--warm-start", "form"]
    return neuron_opsd([*words, *(["--dry-run"] if options.dry_run else [])])


def name_of(method: str) -> str:
    """Return what a method is called in the tables."""
    return method.partition("=")[0]


def part(source: Path, target: Path, first: int, count: int) -> Path:
    """Write some questions of a file to another, with their answers."""
    found = read_questions(str(source))
    chosen = found.questions[first : first + count]
    write_questions(target, chosen, found.gold)
    return target


if __name__ == "__main__":
    sys.exit(main())
