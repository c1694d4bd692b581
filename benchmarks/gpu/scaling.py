"""A whole small run spread over GPUs: by torchrun, and by the workers of Ray."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from benchmarks.gpu.cases import Size
from benchmarks.speed.process import ROOT, Setting
from benchmarks.speed.tables import one_line, seconds_text, table

NOUNS: Final = {"torchrun": ("process", "processes"), "Ray": ("worker", "workers")}

WAYS: Final = tuple(NOUNS)

STAGES: Final = ("rollouts", "training", "evaluation")
"""Whose seconds are told."""

PATIENCE: Final = 7200.0


@dataclass(frozen=True, slots=True)
class Row:
    """One run."""

    way: str
    count: int
    seconds: dict[str, float]
    problem: str = ""

    @property
    def label(self) -> str:
        """What it is called in the table."""
        one, more = NOUNS[self.way]
        return f"{self.way}, {self.count} {one if self.count == 1 else more}"


def rows(
    size: Size, setting: Setting, tests: Path, say: Callable[[str], None]
) -> list[Row]:
    """Run over every number of GPUs in both ways; tell what each run took."""
    found = []
    for way in WAYS:
        for count in size.counts:
            say(f"scaling: {way}, {count}")
            found.append(measured(way, count, size, setting, tests))
    return found


def measured(way: str, count: int, size: Size, setting: Setting, tests: Path) -> Row:
    """Run once; a run that fails says why."""
    if setting.device == "cuda" and count > gpus():
        return Row(way, count, {}, f"{gpus()} GPUs here")
    with TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        try:
            done = subprocess.run(
                command(way, count, size, setting, tests, out),
                capture_output=True,
                text=True,
                check=False,
                cwd=ROOT,
                env=setting.environment() | {"RAY_USAGE_STATS_ENABLED": "0"},
                timeout=PATIENCE,
            )
        except subprocess.TimeoutExpired:
            return Row(way, count, {}, f"not done after {PATIENCE:.0f} s")
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["it said nothing"]
            said = [line for line in lines if line.startswith("neuron-opsd:")]
            return Row(way, count, {}, (said or lines)[-1])
        return Row(way, count, seconds_of(out))


def gpus() -> int:
    """Return how many GPUs are here."""
    import torch

    return torch.cuda.device_count()


def command(
    way: str, count: int, size: Size, setting: Setting, tests: Path, out: Path
) -> list[str]:
    """Return what starts a run."""
    run = ["-m", "neuron_opsd", "run", "--quiet", "--model", str(setting.model)]
    run += ["--pool", str(setting.questions), "--test", f"exam={tests}"]
    run += ["--out", str(out), "--set", *settings(size, setting)]
    if way == "torchrun":
        start = ["-m", "torch.distributed.run", "--standalone"]
        return [sys.executable, *start, f"--nproc-per-node={count}", *run]
    share = 1 if setting.device == "cuda" else 0
    workers = [f"cluster.workers={count}", f"cluster.gpus_per_worker={share}"]
    return [sys.executable, *run, *workers, "--ray", "local"]


def settings(size: Size, setting: Setting) -> list[str]:
    """Return the settings of a run that is short and writes freely."""
    return [
        f"model.device={setting.device}",
        "rollouts.mode=free",
        f"rollouts.max_new_tokens={size.new_tokens}",
        "selection.include_unread=true",
        "selection.keep_fraction=1.0",
        "teacher_check.action=off",
        f"distill.steps={size.steps}",
        f"distill.batch_size={size.batch}",
        "evaluation.prompted=false",
        "evaluation.num_samples=1",
        "answers.reader=text",
        "questions.max_rows=10000000",
    ]


def seconds_of(out: Path) -> dict[str, float]:
    """Return what the stages of a run took, by its manifest."""
    manifest: dict[str, Any] = json.loads((out / "manifest.json").read_bytes())
    found: dict[str, float] = {
        name: entry["seconds"]
        for name, entry in manifest["outputs"].items()
        if entry.get("seconds") is not None
    }
    found |= manifest.get("facts", {}).get("seconds", {})
    return {
        stage: sum(taken for name, taken in found.items() if stage in name)
        for stage in STAGES
    }


def lines(found: Sequence[Row]) -> list[str]:
    """Return the table of runs."""
    base = {row.way: row.seconds for row in reversed(found) if row.seconds}
    body = []
    for row in found:
        if not row.seconds:
            blank = [""] * (len(STAGES) - 1)
            body.append([row.label, f"not measured: {one_line(row.problem)}", *blank])
            continue
        first = base[row.way]
        body.append(
            [
                row.label,
                *(taken(first[stage], row.seconds[stage]) for stage in STAGES),
            ]
        )
    return table(("run", *(f"{stage} (times as fast)" for stage in STAGES)), body)


def taken(first: float, now: float) -> str:
    """Write what a stage took, and how many times as fast as the first run it was."""
    return f"{seconds_text(now)} ({first / now:.2f})" if now else "-"
