"""A selection rule of one's own, used by name like the others.

    python examples/new_selection_rule.py MODEL questions.jsonl runs/certain

The rule reads no neurons: it keeps the questions on whose answer the samples agree
most, and of equals those whose samples have the lowest entropy. Its entry says so, and
nothing else is computed.
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
    """Return each question's place ``(Q,)``; those with the lowest are kept.

    A question of which no sample can be read has none (NaN): it is left out and said.
    """
    del seed
    votes = [pool.votes[name] for name in pool.question_ids]
    agreement = np.array([vote.agreement for vote in votes])
    entropy = np.array([pool.entropies[name] for name in pool.question_ids])
    places = np.argsort(np.lexsort((entropy, -agreement))).astype(np.float64)
    places[[vote.pseudo_label is None for vote in votes]] = np.nan
    return places


SELECTION_RULES["most-certain"] = SelectionRule(
    order=most_certain,
    help="those whose rollouts agree most, of equals with the lowest entropy",
    reason="{place} from the most certain",
    unknown="none of its samples holds an answer that can be read",
    reads_votes=True,
    reads_entropies=True,
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
