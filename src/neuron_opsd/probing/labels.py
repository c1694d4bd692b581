"""Gold answers of a probed pool, read only if the user gives a file.

Student and teacher are asked without them; labels only judge answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from neuron_opsd.answers.readers import readers_for
from neuron_opsd.config import Config
from neuron_opsd.data.questions import QuestionFile, read_questions
from neuron_opsd.errors import DataError, questions_text
from neuron_opsd.method.statistics import FloatArray
from neuron_opsd.probing.columns import Judge
from neuron_opsd.records import GoldAnswers, Question
from neuron_opsd.runs.inputs import POOL
from neuron_opsd.stages.probing import UNREAD, Subject
from neuron_opsd.stages.scoring import normalised_gold


def judge_of(source: str, questions: Sequence[Question], config: Config) -> Judge:
    """Return a judge of the answers to some questions.

    The file may hold others. They are matched by id, or by position if there are as
    many and no id matches.

    Raises:
        DataError: If the file does not ask what the pool asks, or lacks an answer.
    """
    found = read_questions(
        source,
        allow_download=config.model.allow_download,
        config=config.questions,
        name=POOL,
    )
    known = answers_for(source, questions, found)
    readers = readers_for(questions, config.answers, config.prompts.list_choices)
    gold = normalised_gold(questions, known, readers)

    def judge(subject: Subject) -> FloatArray:
        question = subject.question
        reader = readers[question.id]
        others = known.aliases_of.get(question.id, ())
        spelled = [reader.normalise(text, question) for text in others]
        right = [gold[question.id], *(text for text in spelled if text is not None)]
        return np.array(
            [
                float(answer != UNREAD and any(reader.same(answer, r) for r in right))
                for answer in subject.answers
            ]
        )

    return judge


def answers_for(
    source: str, questions: Sequence[Question], found: QuestionFile
) -> GoldAnswers:
    """Return the gold answers by the questions' own ids."""
    own = {question.id: question for question in found.questions}
    names = {question.id: question.id for question in questions}
    if len(own) == len(names) and not own.keys() & names.keys():
        # Ids made up for rows without one mean nothing.
        names = dict(zip(names, own, strict=True))
    others = [
        question.id
        for question in questions
        if own.get(names[question.id]) != replace(question, id=names[question.id])
    ]
    if others:
        raise DataError(
            f"{source} does not ask {questions_text(others)} as the pool does; give "
            "the pool's own file with the column answer, or leave --answers out"
        )
    gold = found.gold
    return GoldAnswers(
        {i: gold.answer_of[n] for i, n in names.items() if n in gold.answer_of},
        {i: gold.aliases_of[n] for i, n in names.items() if n in gold.aliases_of},
    )
