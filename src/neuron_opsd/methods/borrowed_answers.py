"""What the form-only control imitates where a question has no choices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neuron_opsd.errors import DataError
from neuron_opsd.method.contexts import drawn_rows, rows_barred
from neuron_opsd.records import TrainingExample
from neuron_opsd.seeds import generator

NUM_OTHERS = 64
"""Answers to other questions from which the control draws for a question."""

MANY_SAME: Final = 1000
"""Questions of one text above which only rows that are not barred are drawn among."""


def with_others(
    examples: Sequence[TrainingExample],
    answers: Mapping[str, str],
    excluded: Mapping[str, frozenset[str]],
    seed: int,
) -> tuple[TrainingExample, ...]:
    """Give the examples without choices some answers to other questions to choose from.

    Args:
        examples: What is trained on.
        answers: Question id to the model's own answer.
        excluded: For a question's id the ids of the same text, whose answers it may
            not be given.
        seed: Of the run.

    Raises:
        DataError: If there is none for a question.
    """
    texts = list(answers.values())
    free = [example.question_id for example in examples if not example.choices]
    barred = dict(zip(free, rows_barred(free, list(answers), excluded), strict=True))

    def others(name: str) -> tuple[str, ...]:
        same = excluded.get(name, frozenset())
        num_same = len(same) + (name not in same)
        rng = generator(seed, "others", name)
        rows = others_rows(rng, len(texts), barred[name], num_same)
        if not rows:
            raise DataError(
                "the form-only control has no answer to imitate for question "
                f"{name}: no other question of the pool has a readable answer; set "
                "answers.reader or rollouts.max_new_tokens so that answers can be read"
            )
        return tuple(texts[row] for row in rows)

    return tuple(
        example
        if example.choices
        else replace(example, choices=others(example.question_id))
        for example in examples
    )


def others_rows(
    rng: np.random.Generator, num_rows: int, barred: NDArray[np.int64], num_same: int
) -> list[int]:
    """Draw the rows of at most `NUM_OTHERS` answers to other questions.

    Args:
        rng: Draws.
        num_rows: How many answers there are.
        barred: Rows of those to questions of the same text, sorted.
        num_same: How many questions have that text, with an answer or not.
    """
    if num_same > MANY_SAME:  # drawing until enough are not barred would take too long
        return drawn_rows(rng, num_rows, barred, NUM_OTHERS)
    count = min(num_rows, NUM_OTHERS + num_same)
    drawn = rng.choice(num_rows, count, replace=False)
    return [int(row) for row in drawn[~np.isin(drawn, barred)][:NUM_OTHERS]]
