"""Draw one page over all blocks of a part, as `neuron-opsd compare` draws one.

    python -m benchmarks.factorial.page docs/lab-notebook/factorial runs/factorial.html

Reads what is kept of every block, so it says what that holds: accuracy and calibration,
but not what needs the answers themselves. A block is tested on its own domain and on
sets that all share, so the page has no mean over other domains: those sets have tables
of their own.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import pyarrow.compute as pc

from benchmarks.factorial.answers import read_scores
from benchmarks.factorial.keeping import COMPARISON
from benchmarks.factorial.sources import CROSS_DOMAIN, EXPERIMENT
from neuron_opsd.comparison.contrasting import contrasts
from neuron_opsd.comparison.measuring import Arm, Frame, Tested, measurements
from neuron_opsd.config import EvaluationConfig, ModelConfig
from neuron_opsd.demo.fetch import fetch_demo
from neuron_opsd.demo.sources import MODEL
from neuron_opsd.models.load import load_tokenizer
from neuron_opsd.progress import QUIET
from neuron_opsd.records.scores import QuestionScore, TestResult
from neuron_opsd.report.comparison_page import render_comparison
from neuron_opsd.results.comparison import (
    BASE,
    BudgetLine,
    ComparisonData,
    Failure,
    MethodLine,
)
from neuron_opsd.results.run import ModelSummary
from neuron_opsd.runs.reporting import model_summary
from neuron_opsd.stages.scoring import summarise
from neuron_opsd.storage.download_cache import cache_folder
from neuron_opsd.storage.files import write_atomic

CONFIG: Final = EvaluationConfig(num_resamples=2000)
"""Fewer resamples than a block has: a thousand results are resampled here."""
NOT_KEPT: Final = frozenset(
    ("parse_failure", "truncation", "mean_length", "top_answer_share", "baseline")
)
"""Measures whose answers are not kept, so that they would be wrong."""


def page_of(kept: Path, part: str, model: ModelSummary) -> str:
    """Return the page of a part as HTML.

    Raises:
        SystemExit: If no block of it has ended.
    """
    files = sorted(kept.glob(f"{part}/*/{COMPARISON}"))
    blocks = [json.loads(path.read_text(encoding="utf-8")) for path in files]
    rows = read_scores(kept).filter(pc.field("part") == part).to_pylist()
    if not blocks or not rows:
        raise SystemExit(f"no block of {part} in {kept} has ended")
    tested = list(tested_of(rows))
    present = {one.arm.source for one in tested}
    sources = tuple(source for source in EXPERIMENT if source in present)
    targets = (*sources, *CROSS_DOMAIN)
    data = ComparisonData(
        title=f"The factorial experiment: {part}",
        model=model,
        sources=sources,
        targets=targets,
        methods=tuple(methods_of(blocks)),
        starts=(BASE,),
        seeds=tuple(sorted({one.seed for one in tested})),
        steps=tuple(sorted({one.arm.step for one in tested if one.arm.step})),
        num_samples=blocks[0]["num_samples"],
        num_questions={name: size_of(tested, name) for name in targets},
        measurements=measurements(tested, sources, targets),
        contrasts=contrasts(tested, Frame(sources, targets, CONFIG, seed=0)),
        budgets=tuple(budgets_of(blocks)),
        failures=tuple(Failure(**one) for block in blocks for one in block["failures"]),
        missing=sum(block["missing"] for block in blocks),
        settings=blocks[0]["settings"],
        warnings=tuple(warning for block in blocks for warning in block["warnings"]),
        versions=blocks[0]["versions"],
        data_hashes={k: v for block in blocks for k, v in block["data_hashes"].items()},
        command="python -m benchmarks.factorial",
    )
    return render_comparison(data)


def tested_of(rows: Iterable[Mapping[str, Any]]) -> Iterator[Tested]:
    """Yield every model with its results; questions ascend by id."""
    models: dict[tuple[Arm, int], dict[str, list[QuestionScore]]] = {}
    for row in sorted(rows, key=lambda row: row["question_id"]):
        arm = Arm(row["start"], row["source"], row["method"], row["steps"])
        tests = models.setdefault((arm, row["seed"]), defaultdict(list))
        tests[row["test"]].append(score_of(row))
    for (arm, seed), tests in models.items():
        yield Tested(arm, seed, {name: result_of(name, s) for name, s in tests.items()})


def score_of(row: Mapping[str, Any]) -> QuestionScore:
    """Return what is kept of a question's answers."""
    return QuestionScore(
        question_id=row["question_id"],
        num_correct=row["num_correct"],
        num_rollouts=row["num_rollouts"],
        majority_answer=None,
        majority_correct=row["majority_correct"],
        agreement=row["agreement"],
        num_unread=0,
        num_truncated=0,
        mean_length=0.0,
    )


def result_of(name: str, scores: list[QuestionScore]) -> TestResult:
    """Return a model's result on a test set with the measures that are known."""
    whole = summarise(name, scores, CONFIG)
    known = {key: v for key, v in whole.metrics.items() if key not in NOT_KEPT}
    return TestResult(name, known, whole.scores)


def size_of(tested: Iterable[Tested], name: str) -> int:
    """Return how many questions a test set has."""
    return max(len(one.tests[name].scores) for one in tested if name in one.tests)


def methods_of(blocks: Iterable[Mapping[str, Any]]) -> Iterator[MethodLine]:
    """Yield every arm once, as its first block names it."""
    lines = {line["name"]: line for block in blocks for line in block["methods"]}
    for line in lines.values():
        yield MethodLine(**line)


def budgets_of(blocks: Iterable[Mapping[str, Any]]) -> Iterator[BudgetLine]:
    """Yield what every arm took on a source, the mean over seeds."""
    found = defaultdict(list)
    for block in blocks:
        for line in block["budgets"]:
            found[line["start"], line["source"], line["method"]].append(line)
    amounts = [one.name for one in fields(BudgetLine)][3:]
    for place, lines in found.items():
        means = [fmean(one[name] for one in lines) for name in amounts]
        yield BudgetLine(*place, *means)


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.factorial.page")
    parser.add_argument("kept", type=Path)
    parser.add_argument("page", type=Path)
    parser.add_argument("--part", default="main")
    parser.add_argument("--model", type=Path, help="folder; else that of the demo")
    options = parser.parse_args()
    folder = options.model or fetch_demo(cache_folder(), QUIET, ()).model
    model = model_summary(load_tokenizer(ModelConfig(name=str(folder))).facts)
    if options.model is None:
        model = replace(model, name=MODEL.title)
    write_atomic(options.page, page_of(options.kept, options.part, model).encode())


if __name__ == "__main__":
    main()
