"""What MkDocs is told of these pages, which are written to be read on a forge as well.

Navigation is the list in README.md. Links that leave docs/ lead to the repository. The
page of the library, which shows signatures and docstrings as code, gets mkdocstrings'
form of its functions; records stay code, which has their fields in order and in full.
The pages themselves are added as Markdown, together in llms-full.txt.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from contents import sections

LINK = re.compile(r"(?<=\]\()([^)\s:#]+)(#[^)\s]*)?(?=\))")
SHOWN = re.compile(
    r"^(#+) ([\w ]+)\n\n<!-- (neuron_opsd\.[\w.]+) -->\n\n(```python\n(\w+).*?^```)$",
    re.M | re.S,
)


def on_config(config: Any) -> Any:
    """Take the navigation from the list of pages."""
    readme = Path(config.docs_dir, "README.md").read_text(encoding="utf-8")
    listed = [
        {heading: [{one.title: one.page} for one in entries]}
        for heading, entries in sections(readme).items()
    ]
    config.nav = [{"Home": "README.md"}, *listed]
    return config


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Return a page with links that work on the site, and with its directives."""
    if page.is_homepage:
        page.meta["hide"] = ["navigation"]  # it is the navigation
    return SHOWN.sub(directive, outward(markdown, page.file.src_uri, config))


def directive(shown: re.Match[str]) -> str:
    """Return what the site has for one name of the library's page."""
    marks, heading, path, code, kind = shown.groups()
    anchor = heading.lower().replace(" ", "-")
    if kind != "def":
        return f"[](){{#{path}}}\n\n{marks} {heading}\n\n{code}"
    return f"""\
<a id="{anchor}"></a>

::: {path}
    options:
      heading: {heading}
      toc_label: {heading}
      heading_level: {len(marks)}
"""


def on_page_content(html: str, **_: Any) -> str:
    """Make places that links lead to no links themselves."""
    return html.replace('<a href="" id=', "<a id=")


def outward(text: str, page: str, config: Any) -> str:
    """Return a page whose links to files outside docs/ lead to the repository.

    Args:
        text: The page.
        page: Its place in docs/.
        config: Names the repository.
    """
    repository = config.extra["social"][0]["link"]
    folder = posixpath.dirname(posixpath.join("docs", page))

    def leads(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, link[1]))
        if path.startswith("docs/"):
            return link[0]
        return f"{repository}/blob/main/{path}{link[2] or ''}"

    return LINK.sub(leads, text)


def on_post_build(config: Any) -> None:
    """Add every page as Markdown, and one file of all in the order of the list."""
    docs, site = Path(config.docs_dir), Path(config.site_dir)
    listed = sections((docs / "README.md").read_text(encoding="utf-8"))
    whole = ""
    for page in (one.page for entries in listed.values() for one in entries):
        text = outward((docs / page).read_text(encoding="utf-8"), page, config)
        (site / page).write_text(text, encoding="utf-8")
        whole += text + "\n"
    (site / "llms-full.txt").write_text(whole, encoding="utf-8")
