"""The token that closes an answer: what a model was taught to end its turn with.

A base model's settings often name the end of a document, while its chat template closes
a turn with another token. A completion that continues after that one is the model
talking to itself, so the template has its say.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from neuron_opsd.models.tokenizer.templates import (
    PROBE,
    REASONING,
    ChatTemplate,
    Turn,
    UnwrittenError,
    probe,
)
from neuron_opsd.records import TokenIds


def closing_token(template: ChatTemplate, ends: Collection[int]) -> int | None:
    """Return the control token with which a template closes an answer.

    It is the first one after the last answer of a conversation or, where nothing stands
    there, after an answer that another turn follows, whose opening does not count
    unless the model's settings name it as an end.

    Args:
        template: Of the model.
        ends: Ids that the model's settings name.

    Returns:
        Its id; `None` where the template writes plain text or nothing there, or a token
        that also stands within answers, after their reasoning.
    """
    reader = TemplateReader(template)
    inside = reader.after_reasoning()
    last = [token for token in reader.after_last_answer() if token not in inside]
    if last:
        return last[0]
    opening, between = reader.around_answer()
    own = between[: len(between) - shared_end(opening, between)]
    found = [token for token in own if token not in inside]
    found += [token for token in between if token in ends and token not in inside]
    return found[0] if found else None


def shared_end(left: Sequence[int], right: Sequence[int]) -> int:
    """Return how many of their last entries two sequences share."""
    count = 0
    for one, other in zip(reversed(left), reversed(right), strict=False):
        if one != other:
            break
        count += 1
    return count


class TemplateReader:
    """Writes probes through a template and returns the control tokens around them."""

    def __init__(self, template: ChatTemplate) -> None:
        """Take a template, which may refuse any of the probes."""
        self.template = template
        self.control = control_ids(template.tokenizer)

    def after_last_answer(self) -> TokenIds:
        """Return what stands after an answer that nothing follows."""
        text = self._write([probe("user", 0), probe("assistant", 1)])
        return self._control_of(text.partition(f"{PROBE}1.")[2])

    def around_answer(self) -> tuple[TokenIds, TokenIds]:
        """Return what stands before a question, and between an answer and the next."""
        turns = [probe("user", 0), probe("assistant", 1), probe("user", 2)]
        before, _, after = self._write(turns).partition(f"{PROBE}0.")
        between = after.partition(f"{PROBE}1.")[2].partition(f"{PROBE}2.")[0]
        return self._control_of(before), self._control_of(between)

    def after_reasoning(self) -> frozenset[int]:
        """Return what stands between an answer's reasoning and what it says then."""
        thought = probe("assistant", 1, reasoning=REASONING)
        text = self._write([probe("user", 0), thought])
        after = text.partition(REASONING)[2].partition(f"{PROBE}1.")[0]
        return frozenset(self._control_of(after))

    def _write(self, turns: Sequence[Turn]) -> str:
        """Return what the template writes, nothing where it refuses the turns."""
        try:
            return self.template.write(turns)
        except UnwrittenError:
            return ""

    def _control_of(self, text: str) -> TokenIds:
        """Return the control tokens of a text, in order."""
        ids = self.template.tokenizer(text, add_special_tokens=False).input_ids
        return tuple(token for token in ids if token in self.control)


def control_ids(tokenizer: Any) -> frozenset[int]:
    """Return the ids that stand for no text of a person.

    Some fine-tuned models add theirs as ordinary tokens; some add runs of blanks.
    """
    added = {
        int(token)
        for token, entry in tokenizer.added_tokens_decoder.items()
        if entry.special or entry.content.strip()
    }
    return frozenset(added | set(tokenizer.all_special_ids))
