"""A model's chat template: turns in, text out, and what it refuses as one line.

A template is a small program that came with the model. It may refuse turns, drop them,
not compile, or print today's date; each of these is found before a model reads a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from functools import cached_property
from typing import Any, Final, TypeAlias

from neuron_opsd.errors import ModelError
from neuron_opsd.models.library_errors import full_line
from neuron_opsd.models.tokenizer.english_dates import write_day
from neuron_opsd.models.tokenizer.rendering import (
    Conversation,
    Refusal,
    Written,
    shared_renderer,
)
from neuron_opsd.records import Message, Prompt

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
        """Take a tokenizer of transformers, and the model's name for messages."""
        self.tokenizer = tokenizer
        self.name = name
        self._sound: set[tuple[object, ...]] = set()

    @property
    def source(self) -> str:
        """The template's own text; empty where none of several is the default."""
        return self._source[0]

    @cached_property
    def _source(self) -> tuple[str, Refusal | None]:
        """The template's own text, or why there is none."""
        try:
            return str(self.tokenizer.get_chat_template()), None
        except ValueError as error:
            return "", Refusal(full_line(error))

    @property
    def prints_date(self) -> bool:
        """Whether it asks what day it is."""
        return CLOCK in self.source

    def texts(self, prompts: Sequence[Prompt]) -> list[str]:
        """Return conversations, each up to where the model's answer comes next.

        Raises:
            ModelError: If it refuses such turns, or leaves one of them out.
        """
        for prompt in prompts:
            self._check([m.role for m in prompt.messages], thinking=prompt.thinking)
        written = self._render(
            self._conversation(
                turns_of(p.messages), p.date, thinking=p.thinking, answering=True
            )
            for p in prompts
        )
        for one in written:
            if isinstance(one, Refusal):
                raise ModelError(
                    f"the chat template of {self.name} cannot write this conversation: "
                    f"{one.reason}; reword it, or {PLAIN}"
                )
        return [str(one) for one in written]

    def write(
        self,
        turns: Sequence[Turn],
        day: str = "",
        *,
        thinking: bool | None = None,
        answering: bool = False,
    ) -> str:
        """Return turns as the template writes them, whatever that is.

        Raises:
            UnwrittenError: With what it said.
        """
        (written,) = self._render(
            [self._conversation(turns, day, thinking=thinking, answering=answering)]
        )
        if isinstance(written, Refusal):
            raise UnwrittenError(written.reason)
        return written

    def _render(self, conversations: Iterable[Conversation]) -> list[Written]:
        """Return conversations as the template writes them, or why it does not."""
        source, problem = self._source
        some = list(conversations)
        return (
            [problem] * len(some) if problem else shared_renderer().render(source, some)
        )

    def _conversation(
        self, turns: Sequence[Turn], day: str, *, thinking: bool | None, answering: bool
    ) -> Conversation:
        given = {**self.tokenizer.special_tokens_map, "tools": None, "documents": None}
        given["add_generation_prompt"] = answering
        if thinking is not None:
            given |= dict.fromkeys(THINKING_SWITCHES, thinking)
        if day and not self.prints_date and DATE_STRING in self.source:
            given[DATE_STRING] = write_day(date.fromisoformat(day), "%d %b %Y")
        return given | {"messages": [thinking_too(turn) for turn in turns]}, day

    def _check(self, roles: Sequence[str], *, thinking: bool | None) -> None:
        """Refuse turns of these roles if the template does not carry each of them."""
        kind = (thinking, *roles)
        if kind in self._sound:
            return
        turns = [probe(role, number) for number, role in enumerate(roles)]
        try:
            text = self.write(turns, thinking=thinking, answering=True)
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


def turns_of(messages: Sequence[Message]) -> list[Turn]:
    """Return turns as templates know them."""
    return [{"role": m.role, "content": m.content} for m in messages]


def thinking_too(turn: Turn) -> Turn:
    """Return a turn with its reasoning under both names that templates read."""
    reasoning = turn.get("reasoning_content")
    return turn if reasoning is None else {"thinking": reasoning, **turn}
