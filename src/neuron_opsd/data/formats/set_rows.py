"""Rows of public sets, read whole: nothing that seems to be meant goes unread.

What a set's reader does not ask for is looked at as in any other file, since a file may
have more columns than the set that it is taken for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from neuron_opsd.data.formats.answer_columns import read_answers
from neuron_opsd.data.formats.cells import Cells, is_blank
from neuron_opsd.data.formats.choosing import grouped
from neuron_opsd.data.formats.column_names import CHOICES, GROUP, PROMPTS, QUESTIONS
from neuron_opsd.data.formats.items import Item
from neuron_opsd.data.formats.public_sets import PublicSet
from neuron_opsd.data.formats.unread import (
    refuse_answers,
    refuse_choices,
    refuse_needed,
)
from neuron_opsd.data.rows import BadRowError


def read_set(public: PublicSet, cells: Cells, *, labelled: bool) -> Item:
    """Return what a row of a public set says.

    Args:
        public: The set.
        cells: Of the row.
        labelled: Whether gold answers are wanted; those beside the set's own must agree
            with it.
    """
    cells = cells.fresh()
    item = public.read(cells)
    unread = [key for key in cells.unread() if key not in public.left_out]
    refuse_needed(cells, unread)
    refuse_asked(cells, unread, public)
    if not item.choices:
        refuse_choices(cells, unread, labelled=labelled)
    if not labelled:
        return item
    passed = cells.values.keys() - set(unread)
    more = read_answers(cells, passed, chosen=bool(item.choices))
    if not (item.answers or more):
        refuse_answers(cells, unread)
    return replace(item, answers=(*item.answers, *more))


def refuse_asked(cells: Cells, unread: Sequence[str], public: PublicSet) -> None:
    """Refuse a question or a choice beside those of the set."""
    stems = {stem_of(key) for key in cells.asked if key in cells.written} - {""}
    group = grouped(cells) if stems.isdisjoint(map(stem_of, cells.written)) else []
    for key in unread:
        if is_blank(cells.values.get(key)):
            continue
        if key in (*QUESTIONS, *PROMPTS):
            what = "may be what is asked"
        elif key in CHOICES:
            what = "may hold the choices"
        elif key in group or stem_of(key) in stems:
            what = "may be one choice more"
        else:
            continue
        raise BadRowError(
            f"{cells.name(key)!r} {what}, but is no column of {public.title}, which "
            "this row is taken for; remove it, or call the columns question, choices "
            "and answer and say --format plain"
        )


def stem_of(key: str) -> str:
    """Return what columns of choices have in common: `option` of `option3`."""
    match = GROUP.fullmatch(key)
    if match is not None:
        return match[1] or match[3] or ""
    return re.sub(r"\d+$", "", key) if key[-1:].isdigit() else ""
