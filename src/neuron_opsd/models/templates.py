"""A model's chat template: turns in, text out, and what it refuses as one line.

A template is a small program that came with the model. It may refuse turns, drop them,
not compile, or print today's date; each of these is found before a model reads a word.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date
from functools import cache
from string import ascii_letters
from typing import Any, Final, TypeAlias

from jinja2 import TemplateError, TemplateSyntaxError

from neuron_opsd.errors import ModelError
from neuron_opsd.models.english_dates import write_day
from neuron_opsd.models.faults import first_line
from neuron_opsd.records import Message

Turn: TypeAlias = Mapping[str, str]
"""A message as templates know it."""

PROBE: Final = "zq"
"""Must stand in no template's own text, so that what stands around it can be told."""

REASONING: Final = "pondered"
"""The same for the reasoning of a probe."""

CLOCK: Final = "strftime_now"
"""The function by which templates ask what day it is."""

THINKING_SWITCHES: Final = ("enable_thinking", "thinking")
"""What chat templates call their switch of reasoning; Qwen, GLM and others, DeepSeek
and Granite."""

DATE_STRING: Final = "date_string"
"""The variable in which Llama's templates take the date."""

RAISED: Final = (
    TemplateError,
    TypeError,
    ValueError,
    LookupError,
    ArithmeticError,
    AttributeError,
    RecursionError,
)
"""What a template can raise: what it says itself, or what Python says of its code."""

PLAIN: Final = "set prompts.form=plain"
SYSTEM_ADVICE: Final = (
    "leave prompts.system empty and put its text into prompts.instruction, or that of "
    f"a question's own system turn into its user turn, or {PLAIN}"
)
SHOWN_TURNS: Final = 6


class UnwrittenError(ModelError):
    """A template did not write a conversation."""


class ChatTemplate:
    """The chat template of one tokenizer."""

    def __init__(self, tokenizer: Any, name: str) -> None:
        """Take a tokenizer that has one.

        Args:
            tokenizer: Of transformers.
            name: Of the model, for messages.
        """
        self.tokenizer = tokenizer
        self.name = name
        self._sound: set[tuple[object, ...]] = set()

    @property
    def source(self) -> str:
        """The template's own text; empty where none of several is the default."""
        try:
            return str(self.tokenizer.get_chat_template())
        except RAISED:
            return ""

    @property
    def prints_date(self) -> bool:
        """Whether it asks what day it is."""
        return CLOCK in self.source

    def text(
        self,
        messages: Sequence[Message],
        *,
        answering: bool = True,
        thinking: bool | None = None,
        day: str = "",
    ) -> str:
        """Return a conversation as the template writes it.

        Args:
            messages: The turns.
            answering: Whether the model's answer comes next.
            thinking: The template's switch for reasoning, if it has one.
            day: Printed as the date, as ``2026-11-29``; today where it is empty.

        Raises:
            ModelError: If it refuses such turns, or leaves one of them out.
        """
        roles = [message.role for message in messages]
        self._check(roles, answering=answering, thinking=thinking)
        turns = [{"role": m.role, "content": m.content} for m in messages]
        try:
            return self.write(turns, answering=answering, thinking=thinking, day=day)
        except UnwrittenError as error:
            raise ModelError(
                f"the chat template of {self.name} cannot write this conversation: "
                f"{error}; reword it, or {PLAIN}"
            ) from error

    def write(
        self,
        turns: Sequence[Turn],
        *,
        answering: bool = False,
        thinking: bool | None = None,
        day: str = "",
    ) -> str:
        """Return turns as the template writes them, whatever that is.

        Raises:
            UnwrittenError: With what it said.
        """
        given: dict[str, Any] = {}
        if thinking is not None:
            given = dict.fromkeys(THINKING_SWITCHES, thinking)
        if day and self.prints_date:
            given["chat_template"] = clock_of(day) + self.source
        elif day and DATE_STRING in self.source:
            given[DATE_STRING] = write_day(date.fromisoformat(day), "%d %b %Y")
        try:
            text: str = self.tokenizer.apply_chat_template(
                list(turns), tokenize=False, add_generation_prompt=answering, **given
            )
        except RAISED as error:
            raise UnwrittenError(said(error)) from error
        return text

    def _check(
        self, roles: Sequence[str], *, answering: bool, thinking: bool | None
    ) -> None:
        """Refuse turns of these roles if the template does not carry each of them.

        Raises:
            ModelError: Saying what it did, and what to do.
        """
        kind = (answering, thinking, *roles)
        if kind in self._sound:
            return
        turns = [probe(role, number) for number, role in enumerate(roles)]
        try:
            text = self.write(turns, answering=answering, thinking=thinking)
        except UnwrittenError as error:
            raise ModelError(self._refusal(roles, str(error))) from error
        for turn in turns:
            if turn["content"] not in text:
                raise ModelError(self._loss(turn["role"]))
        self._sound.add(kind)

    def _refusal(self, roles: Sequence[str], reason: str) -> str:
        """Say what a template refuses, found out by what it does not refuse."""
        who = f"the chat template of {self.name}"
        others = [role for role in roles if role != "system"]
        if not self._writes(["user"]) and not self._writes(["system", "user"]):
            return f"{who} cannot be used: {reason}; fix it, or {PLAIN}"
        if "system" in roles and self._writes(others):
            return f"{who} refuses a system turn: {reason}; {SYSTEM_ADVICE}"
        order = ", ".join(roles[:SHOWN_TURNS])
        more = ", ..." if len(roles) > SHOWN_TURNS else ""
        return (
            f"{who} refuses the turns {order}{more}: {reason}; give questions whose "
            f"turns it takes, mostly user and assistant in turn, or {PLAIN}"
        )

    def _loss(self, role: str) -> str:
        """Say that a template leaves a turn out."""
        advice = SYSTEM_ADVICE if role == "system" else PLAIN
        return (
            f"the chat template of {self.name} leaves out what a {role} turn says; "
            f"{advice}"
        )

    def _writes(self, roles: Sequence[str]) -> bool:
        """Whether the template writes turns of these roles."""
        try:
            self.write([probe(role, n) for n, role in enumerate(roles)], answering=True)
        except UnwrittenError:
            return False
        return True


def probe(role: str, number: int = 0, *, reasoning: str = "") -> Turn:
    """Return a turn whose content stands in no template, nor in another probe."""
    turn = {"role": role, "content": f"{PROBE}{number}."}
    if reasoning:
        turn["reasoning_content"] = reasoning
    return turn


def said(error: Exception) -> str:
    """Return what a template said, with the line where it does not compile."""
    line = error.lineno if isinstance(error, TemplateSyntaxError) else None
    where = f" (line {line} of the template)" if line else ""
    return f"{first_line(error)}{where}"


@cache
def clock_of(day: str) -> str:
    """Return the beginning of a template whose clock stands still at a day's start.

    transformers gives templates a clock of its own and no functions of ours, but a
    macro of the same name goes before it. The line break after it is not printed.

    Args:
        day: As ``2026-11-29``.
    """
    start = date.fromisoformat(day)
    marks = [f"%{flag}{letter}" for flag in ("", "-") for letter in ascii_letters]
    texts = {mark: write_day(start, mark) for mark in marks}
    known = [[mark, text] for mark, text in texts.items() if text != mark]
    # A doubled sign is a sign, and hides what follows it from the others.
    pairs = json.dumps([["%%", "\x00"], *known, ["\x00", "%"]], ensure_ascii=False)
    return (
        f"{{%- macro {CLOCK}(format) -%}}{{%- set at = namespace(text=format) -%}}"
        f"{{%- for mark, text in {pairs} -%}}"
        "{%- set at.text = at.text.replace(mark, text) -%}{%- endfor -%}"
        "{{- at.text -}}{%- endmacro %}\n"
    )
