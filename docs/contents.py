"""The list of pages in docs/README.md; navigation and `llms.txt` follow from it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LLMS = """\
# neuron-opsd

> Improve a language model in one domain from unlabelled questions alone, and measure \
what it did.

Written by `make docs` from docs/README.md. The documentation site has these pages as
Markdown at these addresses, and all of them together in llms-full.txt.
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the table of contents."""

    title: str
    page: str
    """Its file, from docs/."""
    about: str


def sections(readme: str) -> Mapping[str, Sequence[Entry]]:
    """Return the pages that docs/README.md lists, by the heading above them."""
    found: dict[str, list[Entry]] = {}
    for part in readme.split("\n## ")[1:]:
        heading, _, body = part.partition("\n")
        lines = " ".join(body.split()).split("- [")[1:]
        found[heading] = [entry("- [" + line) for line in lines]
    return found


def entry(line: str) -> Entry:
    """Read a line such as `- [Title](page.md): what the page is about`.

    Raises:
        ValueError: If the line has another form.
    """
    if match := re.fullmatch(r"- \[(.+)\]\((.+\.md)\): (.+?) *", line):
        return Entry(*match.groups())
    raise ValueError(f"not `- [Title](page.md): what it is about`: {line}")


def llms_text(readme: str) -> str:
    """Return the list of pages in the form of llmstxt.org."""
    lines = [LLMS]
    for heading, entries in sections(readme).items():
        lines += [f"## {heading}", ""]
        lines += [f"- [{one.title}]({one.page}): {one.about}" for one in entries]
        lines.append("")
    return "\n".join(lines)
