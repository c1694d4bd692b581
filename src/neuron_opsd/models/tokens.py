"""Text to token ids and back, for one tokenizer.

Text of a question is data: no part of it may become a control token. In the plain form
control tokens inside text are split into ordinary ones; in a chat template, whose own
control tokens must be read, a question that contains one is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from neuron_opsd import reasoning
from neuron_opsd.errors import DataError
from neuron_opsd.reasoning import Marks
from neuron_opsd.records import Message, Prompt, TokenIds

# What a plain prompt ends with; answers are tokenised after it so that the space before
# them is theirs in every tokenizer.
ANCHOR = ":"
# Must stand in no template's own text, so that what follows it is the end of a turn.
PROBE = "probe"

THINKING_SWITCHES: Final = ("enable_thinking", "thinking")
"""What chat templates call their switch of reasoning; Qwen, GLM and others, DeepSeek
and Granite."""

TAIL: Final = 64
"""Last tokens of a prompt that are looked at where it has no control tokens."""


class Tokens:
    """A tokenizer with the two prompt forms and the tokens that end a completion."""

    def __init__(
        self, tokenizer: Any, end_ids: frozenset[int], marks: Sequence[Marks] = ()
    ) -> None:
        """Look up what control tokens and marks of reasoning there are.

        Args:
            tokenizer: Of the transformers library.
            end_ids: Tokens that end a completion.
            marks: What opens and closes reasoning; without any, the known pairs that
                the chat template names, or else all known ones.
        """
        self.tokenizer = tokenizer
        self.end_ids = end_ids
        self.has_chat_template = bool(tokenizer.chat_template)
        self.marks = tuple(marks) or template_marks(tokenizer) or reasoning.KNOWN
        self._control = control_texts(tokenizer)
        self._control_ids = frozenset(
            int(i) for i in tokenizer.convert_tokens_to_ids(self._control)
        )
        # Where marks are control tokens, a text without these would lose them.
        self._mark_ids = self._control_ids.intersection(
            token for pair in self.marks for mark in pair for token in self._ids(mark)
        )
        self._newline_ids: frozenset[int] | None = None

    def encode(self, prompt: Prompt) -> TokenIds:
        """Return a prompt's token ids.

        Raises:
            DataError: If a turn of a conversation contains a control token.
        """
        if prompt.messages:
            return self._ids(self.chat_text(prompt))
        ids = self.tokenizer(prompt.text, split_special_tokens=True).input_ids
        return tuple(ids)

    def chat_text(self, prompt: Prompt, *, answering: bool = True) -> str:
        """Return a conversation as the chat template writes it."""
        for message in prompt.messages:
            self._refuse_control(message)
        switches = (
            {}
            if prompt.thinking is None
            else dict.fromkeys(THINKING_SWITCHES, prompt.thinking)
        )
        text: str = self.tokenizer.apply_chat_template(
            [{"role": m.role, "content": m.content} for m in prompt.messages],
            tokenize=False,
            add_generation_prompt=answering,
            **switches,
        )
        return text

    def prompt_text(self, prompt: Prompt) -> str:
        """Return a prompt as text, for people to read."""
        return self.chat_text(prompt) if prompt.messages else prompt.text

    def encode_answer(self, prompt: Prompt, answer: str) -> TokenIds:
        """Return the completion that gives this answer, end token included."""
        if prompt.messages:
            return (*self._answer_ids(answer), self._end_of_turn(prompt))
        # An answer is one line in the plain form, since a line break ends it.
        line = " ".join(answer.split())
        return (*self._after_anchor(f" {line}"), self.newline_id)

    def encode_rendered(
        self, prompt: str, completion: str
    ) -> tuple[TokenIds, TokenIds]:
        """Return the ids of texts that are rendered already, control tokens and all."""
        return self._ids(prompt), self._ids(completion)

    def decode(self, token_ids: TokenIds) -> str:
        """Return the text of token ids without control tokens, stripped.

        The marks of reasoning stay, also where they are control tokens.
        """
        ids = list(token_ids)
        if self._mark_ids.isdisjoint(ids):
            text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
            return text.strip()
        dropped = self._control_ids - self._mark_ids
        return self._text([i for i in ids if i not in dropped]).strip()

    def opens_reasoning(self, prompt: TokenIds) -> bool:
        """Whether a prompt ends inside a block of reasoning.

        What stands after its last control token says so, which is never a question's
        own text; without control tokens the very end must be the opening mark.
        """
        other = self._control_ids - self._mark_ids
        # A first token stands before the question, not after it.
        for place in range(len(prompt) - 1, 0, -1):
            if prompt[place] in other:
                text = self._text(prompt[place + 1 :])
                return reasoning.final_start(text, marks=self.marks) is None
        return reasoning.ends_inside(self._text(prompt[-TAIL:]), self.marks)

    def final_start(self, text: str, *, opened: bool) -> int | None:
        """Return where the final answer begins in a text that `decode` returned."""
        return reasoning.final_start(text, opened=opened, marks=self.marks)

    @property
    def newline_id(self) -> int:
        """The token that a line break becomes after text."""
        return self._after_anchor("\n")[-1]

    @property
    def newline_ids(self) -> frozenset[int]:
        """Every token whose text holds a line break; each ends a plain completion."""
        if self._newline_ids is None:
            texts = self.tokenizer.batch_decode(
                [[i] for i in range(len(self.tokenizer))]
            )
            found = (i for i, text in enumerate(texts) if "\n" in text)
            self._newline_ids = frozenset(found) | {self.newline_id}
        return self._newline_ids

    def _after_anchor(self, text: str) -> TokenIds:
        anchor = self._data_ids(ANCHOR)
        joined = self._data_ids(ANCHOR + text)
        # A tokenizer may merge across the join; then the text stands alone.
        if joined[: len(anchor)] == anchor:
            return joined[len(anchor) :]
        return self._data_ids(text)

    def _end_of_turn(self, prompt: Prompt) -> int:
        """Return the control token with which the template closes an answer."""
        asked = Prompt(
            messages=(Message("user", PROBE), Message("assistant", PROBE)),
            thinking=prompt.thinking,
        )
        tail = self.chat_text(asked, answering=False).rpartition(PROBE)[2]
        for token in self._ids(tail):
            if token in self.end_ids:
                return token
        return int(self.tokenizer.eos_token_id)

    def _text(self, token_ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(list(token_ids), skip_special_tokens=False)
        return text

    def _ids(self, text: str) -> TokenIds:
        return tuple(self.tokenizer(text, add_special_tokens=False).input_ids)

    def _answer_ids(self, text: str) -> TokenIds:
        """Return the ids of an answer; marks of reasoning are read as what they are."""
        if not self._mark_ids:
            return self._data_ids(text)
        pieces = re.split(f"({reasoning.pattern_of(self.marks).pattern})", text)
        # Every second piece is a mark.
        ids = [
            self._ids(piece) if place % 2 else self._data_ids(piece)
            for place, piece in enumerate(pieces)
        ]
        return tuple(token for part in ids for token in part)

    def _data_ids(self, text: str) -> TokenIds:
        ids = self.tokenizer(
            text, add_special_tokens=False, split_special_tokens=True
        ).input_ids
        return tuple(ids)

    def _refuse_control(self, message: Message) -> None:
        for control in self._control:
            if control in message.content:
                raise DataError(
                    f"a {message.role} message contains the control token {control!r}: "
                    f"{message.content[:60]!r}; remove it, or use prompts.form=plain"
                )


def template_marks(tokenizer: Any) -> tuple[Marks, ...]:
    """Return the pairs of marks of reasoning that a chat template names."""
    template = tokenizer.chat_template
    texts = template.values() if isinstance(template, dict) else [template or ""]
    return reasoning.marks_in("\n".join(texts))


def control_texts(tokenizer: Any) -> list[str]:
    """Return every text that a tokenizer reads as a control token.

    Many have no role, such as Llama 3's ``<|start_header_id|>``, and so are missing
    among the named ones.
    """
    added = tokenizer.added_tokens_decoder.values()
    marked = {token.content for token in added if token.special}
    return sorted((marked | set(tokenizer.all_special_tokens)) - {""})
