"""Does the demonstration's gain hold where pool and test share no answers?

    python benchmarks/demo_unseen.py runs/demo-seed-*

The question set is templated: many test answers are also a choice of some question of
the pool. This splits the in-domain test by whether they are, and prints every part as
Markdown, with paired bootstrap intervals over questions.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from neuron_opsd.answers.votes import sampled_rollouts
from neuron_opsd.data.questions import QuestionFile, read_questions
from neuron_opsd.demo.demonstration import IN_DOMAIN
from neuron_opsd.records import GoldAnswers, Question
from neuron_opsd.seeds import generator
from neuron_opsd.storage.codecs import ROLLOUTS

NUM_RESAMPLES = 10_000
MODELS = ("before", "prompted", "form-only", "after")

Values = NDArray[np.float64]


def main() -> None:
    """Print one table for all runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    print(
        "| run | test questions | n | base | own demonstrations | form only | trained |"
    )
    print("|---|---|---|---|---|---|---|")
    for run in parser.parse_args().runs:
        for line in rows(run):
            print(line)


def rows(run: Path) -> list[str]:
    """Return the lines of one run."""
    folder = run.parent / f"{run.name}-questions"
    pool = read_questions(folder / "pool.jsonl")
    test = read_questions(folder / f"{IN_DOMAIN}.jsonl")
    shares = {model: correct_shares(run, model, test) for model in MODELS}
    return [
        row(run.name, label, chosen, shares)
        for label, chosen in parts(pool.questions, test).items()
    ]


def correct_shares(run: Path, model: str, test: QuestionFile) -> Values:
    """Return for every test question the share of right rollouts of one model."""
    path = run / "tests" / IN_DOMAIN / f"{model}.parquet"
    rollouts = sampled_rollouts(ROLLOUTS.load(path))
    return np.array(
        [
            fmean(r.answer == test.gold.answer_of[q.id] for r in rollouts[q.id])
            for q in test.questions
        ]
    )


def parts(pool: tuple[Question, ...], test: QuestionFile) -> dict[str, Values]:
    """Return which test questions belong to each part."""
    seen = {choice.casefold() for question in pool for choice in question.choices}
    gold: GoldAnswers = test.gold
    gold_seen = [gold.answer_of[q.id].casefold() in seen for q in test.questions]
    any_seen = [
        any(choice.casefold() in seen for choice in q.choices) for q in test.questions
    ]
    return {
        "all": np.ones(len(test.questions), dtype=bool),
        "answer is a choice of the pool": np.array(gold_seen),
        "answer is no choice of the pool": ~np.array(gold_seen),
        "no choice is one of the pool": ~np.array(any_seen),
    }


def row(name: str, label: str, chosen: Values, shares: dict[str, Values]) -> str:
    """Return one part's line."""
    some = {model: values[chosen] for model, values in shares.items()}
    means = [f"{100 * some[model].mean():.1f}" for model in MODELS[:-1]]
    gain = difference(some["after"] - some["before"], name, label)
    net = difference(some["after"] - some["form-only"], name, label)
    trained = f"{100 * some['after'].mean():.1f}: {gain}, net of form {net}"
    return (
        "| " + " | ".join([name, label, str(int(chosen.sum())), *means, trained]) + " |"
    )


def difference(values: Values, *parts: str) -> str:
    """Return a mean difference in points with its interval."""
    draws = generator(0, "unseen", *parts).integers(
        0, len(values), (NUM_RESAMPLES, len(values))
    )
    low, high = np.quantile(values[draws].mean(axis=1), [0.025, 0.975])
    return f"{100 * values.mean():+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


if __name__ == "__main__":
    main()
