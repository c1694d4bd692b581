"""Checks of questions with a model's tokenizer, before anything is computed.

One `DataError` covers all bad questions and shows twenty, with places.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from neuron_opsd.config import Config
from neuron_opsd.data.rows import MAX_PROBLEMS
from neuron_opsd.errors import DataError, ModelError
from neuron_opsd.models.roles import Tokenizer
from neuron_opsd.prompts import LETTERS, teacher_prompt
from neuron_opsd.records import Prompt, Question, TokenIds
from neuron_opsd.runs.inputs import POOL, Inputs, read_pool
from neuron_opsd.stages.rollouts import PromptedQuestion, ask, choice_tokens

CHUNK: Final = 256
"""Questions rendered and encoded at once."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one question."""

    name: str
    """Of its file: `pool`, or the test set."""
    question_id: str
    text: str


def check_questions(model: Tokenizer, inputs: Inputs, config: Config) -> None:
    """Refuse questions too long, or choices that the model cannot tell apart."""
    sets = {POOL: inputs.pool} | {test.name: test.questions for test in inputs.tests}
    check_sets(model, sets, config, inputs.sources)


def check_sets(
    model: Tokenizer,
    sets: Mapping[str, Sequence[Question]],
    config: Config,
    sources: Mapping[str, str],
) -> None:
    """Check several files; the pool is named `pool`."""
    found = (
        problem
        for name, questions in sets.items()
        for start in range(0, len(questions), CHUNK)
        for problem in problems_of(
            model, name, ask(questions[start : start + CHUNK], config), config
        )
    )
    first = list(islice(found, MAX_PROBLEMS))
    hidden = sum(1 for _ in found)
    if first:
        more = [f"and {hidden} more"] if hidden else []
        raise DataError("\n".join([*lines_of(first, sources, config), *more]))
    if POOL in sets and config.contexts.num_demonstrations and not config.shows_given:
        check_shown(model, sets, config)


def lines_of(
    problems: Sequence[Problem], sources: Mapping[str, str], config: Config
) -> list[str]:
    """Return one line per problem, with file and place."""
    # Looked up only now, since most questions are good.
    places = {
        name: read_pool(sources[name], config, name).place_of
        for name in dict.fromkeys(problem.name for problem in problems)
        if name in sources
    }
    return [
        f"{where(problem, sources, places.get(problem.name, {}))}: {problem.text}"
        for problem in problems
    ]


def where(
    problem: Problem, sources: Mapping[str, str], place_of: Mapping[str, str]
) -> str:
    """Say where a question is, as exactly as known."""
    file = sources.get(problem.name, problem.name)
    place = place_of.get(problem.question_id)
    return f"{file}, {place}" if place else file


def problems_of(
    model: Tokenizer, name: str, asked: Sequence[PromptedQuestion], config: Config
) -> Iterator[Problem]:
    """Yield the problems of some questions of one file.

    Turns the template refuses are reported alone: it then refuses most conversations.
    """
    sound = []
    for one in asked:
        if problem := letters_problem(one.question, config):
            yield Problem(name, one.question.id, f"{whose(one)} {problem}")
        elif problem := model.refusal(one.prompt):
            yield Problem(name, one.question.id, f"{whose(one)}: {problem}")
        else:
            sound.append(one)
    prompts = encoded(
        model, [one.prompt for one in sound], [f"{name}: {whose(o)}" for o in sound]
    )
    fine = []
    for one, prompt in zip(sound, prompts, strict=True):
        if problem := token_problem(model, one, prompt, config):
            yield Problem(name, one.question.id, problem)
        else:
            fine.append(one)
    if name == POOL:
        yield from long_teachers(model, fine, config)


def whose(asked: PromptedQuestion) -> str:
    """Name a question."""
    return f"question {asked.question.id}"


def encoded(
    model: Tokenizer, prompts: Sequence[Prompt], names: Sequence[str]
) -> list[TokenIds]:
    """Encode prompts."""
    try:
        return model.encode_all(prompts)
    except (DataError, ModelError) as error:
        for name, prompt in zip(names, prompts, strict=True):
            try:
                model.encode(prompt)
            except (DataError, ModelError) as own:
                raise DataError(f"{name}: {own}") from own
        raise DataError(f"{names[0]}: {error}") from error


def token_problem(
    model: Tokenizer, asked: PromptedQuestion, prompt: TokenIds, config: Config
) -> str:
    """Say what is wrong with a question's or choices' tokens."""
    try:
        answers = choice_tokens(model, asked) if asked.written else []
    except DataError as error:
        return str(error)
    longest = max(map(len, answers), default=config.most_new_tokens)
    return length_problem(model, whose(asked), len(prompt), longest) or unknown_problem(
        model, whose(asked), [prompt, *answers]
    )


def length_problem(model: Tokenizer, who: str, length: int, longest: int) -> str:
    """Say that prompt and longest answer do not fit."""
    if length + longest <= model.facts.max_positions:
        return ""
    return (
        f"{who} takes {length} tokens and its answer up to {longest}, but the model "
        f"holds {model.facts.max_positions}; shorten the question, leave it out or "
        "lower max_new_tokens"
    )


def unknown_problem(model: Tokenizer, who: str, texts: Sequence[TokenIds]) -> str:
    """Name a token without weights."""
    last = max(max(text, default=0) for text in texts)
    if last < model.facts.vocab_size:
        return ""
    return (
        f"{who} is written with token {last} ({model.decode((last,))!r}), but the "
        f"model has weights for {model.facts.vocab_size}; its tokenizer or its chat "
        "template belongs to another model, so get their files again"
    )


def long_teachers(
    model: Tokenizer, asked: Sequence[PromptedQuestion], config: Config
) -> Iterator[Problem]:
    """Yield questions that fit the student but not the teacher.

    Only the question with its `given` text must fit, since demonstrations can be
    dropped.
    """
    other = []
    for one in asked:
        given = one.question.given if config.shows_given else ""
        prompt = teacher_prompt(one.question, (), config.prompts, given)
        if problem := model.refusal(prompt):
            who = f"{whose(one)} as the teacher is asked it"
            yield Problem(POOL, one.question.id, f"{who}: {problem}")
        elif prompt != one.prompt:
            other.append((one, prompt))
    lengths = encoded(
        model,
        [prompt for _, prompt in other],
        [f"{POOL}: {whose(o)}" for o, _ in other],
    )
    for (one, _), ids in zip(other, lengths, strict=True):
        who = f"{whose(one)} as the teacher is asked it"
        problem = length_problem(model, who, len(ids), config.most_new_tokens)
        if problem:
            yield Problem(POOL, one.question.id, problem)


def check_shown(
    model: Tokenizer, sets: Mapping[str, Sequence[Question]], config: Config
) -> None:
    """Refuse turns that the chat template rejects after a demonstration.

    One question is tried per sequence of roles.
    """
    names, prompts = [], []
    for name, question, other in joined(sets):
        prompts.append(teacher_prompt(question, [(other, "answer")], config.prompts))
        names.append(f"{name}: question {question.id} after the answered {other.id}")
    encoded(model, prompts, names)


def joined(
    sets: Mapping[str, Sequence[Question]],
) -> Iterator[tuple[str, Question, Question]]:
    """Yield each kind of question after each kind in the pool."""
    shown = {roles(question): question for question in sets[POOL]}
    for name, questions in sets.items():
        asked = {roles(question): question for question in reversed(questions)}
        for question in asked.values():
            for other in shown.values():
                yield name, question, other


def roles(question: Question) -> tuple[str, ...]:
    """Return the roles of a question's turns."""
    return tuple(message.role for message in question.messages)


def letters_problem(question: Question, config: Config) -> str:
    """Say that there are more choices than letters."""
    many = len(question.choices)
    if config.prompts.list_choices != "letters" or many <= len(LETTERS):
        return ""
    return (
        f"has {many} choices, but there are {len(LETTERS)} letters; set "
        "prompts.list_choices to texts"
    )
