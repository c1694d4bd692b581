"""Small whole runs: question files, settings and requests for a tiny model.

A pool of two dozen short questions, two test sets and four steps are enough to go
through every stage in about a second.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from neuron_opsd.cli import main
from neuron_opsd.config import Config
from neuron_opsd.config.tables import load_config
from neuron_opsd.progress import Silent
from neuron_opsd.records import Message, Prompt, Question, TrainingExample
from neuron_opsd.results.run import ReportData
from neuron_opsd.runs.run import Request
from neuron_opsd.runs.run import run as run_pipeline
from neuron_opsd.storage.manifest import seal, unseal

Row: TypeAlias = dict[str, Any]

SETTINGS = (
    "model.compute=float32",
    "model.device=cpu",
    "rollouts.num_samples=4",
    "rollouts.max_new_tokens=8",
    "rollouts.block_size=8",
    "selection.keep_fraction=0.5",
    "selection.include_unread=true",
    "contexts.num_demonstrations=2",
    "distill.steps=4",
    "distill.batch_size=4",
    "distill.micro_batch_size=2",
    "distill.warmup_steps=1",
    "distill.learning_rate=0.01",
    "distill.checkpoint_every=2",
    "distill.lora_rank=4",
    "teacher_check.max_agreement_loss=0.02",
    "teacher_check.one_answer=warn",
    "evaluation.num_samples=4",
    "evaluation.num_resamples=50",
)
"""What makes a run short, its check of the teacher strict enough to find fault, and its
pool large enough although a random model seldom ends an answer; everything else is as
the defaults have it."""

POOL_SIZE = 20
TEST_SIZES = {"parity": 8, "sums": 6}

KINDS = ("choices", "free")
"""Questions with choices to pick from, and ones with a free answer."""


@dataclass(frozen=True)
class FinishedRun:
    """A run that has ended, for tests that only read."""

    folder: Path
    request: Request
    config: Config
    data: ReportData
    warnings: tuple[str, ...]

    def evaluation(self) -> dict[str, Any]:
        """Return `evaluation.json`."""
        table: dict[str, Any] = read_json(self.folder / "evaluation.json")
        return table

    def adapter(self) -> dict[str, bytes]:
        """Return the adapter's files by name."""
        return files_of(self.folder / "adapter")


def parity_rows(numbers: Iterable[int], prefix: str = "p") -> list[Row]:
    """Return one question with two choices for each number, with its answer."""
    return [
        {
            "id": f"{prefix}{n}",
            "question": f"Is {n} odd or even?",
            "choices": ["odd", "even"],
            "answer": ("even", "odd")[n % 2],
        }
        for n in numbers
    ]


def sum_rows(numbers: Iterable[int], prefix: str = "s") -> list[Row]:
    """Return one question with a free answer for each number, with its answer."""
    return [
        {
            "id": f"{prefix}{n}",
            "question": f"What is {n} plus {n + 2}?",
            "answer": str(2 * n + 2),
        }
        for n in numbers
    ]


def without_answers(rows: Sequence[Row]) -> list[Row]:
    """Return the rows without the column `answer`."""
    return [{k: v for k, v in row.items() if k != "answer"} for row in rows]


def with_wrong_answers(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with answers none of which is right."""
    return [
        row
        | {
            "answer": next(c for c in row["choices"] if c != row["answer"])
            if "choices" in row
            else f"not {row['answer']}"
        }
        for row in rows
    ]


def write_rows(path: Path, rows: Sequence[Row]) -> Path:
    """Write rows as JSON lines, making the folder where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")
    return path


def pool_rows(kind: str) -> list[Row]:
    """Return a pool whose questions stand in no test set."""
    make = parity_rows if kind == "choices" else sum_rows
    return make(range(POOL_SIZE))


def tiny_request(
    folder: Path, out: str = "run", *, kind: str = "choices", pool: str = "pool.jsonl"
) -> Request:
    """Write the question files that are missing in a folder and ask for a run.

    Args:
        folder: Gets the files.
        out: Name of the run directory below it.
        kind: One of `KINDS`.
        pool: Name of the pool's file; one that is there already is taken as it is.
    """
    path = folder / pool
    if not path.exists():
        write_rows(path, pool_rows(kind))
    tests = {
        "parity": parity_rows(range(100, 100 + TEST_SIZES["parity"]), "a"),
        "sums": sum_rows(range(200, 200 + TEST_SIZES["sums"]), "b"),
    }
    names = list(tests) if kind == "choices" else list(tests)[::-1]
    files = {
        name: str(write_rows(folder / f"{name}.jsonl", tests[name])) for name in names
    }
    return Request(str(path), files, folder / out, "a command")


def tiny_config(model: Path, *assignments: str) -> Config:
    """Return the settings of a short run with a model."""
    return load_config(None, [f"model.name={model}", *SETTINGS, *assignments])


def tiny_run(
    request: Request, config: Config, progress: Silent | None = None
) -> FinishedRun:
    """Run, or go on with, a short run."""
    progress = progress or Silent()
    with warnings.catch_warnings():
        # PEFT asks transformers for what it calls by a new name now.
        warnings.simplefilter("ignore", FutureWarning)
        data = run_pipeline(request, config, progress)
    return FinishedRun(request.out, request, config, data, tuple(progress.warnings))


def command_line(
    request: Request, model: Path, assignments: Sequence[str] = ()
) -> list[str]:
    """Return the arguments of `neuron-opsd run` for a request."""
    return [
        "run",
        *["--model", str(model), "--pool", request.pool, "--out", str(request.out)],
        *[
            word
            for name, file in request.tests.items()
            for word in ("--test", f"{name}={file}")
        ],
        *[word for one in (*SETTINGS, *assignments) for word in ("--set", one)],
        "--quiet",
    ]


def run_command(request: Request, model: Path, assignments: Sequence[str] = ()) -> int:
    """Run `neuron-opsd run` in this process; return its exit status."""
    return main(command_line(request, model, assignments))


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file below a folder, by relative name."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def outcome_of(run: Path) -> Mapping[str, bytes]:
    """Return all that a run must end with to the byte, whatever stopped it."""
    names = ("adapter", "controls/form-only/adapter")
    adapters = {
        f"{name}/{file}": data
        for name in names
        for file, data in files_of(run / name).items()
    }
    return adapters | {"evaluation.json": (run / "evaluation.json").read_bytes()}


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_sealed(path: Path) -> dict[str, Any]:
    """Return a file such as a manifest without its seal."""
    return unseal(path.read_bytes())


def write_sealed(path: Path, table: Mapping[str, Any]) -> None:
    """Write such a file as whoever knows how would, to lie with it."""
    path.write_bytes(seal(table))


def tiny_examples(count: int) -> tuple[TrainingExample, ...]:
    """Return examples to train on whose teacher sees a line more."""
    return tuple(
        TrainingExample(
            question=Question(f"q{n}", (Message("user", f"Is {n} odd?"),)),
            student_prompt=Prompt(text=f"Question: Is {n} odd?\nAnswer:"),
            teacher_prompt=Prompt(text=f"A cat.\n\nQuestion: Is {n} odd?\nAnswer:"),
            choices=("yes", "no"),
        )
        for n in range(count)
    )
