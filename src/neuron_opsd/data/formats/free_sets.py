"""Public sets with free answers, as their authors or the hub publish them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from neuron_opsd.data.formats.cells import Cells, is_blank
from neuron_opsd.data.formats.fields import (
    answer_in,
    asked,
    identity,
    joined,
    need,
    parse_conversation,
    structure,
    text_of,
)
from neuron_opsd.data.formats.items import How, Item, RawAnswer
from neuron_opsd.data.formats.plain import read_plain
from neuron_opsd.data.rows import BadRowError, kind_of


def read_math(cells: Cells) -> Item:
    r"""Read MATH: the answer's column, else what the solution has in ``\boxed{}``."""
    if is_blank(cells.get("answer")):
        return plain_but(cells, "solution", "box")
    return plain_but(cells, "answer", "auto")


def plain_but(cells: Cells, key: str, how: How) -> Item:
    """Read a row as any other, so that a pool, whose answers show nothing, is alike."""
    item = read_plain(cells, labelled=False)
    return replace(item, renamed=(), answers=answer_in(cells, key, how))


def free_answers(how: How) -> Callable[[Cells], Item]:
    """Return what reads questions whose column `answer` is of one kind."""
    return lambda cells: plain_but(cells, "answer", how)


def read_alpaca(cells: Cells) -> Item:
    """Read an instruction with its input, and an output."""
    return Item(
        asked(joined(text_of(cells, "instruction"), cells.get("input"))),
        answers=answer_in(cells, "output", "auto"),
        id=identity(cells),
    )


def read_verl(cells: Cells) -> Item:
    """Read the rows that verl trains on: a conversation and a rule's ground truth."""
    prompt = structure(need(cells, "prompt"))
    if isinstance(prompt, str):
        turns = asked(text_of(cells, "prompt"))
    elif isinstance(prompt, list):
        turns = parse_conversation(prompt, cells.name("prompt"))
    else:
        raise BadRowError(
            f"prompt must be text or a list of messages, not {kind_of(prompt)}"
        )
    rule = structure(cells.get("rewardmodel"))
    truth = rule.get("ground_truth") if isinstance(rule, Mapping) else None
    answers = () if is_blank(truth) else (RawAnswer("reward_model", truth),)
    return Item(turns, answers=answers)
