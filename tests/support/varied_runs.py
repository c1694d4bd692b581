"""A tiny run in a process of its own, under whatever may or may not matter.

    python varied_runs.py MODEL FOLDER [--halt] [--backwards] [NAME=VALUE ...]

Prints what was warned of as JSON. With ``--halt`` it stops half-way through training;
with ``--backwards`` folders list their files in the opposite order. Further words are
settings.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SOURCES = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests" / "support")])

ALIKE = (
    "rollouts.parquet",
    "neurons.parquet",
    "selection.json",
    "contexts.json",
    "teacher_check.json",
    "cases.parquet",
    "scores.parquet",
    "evaluation.json",
    "summary.json",
    "adapter/adapter_model.safetensors",
    "adapter/adapter_config.json",
)
"""Files that must be the same to the byte."""


def vary(
    model: Path,
    folder: Path,
    variables: Mapping[str, str],
    *words: str,
) -> list[str]:
    """Run in a process with some variables set; return what was warned of."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, str(model), str(folder), *words],
        stdout=subprocess.PIPE,
        text=True,
        timeout=600,
        check=True,
        cwd=folder.parent,
        env=os.environ | {"PYTHONPATH": SOURCES, **variables},
    )
    told: list[str] = json.loads(done.stdout.splitlines()[-1])
    return told


def made(run: Path) -> dict[str, bytes]:
    """Return what a run ended with."""
    return {name: (run / name).read_bytes() for name in ALIKE}


def backwards(listing: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that lists a folder in the opposite order."""

    class Entries(list[Any]):
        def __enter__(self) -> Entries:
            return self

        def __exit__(self, *error: object) -> None:
            del error

        def close(self) -> None:
            """Have nothing to close."""

    def listed(*arguments: Any) -> Entries:
        return Entries(sorted(listing(*arguments), key=str, reverse=True))

    return listed


def main(arguments: Sequence[str]) -> None:
    """Run, and print what was warned of."""
    if "--backwards" in arguments:
        vars(os)["listdir"] = backwards(os.listdir)
        vars(os)["scandir"] = backwards(os.scandir)
    import torch

    from neuron_opsd.progress import Silent
    from repeated_runs import Halting, StoppedError
    from tiny_runs import tiny_config, tiny_request, tiny_run

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    model, folder, *rest = arguments
    halt = "--halt" in rest
    settings = [word for word in rest if not word.startswith("--")]
    progress = Halting("distillation", 3) if halt else Silent()
    with suppress(StoppedError):
        request = tiny_request(Path(folder))
        tiny_run(request, tiny_config(Path(model), *settings), progress)
    sys.stdout.write(json.dumps(progress.warnings) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
