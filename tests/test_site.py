"""The documentation as a site: complete, as a forge shows it, without network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

import neuron_opsd
from browser import Browser, find_browser, open_browser
from contents import sections
from places import DOCS, ROOT

LOADING = {
    "src",
    "srcset",
    "poster",
    "data",
    "action",
    "background",
    "formaction",
    "xlink:href",
}
"""Attributes whose address a browser loads or sends to, wherever they stand."""

OUTSIDE = re.compile(r"^\s*(?:\w+:)?//")
IN_STYLES = re.compile(r"(?:url\(|@import)\s*['\"]?\s*(?:\w+:)?//[^)'\"]*")
THEME_ASKS_FOR = ('data-md-component="source"', 'class="mermaid"')
"""Elements for which the theme's scripts ask a forge for stars, or fetch a library."""
COUNTED = {"a", "code", "em", "h1", "h2", "h3", "h4", "img", "li", "ol", "p", "pre"}
COUNTED |= {"strong", "table", "td", "th", "ul"}

SEARCH = """(async () => {
  const field = document.querySelector("input[name=query]");
  field.focus();
  field.value = "keep_fraction";
  field.dispatchEvent(new KeyboardEvent("keyup", { bubbles: true }));
  for (let tries = 0; tries < 300; tries++) {
    const first = document.querySelector(".md-search-result__item");
    if (first) return first.textContent;
    await new Promise((again) => setTimeout(again, 100));
  }
  return "nothing was found";
})()"""
"""Types a word into the search, and gives the first page that is listed for it."""
COPIED = """[...document.querySelectorAll("pre code")].map(block => {
  block.setAttribute("data-md-copying", "");
  return block.innerText.trim();
})"""
"""Gives what the button beside each block of code copies, as the theme reads it."""
AWAITED = {"awaitPromise": True, "returnByValue": True}


class Page(HTMLParser):
    """What a page of HTML loads, and how often its text has each element."""

    def __init__(self, html: str, *, whole: bool) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.elements: Counter[str] = Counter()
        self.inside = whole
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element, and what it loads."""
        given = {name: value or "" for name, value in attrs}
        self.inside = self.inside or tag == "article"
        link = {"href"} if tag == "link" else set()
        self.loads += [given[name] for name in given if name in LOADING | link]
        self.loads += IN_STYLES.findall(given.get("style", ""))
        if self.inside and tag in COUNTED and given.get("class") != "headerlink":
            self.elements[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        """Leave the text of the page."""
        self.inside = self.inside and tag != "article"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not find_spec("mkdocs") or not find_spec("material"):
        pytest.skip("mkdocs-material is not installed; see requirements/dev.txt")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def built(page: Path, site: Path) -> Path:
    """Return where a page of docs/ is on the site."""
    place = page.relative_to(DOCS).with_suffix(".html")
    return site / (place.with_name("index.html") if page.stem == "README" else place)


def written() -> Iterator[Path]:
    """Yield every page of docs/."""
    yield from sorted(DOCS.rglob("*.md"))


def test_every_page_is_built_and_has_all_others_beside_it(site: Path) -> None:
    listed = sections((DOCS / "README.md").read_text(encoding="utf-8"))
    titles = {one.title for entries in listed.values() for one in entries}
    for page in written():
        text = built(page, site).read_text(encoding="utf-8")
        shown = re.findall(r'class="md-ellipsis">\s*(?:<[^>]+>\s*)*([^<]+?)\s*<', text)
        assert titles <= set(shown), f"{page.name}: {titles - set(shown)}"


def test_pages_have_the_form_that_a_forge_gives_them(site: Path) -> None:
    forge = MarkdownIt("commonmark").enable("table")
    for page in written():
        if page.name == "library.md":  # mkdocstrings writes it
            continue
        there = Page(forge.render(page.read_text(encoding="utf-8")), whole=True)
        here = Page(built(page, site).read_text(encoding="utf-8"), whole=False)
        assert there.elements["p"], page
        assert here.elements == there.elements, page.name


def test_links_on_the_site_lead_to_a_file_or_to_the_repository(site: Path) -> None:
    for file in site.rglob("*.html"):
        if file.name == "404.html":  # shown at any address: its links begin with /
            continue
        for target in re.findall(r'href="([^"#?]+)', file.read_text(encoding="utf-8")):
            if not re.match(r"\w+:", target):
                assert (file.parent / target).exists(), f"{file.name}: {target}"
    tutorial = (site / "tutorial.html").read_text(encoding="utf-8")
    assert "neuron-opsd/blob/main/examples/own_data.py" in tutorial


def test_nothing_is_loaded_from_the_network(site: Path) -> None:
    files = list(site.rglob("*.html"))
    assert len(files) > len(list(written()))
    for file in files:
        text = file.read_text(encoding="utf-8")
        loads = [one for one in Page(text, whole=True).loads if OUTSIDE.match(one)]
        assert not loads, f"{file.name}: {loads}"
        for cause in THEME_ASKS_FOR:
            assert cause not in text, f"{file.name}: {cause}"
    for file in [*files, *site.rglob("*.css")]:
        assert not IN_STYLES.search(file.read_text(encoding="utf-8")), file.name


def test_the_library_page_documents_every_public_name(site: Path) -> None:
    text = (site / "reference/library.html").read_text(encoding="utf-8")
    for name in neuron_opsd.__all__:
        if not name.startswith("__"):
            assert re.search(rf' id="neuron_opsd\.[\w.]+\.{name}"', text), name
            assert f' id="{name.lower()}"' in text, name
    # Of a function the descriptions, of a record all fields, and types lead to records.
    assert "The run directory, which gets" in text
    assert "num_rollouts" in text
    assert re.search(r'href="#neuronset">NeuronSet</a>', text)


def test_pages_are_there_for_readers_of_markdown(site: Path) -> None:
    whole = (site / "llms-full.txt").read_text(encoding="utf-8")
    listed = re.findall(r"^- \[.+\]\((\S+)\)", (site / "llms.txt").read_text(), re.M)
    assert len(listed) == len(list(written())) - 1
    for page in listed:
        text = (site / page).read_text(encoding="utf-8")
        assert text.splitlines()[0] == (DOCS / page).read_text().splitlines()[0]
        assert text in whole
        for target in re.findall(r"\]\(([^)\s#:]+)(?:#[^)]*)?\)", text):
            assert (site / page).parent.joinpath(target).exists(), f"{page}: {target}"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_browser()
    if program is None:
        pytest.skip("there is no Chromium to open the site in")
    with open_browser(program, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def test_the_search_works_from_a_folder_without_network(
    site: Path, browser: Browser
) -> None:
    assert browser.look_at(site / "index.html").requests
    found = browser.ask("Runtime.evaluate", expression=SEARCH, **AWAITED)["result"]
    asked = [
        event["params"]["request"]["url"]
        for event in browser.events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert "keep_fraction" in found["value"]
    assert "Settings" in found["value"]
    assert all(address.startswith(("file:", "data:")) for address in asked), asked


def test_commands_are_copied_without_prompt_and_output(
    site: Path, browser: Browser
) -> None:
    browser.look_at(site / "tutorial.html")
    reply = browser.ask("Runtime.evaluate", expression=COPIED, returnByValue=True)
    copied = reply["result"]["value"]
    assert "neuron-opsd fetch demo" in copied
    assert "neuron-opsd status runs/science" in copied
