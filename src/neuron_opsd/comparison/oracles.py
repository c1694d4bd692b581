"""Gold answers of a pool, only for upper bounds that the user asked for."""

from __future__ import annotations

from collections.abc import Sequence

from neuron_opsd.answers.readers import readers_for
from neuron_opsd.config import Config
from neuron_opsd.data.questions import read_questions
from neuron_opsd.errors import DataError, questions_text
from neuron_opsd.methods import Target, Targets
from neuron_opsd.prompts import choice_answers
from neuron_opsd.records import Question
from neuron_opsd.runs.inputs import POOL
from neuron_opsd.stages.scoring import normalised_gold


def targets_of(pool: str, questions: Sequence[Question], config: Config) -> Targets:
    """Return the gold answers of a pool's file, normalised and as written."""
    gold = read_questions(
        pool,
        allow_download=config.model.allow_download,
        config=config.questions,
        name=POOL,
    ).gold
    missing = [q.id for q in questions if q.id not in gold.answer_of]
    if missing:
        raise DataError(
            f"{pool} has no answer for {questions_text(missing)}, which an oracle "
            "needs; add the column answer or leave the oracle out"
        )
    prompts = config.prompts
    readers = readers_for(questions, config.answers, prompts.list_choices)
    answers = normalised_gold(questions, gold, readers)
    written = {q.id: gold.answer_of[q.id].strip() for q in questions}
    for question in questions:
        if answers[question.id] in question.choices:
            place = question.choices.index(answers[question.id])
            written[question.id] = choice_answers(question, prompts)[place]
    return {name: Target(answer, written[name]) for name, answer in answers.items()}
