"""Say when the guard would have fired, and what the step that it keeps scores.

    python -m benchmarks.guard train --out runs/guard
    python -m benchmarks.guard table runs/guard

Trains methods as benchmarks/comparison.py does, for 40 steps, with the
guard looking every 5, tests each on the way, and makes a table from what the
folder holds. Labels are read for the table alone. What came of it is in
docs/lab-notebook/results.md. Trainings are done one after the other; the command goes
on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter

from benchmarks.comparison import SETTINGS, name_of, part
from neuron_opsd.cli import main as neuron_opsd
from neuron_opsd.cli.terminal import open_terminal
from neuron_opsd.comparison.run_group import CellResult
from neuron_opsd.config import GuardConfig
from neuron_opsd.config.tables import load_config
from neuron_opsd.data.questions import read_questions
from neuron_opsd.demo.fetch import fetch_demo
from neuron_opsd.method.guard import best_step, collapses
from neuron_opsd.method.readings import reading_of
from neuron_opsd.method.settings import SCORES
from neuron_opsd.models.load import load_model
from neuron_opsd.records import Look, StepMetrics
from neuron_opsd.runs.metrics import read_metrics
from neuron_opsd.stages.looking import answers_of, drawn, guard_questions, labels_for
from neuron_opsd.steps import resolve
from neuron_opsd.storage.codecs import record_codec
from neuron_opsd.storage.download_cache import cache_folder

METHODS = (
    "neuron-opsd",
    "neuron-opsd-balanced=neuron-opsd:selection.balance=true",
    "lmsi",
    "ttrl",
    "intuitor",
)
STEPS, EVERY = 40, 5
SHOWN = (5, 10, 20, 30)
"""Steps after which models are tested besides the last."""
QUESTIONS = "guard.num_questions=64"
POOL, TESTS = 400, 200
LOOKS = TypeAdapter(dict[str, Look])
TRAINED = {
    "sst2": ("neuron-opsd", "intuitor", "neuron-opsd-balanced", "lmsi", "ttrl"),
    "arc-easy": ("ttrl", "lmsi", "neuron-opsd-balanced"),
}
"""Methods by source; which of them collapse is seen from the table."""


def main() -> int:
    """Train, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train")
    train.add_argument("--out", type=Path, required=True)
    train.add_argument("--sources", nargs="+", choices=TRAINED, default=[*TRAINED])
    train.add_argument("--methods", nargs="+", choices=[*map(name_of, METHODS)])
    table = commands.add_parser("table")
    table.add_argument("folder", type=Path)
    options = parser.parse_args()
    if options.command == "table":
        print(table_of(options.folder))
        return 0
    for source in options.sources:
        wanted = options.methods or TRAINED[source]
        for method in (m for m in TRAINED[source] if m in wanted):
            if status := train_one(options.out, source, method):
                return status
    return 0


def train_one(out: Path, source: str, method: str) -> int:
    """Train a method on a source, and test it in its own domain along the way."""
    with open_terminal(quiet=False) as terminal:
        files = fetch_demo(cache_folder(), terminal, (source,))
    questions = files.questions[source]
    folder = questions_folder(out)
    pool = part(questions["pool"], folder / f"{source}-pool.jsonl", 0, POOL)
    first = 0 if source == "sst2" else TESTS
    test = part(questions["test"], folder / f"{source}-test.jsonl", first, TESTS)
    (written,) = (one for one in METHODS if name_of(one) == method)
    words = ["compare", "--model", str(files.model), "--out", str(out / source)]
    words += ["--source", f"{source}={pool}", "--test", f"{source}={test}"]
    words += ["--methods", written, "--seeds", "1", "--set", *SETTINGS]
    words += [f"distill.steps={STEPS}", f"distill.checkpoint_every={EVERY}"]
    words += [f"guard.every={EVERY}", QUESTIONS]
    words += ["evaluation.prompted=false", "--at", *map(str, SHOWN)]
    return neuron_opsd(words)


def questions_folder(out: Path) -> Path:
    """Return where the question files are."""
    return out.parent / f"{out.name}-questions"


@dataclass(frozen=True, slots=True)
class Trained:
    """A training of the folder: what its steps measured, and its accuracy by step."""

    name: str
    metrics: tuple[StepMetrics, ...]
    """With looks after the steps whose models were tested."""
    accuracy: dict[int, float]
    """After so many steps, in per cent; the untrained model has taken none."""


def trained_in(folder: Path) -> Iterator[Trained]:
    """Yield every training below a folder whose models have been tested.

    The guard's looks are taken again, at the adapters that were tested: only there is
    known what the labels say.
    """
    for path in sorted(folder.rglob("methods/*/result.json")):
        home = path.parent
        metrics = read_metrics(home / "train")
        if not metrics:
            continue
        source = path.relative_to(folder).parts[0]
        base, own = (
            record_codec("result.json", CellResult).load(place)
            for place in (home.parent / "base/result.json", path)
        )
        accuracy = {
            step: 100 * found[source].metrics["avg_at_k"]
            for step, found in sorted({0: base.tests[0], **own.tests}.items())
        }
        looks = looks_of(folder, source, home)
        steps = tuple(replace(m, look=looks.get(m.step + 1)) for m in metrics)
        yield Trained(f"{source}, {home.name}", steps, accuracy)


def looks_of(folder: Path, source: str, home: Path) -> dict[int, Look]:
    """Return looks by the number of steps, taken once and then read from a file."""
    kept = folder / f"{source}-{home.name}.looks.json"
    if not kept.exists():
        found = {str(step): look for step, look in looks_at(folder, source, home)}
        kept.write_bytes(LOOKS.dump_json(found))
    return {
        int(step): look for step, look in LOOKS.validate_json(kept.read_bytes()).items()
    }


def looks_at(folder: Path, source: str, home: Path) -> Iterator[tuple[int, Look]]:
    """Ask the models of a training, and the base, the guard's questions."""
    settings = json.loads((home / "settings.json").read_text())
    rate = f"distill.temperature={settings['distill.temperature']}"
    given = [f"model.name={settings['model.name']}", *SETTINGS, rate, QUESTIONS]
    pool = read_questions(str(questions_folder(folder) / f"{source}-pool.jsonl"))
    base = load_model(load_config(None, given).model)
    config = resolve(load_config(None, given), base, pool.questions)
    asked = guard_questions({q.id: q for q in pool.questions}, (), config)
    labels, own = labels_for(asked), drawn(base, asked, config)
    bases = answers_of(own, own, labels, config)
    for step in (*SHOWN, STEPS):
        name = "adapter" if step == STEPS else f"adapter-{step:06d}"
        model = load_model(config.model, home / name)
        found = answers_of(drawn(model, asked, config), own, labels, config)
        yield step, Look(reading_of(found, bases), reading_of(bases, bases))


def table_of(folder: Path) -> str:
    """Return a table in Markdown: a row for each training."""
    head = ["training", "Avg@8 by step", "first sign, after steps", "best by labels"]
    head += ["last", *(f"best by {name}" for name in SCORES), "kept"]
    rows = [head, ["---"] * len(head), *map(row_of, trained_in(folder))]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def row_of(trained: Trained) -> list[str]:
    """Return what is said of a training."""
    accuracy = trained.accuracy
    best = max(accuracy, key=accuracy.__getitem__)
    signs = collapses(trained.metrics, GuardConfig())
    by_score = {
        name: best_step(trained.metrics, GuardConfig(score=name)) for name in SCORES
    }
    steps = {
        name: 0 if one is None else one.num_steps for name, one in by_score.items()
    }
    kept = steps[GuardConfig().score] if signs else max(accuracy)

    def at(step: int) -> str:
        return f"{accuracy[step]:.1f} (step {step})"

    return [
        trained.name,
        " ".join(f"{value:.1f}" for value in accuracy.values()),
        f"{signs[0].step + 1}: {signs[0].sign}" if signs else "none",
        at(best),
        at(max(accuracy)),
        *map(at, steps.values()),
        f"{at(kept)}, {accuracy[kept] - accuracy[best]:+.1f}",
    ]


if __name__ == "__main__":
    sys.exit(main())
