"""What only a model can say of questions, asked before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence

from neuron_opsd.config import Config
from neuron_opsd.errors import DataError
from neuron_opsd.jobs.inputs import Inputs
from neuron_opsd.models.protocol import LanguageModel
from neuron_opsd.prompts import LETTERS
from neuron_opsd.records import Question
from neuron_opsd.stages.rollouts import ask, choice_tokens


def check_questions(
    model: LanguageModel, inputs: Inputs, config: Config, *, constrained: bool
) -> None:
    """Refuse questions that the model cannot hold, or choices it cannot tell apart.

    Raises:
        DataError: Naming the file and the question.
    """
    sets = {"pool": inputs.pool} | {test.name: test.questions for test in inputs.tests}
    for name, questions in sets.items():
        check_set(model, name, questions, config, constrained=constrained)


def check_set(
    model: LanguageModel,
    name: str,
    questions: Sequence[Question],
    config: Config,
    *,
    constrained: bool,
) -> None:
    """Check the questions of one file.

    Raises:
        DataError: If one is too long, or has choices that tokenise to the same ids.
    """
    check_letters(name, questions, config)
    for asked in ask(questions, config, constrained=constrained):
        longest = config.most_new_tokens
        if asked.written:
            longest = max(map(len, choice_tokens(model, asked)))
        length = len(model.encode(asked.prompt))
        if length + longest > model.facts.max_positions:
            raise DataError(
                f"{name}: question {asked.question.id} takes {length} tokens and its "
                f"answer up to {longest}, but the model holds "
                f"{model.facts.max_positions}; shorten the question, leave it out or "
                "lower max_new_tokens"
            )


def check_letters(name: str, questions: Sequence[Question], config: Config) -> None:
    """Refuse more choices than there are letters, where the prompt lists letters.

    Raises:
        DataError: Naming the first such question.
    """
    if config.prompts.list_choices != "letters":
        return
    for question in questions:
        if len(question.choices) > len(LETTERS):
            raise DataError(
                f"{name}: question {question.id} has {len(question.choices)} choices, "
                f"but there are {len(LETTERS)} letters; set prompts.list_choices to "
                "texts"
            )
