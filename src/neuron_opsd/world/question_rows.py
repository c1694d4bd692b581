"""From the values of one row to one question and its gold answer."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from neuron_opsd.records import Message, Question, Role
from neuron_opsd.world.question_files import BadRowError, Values, kind_of, shorten

ROLES: tuple[Role, ...] = get_args(Role)


def parse_row(values: Values, default_id: str) -> tuple[Question, str | None]:
    """Return a row's question and its gold answer, `None` where it has none.

    Raises:
        BadRowError: If the row cannot be used.
    """
    question_id = parse_id(values.get("id"), default_id)
    choices = parse_choices(values.get("choices"))
    question = Question(
        question_id,
        parse_messages(values),
        choices,
        question_label=parse_label(values, "question_label"),
        answer_label=parse_label(values, "answer_label"),
    )
    return question, parse_answer(values.get("answer"), choices)


def parse_id(value: Any, default_id: str) -> str:
    """Return a row's id; a whole number is taken for its digits."""
    if value is None:
        return default_id
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return checked_text(value, "id")


def parse_label(values: Values, name: str) -> str:
    """Return the word before a question or an answer, empty where none is given."""
    value = values.get(name)
    return "" if value is None else checked_text(value, name).strip()


def parse_messages(values: Values) -> tuple[Message, ...]:
    """Return the conversation that a row's `prompt` or `question` holds."""
    prompt, question = values.get("prompt"), values.get("question")
    if prompt is not None and question is not None:
        raise BadRowError("has both a prompt and a question; keep one of them")
    if question is not None:
        return (Message("user", checked_text(question, "question")),)
    if isinstance(prompt, str):
        return (Message("user", checked_text(prompt, "prompt")),)
    if isinstance(prompt, list):
        return parse_conversation(prompt)
    if prompt is None:
        raise BadRowError(missing_prompt(values))
    raise BadRowError(
        f"prompt must be text or a list of messages, not {kind_of(prompt)}"
    )


def missing_prompt(values: Values) -> str:
    """Say that a row asks nothing, and what it may have meant to."""
    near = [
        name
        for wanted in ("prompt", "question")
        for name in get_close_matches(wanted, [key.lower() for key in values], n=1)
        if name not in ("prompt", "question") or name not in values
    ]
    hint = f"; is {near[0]!r} meant?" if near else ""
    return f"has neither a prompt nor a question{hint}"


def parse_conversation(messages: Sequence[Any]) -> tuple[Message, ...]:
    """Return the turns of a conversation, the last of which must be the user's."""
    if not messages:
        raise BadRowError("prompt is an empty list of messages")
    turns = tuple(parse_message(item, n) for n, item in enumerate(messages, 1))
    if turns[-1].role != "user":
        raise BadRowError(
            f"the last message of prompt is from {turns[-1].role}, not from user"
        )
    return turns


def parse_message(message: Any, number: int) -> Message:
    """Return one turn of a conversation."""
    what = f"message {number} of prompt"
    if not isinstance(message, Mapping):
        raise BadRowError(f"{what} must be an object, not {kind_of(message)}")
    for key, value in message.items():
        if key not in ("role", "content") and value is not None:
            raise BadRowError(
                f"{what} has {shorten(key)}, which is not used; remove it"
            )
    role = message.get("role")
    if role not in ROLES:
        raise BadRowError(
            f"{what} has the role {shorten(role)}; allowed are {', '.join(ROLES)}"
        )
    return Message(role, checked_text(message.get("content"), f"content of {what}"))


def parse_choices(value: Any) -> tuple[str, ...]:
    """Return the texts to choose from without white space around them."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise BadRowError(f"choices must be a list of texts, not {kind_of(value)}")
    choices = tuple(
        checked_text(item, f"choice {number}").strip()
        for number, item in enumerate(value, 1)
    )
    if len(choices) < 2:
        raise BadRowError(
            "has fewer than two choices; leave choices out where the answer is free"
        )
    for choice in choices:
        if choices.count(choice) > 1:
            raise BadRowError(f"the choice {shorten(choice)} stands twice")
    return choices


def parse_answer(value: Any, choices: Sequence[str]) -> str | None:
    """Return the gold answer, a choice's text where there are choices."""
    if value is None:
        return None
    if choices:
        return choices[choice_index(value, choices)]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return checked_text(str(value), "answer")
    return checked_text(value, "answer").strip()


def choice_index(answer: Any, choices: Sequence[str]) -> int:
    """Return which choice an answer names, by its text, index or letter."""
    letters = string.ascii_uppercase[: len(choices)]
    text = answer.strip() if isinstance(answer, str) else ""
    if text in choices:
        return choices.index(text)
    if len(text) == 1 and text in letters:
        return letters.index(text)
    is_index = isinstance(answer, int) and not isinstance(answer, bool)
    if is_index and 0 <= answer < len(choices):
        return int(answer)
    last = len(choices) - 1
    raise BadRowError(
        f"answer {shorten(answer)} is no choice; give a choice's text, its number from "
        f"0 to {last} or its letter from A to {letters[-1]}"
    )


def checked_text(value: Any, what: str) -> str:
    """Return a text that a model can be given.

    Raises:
        BadRowError: If it is none, is blank, or holds what no text should.
    """
    if not isinstance(value, str):
        raise BadRowError(f"{what} must be text, not {kind_of(value)}")
    if not value.strip():
        raise BadRowError(f"{what} is empty")
    if "\0" in value:
        raise BadRowError(f"{what} holds a NUL character")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise BadRowError(f"{what} holds half of a surrogate pair")
    return value
