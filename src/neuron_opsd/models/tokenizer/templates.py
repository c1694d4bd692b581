"""A model's chat template: turns in, text out, refusals as one line.

A template is a small program that comes with the model. It may refuse turns, drop them,
fail to compile, or print today's date; each is detected before the model reads
anything. It also says what closes an answer: a base model's settings often name the end
of a document, and a completion running past its turn is the model talking to itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date
from functools import cached_property
from itertools import takewhile
from typing import Any, Final, TypeAlias

from neuron_opsd.errors import ModelError
from neuron_opsd.models.library_errors import full_line
from neuron_opsd.models.tokenizer import rendering
from neuron_opsd.models.tokenizer.template_worker import write_day
from neuron_opsd.records import Prompt, TokenIds

Turn: TypeAlias = Mapping[str, str]
"""A message as templates know it."""

PROBE: Final = "zq"
"""Occurs in no template's own text, so its surroundings can be found."""

REASONING: Final = "pondered"
"""The same for a probe's reasoning."""

CLOCK: Final = "strftime_now"
"""Function by which templates ask for the date."""

THINKING_SWITCHES: Final = ("enable_thinking", "thinking")
"""Reasoning switches: Qwen, GLM and others; DeepSeek and Granite."""

DATE_STRING: Final = "date_string"
"""Variable for the date in Llama's templates."""

PLAIN: Final = "set prompts.form=plain"
SYSTEM_ADVICE: Final = (
    "leave prompts.system empty and put its text into prompts.instruction, or that of "
    f"a question's own system turn into its user turn, or {PLAIN}"
)
SHOWN_TURNS: Final = 6


class UnwrittenError(ModelError):
    """A template did not render a conversation."""


class ChatTemplate:
    """One tokenizer's chat template."""

    def __init__(self, tokenizer: Any, name: str) -> None:
        self.tokenizer = tokenizer
        self.name = name
        self._sound: set[tuple[object, ...]] = set()

    @property
    def source(self) -> str:
        """The template's text; empty if there are several without a default."""
        return self._source[0]

    @cached_property
    def _source(self) -> tuple[str, rendering.Refusal | None]:
        try:
            return str(self.tokenizer.get_chat_template()), None
        except ValueError as error:
            return "", rendering.Refusal(full_line(error))

    @property
    def prints_date(self) -> bool:
        """Whether it asks for the date."""
        return CLOCK in self.source

    def texts(self, prompts: Sequence[Prompt]) -> list[str]:
        """Render conversations, each up to where the model's answer begins.

        Raises:
            ModelError: If it refuses such turns, or omits one.
        """
        for prompt in prompts:
            self._check([m.role for m in prompt.messages], thinking=prompt.thinking)
        written = self._render(
            self._conversation(
                [{"role": m.role, "content": m.content} for m in p.messages],
                p.date,
                thinking=p.thinking,
                answering=True,
            )
            for p in prompts
        )
        for one in written:
            if isinstance(one, rendering.Refusal):
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
        """Render turns, or raise `UnwrittenError`."""
        (written,) = self._render(
            [self._conversation(turns, day, thinking=thinking, answering=answering)]
        )
        if isinstance(written, rendering.Refusal):
            raise UnwrittenError(written.reason)
        return written

    def _render(
        self, conversations: Iterable[rendering.Conversation]
    ) -> list[rendering.Written]:
        """Return rendered conversations, or why they failed."""
        source, problem = self._source
        some = list(conversations)
        if problem:
            return [problem] * len(some)
        return rendering.shared_renderer().render(source, some)

    def _conversation(
        self, turns: Sequence[Turn], day: str, *, thinking: bool | None, answering: bool
    ) -> rendering.Conversation:
        given = {**self.tokenizer.special_tokens_map, "tools": None, "documents": None}
        given["add_generation_prompt"] = answering
        if thinking is not None:
            given |= dict.fromkeys(THINKING_SWITCHES, thinking)
        if day and not self.prints_date and DATE_STRING in self.source:
            given[DATE_STRING] = write_day(date.fromisoformat(day), "%d %b %Y")
        # Templates read reasoning under one of two names.
        both = [
            {"thinking": turn["reasoning_content"], **turn}
            if "reasoning_content" in turn
            else turn
            for turn in turns
        ]
        return given | {"messages": both}, day

    def _check(self, roles: Sequence[str], *, thinking: bool | None) -> None:
        """Refuse roles whose turns the template does not all include."""
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
                role = turn["role"]
                raise ModelError(
                    f"the chat template of {self.name} leaves out what a {role} turn "
                    f"says; {SYSTEM_ADVICE if role == 'system' else PLAIN}"
                )
        self._sound.add(kind)

    def _refusal(self, roles: Sequence[str], reason: str) -> str:
        """Say what a template refuses, by finding what it accepts."""
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

    def _writes(self, roles: Sequence[str]) -> bool:
        try:
            self.write([probe(role, n) for n, role in enumerate(roles)], answering=True)
        except UnwrittenError:
            return False
        return True


def probe(role: str, number: int = 0, *, reasoning: str = "") -> Turn:
    """Return a turn whose content is in no template or other probe."""
    turn = {"role": role, "content": f"{PROBE}{number}."}
    if reasoning:
        turn["reasoning_content"] = reasoning
    return turn


def closing_token(template: ChatTemplate, ends: Collection[int]) -> int | None:
    """Return the control token with which a template closes an answer.

    The first after a conversation's last answer or, if there is none, after an answer
    followed by another turn, whose opening counts only if among `ends`, the end ids in
    the model's settings.

    `None` if the template writes plain text or nothing there, or a token that also
    occurs within answers, after their reasoning.
    """
    control = control_ids(template.tokenizer)

    def between(turns: Sequence[Turn], after: Sequence[str], end: str) -> TokenIds:
        """Return the control tokens in a part of the template's output."""
        try:
            text = template.write(turns)
        except UnwrittenError:
            return ()
        for start in after:
            text = text.partition(start)[2]
        text = text.partition(end)[0] if end else text
        ids = template.tokenizer(text, add_special_tokens=False).input_ids
        return tuple(token for token in ids if token in control)

    question, answer, other = probe("user", 0), probe("assistant", 1), probe("user", 2)
    first, middle, last = (turn["content"] for turn in (question, answer, other))
    thought = probe("assistant", 1, reasoning=REASONING)
    inside = between([question, thought], [REASONING], middle)
    for token in between([question, answer], [middle], ""):
        if token not in inside:
            return token
    turns = [question, answer, other]
    opening, closing = between(turns, [], first), between(turns, [first, middle], last)
    own = closing[: len(closing) - shared_end(opening, closing)]
    found = [*own, *(token for token in closing if token in ends)]
    return next((token for token in found if token not in inside), None)


def shared_end(left: Sequence[int], right: Sequence[int]) -> int:
    """Return the length of two sequences' common suffix."""
    pairs = zip(reversed(left), reversed(right), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def control_ids(tokenizer: Any) -> frozenset[int]:
    """Return the ids that represent no human text.

    Some fine-tuned models add them as ordinary tokens; some add runs of blanks.
    """
    added = {
        int(token)
        for token, entry in tokenizer.added_tokens_decoder.items()
        if entry.special or entry.content.strip()
    }
    return frozenset(added | set(tokenizer.all_special_ids))
