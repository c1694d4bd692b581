"""Measure every GPU row and put the tables into the page of benchmarks."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Final

import torch

from benchmarks.gpu import scaling
from benchmarks.gpu.cases import FULL, TINY, Size, memory_systems, speed_cases
from benchmarks.gpu.model import random_model
from benchmarks.scale.models import CONFIGS
from benchmarks.speed.cases import Case, System
from benchmarks.speed.driver import job_of, machine_job, run_case
from benchmarks.speed.job import Facts, Work
from benchmarks.speed.outcome import Measured, Outcome
from benchmarks.speed.peers import peers_python
from benchmarks.speed.process import ROOT, Process, QuitError, Setting
from benchmarks.speed.tables import (
    bytes_text,
    comparison_rows,
    one_line,
    placed,
    section,
    table,
)
from neuron_opsd.cli.options import prepare_libraries
from neuron_opsd.demo.fetch import fetch_demo
from neuron_opsd.progress import Silent
from neuron_opsd.storage.download_cache import cache_folder
from neuron_opsd.storage.files import write_atomic

PAGE: Final = ROOT / "docs" / "lab-notebook" / "benchmarks.md"

SET: Final = "arc-easy"
"""Whose questions are asked."""

MEMORY: Final = (
    "step",
    "held, computed",
    "held, counted",
    "at most, computed",
    "at most, counted",
    "counted / computed",
)


def parser() -> argparse.ArgumentParser:
    """Return what the command line understands."""
    result = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=(__doc__ or "").partition("\n")[0],
    )
    add = result.add_argument
    add("--model", default="Qwen3-4B", choices=list(CONFIGS), help="whose shapes")
    add("--device", default="cuda", choices=["cuda", "cpu"])
    add("--tiny", action="store_true", help="every row at a tiny size")
    add("--dry-run", action="store_true", help="show the rows, measure none")
    add("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    add("--vllm", default="", help="Python of an environment with vLLM")
    add("--peers", type=Path, help="where TRL is installed; made if it is missing")
    add("--folder", type=Path, help="where the model is written; in the cache if none")
    add("--out", type=Path, help="page to write the tables into; printed if left out")
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what was asked for, or say that it was not measured."""
    options = parser().parse_args(argv)
    prepare_libraries(allow_download=False)
    size = TINY if options.tiny else FULL
    why = ""
    if options.dry_run:
        why = "a dry run"
    elif options.device == "cuda" and not torch.cuda.is_available():
        why = "no GPU here"
    bench = Bench(options, size, why)
    for name, text in bench.sections():
        print(f"{text}\n", flush=True)
        if options.out is not None:
            page = options.out
            old = page.read_text(encoding="utf-8") if page.exists() else ""
            mark = f"gpu {name}"
            write_atomic(page, placed(old, mark, text).encode())


class Bench:
    """What is measured with, and each section as text."""

    def __init__(self, options: argparse.Namespace, size: Size, why: str) -> None:
        """Write the model and install the peers, unless nothing is measured.

        `why` says why nothing is.
        """
        self.options = options
        self.size = size
        self.why = why
        if not why:
            self.folder: Path = options.folder or cache_folder() / "gpu-benchmark"
            self.setting = settle(options, size, self.folder)

    def sections(self) -> Iterator[tuple[str, str]]:
        """Yield the name of each section that was asked for, and its text."""
        for name in self.options.rows:
            yield from ROWS[name](self)

    def memory(self) -> Iterator[tuple[str, str]]:
        """Yield what a step holds, beside what is computed."""
        rows = [self._memory_row(system) for system in memory_systems(self.size)]
        model = self.options.model + " (two tiny layers)" * self.options.tiny
        title = f"### Memory of a training step: {model}, LoRA, one completion"
        yield "memory", "\n".join([title, "", *self._on(), *table(MEMORY, rows)])

    def _memory_row(self, system: System) -> list[str]:
        blank = [""] * (len(MEMORY) - 2)
        facts: Facts = {}
        why = self.why
        if not why:
            try:
                job = job_of(system, Work("step"), self.setting)
                process = Process(system.run, job, self.setting)
                facts = process.turn()
                process.stop()
            except QuitError as error:
                why = str(error)
        if why:
            return [system.label, f"not measured: {one_line(why)}", *blank]
        names = ("computed_held", "held", "computed_most", "most")
        cells = [bytes_text(facts[name]) for name in names]
        ratio = facts["most"] / facts["computed_most"]
        return [system.label, *cells, f"{ratio:.2f}"]

    def speed(self) -> Iterator[tuple[str, str]]:
        """Yield the cases in which systems take turns."""
        cases = speed_cases(self.size)
        if self.why:
            yield from ((case.name, self._unmeasured(case)) for case in cases)
            return
        machine = Process("machine:machine", machine_job(self.setting), self.setting)
        facts = {**machine.ready, "date": date.today().isoformat()}  # noqa: DTZ011
        try:
            for case in cases:
                rounds = self.size.rounds
                outcome = run_case(case, self.setting, machine, rounds, say)
                yield case.name, section(outcome, facts, rounds)
        finally:
            machine.stop()

    def _unmeasured(self, case: Case) -> str:
        measured = [Measured(s, Work(""), problem=self.why) for s in case.systems]
        lines = comparison_rows(Outcome(case, measured, {}))
        return "\n".join([f"### {case.title}", "", *lines])

    def scaling(self) -> Iterator[tuple[str, str]]:
        """Yield how a run is spread over GPUs."""
        if self.why:
            rows = [
                scaling.Row(way, count, {}, self.why)
                for way in scaling.WAYS
                for count in self.size.counts
            ]
        else:
            pool, tests = short_sets(self.setting, self.size, self.folder)
            setting = replace(self.setting, questions=pool)
            rows = scaling.rows(self.size, setting, tests, say)
        title = (
            f"### Scaling: a run of {self.size.pool} questions and {self.size.steps} "
            "steps over GPUs"
        )
        yield (
            "scaling",
            "\n".join([title, "", *self._on(), *scaling.lines(rows)]),
        )

    def _on(self) -> list[str]:
        """Return what it was measured on, nothing where it was not."""
        if self.why:
            return []
        from benchmarks.speed.machine import name_of

        today = date.today().isoformat()  # noqa: DTZ011
        return [f"{name_of(self.options.device)}, on {today}.", ""]


ROWS: Final[dict[str, Callable[[Bench], Iterator[tuple[str, str]]]]] = {
    "memory": Bench.memory,
    "speed": Bench.speed,
    "scaling": Bench.scaling,
}


def settle(options: argparse.Namespace, size: Size, folder: Path) -> Setting:
    """Write the model, install what is missing, and return what all runs with."""
    demo = fetch_demo(cache_folder(), Silent(), [SET])
    cuda = options.device == "cuda"
    model = random_model(options.model, demo.model, folder, tiny=options.tiny)
    peers = options.peers or cache_folder() / "peers"
    return Setting(
        python=peers_python(peers, cuda=cuda, say=say),
        model=model,
        questions=demo.questions[SET]["pool"],
        device=options.device,
        threads=torch.get_num_threads(),
        gguf="",
        neufs="",
        vllm=options.vllm,
        new_tokens=size.new_tokens,
    )


def short_sets(setting: Setting, size: Size, folder: Path) -> tuple[Path, Path]:
    """Write the first questions as a pool, and the next ones as a test."""
    found = []
    with Path(setting.questions).open(encoding="utf-8") as lines:
        for name in ("pool.jsonl", "test.jsonl"):
            path = folder / name
            path.write_text("".join(islice(lines, size.pool)), encoding="utf-8")
            found.append(path)
    pool, tests = found
    return pool, tests


def say(text: str) -> None:
    """Tell of progress on stderr."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
