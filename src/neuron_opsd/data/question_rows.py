"""Read what one row of a question file says, whatever its columns are called."""

from __future__ import annotations

from dataclasses import dataclass, replace

from neuron_opsd.config import QuestionsConfig
from neuron_opsd.data.formats import public_sets, unused_columns
from neuron_opsd.data.formats.cells import GIVEN, Cells, Item, cells_of
from neuron_opsd.data.formats.columns import read_answers
from neuron_opsd.data.formats.fields import parse_given, parse_id
from neuron_opsd.data.formats.plain import read_exact, read_plain
from neuron_opsd.data.rows import BadRowError, FileRow
from neuron_opsd.records import Question


@dataclass(frozen=True, slots=True)
class Parsed:
    """One good row."""

    number: int
    place: str
    item: Item
    question: Question
    public: public_sets.PublicSet | None


@dataclass(frozen=True, slots=True)
class Reading:
    """How one file is read."""

    format: str
    config: QuestionsConfig
    labelled: bool


def parse_row(row: FileRow, number: int, stem: str, reading: Reading) -> Parsed:
    """Return what one row says."""
    cells = cells_of(row.good)
    given = parse_given(cells.values.get(GIVEN), cells.name(GIVEN))
    item, public = item_of(cells.without(GIVEN), reading)
    unused_columns.refuse_picture(item.messages)
    question = Question(
        parse_id(item.id, f"{stem}-{number}"),
        item.messages,
        item.choices,
        question_label=item.question_label,
        answer_label=item.answer_label,
        given=given,
    )
    return Parsed(number, row.place, item, question, public)


def item_of(
    cells: Cells, reading: Reading
) -> tuple[Item, public_sets.PublicSet | None]:
    """Return what a row says, and its set."""
    public = public_sets.BY_NAME.get(reading.format)
    if reading.format == public_sets.AUTO:
        public = public_sets.recognise(cells, labelled=reading.labelled)
    if public is None:
        read = read_exact if reading.format == public_sets.PLAIN else read_plain
        item, how = read(cells, labelled=reading.labelled), reading.config.answers
        if how != "auto" and item.choices:
            told = tuple(replace(answer, how=how) for answer in item.answers)
            item = replace(item, answers=told)
        return item, None
    missing = [k for k in public.needs if not cells.has(k) and k not in OPTIONAL]
    if missing:
        names = [one for key, one in cells.written.items() if key in cells.values]
        raise BadRowError(
            f"has no column {missing[0]!r}, which identifies {public.name}; its "
            f"columns are {', '.join(map(repr, names))}"
        )
    return read_set(public, cells, labelled=reading.labelled), public


def read_set(public: public_sets.PublicSet, cells: Cells, *, labelled: bool) -> Item:
    """Return what a row of a public set says.

    Gold answers besides the set's own must agree with it.
    """
    cells = cells.fresh()
    item = public.read(cells)
    unread = [key for key in cells.unread() if key not in public.left_out]
    unused_columns.refuse_needed(cells, unread)
    unused_columns.refuse_asked(cells, unread, public.title)
    if not item.choices:
        unused_columns.refuse_choices(cells, unread, labelled=labelled)
    if not labelled:
        return item
    passed = cells.values.keys() - set(unread)
    more = read_answers(cells, passed, chosen=bool(item.choices))
    if not (item.answers or more):
        unused_columns.refuse_answers(cells, unread)
    return replace(item, answers=(*item.answers, *more))


OPTIONAL = ("answer", "solution", "rewardmodel")
"""Columns that identify a set, but may be missing in a pool."""
