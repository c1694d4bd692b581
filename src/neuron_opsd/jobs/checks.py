"""What only a model can say of questions, asked before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from neuron_opsd.config import Config
from neuron_opsd.errors import DataError, ModelError
from neuron_opsd.jobs.inputs import Inputs
from neuron_opsd.models.protocol import LanguageModel
from neuron_opsd.prompts import LETTERS, teacher_prompt
from neuron_opsd.records import Prompt, Question, TokenIds
from neuron_opsd.stages.rollouts import ask, choice_tokens


def check_questions(
    model: LanguageModel, inputs: Inputs, config: Config, *, constrained: bool
) -> None:
    """Refuse questions that the model cannot hold, or choices it cannot tell apart.

    Raises:
        DataError: Naming the file and the question.
    """
    sets = {"pool": inputs.pool} | {test.name: test.questions for test in inputs.tests}
    check_sets(model, sets, config, constrained=constrained)


def check_sets(
    model: LanguageModel,
    sets: Mapping[str, Sequence[Question]],
    config: Config,
    *,
    constrained: bool,
) -> None:
    """Check questions of several files, the pool's under the name `pool`.

    Raises:
        DataError: Naming the file and the question.
    """
    for name, questions in sets.items():
        check_set(model, name, questions, config, constrained=constrained)
    if config.contexts.num_demonstrations:
        check_shown(model, sets, config)


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
        DataError: If one is too long, its turns cannot be written, or it has choices
            that tokenise to the same ids.
    """
    check_letters(name, questions, config)
    for asked in ask(questions, config, constrained=constrained):
        who = f"{name}: question {asked.question.id}"
        prompt = encoded(model, asked.prompt, who)
        answers = choice_tokens(model, asked) if asked.written else []
        longest = max(map(len, answers), default=config.most_new_tokens)
        if len(prompt) + longest > model.facts.max_positions:
            raise DataError(
                f"{who} takes {len(prompt)} tokens and its answer up to {longest}, but "
                f"the model holds {model.facts.max_positions}; shorten the question, "
                "leave it out or lower max_new_tokens"
            )
        check_known(model, [prompt, *answers], who)


def encoded(model: LanguageModel, prompt: Prompt, who: str) -> TokenIds:
    """Return a prompt's token ids.

    Raises:
        DataError: If it cannot be written, naming the file and the question.
    """
    try:
        return model.encode(prompt)
    except (DataError, ModelError) as error:
        raise DataError(f"{who}: {error}") from error


def check_known(model: LanguageModel, texts: Sequence[TokenIds], who: str) -> None:
    """Refuse tokens for which a model has no weights, as some tokenizers have them.

    Raises:
        DataError: Naming the file, the question and the token.
    """
    last = max(max(text, default=0) for text in texts)
    if last >= model.facts.vocab_size:
        raise DataError(
            f"{who} is written with token {last} ({model.decode((last,))!r}), but the "
            f"model has weights for {model.facts.vocab_size}; its tokenizer or its "
            "chat template belongs to another model, so get their files again"
        )


def check_shown(
    model: LanguageModel, sets: Mapping[str, Sequence[Question]], config: Config
) -> None:
    """Refuse turns that the chat template does not write after a demonstration.

    What a template takes depends on whose turns follow each other, so one question
    stands for all with the same ones.

    Raises:
        DataError: Naming the file and the question.
    """
    shown = {roles(question): question for question in sets["pool"]}
    for name, questions in sets.items():
        asked = {roles(question): question for question in reversed(questions)}
        for question in asked.values():
            for other in shown.values():
                prompt = teacher_prompt(question, [(other, "answer")], config.prompts)
                who = f"{name}: question {question.id} after the answered {other.id}"
                encoded(model, prompt, who)


def roles(question: Question) -> tuple[str, ...]:
    """Return whose turns a question consists of."""
    return tuple(message.role for message in question.messages)


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
