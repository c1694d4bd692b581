"""Methods that imitate completions which somebody else wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from neuron_opsd.config import FORM_ONLY, Config
from neuron_opsd.errors import DataError
from neuron_opsd.method.contexts.drawn import drawn_rows
from neuron_opsd.method.contexts.search import rows_barred
from neuron_opsd.method.losses import imitation_loss
from neuron_opsd.methods.distillation import EmaOnly
from neuron_opsd.methods.method import (
    GROUPS,
    SHORT_ANSWERS,
    Method,
    PoolAnswers,
    Preset,
    sections,
)
from neuron_opsd.models.roles import Learner
from neuron_opsd.records import Completion
from neuron_opsd.seeds import generator
from neuron_opsd.stages.engine_gap import token_weights
from neuron_opsd.stages.sequences import completion_tokens, student_pairs
from neuron_opsd.stages.training import (
    Batch,
    Examples,
    RolloutGroup,
    RolloutGroups,
    Sequences,
    TrainingSequence,
)
from neuron_opsd.stages.training_rollouts import draw, voted

NUM_OTHERS = 64
"""Answers to other questions from which form-only draws for a question."""

MANY_SAME: Final = 1000
"""Questions of one text above which only rows that are not barred are drawn among."""


class Imitation(Method):
    """Supervised training on given completions, with cross-entropy."""

    acts_on = "the whole vocabulary at every token of what is imitated"

    def loss(self, learner: Learner, sequences: Sequences) -> Tensor:
        """Return the cross-entropy of the completions."""
        config = self.config.distill
        student = learner.student(student_pairs(learner, sequences))
        tokens = completion_tokens(sequences, student.hidden)
        weights = token_weights(student, sequences, config, of_drawn=True)
        return imitation_loss(student, tokens, config.chunk_positions, weights)


class ContextSFT(Imitation):
    """Imitates the answers of the frozen model that sees the demonstrations."""

    name = "context-sft"
    source = "control: neuron-opsd without rollouts of its own"
    notes = (
        "it draws at LMSI's temperature of 0.7 unless set otherwise: a frozen model "
        "writes what it imitates, so nothing has to be on-policy",
        "a completion without an answer that can be read, such as one that was cut "
        "before it gave any, is not imitated",
    )
    preset = Preset(
        1e-5,
        {"learning rate": "none, it is a control; LMSI's is taken"},
        settings=sections(distill={"temperature": 0.7, "num_samples": 8}),
    )
    settings = sections(distill={"temperature": 0.7})
    short_answers = SHORT_ANSWERS
    without_neurons = sections(selection={"rule": "random"})
    reads_contexts = True

    def roll_out(self, learner: Learner, batch: Batch) -> RolloutGroups:
        """Return what gives an answer that can be read."""
        count = self.config.distill.num_samples
        drawn = draw(learner.frozen, batch, count, self.config, with_context=True)
        return [
            RolloutGroup(
                group.sequences(lambda answer: answer is not None), group.completions
            )
            for group in voted(batch.examples, drawn, self.config)
        ]


class LMSI(Imitation):
    """Imitates the frozen model's rollouts that give the majority's answer.

    They are drawn when a question's turn comes, as many as every other method draws:
    what a file of its samples would hold, with fresh ones every epoch.
    """

    name = "lmsi"
    source = "Huang et al., arXiv:2210.11610, with one prompt format"
    notes = (
        "one prompt format instead of four, since questions of any kind are asked "
        "here and the other formats need worked examples",
        "samples are drawn afresh each time a question comes up; the paper draws all "
        "of them once",
        "the paper's 32 completions a step would be those of one question, so the "
        "preset leaves `distill.batch_size`",
        "the paper's rate and its 10,000 steps are those of a model of 540B "
        "parameters; the preset takes 1e-5, and its steps are `distill.steps`",
    )
    preset = Preset(
        1e-5,
        {
            "learning rate": "5e-5 for a model of 540B parameters (full)",
            "sampling": "temperature 0.7",
            "samples": "32, drawn once",
            "votes": "32",
            "steps": "10,000",
            "questions": "32 completions a step",
        },
        settings=sections(distill={"temperature": 0.7, "num_samples": 32}),
    )
    settings = sections(GROUPS, distill={"temperature": 0.7})
    votes = True

    def roll_out(self, learner: Learner, batch: Batch) -> RolloutGroups:
        """Return what gives the voted answer, of the rollouts that do not only vote."""
        count = self.config.distill.num_samples
        most = self.num_drawn(self.config)
        drawn = draw(learner.frozen, batch, most, self.config)
        return [
            RolloutGroup(
                group.first(count).sequences(group.agrees),
                group.completions,
                agreement=group.vote.agreement,
            )
            for group in voted(batch.examples, drawn, self.config)
        ]


class FormOnly(Imitation):
    """Imitates random choices: what any training teaches of an answer's form.

    Where a question has no choices, they are the model's own answers to other
    questions.
    """

    name = FORM_ONLY
    source = "control"
    notes = (
        "it draws nothing, so only the learning rate and the schedule of its preset "
        "matter; its questions are chosen as ema-only's are",
    )
    preset = EmaOnly.preset
    settings = EmaOnly.settings
    short_answers = EmaOnly.short_answers
    learns_from_itself = False

    @classmethod
    def num_drawn(cls, config: Config) -> int:
        """Return 0: nothing is drawn."""
        del config
        return 0

    def examples(self, shown: Examples, answers: PoolAnswers) -> Examples:
        """Give examples without choices some random answers to others as choices."""
        free = [example.question_id for example in shown if not example.choices]
        if not free:
            return shown
        texts = answers.texts()
        others = answers_to_others(free, texts, answers.excluded, self.config.seed)
        return tuple(
            example
            if example.choices
            else replace(example, choices=others[example.question_id])
            for example in shown
        )

    def roll_out(self, learner: Learner, batch: Batch) -> RolloutGroups:
        """Return a uniformly random choice of each example."""
        groups = []
        for place, example in batch.placed:
            rng = generator(
                self.config.seed, self.name, batch.step, place, example.question_id
            )
            text = example.choices[int(rng.integers(len(example.choices)))]
            ids = learner.encode_answer(example.student_prompt, text)
            choice = Completion(ids, text, finished=True, logprob=0.0, entropy=0.0)
            groups.append(RolloutGroup((TrainingSequence(example, choice),)))
        return groups


def answers_to_others(
    question_ids: Sequence[str],
    answers: Mapping[str, str],
    excluded: Mapping[str, frozenset[str]],
    seed: int,
) -> dict[str, tuple[str, ...]]:
    """Draw for each question some of the answers to others."""
    texts = list(answers.values())
    found = {}
    all_barred = rows_barred(question_ids, list(answers), excluded)
    for name, barred in zip(question_ids, all_barred, strict=True):
        same = excluded.get(name, frozenset())
        rng = generator(seed, "others", name)
        rows = others_rows(rng, len(texts), barred, len(same) + (name not in same))
        if not rows:
            raise DataError(
                "the form-only control has no answer to imitate for question "
                f"{name}: no other question of the pool has a readable answer; set "
                "answers.reader or rollouts.max_new_tokens so that answers can be read"
            )
        found[name] = tuple(texts[row] for row in rows)
    return found


def others_rows(
    rng: np.random.Generator, num_rows: int, barred: NDArray[np.int64], num_same: int
) -> list[int]:
    """Draw the rows of at most `NUM_OTHERS` answers to other questions.

    Barred are the sorted rows of answers to questions of the same text, which are
    `num_same`, with an answer or not.
    """
    if num_same > MANY_SAME:  # drawing until enough are not barred would take too long
        return drawn_rows(rng, num_rows, barred, NUM_OTHERS)
    count = min(num_rows, NUM_OTHERS + num_same)
    drawn = rng.choice(num_rows, count, replace=False)
    return [int(row) for row in drawn[~np.isin(drawn, barred)][:NUM_OTHERS]]


METHODS: Final = (ContextSFT, LMSI, FormOnly)
