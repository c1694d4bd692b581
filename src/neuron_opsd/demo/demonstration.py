"""The demonstration: its questions, settings and run.

Settings are defined only here; `docs/lab-notebook/results.md` says how they were found
and what they achieve.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from neuron_opsd.config import Config
from neuron_opsd.config.tables import load_config, merge
from neuron_opsd.demo.fetch import DemoFiles, fetch_demo
from neuron_opsd.demo.sources import MODEL
from neuron_opsd.progress import Progress
from neuron_opsd.results.run import ReportData
from neuron_opsd.runs.inputs import run_settings
from neuron_opsd.runs.run import Request, run
from neuron_opsd.storage.files import write_atomic
from neuron_opsd.storage.folders import check_folder, claim
from neuron_opsd.storage.manifest import MANIFEST, check_settings, read_manifest
from neuron_opsd.storage.output_paths import kind_of

IN_DOMAIN: Final = "basic-knowledge"
CROSS_DOMAIN: Final = ("arc-easy", "csqa", "piqa")
CROSS_SIZE: Final = 200
"""Per cross-domain test; pool and in-domain test are used whole."""
QUICK_POOL_SIZE: Final = 120
QUICK_TEST_SIZE: Final = 60

SETTINGS: Final[Mapping[str, Any]] = {
    "prompts": {"form": "plain"},
    "rollouts": {"max_new_tokens": 64},
    # Answers hardly repeat here, and the whole pool, the default, was no better.
    "selection": {"rule": "fewest-neurons"},
    "contexts": {"num_demonstrations": 5, "answer": "greedy"},
    "distill": {
        "steps": 30,
        "micro_batch_size": 16,
        "learning_rate": 3e-4,
        "warmup_steps": 5,
    },
    "evaluation": {"form_only": True},
}

QUICK: Final[Mapping[str, Any]] = {
    "contexts": {"num_demonstrations": 3},
    "distill": {"steps": 8, "warmup_steps": 2},
    "teacher_check": {"num_questions": 16},
}


def demo_config(model: Path, *, quick: bool, seed: int, engine: str = "") -> Config:
    """Return the demonstration's settings.

    An engine writes free answers; without one, choices are sampled.
    """
    base = merge(SETTINGS, {"seed": seed, "model": {"name": str(model)}})
    if engine:
        free = {"engine": {"rollouts": engine}, "rollouts": {"mode": "free"}}
        base = merge(base, free)
    return load_config(base=merge(base, QUICK) if quick else base)


def questions_folder(out: Path) -> Path:
    """Return the question folder, next to the run directory."""
    return out.parent / f"{out.name}-questions"


def are_questions(folder: Path) -> bool:
    """Say whether an unmarked folder holds an older version's questions."""
    known = {f"{name}.jsonl" for name in ("pool", IN_DOMAIN, *CROSS_DOMAIN)}
    return {entry.name for entry in folder.iterdir()} <= known


def demo_questions(
    files: DemoFiles, out: Path, *, quick: bool
) -> tuple[str, dict[str, str]]:
    """Write the sets' first questions; return the pool's file and the tests'."""
    folder = questions_folder(out)
    claim(folder, "questions", are_questions)
    size = QUICK_POOL_SIZE if quick else None
    pool = first_rows(files.questions[IN_DOMAIN]["pool"], folder / "pool.jsonl", size)
    tests = {}
    for name in (IN_DOMAIN, *CROSS_DOMAIN):
        size = None if name == IN_DOMAIN else CROSS_SIZE
        size = QUICK_TEST_SIZE if quick else size
        source, target = files.questions[name]["test"], folder / f"{name}.jsonl"
        tests[name] = first_rows(source, target, size)
    return pool, tests


def first_rows(source: Path, target: Path, count: int | None) -> str:
    """Copy a question file's first rows, or all; return the copy's name."""
    with source.open("rb") as file:
        write_atomic(target, b"".join(islice(file, count)))
    return str(target)


def check_begun(out: Path, config: Config) -> None:
    """Refuse a run begun with other settings, before writing anything."""
    if not kind_of(out / MANIFEST):
        return
    old, new = read_manifest(out).settings, run_settings(config)
    tables = merge(SETTINGS, QUICK).items()
    own = [f"{section}.{field}" for section, table in tables for field in table]
    always = ("model.name", "seed", "engine.rollouts")
    names = [name for name in (*always, *own) if name in old]
    check_settings(out, {n: old[n] for n in names}, {n: new[n] for n in names})


@dataclass(frozen=True, slots=True)
class Variant:
    """Which demonstration to run."""

    quick: bool
    """The smaller one, which takes three minutes."""
    seed: int
    engine: str = ""
    """Engine for free answers; empty to sample choices."""
    ray: str = ""
    """Address of a cluster whose workers answer; empty for none."""

    @property
    def command(self) -> str:
        """The command to run it."""
        parts = ["neuron-opsd demo"]
        parts += ["--quick"] if self.quick else []
        parts += [f"--engine {self.engine}"] if self.engine else []
        parts += [f"--seed {self.seed}"]
        parts += [f"--ray {self.ray}"] if self.ray else []
        return " ".join(parts)


def demo(out: Path, cache: Path, variant: Variant, progress: Progress) -> ReportData:
    """Run the demonstration with cached files."""
    check_folder(out, "run")
    check_folder(questions_folder(out), "questions", are_questions)
    files = fetch_demo(cache, progress, (IN_DOMAIN, *CROSS_DOMAIN))
    quick, seed, engine = variant.quick, variant.seed, variant.engine
    config = demo_config(files.model, quick=quick, seed=seed, engine=engine)
    config = config.changed(cluster={"address": variant.ray})
    check_begun(out, config)
    pool, tests = demo_questions(files, out, quick=quick)
    request = Request(pool, tests, out, variant.command, MODEL.title)
    return run(request, config, progress)
