"""Files of no public set: columns with the names that people give them.

A column that looks meant but would go unread is refused by name, since without it the
file would train or score something else.
"""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches
from typing import Final

from neuron_opsd.data.formats import unused_columns
from neuron_opsd.data.formats.cells import (
    IDS,
    LABELS,
    PROMPTS,
    QUESTIONS,
    Cells,
    Item,
    only_of,
    squash,
)
from neuron_opsd.data.formats.columns import read_answers, read_choices, span
from neuron_opsd.data.formats.fields import (
    checked_text,
    parse_conversation,
    structure,
    without_keys,
)
from neuron_opsd.data.rows import BadRowError, kind_of
from neuron_opsd.records import Message

LETTERS_LEFT_OUT: Final = "the choices' own letters, as in 'A. ...', are left out"
NUMBERS_LEFT_OUT: Final = "the choices' own numbers, as in '1. ...', are left out"


def read_plain(cells: Cells, *, labelled: bool) -> Item:
    """Return what a row of no known set says; its answer only if `labelled`."""
    messages, asking = read_prompt(cells)
    choices, keys, choosing = read_choices(cells)
    answers = read_answers(cells, choosing, chosen=bool(choosing)) if labelled else ()
    used = {asking, *choosing, *IDS, *LABELS}
    unread = [key for key in cells.values if key not in used]
    unused_columns.refuse_needed(cells, unread)
    if not choices:
        unused_columns.refuse_choices(cells, unread, labelled=labelled)
    if labelled and not answers:
        unused_columns.refuse_answers(cells, unread)
    named = only_of(cells, IDS, "id")
    renamed = [(asking, "question")] if asking in QUESTIONS else [(asking, "prompt")]
    renamed += [(choosing[0], "choices")] if len(choosing) == 1 else []
    renamed += [(squash(answer.column), "answer") for answer in answers]
    bare, own = without_keys(choices)
    notes = [] if bare == choices else [NUMBERS_LEFT_OUT if own else LETTERS_LEFT_OUT]
    if len(choosing) > 1:
        notes.append(f"read {span(cells, choosing)} as choices")
    return Item(
        messages,
        bare,
        keys or own,
        answers,
        tuple((cells.name(key), role) for key, role in renamed if key != role),
        tuple(notes),
        id=None if named is None else cells.get(named),
        question_label=read_label(cells, "questionlabel"),
        answer_label=read_label(cells, "answerlabel"),
    )


def read_exact(cells: Cells, *, labelled: bool) -> Item:
    """Read only the columns with the product's own names."""
    own = ("id", "question", "prompt", "choices", "answer", *LABELS)
    kept = {key: value for key, value in cells.values.items() if key in own}
    item = read_plain(Cells(kept, cells.written), labelled=labelled)
    if not item.choices:
        return item
    answers = tuple(replace(answer, how="exact") for answer in item.answers)
    return replace(item, answers=answers)


def read_prompt(cells: Cells) -> tuple[tuple[Message, ...], str]:
    """Return the conversation that asks, and its column."""
    question = only_of(cells, QUESTIONS, "question")
    prompt = only_of(cells, PROMPTS, "prompt")
    if prompt is not None and question is not None:
        if (cells.name(prompt), cells.name(question)) == ("prompt", "question"):
            raise BadRowError("has both a prompt and a question; keep one of them")
        raise BadRowError(
            f"has both {cells.name(prompt)!r} and {cells.name(question)!r}; keep one"
        )
    if question is not None:
        name = cells.name(question)
        return (Message("user", checked_text(cells.get(question), name)),), question
    if prompt is None:
        raise BadRowError(missing_prompt(cells))
    name, value = cells.name(prompt), structure(cells.get(prompt))
    if isinstance(value, str):
        return (Message("user", checked_text(value, name)),), prompt
    if isinstance(value, list):
        return parse_conversation(value, name), prompt
    raise BadRowError(
        f"{name} must be text or a list of messages, not {kind_of(value)}"
    )


def missing_prompt(cells: Cells) -> str:
    """Say that a row asks nothing, and which columns it has."""
    names = [cells.name(key) for key in cells.values]
    near = [
        cells.name(key)
        for wanted in ("prompt", "question")
        for key in get_close_matches(wanted, list(cells.values), n=1)
    ]
    hint = f"; is {near[0]!r} meant?" if near else ""
    if names and not near:
        hint = (
            f"; its columns are {', '.join(map(repr, names[:8]))}: rename the one that "
            "asks to question, or name a set with --format"
        )
    return f"has neither a prompt nor a question{hint}"


def read_label(cells: Cells, key: str) -> str:
    """Return the label before a question or answer; else empty."""
    value = cells.get(key)
    return "" if value is None else checked_text(value, cells.name(key)).strip()
