"""Measure every stage beside its peers and write down what came out.

    python -m benchmarks.speed --neufs FOLDER

Run it from the checkout's root on a machine that does nothing else. The first call
installs the peers into an environment of their own. Tables go to
docs/lab-notebook/benchmarks.md, all figures to benchmarks.json beside it; a case that
was not run keeps its table.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.speed.cases import CASES
from benchmarks.speed.driver import machine_job, run_case
from benchmarks.speed.outcome import Outcome
from benchmarks.speed.peers import model_as_gguf, peers_python
from benchmarks.speed.process import ROOT, Process, Setting
from benchmarks.speed.tables import placed, section
from neuron_opsd.cli.options import prepare_libraries
from neuron_opsd.demo.fetch import fetch_demo
from neuron_opsd.progress import Silent
from neuron_opsd.storage.download_cache import cache_folder
from neuron_opsd.storage.files import write_atomic

TITLE = "# Benchmarks\n"


def parser() -> argparse.ArgumentParser:
    """Return what the command line understands."""
    names = [case.name for case in CASES]
    result = argparse.ArgumentParser(
        prog="python -m benchmarks.speed",
        description=(__doc__ or "").partition("\n")[0],
    )
    add = result.add_argument
    add("--cases", nargs="+", choices=names, default=names, help="which to run")
    add("--systems", default="", help="only those whose label holds this text")
    add("--rounds", type=int, default=5, help="repetitions of each system")
    add("--threads", type=int, default=usable_processors(), help="of every system")
    add("--device", default="auto", help="auto, cpu or cuda")
    add("--questions", default="arc-easy", help="question set; its pool is asked")
    add("--model", type=Path, help="a transformers folder; the demo's by default")
    add("--gguf", type=Path, help="the same model for llama.cpp")
    add("--neufs", type=Path, help="a checkout of github.com/JohnnyChanV/NeuFS")
    add("--peers", type=Path, help="where the peers are installed")
    add("--out", type=Path, default=ROOT / "docs" / "lab-notebook" / "benchmarks.md")
    return result


def usable_processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


def main(argv: Sequence[str] | None = None) -> None:
    """Measure the cases that were asked for, one after the other."""
    options = parser().parse_args(argv)
    prepare_libraries(allow_download=False)
    setting = settle(options)
    machine = Process("machine:machine", machine_job(setting), setting)
    facts = {**machine.ready, "date": date.today().isoformat()}  # noqa: DTZ011
    setting = replace(setting, device=facts["device"])
    try:
        for case in CASES:
            kept = tuple(s for s in case.systems if options.systems in s.label)
            if case.name in options.cases and kept:
                chosen = replace(case, systems=kept)
                outcome = run_case(chosen, setting, machine, options.rounds, say)
                record(outcome, facts, options.rounds, options.out)
    finally:
        machine.stop()


def settle(options: argparse.Namespace) -> Setting:
    """Fetch and install what is missing, and return what everything runs with."""
    folder = options.peers or cache_folder() / "peers"
    cuda = options.device != "cpu" and shutil.which("nvidia-smi") is not None
    demo = fetch_demo(cache_folder(), Silent(), [options.questions])
    gguf = options.gguf
    if gguf is None and options.model is None:
        gguf = model_as_gguf(folder.parent / "peers-files", Silent())
    return Setting(
        python=peers_python(folder, cuda=cuda, say=say),
        model=options.model or demo.model,
        questions=demo.questions[options.questions]["pool"],
        device=options.device,
        threads=options.threads,
        gguf=str(gguf or ""),
        neufs=str(options.neufs or ""),
    )


def record(outcome: Outcome, facts: dict[str, Any], rounds: int, page: Path) -> None:
    """Print a case's tables and put them, and all figures, where they belong."""
    text = section(outcome, facts, rounds)
    print(f"\n{text}", flush=True)
    device, name = facts["device"], outcome.case.name
    old = page.read_text(encoding="utf-8") if page.exists() else TITLE
    write_atomic(page, placed(old, f"{device} {name}", text).encode())
    numbers = page.with_suffix(".json")
    kept = json.loads(numbers.read_bytes()) if numbers.exists() else {}
    told = {key: facts[key] for key in ("date", "processor", "threads", "versions")}
    kept.setdefault(device, {})[name] = {**told, **outcome.as_table()}
    write_atomic(numbers, (json.dumps(kept, indent=1) + "\n").encode())


def say(text: str) -> None:
    """Tell of progress on stderr."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
