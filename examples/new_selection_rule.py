"""A selection rule of one's own, used by name like the others.

    python examples/new_selection_rule.py MODEL questions.jsonl runs/certain

The rule reads no neurons: it keeps the questions on whose answer the rollouts agree
most, and of equals those whose own answer was written with the lowest entropy.
"""

from __future__ import annotations

import argparse

import numpy as np

import neuron_opsd as no
from neuron_opsd.method.selection import (
    SELECTION_RULES,
    PoolSignals,
    SelectionRule,
    Values,
)


def most_certain(pool: PoolSignals, seed: int) -> Values:
    """Return each question's place ``(Q,)``; those with the lowest are kept."""
    del seed
    agreement = np.array([pool.votes[name].agreement for name in pool.question_ids])
    entropy = np.array([pool.own[name].entropy for name in pool.question_ids])
    places: Values = np.argsort(np.lexsort((entropy, -agreement))).astype(np.float64)
    return places


SELECTION_RULES["most-certain"] = SelectionRule(
    order=most_certain,
    help="those whose rollouts agree most, of equals with the lowest entropy",
    reason="{place} from the most certain",
)


def train(model: str, questions: str, out: str, more: list[str]) -> None:
    """Train on the questions that the rule selects."""
    assignments = [f"model.name={model}", "selection.rule=most-certain", *more]
    report = no.run(questions, out, no.load_config(assignments=assignments))
    print(f"{report.num_selected} of {report.pool_size} questions selected")
    print(f"why each was kept or left out: {out}/selection.json")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="folder, GGUF file or hub id")
    parser.add_argument("questions", help="file of unlabelled questions")
    parser.add_argument("out", help="folder of the run")
    parser.add_argument("settings", nargs="*", help="section.field=value")
    given = parser.parse_args()
    train(given.model, given.questions, given.out, given.settings)
