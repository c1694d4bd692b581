"""Print what came of benchmarks/reasoning.py as a Markdown table, finished or not.

    python benchmarks/reasoning_table.py runs/reasoning

A comparison writes its page once all its models are there. This reads the results that
are stored already, so a comparison that was stopped has a table too. Intervals are of
the paired bootstrap over questions, 95 %.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

from neuron_opsd.method.resampling import Resampled, resample
from neuron_opsd.method.statistics import FloatArray
from neuron_opsd.results.comparison import BASE, FORM
from neuron_opsd.results.run import PROMPTED

TEST: Final = "gsm8k"
MODELS: Final = (BASE, PROMPTED, FORM, "neuron-opsd", "lmsi", "ttrl")
NUM_RESAMPLES: Final = 10_000
HEADINGS: Final = (
    *("model", "right, %", "against base", "net of form only", "seen"),
    *("not read, %", "cut, %", "tokens", "drawn", "trained on", "s"),
)

Result: TypeAlias = Mapping[str, Any]


def main() -> None:
    """Print a table for every seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("comparison", type=Path)
    folder = parser.parse_args().comparison
    for seed in sorted(folder.glob(f"blocks/{TEST}/seed-*")):
        print(f"\n{seed.name}\n")
        print_row(HEADINGS)
        print_row(["---"] * len(HEADINGS))
        for row in rows(seed / BASE / "methods"):
            print_row(row)


def print_row(cells: Any) -> None:
    """Print one line of a table."""
    print(f"| {' | '.join(cells)} |")


def rows(methods: Path) -> Iterator[list[str]]:
    """Yield a row for every model; one without a result says so."""
    found: dict[str, Result] = {}
    for name in MODELS:
        path = methods / name / "result.json"
        if path.is_file():
            found[name] = json.loads(path.read_bytes())
    drawn = resampled({name: tested(result) for name, result in found.items()})
    for name in MODELS:
        if name not in found:
            yield [name, "not finished", *[""] * (len(HEADINGS) - 2)]
            continue
        yield [name, *accuracy(name, drawn), *costs(found[name])]


def tested(result: Result) -> Result:
    """Return the test after the last step."""
    tests: Mapping[str, Mapping[str, Result]] = result["tests"]
    return tests[max(tests, key=int)][TEST]


def resampled(tests: Mapping[str, Result]) -> dict[str, Resampled]:
    """Draw all models' accuracies on the same resampled questions."""
    samples = []
    for test in tests.values():
        by_id = {score["question_id"]: score for score in test["scores"]}
        scores = [by_id[name] for name in sorted(by_id)]
        right = [score["num_correct"] / score["num_rollouts"] for score in scores]
        samples.append(np.array(right)[:, None])
    num_questions = {len(sample) for sample in samples}
    if len(num_questions) != 1:
        raise SystemExit(f"the models answered {sorted(num_questions)} questions")
    rng = np.random.default_rng(0)
    drawn = resample(mean, samples, num_questions.pop(), NUM_RESAMPLES, rng)
    return dict(zip(tests, drawn, strict=True))


def mean(sample: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the weighted means ``(R, M)`` of ``(Q, M)`` by ``(R, Q)``."""
    total: FloatArray = weights @ sample / weights.sum(axis=1, keepdims=True)
    return total


def accuracy(name: str, drawn: Mapping[str, Resampled]) -> Iterator[str]:
    """Yield the share of right answers, and differences that it is judged by."""
    (own,) = drawn[name].intervals()
    yield f"{100 * own.value:.1f} ({100 * own.low:.1f} to {100 * own.high:.1f})"
    seen = ""
    for other in (BASE, FORM):
        if (
            name in (BASE, other)
            or other not in drawn
            or (name == PROMPTED and other == FORM)
        ):
            yield ""
            continue
        (difference,) = (drawn[name] - drawn[other]).intervals()
        low, high = 100 * difference.low, 100 * difference.high
        if other == BASE:
            seen = "better" if low > 0 else "worse" if high < 0 else "no difference"
        yield f"{100 * difference.value:+.1f} ({low:+.1f} to {high:+.1f})"
    yield seen


def costs(result: Result) -> Iterator[str]:
    """Yield how a model answered, and what its training took."""
    metrics = tested(result)["metrics"]
    yield f"{100 * metrics['parse_failure']:.0f}"
    yield f"{100 * metrics['truncation']:.0f}"
    yield f"{metrics['mean_length']:.0f}"
    spent = result["spent"] or {}
    for name in ("generated_tokens", "trained_tokens", "seconds"):
        yield f"{spent[name]:,.0f}" if spent else ""


if __name__ == "__main__":
    main()
