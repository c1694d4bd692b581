"""Reading pages in tests: a parser that checks them, and a text made to break them."""

from __future__ import annotations

import re
from html.parser import HTMLParser

VOID = {"meta", "link", "br", "hr", "img", "input"}
BLOCKS = {"p", "div", "ul", "ol", "dl", "table", "figure", "pre", "section", "details"}
HOSTILE = (
    "\"'><script>alert(1)</script><img src=http://evil.example/x onerror=alert(1)>"
    "<a href='javascript:alert(1)'>{{ 7*7 }}{% raw %}</style></svg></title></pre>"
    "<!--]]>&lt;b&gt;\x1b[31m\x00\u202e\u2066\ud800 onload=alert(1) style=x"
)


class Reader(HTMLParser):
    """Checks that every element is closed in its place, and gathers what it meets."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the element and that it may stand where it stands."""
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        assert not ("p" in self.open and tag in BLOCKS), f"{tag} inside p"
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Check that it closes what was opened last."""
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Keep the words."""
        self.words.append(data)

    def values(self, name: str) -> list[str]:
        """Return the values of one attribute, in order."""
        return [value for _, key, value in self.attributes if key == name]

    @property
    def text(self) -> str:
        """All words, spaces made one."""
        return " ".join("".join(self.words).split())


def read(page: str) -> Reader:
    """Parse a page and check that it is whole."""
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


class TableReader(HTMLParser):
    """Gathers the cells of every table, by the label of the box that it scrolls in."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.label = ""
        self.in_cell = False
        self.tables: dict[str, list[list[list[str]]]] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin a table, row, cell or line of a cell."""
        if dict(attrs).get("class") == "scroll":
            self.label = dict(attrs).get("aria-label") or ""
        elif tag == "table":
            self.tables.setdefault(self.label, []).append([])
        elif tag == "tr":
            self.tables[self.label][-1].append([])
        elif tag in ("td", "th"):
            self.tables[self.label][-1][-1].append("")
            self.in_cell = True
        elif tag == "small" and self.in_cell:
            self.handle_data(" ")

    def handle_endtag(self, tag: str) -> None:
        """End a cell."""
        if tag in ("td", "th"):
            self.in_cell = False

    def handle_data(self, data: str) -> None:
        """Add words to the cell."""
        if self.in_cell:
            self.tables[self.label][-1][-1][-1] += data


def read_tables(page: str) -> dict[str, list[list[list[str]]]]:
    """Return tables as rows of cells, by label; several may have the same label."""
    reader = TableReader()
    reader.feed(page)
    reader.close()
    return reader.tables


def check_links(page: str) -> None:
    """Check that every part has a name of its own and can be reached."""
    reader = read(page)
    ids = reader.values("id")
    assert len(ids) == len(set(ids))
    anchors = {value for value in reader.values("href") if value.startswith("#")}
    assert anchors == {f"#{name}" for name in ids}


def check_inert(page: str) -> None:
    """Check that the page loads nothing and runs nothing."""
    reader = read(page)
    assert not reader.tags & {"script", "img", "iframe", "object", "embed", "form"}
    assert not reader.values("src")
    assert not reader.values("style")
    assert all(value[:1] == "#" or value == "data:," for value in reader.values("href"))
    assert not re.search(r"https?:|url\(|@import", page)
