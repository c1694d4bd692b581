"""Compare what `plan` predicts with what the run then takes, as Markdown.

    python benchmarks/plan_accuracy.py --out runs/plan --settings demo quick

Each setting runs `neuron-opsd plan` and then `neuron-opsd run` on the embedded model
and questions, which `neuron-opsd fetch` brings, each in a process of its own. A run
that is finished is only read, so a call that was stopped can be made again. The
machine should do nothing else meanwhile.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from neuron_opsd.storage.download_cache import cache_folder

TIME_BAR = 0.25
MEMORY_BAR = 0.15
"""How far a prediction may be off, as a share of what was measured."""

SMALL = 5.0
"""Seconds below which a stage is shown but not held against the bar."""

SHORT = ("distill.warmup_steps=1", "distill.checkpoint_every=5")


@dataclass(frozen=True, slots=True)
class Setting:
    """A run: its questions and its settings."""

    pool: tuple[str, int]
    """Name of an embedded set, and how many of its questions are taken."""
    tests: tuple[tuple[str, int], ...]
    settings: tuple[str, ...]
    free: bool = False
    """Whether the choices are left out of the questions."""


SETTINGS = {
    "demo": Setting(
        ("basic-knowledge", 240),
        (("basic-knowledge", 120), ("arc-easy", 40), ("csqa", 40)),
        (
            *("prompts.form=plain", "rollouts.max_new_tokens=64"),
            *("contexts.num_demonstrations=5", "contexts.answer=greedy"),
            *("distill.steps=10", "distill.micro_batch_size=16"),
            "evaluation.form_only=true",
        ),
    ),
    "quick": Setting(
        ("basic-knowledge", 120),
        (("basic-knowledge", 60), ("piqa", 60)),
        (
            *("prompts.form=plain", "rollouts.max_new_tokens=64"),
            *("contexts.num_demonstrations=3", "contexts.answer=greedy"),
            *("distill.steps=8", "distill.micro_batch_size=16"),
            *("teacher_check.num_questions=16", "evaluation.form_only=true"),
        ),
    ),
    "ten-demonstrations": Setting(
        ("arc-easy", 120),
        (("arc-easy", 60),),
        ("prompts.form=plain", "distill.steps=5"),
    ),
    "free-chat": Setting(
        ("basic-knowledge", 64),
        (("basic-knowledge", 24),),
        (
            *("prompts.form=chat", "rollouts.max_new_tokens=32"),
            *("contexts.num_demonstrations=3", "distill.steps=5"),
        ),
        free=True,
    ),
    "float32": Setting(
        ("arc-easy", 120),
        (("arc-easy", 60),),
        (
            *("prompts.form=plain", "model.compute=float32"),
            *("contexts.num_demonstrations=4", "distill.steps=5"),
        ),
    ),
    "full-tuning": Setting(
        ("boolq", 80),
        (("boolq", 32),),
        (
            *("prompts.form=plain", "contexts.num_demonstrations=2"),
            *("distill.tuning=full", "distill.learning_rate=1e-5"),
            *("distill.micro_batch_size=8", "distill.steps=5"),
        ),
    ),
}


def main() -> None:
    """Plan and run the settings asked for; print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=[*SETTINGS])
    parser.add_argument("--out", type=Path, default=Path("runs/plan"))
    args = parser.parse_args()
    print("| setting | what | predicted | measured | ratio | |")
    print("|---|---|---|---|---|---|")
    for name in args.settings:
        for line in compare(name, args.out / name):
            print(line, flush=True)


def compare(name: str, folder: Path) -> Iterator[str]:
    """Plan and run one setting, if that is still to do; yield its lines."""
    words = arguments(SETTINGS[name], folder)
    plan_file, run = folder / "plan.json", folder / "run"
    if not plan_file.exists():
        start = time.monotonic()
        plan = json.loads(call("plan", *words, "--json"))
        plan["planning"] = time.monotonic() - start
        plan_file.write_text(json.dumps(plan), encoding="utf-8")
    plan = json.loads(plan_file.read_text(encoding="utf-8"))
    wall_file = folder / "wall.json"
    if not wall_file.exists():
        start = time.monotonic()
        call("run", *words, "--out", str(run))
        wall_file.write_text(json.dumps(time.monotonic() - start), encoding="utf-8")
    wall = json.loads(wall_file.read_text(encoding="utf-8"))
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    measured = stage_seconds(manifest)
    predicted = {stage["name"]: stage["seconds"] for stage in plan["stages"]}
    for stage, seconds in measured.items():
        yield seconds_row(name, stage, predicted.get(stage, 0.0), seconds)
    stages = sum(predicted.get(stage, 0.0) for stage in measured)
    yield seconds_row(name, "all stages", stages, sum(measured.values()))
    yield seconds_row(name, "whole process", plan["seconds"], wall)
    peaks = plan["peak_memory_bytes"], manifest["facts"]["peak_memory_bytes"]
    shown = [f"{peak / 2**30:.2f} GiB" for peak in peaks]
    yield row(name, "peak memory", shown, peaks[0] / peaks[1], MEMORY_BAR)
    yield f"| {name} | `plan` itself | | {plan['planning']:.1f} s | | |"


def arguments(setting: Setting, folder: Path) -> list[str]:
    """Write a setting's question files; return what `plan` and `run` are called with.

    The pool is a set's pool, a test its test.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = cache_folder() / "model"
    pool = questions(setting, *setting.pool, "pool", folder)
    words = ["--model", str(model), "--pool", str(pool), "--quiet"]
    for name, count in setting.tests:
        file = questions(setting, name, count, "test", folder)
        words += ["--test", f"{name}={file}"]
    for one in (*SHORT, *setting.settings):
        words += ["--set", one]
    return words


def questions(setting: Setting, name: str, count: int, part: str, folder: Path) -> Path:
    """Write the first questions of an embedded set, without choices if so wanted."""
    source = cache_folder() / "questions" / name / f"{part}.jsonl"
    target = folder / f"{name}-{part}.jsonl"
    with source.open(encoding="utf-8") as file:
        table = [json.loads(line) for line in islice(file, count)]
    if setting.free:
        table = [{k: v for k, v in one.items() if k != "choices"} for one in table]
    lines = "".join(json.dumps(one) + "\n" for one in table)
    target.write_text(lines, encoding="utf-8")
    return target


def call(*words: str) -> str:
    """Run the command in a process of its own; return what it printed."""
    command = [sys.executable, "-m", "neuron_opsd", *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def stage_seconds(manifest: dict[str, Any]) -> dict[str, float]:
    """Return what a run took, by the plan's names of stages."""
    names = {
        "distillation": "training",
        "form-only": "form-only control",
        "rollouts": "rollouts",
        "neurons": "neurons",
        "teacher_check": "teacher_check",
    }
    taken = {name: out["seconds"] for name, out in manifest["outputs"].items()}
    taken |= manifest["facts"].get("seconds", {})
    found: dict[str, float] = {}
    for output, seconds in taken.items():
        stage = names.get(output, "")
        if output.startswith("tests/"):
            control = output.endswith("/form-only")
            stage = "form-only control" if control else "evaluation"
        if stage:
            found[stage] = found.get(stage, 0.0) + seconds
    return found


def seconds_row(name: str, what: str, predicted: float, measured: float) -> str:
    """Return a line on seconds."""
    shown = [f"{predicted:.1f} s", f"{measured:.1f} s"]
    bar = TIME_BAR if measured >= SMALL else None
    return row(name, what, shown, predicted / measured, bar)


def row(
    name: str, what: str, shown: Sequence[str], ratio: float, bar: float | None
) -> str:
    """Return a line of the table."""
    said = "short" if bar is None else "ok" if abs(ratio - 1.0) <= bar else "**off**"
    return f"| {name} | {what} | {shown[0]} | {shown[1]} | {ratio:.2f} | {said} |"


if __name__ == "__main__":
    main()
