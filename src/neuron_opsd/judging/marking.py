"""Mark completions inside other programs with the readers of a run.

Exported tasks for lm-eval and inspect call this, so that they and `evaluate` agree on
what is right.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from neuron_opsd.answers.readers import Reader, readers_for
from neuron_opsd.answers.reasoning import all_marks, final_part
from neuron_opsd.answers.votes import tally
from neuron_opsd.config import Config, QuestionsConfig
from neuron_opsd.config.tables import config_from_table
from neuron_opsd.data.formats.public_sets import PLAIN
from neuron_opsd.data.questions import read_questions
from neuron_opsd.records import Question
from neuron_opsd.stages.scoring import (
    normalised_aliases,
    normalised_gold,
    right_answers,
)

SETTINGS: Final = "settings.json"
"""How answers are read; next to a task's questions."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What was read of a completion, and whether it is right."""

    answer: str | None
    why: str
    correct: bool


@dataclass(frozen=True, slots=True)
class Marker:
    """Marks completions of the questions of one file."""

    questions: Mapping[str, Question]
    readers: Mapping[str, Reader]
    right: Mapping[str, tuple[str, ...]]
    """Question id to right answers, as the readers spell them."""
    config: Config

    def mark(self, question_id: str, text: str, *, finished: bool = True) -> Mark:
        """Read a completion of a question after its reasoning, and judge it."""
        question = self.questions[question_id]
        reader, model = self.readers[question_id], self.config.model
        marks = all_marks(model.reasoning_start, model.reasoning_end)
        final = final_part(text, marks=marks)
        reading = reader.read(final, question, finished=finished)
        if reading.answer is None:
            return Mark(None, reading.why, correct=False)
        found = right_answers([reading.answer], self.right[question_id], reader)
        return Mark(reading.answer, reading.why, found[reading.answer])

    def measures(self, question_id: str, texts: Sequence[str]) -> dict[str, float]:
        """Return the accuracy of a question's samples and of their vote."""
        marks = [self.mark(question_id, text) for text in texts]
        reader = self.readers[question_id]
        vote = tally(question_id, [mark.answer for mark in marks], reader.same)
        by_answer = {mark.answer: mark.correct for mark in marks}
        return {
            "acc": sum(mark.correct for mark in marks) / len(marks),
            "maj": float(
                vote.pseudo_label is not None and by_answer[vote.pseudo_label]
            ),
            "unread": sum(mark.answer is None for mark in marks) / len(marks),
        }


@lru_cache(maxsize=64)
def marker(questions: str) -> Marker:
    """Return the marker of a task's question file, next to `SETTINGS`."""
    path = Path(questions)
    config = config_from_table(json.loads((path.parent / SETTINGS).read_text("utf-8")))
    file = read_questions(path, config=QuestionsConfig(format=PLAIN))
    readers = readers_for(file.questions, config.answers, config.prompts.list_choices)
    gold = normalised_gold(file.questions, file.gold, readers)
    right = {
        one.id: (gold[one.id], *normalised_aliases(one, file.gold, readers[one.id]))
        for one in file.questions
    }
    return Marker({one.id: one for one in file.questions}, readers, right, config)


def rows(questions: str) -> list[dict[str, Any]]:
    """Return the raw rows of a question file."""
    text = Path(questions).read_text("utf-8")
    return [json.loads(line) for line in text.splitlines() if line.strip()]
