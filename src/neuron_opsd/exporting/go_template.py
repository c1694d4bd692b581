"""A chat template of transformers as one of Ollama's, found out by what it writes.

Ollama's templates are Go's, and cannot be translated from Jinja in general. Most chat
templates put fixed texts around turns, though, and these show between turns of known
texts. What was found is tried on other conversations; where it does not write the same,
there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from neuron_opsd.records import Message

Writer: TypeAlias = Callable[[Sequence[Message]], str]
"""Writes a conversation up to where the assistant answers."""

SYSTEM, FIRST, ANSWER, SECOND = "Qzsystem", "Qzfirst", "Qzanswer", "Qzsecond"


@dataclass(frozen=True, slots=True)
class Frame:
    """The fixed texts of a chat template."""

    with_system: tuple[str, str]
    """Before a system turn, and from it to the first question."""
    without_system: str
    """Before the first question where there is no system turn."""
    to_answer: str
    """From a question to an answer that was given."""
    to_question: str
    """From an answer to the next question."""
    to_end: str
    """From the last question to where the answer begins."""

    def write(self, turns: Sequence[Message]) -> str:
        """Write a conversation."""
        roles = {turn.role for turn in turns[:1]}
        text = self.without_system
        if "system" in roles:
            before, after = self.with_system
            text, turns = before + turns[0].content + after, turns[1:]
        for place, turn in enumerate(turns, 1):
            following = place < len(turns)
            if turn.role == "assistant":
                text += turn.content + self.to_question
            else:
                text += turn.content + (self.to_answer if following else self.to_end)
        return text

    def as_go(self) -> str:
        """Return the template, for Ollama."""
        before, after = map(quoted, self.with_system)
        last = "eq (len (slice $.Messages $place)) 1"
        return (
            f"{{{{ if .System }}}}{before}{{{{ .System }}}}{after}"
            f"{{{{ else }}}}{quoted(self.without_system)}{{{{ end }}}}"
            "{{ range $place, $turn := .Messages }}"
            '{{ if eq .Role "user" }}{{ .Content }}'
            f"{{{{ if {last} }}}}{quoted(self.to_end)}"
            f"{{{{ else }}}}{quoted(self.to_answer)}{{{{ end }}}}"
            '{{ else if eq .Role "assistant" }}{{ .Content }}'
            f"{quoted(self.to_question)}{{{{ end }}}}{{{{ end }}}}"
        )


def quoted(text: str) -> str:
    """Return text as Go's templates write it, with braces that open nothing."""
    return text.replace("{{", '{{ "{{" }}')


def frame_of(write: Writer, first_token: str = "") -> Frame | None:
    """Return the fixed texts of a chat template, `None` where it has others.

    Args:
        write: Writes conversations.
        first_token: Written by the server itself, so taken off the start.
    """
    question, answer = Message("user", FIRST), Message("assistant", ANSWER)
    system, second = Message("system", SYSTEM), Message("user", SECOND)

    def written(*turns: Message) -> str:
        return write(turns).removeprefix(first_token)

    start, _, rest = written(question, answer, second).partition(FIRST)
    to_answer, _, rest = rest.partition(ANSWER)
    to_question, _, to_end = rest.partition(SECOND)
    before, _, rest = written(system, question).partition(SYSTEM)
    after, _, _ = rest.partition(FIRST)
    found = Frame((before, after), start, to_answer, to_question, to_end)
    tried: tuple[tuple[Message, ...], ...] = (
        (question,),
        (system, question),
        (question, answer, second),
        (system, second, answer, question, answer, second),
    )
    return found if all(found.write(t) == written(*t) for t in tried) else None


PLACEHOLDER: Final = "Qzquestion"
