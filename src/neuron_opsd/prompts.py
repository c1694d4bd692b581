"""All prompt texts of student and teacher, and the answers that close them.

Training and evaluation call the same functions, so a model is tested on the prompt it
was trained on.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

from neuron_opsd.config import PromptsConfig
from neuron_opsd.records import Message, Prompt, Question

Shown: TypeAlias = tuple[Question, str]
"""A question and the answer its demonstration shows."""

LETTERS = string.ascii_uppercase


def resolve_prompts(
    config: PromptsConfig, *, has_chat_template: bool, constrained: bool
) -> PromptsConfig:
    """Resolve `form` and `list_choices` for a model.

    A model not `constrained` to the choices must see them.
    """
    changes: dict[str, str] = {}
    if config.form == "auto":
        changes["form"] = "chat" if has_chat_template else "plain"
    if config.list_choices == "auto":
        changes["list_choices"] = "no" if constrained else "letters"
    return config.model_copy(update=changes)


def student_prompt(question: Question, config: PromptsConfig) -> Prompt:
    """Return a question's prompt for the student and all tests."""
    return render((), question, config, thinking=config.student_thinking)


def teacher_prompt(
    question: Question,
    demonstrations: Sequence[Shown],
    config: PromptsConfig,
    given: str = "",
) -> Prompt:
    """Return the student's prompt of a question after demonstrations.

    Without any it is the student's. `given` follows the question after a blank line,
    like TRL's SDFT by default. `form` must be resolved.
    """
    thinking = config.teacher_thinking
    if not given:
        return render(demonstrations, question, config, thinking=thinking)
    *before, last = question.messages
    told = f"{with_choices(last.content, question, config)}\n\n{given}"
    whole = replace(question, messages=(*before, Message(last.role, told)), choices=())
    bare = config.model_copy(update={"instruction": ""})
    return render(demonstrations, whole, bare, thinking=thinking)


def render(
    demonstrations: Sequence[Shown],
    question: Question,
    config: PromptsConfig,
    *,
    thinking: bool | None,
) -> Prompt:
    """Render demonstrations and a question in the set form."""
    if config.form == "plain":
        return Prompt(text=plain_text(demonstrations, question, config))
    turns = [Message("system", text) for text in system_texts(question, config)]
    for shown, answer in demonstrations:
        turns += [*asked_turns(shown, config), Message("assistant", answer)]
    turns += asked_turns(question, config)
    return Prompt(messages=tuple(turns), thinking=thinking, date=config.date)


def plain_text(
    demonstrations: Sequence[Shown], question: Question, config: PromptsConfig
) -> str:
    """Write demonstrations and question as labelled lines."""
    parts = system_texts(question, config)
    parts += [
        f"{asked_lines(shown, config)} {' '.join(answer.split())}"
        for shown, answer in demonstrations
    ]
    parts.append(asked_lines(question, config))
    return "\n\n".join(parts)


def system_texts(question: Question, config: PromptsConfig) -> list[str]:
    """Return the system turn of a prompt, or nothing.

    It is the setting's text, then the question's own; demonstrations' are left out.
    """
    own = [turn.content for turn in question.messages if turn.role == "system"]
    texts = [text for text in (config.system, *own) if text]
    return ["\n\n".join(dict.fromkeys(texts))] if texts else []


def spoken(question: Question) -> list[Message]:
    """Return a question's turns except the system turn."""
    return [turn for turn in question.messages if turn.role != "system"]


def asked_lines(question: Question, config: PromptsConfig) -> str:
    """Write a question in the plain form, without its answer."""
    text = "\n\n".join(turn.content for turn in spoken(question))
    shown = with_choices(text, question, config)
    asks = question.question_label or config.question_label
    answers = question.answer_label or config.answer_label
    return f"{asks}: {shown}\n{answers}:"


def asked_turns(question: Question, config: PromptsConfig) -> list[Message]:
    """Return a question's turns with choices and instruction."""
    *before, last = spoken(question)
    return [
        *before,
        Message(last.role, with_choices(last.content, question, config)),
    ]


def with_choices(text: str, question: Question, config: PromptsConfig) -> str:
    """Add choices and instruction, as the settings say."""
    lines = [text.strip()]
    if config.list_choices == "texts":
        lines += [f"- {choice}" for choice in question.choices]
    elif config.list_choices == "letters":
        pairs = zip(LETTERS, question.choices, strict=False)
        lines += [f"{letter}. {choice}" for letter, choice in pairs]
    if config.instruction:
        lines.append(config.instruction)
    return "\n".join(lines)


def as_written(answer: str, question: Question, config: PromptsConfig) -> str:
    """Return an answer as the model writes it: text or letter."""
    written = choice_answers(question, config)
    return dict(zip(question.choices, written, strict=False)).get(answer, answer)


def choice_answers(question: Question, config: PromptsConfig) -> tuple[str, ...]:
    """Return each choice as the model writes it."""
    if config.list_choices == "letters":
        return tuple(LETTERS[: len(question.choices)])
    return question.choices
