"""Convert text to token ids and back, for one tokenizer.

Question text is data and must never become control tokens. The plain form splits
control tokens in text into ordinary ones; a chat template's must be read, so a question
containing one is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Final

from neuron_opsd.answers import reasoning
from neuron_opsd.answers.reasoning import Marks
from neuron_opsd.errors import DataError, ModelError
from neuron_opsd.models.library_errors import full_line_of
from neuron_opsd.models.roles import ModelFacts
from neuron_opsd.models.tokenizer.templates import ChatTemplate, closing_token
from neuron_opsd.records import Pair, Prompt, TokenIds

# A plain prompt's ending. Answers are tokenised after it so that the leading space
# belongs to them in every tokenizer.
ANCHOR = ":"
# No tokenizer of a language model has a token for two of these words.
SAMPLE = "is 2 + 3 a number? yes."

TAIL: Final = 64
"""Last tokens of a prompt inspected if it has no control tokens."""


class Tokens:
    """A tokenizer with both prompt forms and end tokens."""

    def __init__(
        self,
        tokenizer: Any,
        end_ids: frozenset[int],
        marks: Sequence[Marks] = (),
        name: str = "",
    ) -> None:
        """Look up control tokens and reasoning marks.

        `marks` are added to the known pairs that the chat template names, or else to
        all.
        """
        self.tokenizer = tokenizer
        self.end_ids = end_ids
        self.template = ChatTemplate(tokenizer, name or tokenizer.name_or_path)
        named = reasoning.marks_in(self.template.source)
        self.marks = tuple(dict.fromkeys((*(named or reasoning.KNOWN), *marks)))
        self._control_ids = frozenset(
            int(i) for i in tokenizer.convert_tokens_to_ids(control_texts(tokenizer))
        )
        # If marks are control tokens, decoding without them would lose them.
        self._mark_ids = self._control_ids.intersection(
            token for pair in self.marks for mark in pair for token in self._ids(mark)
        )

    @property
    def has_chat_template(self) -> bool:
        """Whether there is a chat template, working or not."""
        return bool(self.tokenizer.chat_template)

    def encode(self, prompt: Prompt) -> TokenIds:
        """See `Tokenizer`."""
        return self.encode_all([prompt])[0]

    def encode_all(self, prompts: Sequence[Prompt]) -> list[TokenIds]:
        """See `Tokenizer`."""
        chats = [prompt for prompt in prompts if prompt.messages]
        plain = [prompt.text for prompt in prompts if not prompt.messages]
        written = iter(self._all_ids(self.chat_texts(chats)))
        read = iter(self._all_ids(plain, add_special_tokens=True, split=True))
        return [next(written if prompt.messages else read) for prompt in prompts]

    def chat_texts(self, prompts: Sequence[Prompt]) -> list[str]:
        """Render conversations with the chat template."""
        for prompt in prompts:
            if problem := self.refusal(prompt):
                raise DataError(problem)
        return self.template.texts(prompts)

    def refusal(self, prompt: Prompt) -> str:
        """See `Tokenizer`."""
        for message in prompt.messages:
            if control := self._control_in(message.content):
                return (
                    f"a {message.role} message contains the control token {control!r}: "
                    f"{message.content[:60]!r}; remove it, or use prompts.form=plain"
                )
        return ""

    def prompt_text(self, prompt: Prompt) -> str:
        """See `Tokenizer`."""
        return self.chat_texts([prompt])[0] if prompt.messages else prompt.text

    def encode_answer(self, prompt: Prompt, answer: str) -> TokenIds:
        """See `Tokenizer`."""
        if prompt.messages:
            return (*self._answer_ids(answer), self._answer_end)
        # A plain answer is one line, since a line break ends it.
        line = " ".join(answer.split())
        return (*self._after_anchor(f" {line}"), self.newline_id)

    def encode_rendered(self, prompt: str, completion: str) -> Pair:
        """See `Tokenizer`."""
        return self._ids(prompt), self._ids(completion)

    def decode(self, token_ids: TokenIds) -> str:
        """See `Tokenizer`; reasoning marks stay, even as control tokens."""
        ids = list(token_ids)
        if self._mark_ids.isdisjoint(ids):
            text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
            return text.strip()
        dropped = self._control_ids - self._mark_ids
        return self._text([i for i in ids if i not in dropped]).strip()

    def token_text(self, token: int) -> str:
        """See `Tokenizer`."""
        return self._text([token])

    def opens_reasoning(self, prompt: TokenIds) -> bool:
        """See `Tokenizer`.

        What follows the last control token decides, which is never a question's own
        text; without control tokens, the prompt must end with the opening mark.
        """
        other = self._control_ids - self._mark_ids
        # The first token precedes the question.
        for place in range(len(prompt) - 1, 0, -1):
            if prompt[place] in other:
                text = self._text(prompt[place + 1 :])
                return reasoning.final_start(text, marks=self.marks) is None
        return reasoning.ends_inside(self._text(prompt[-TAIL:]), self.marks)

    def final_start(self, text: str, *, opened: bool) -> int | None:
        """Return where the final answer begins in text from `decode`."""
        return reasoning.final_start(text, opened=opened, marks=self.marks)

    @property
    def newline_id(self) -> int:
        """The token of a line break after text."""
        return self._after_anchor("\n")[-1]

    @cached_property
    def newline_ids(self) -> frozenset[int]:
        """Every token containing a line break, which ends a plain completion."""
        texts = self.tokenizer.batch_decode([[i] for i in range(len(self.tokenizer))])
        found = (i for i, text in enumerate(texts) if "\n" in text)
        return frozenset(found) | {self.newline_id}

    def _after_anchor(self, text: str) -> TokenIds:
        anchor = self._data_ids(ANCHOR)
        joined = self._data_ids(ANCHOR + text)
        # If the tokenizer merges across the join, encode the text alone.
        if joined[: len(anchor)] == anchor:
            return joined[len(anchor) :]
        return self._data_ids(text)

    @cached_property
    def closing_id(self) -> int | None:
        """The control token by which the chat template closes answers, if any."""
        return closing_token(self.template, self.end_ids)

    def ending_as_written(self) -> Tokens:
        """Return these tokens with the chat template's ending added."""
        ends = self.end_ids.union(() if self.closing_id is None else {self.closing_id})
        return Tokens(self.tokenizer, ends, self.marks, self.template.name)

    @property
    def _answer_end(self) -> int:
        """What ends an answer in the chat form."""
        if self.closing_id is not None:
            return self.closing_id
        own = self.tokenizer.eos_token_id
        return min(self.end_ids) if own is None else int(own)

    def _text(self, token_ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(list(token_ids), skip_special_tokens=False)
        return text

    def _ids(self, text: str) -> TokenIds:
        return self._all_ids([text])[0]

    def _all_ids(
        self,
        texts: Sequence[str],
        *,
        add_special_tokens: bool = False,
        split: bool = False,
    ) -> list[TokenIds]:
        """Return the ids of texts; `split` treats control tokens as plain text."""
        if not texts:
            return []
        options = {"add_special_tokens": add_special_tokens}
        with giving_up(self.template.name):
            found = self.tokenizer(list(texts), split_special_tokens=split, **options)
        return [tuple(ids) for ids in found.input_ids]

    def _answer_ids(self, text: str) -> TokenIds:
        """Return the ids of an answer, reading its reasoning marks."""
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
        return self._all_ids([text], split=True)[0]

    @cached_property
    def _control(self) -> list[str]:
        """Every text that no turn may contain."""
        closing = [] if self.closing_id is None else [self.closing_id]
        written = self.tokenizer.convert_ids_to_tokens(closing)
        return sorted({*control_texts(self.tokenizer), *written})

    @cached_property
    def _control_signs(self) -> str:
        """First characters of control tokens; few texts contain one."""
        return "".join(sorted({control[0] for control in self._control}))

    def _control_in(self, text: str) -> str:
        """Return the first control token that encoding a text would yield."""
        if any(sign in text for sign in self._control_signs):
            for control in self._control:
                if control in text:
                    return control
        # If a tokenizer normalises texts, the result may contain one.
        if self._rewrites and not self._control_ids.isdisjoint(self._ids(text)):
            found = next(i for i in self._ids(text) if i in self._control_ids)
            return str(self.tokenizer.convert_ids_to_tokens(found))
        return ""

    @cached_property
    def _rewrites(self) -> bool:
        """Whether control tokens match normalised text, which is rare."""
        added = self.tokenizer.added_tokens_decoder.values()
        return any(token.special and token.normalized for token in added)


@contextmanager
def giving_up(name: str) -> Iterator[None]:
    """Turn a Rust panic, whose type has no name, into a `ModelError`."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        said = full_line_of(str(error), "")
        raise ModelError(
            f"the tokenizer of {name} gave up on a text: {said}"
        ) from error


def check_tokens(tokens: Tokens) -> None:
    """Refuse a tokenizer without its vocabulary, which reads next to nothing."""
    ids = tokens.encode(Prompt(text=SAMPLE))
    if len(ids) < len(SAMPLE.split()):
        raise ModelError(
            f"the tokenizer of {tokens.template.name} reads {SAMPLE!r} as "
            f"{tokens.decode(ids)!r}, so it lacks its vocabulary; get its tokenizer "
            "files again"
        )


def control_texts(tokenizer: Any) -> list[str]:
    """Return every text that a tokenizer reads as a control token.

    Many have no role, and so are not among the named ones.
    """
    added = tokenizer.added_tokens_decoder.values()
    marked = {token.content for token in added if token.special}
    return sorted((marked | set(tokenizer.all_special_tokens)) - {""})


class ModelTokenizer:
    """Provides a `Tokenizer` through `Tokens`."""

    def __init__(self, tokens: Tokens, facts: ModelFacts) -> None:
        self.tokens = tokens
        self.facts = facts
        self.encode = tokens.encode
        self.encode_all = tokens.encode_all
        self.encode_answer = tokens.encode_answer
        self.encode_rendered = tokens.encode_rendered
        self.refusal = tokens.refusal
        self.decode = tokens.decode
        self.token_text = tokens.token_text
        self.prompt_text = tokens.prompt_text
        self.opens_reasoning = tokens.opens_reasoning
