"""Shared by all pages: tables, templates, style and security policy.

Text from models, data or users passes two gates that templates cannot bypass:
`presentable` spells out control characters, and Jinja autoescapes. Only our own SVG is
markup.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from neuron_opsd.report import wording
from neuron_opsd.report.charts.svg import PALETTE, share_bar, tag
from neuron_opsd.report.wording import GOT_BETTER, GOT_WORSE, NOT_MEASURED, one_line

LONGEST_PROMPT = 12_000
LONGEST_TEXT = 2_000


def render_template(name: str, values: Mapping[str, object], *more_styles: str) -> str:
    """Fill a template of this package deterministically."""
    style = style_sheet(*more_styles)
    template, policy = environment().get_template(name), security_policy(style)
    return template.render(
        values, style=Markup(style), policy=policy, longest_text=LONGEST_TEXT
    )


def environment(*, autoescape: bool = True) -> Environment:
    """Return the template environment, with number filters."""
    made = Environment(
        autoescape=autoescape,
        finalize=presentable,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        loader=FunctionLoader(resource),
    )
    made.filters.update(
        {
            "brief": wording.one_line,
            "clip": clip,
            "number": wording.number,
            "percent": wording.percent,
            "said": said,
            "share_bar": share_bar,
            "size": wording.size,
            "tail": wording.tail,
            "token": wording.token,
            "unbroken": unbroken,
        }
    )
    return made


def resource(name: str) -> str:
    """Read a file of this package."""
    return (files("neuron_opsd.report") / "templates" / name).read_text("utf-8")


def presentable(value: object) -> object:
    """Show a plain string's invisible characters; leave markup alone."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return wording.visible(value)
    return value


def unbroken(text: str) -> str:
    """Keep each number and its per cent sign on one line."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%")


def clip(text: str, limit: int) -> str:
    """Cut a long text to the limit, saying how much is missing.

    Idempotent under the same limit.
    """
    if len(text) <= limit:
        return text
    kept = max(0, limit - len(f"\n[{len(text):,} more characters]"))
    return f"{text[:kept]}\n[{len(text) - kept:,} more characters]"


def style_sheet(*more: str) -> str:
    """Return `page.css` and more styles, preceded by the palette."""
    light, dark = (
        "".join(f"--{role}:{pair[scheme]};" for role, pair in PALETTE.items())
        for scheme in (0, 1)
    )
    sheets = "".join(resource(name) for name in ("page.css", *more))
    return (
        f":root{{color-scheme:light dark;{light}}}\n"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"
        f"{sheets}"
    )


def security_policy(style: str) -> str:
    """Return a policy that allows only this style sheet."""
    digest = base64.b64encode(hashlib.sha256(style.encode("utf-8")).digest())
    return (
        f"default-src 'none'; style-src 'sha256-{digest.decode('ascii')}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell, with two smaller lines below."""

    value: str
    """Text, or our own markup."""
    note: str = ""
    more: str = ""
    key: bool = False
    """Highlighted: in-domain, or an interval excluding zero."""


NO_CELL = Cell(NOT_MEASURED)


@dataclass(frozen=True, slots=True)
class Column:
    """A column's heading, with small print below."""

    heading: str
    note: str = ""
    text: bool = False
    """Whether it holds words (left-aligned), not numbers."""


@dataclass(frozen=True, slots=True)
class TableRow:
    """One named row."""

    name: str
    cells: tuple[Cell, ...]
    said: str = ""
    """What the row shows, on a line below."""
    note: str = ""
    """Small print below the name."""
    total: bool = False
    """Whether it totals the rows above."""


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Rows under a heading (none if the name is empty)."""

    name: str
    rows: tuple[TableRow, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose first column holds names."""

    title: str
    corner: str
    """Heading of the names."""
    columns: tuple[Column, ...]
    groups: tuple[RowGroup, ...]
    kind: str = ""
    """CSS class."""


def table_of(
    title: str, corner: str, columns: Iterable[Column], rows: Iterable[TableRow]
) -> Table:
    """Return a table with a single row group."""
    return Table(title, corner, tuple(columns), (RowGroup("", tuple(rows)),))


def grouped(
    title: str, corner: str, columns: Iterable[Column], groups: Iterable[RowGroup]
) -> Table:
    """Return a table without empty row groups."""
    kept = tuple(group for group in groups if group.rows)
    return Table(title, corner, tuple(columns), kept)


def row_of(
    name: str,
    *cells: Cell | str,
    said: str = "",
    note: str = "",
    total: bool = False,
) -> TableRow:
    """Return a row; strings become cells."""
    made = (one if isinstance(one, Cell) else Cell(one) for one in cells)
    return TableRow(name, tuple(made), said, note, total)


def named(names: Iterable[str]) -> tuple[Column, ...]:
    """Return one column per name."""
    return tuple(Column(one_line(name, 40)) for name in names)


def with_numbers(rows: Iterable[TableRow]) -> tuple[TableRow, ...]:
    """Return the rows with any number."""
    return tuple(
        row for row in rows if any(cell.value != NOT_MEASURED for cell in row.cells)
    )


def said(words: str) -> Markup:
    """Colour a verdict, if there is one."""
    if not words:
        return Markup("")
    kind = {GOT_BETTER: "better", GOT_WORSE: "worse"}.get(words, "none")
    return tag("span", words, class_=f"said {kind}")
