"""The token that closes an answer: what a model was taught to end its turn with.

A base model's settings often name the end of a document, while its chat template closes
a turn with another token. A completion that continues after that one is the model
talking to itself, so the template has its say.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import takewhile
from typing import Any

from neuron_opsd.models.tokenizer.templates import (
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
        template: Of the model; it may refuse any of the turns that it is tried on.
        ends: Ids that the model's settings name.

    Returns:
        Its id; `None` where the template writes plain text or nothing there, or a token
        that also stands within answers, after their reasoning.
    """
    control = control_ids(template.tokenizer)

    def between(turns: Sequence[Turn], after: Sequence[str], end: str) -> TokenIds:
        """Return the control tokens of a part of what the template writes."""
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
    """Return how many of their last entries two sequences share."""
    pairs = zip(reversed(left), reversed(right), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


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
