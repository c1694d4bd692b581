"""The documentation says what the code says, and every page can be found."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import neuron_opsd
from contents import entry, sections
from generate import settings_page
from neuron_opsd.config import Config
from neuron_opsd.config.tables import flatten
from neuron_opsd.data.formats.cells import (
    ANSWERS,
    CHOICES,
    IDS,
    INDICES,
    PROMPTS,
    QUESTIONS,
    squash,
)
from neuron_opsd.data.formats.public_sets import SETS
from pictures import PICTURES
from places import DOCS, PACKAGE, ROOT

PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
FILES = DOCS / "reference" / "files.md"
every_page = pytest.mark.parametrize(
    "page", PAGES, ids=lambda page: str(page.relative_to(ROOT))
)


def links(page: Path) -> Iterator[str]:
    """Yield the targets of a page's links and pictures within the checkout."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            yield target


def anchors(page: Path) -> set[str]:
    """Return what links into a page may name: its headings, as a forge spells them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


def shown_lines(page: Path) -> Iterator[str]:
    """Yield the lines of a page's blocks of code, continued lines as one."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)
    blocks += re.findall(r"(?:^ {4}.*\n)+", text, re.M)
    for block in blocks:
        for line in re.sub(r"\\\n\s*", "", block).splitlines():
            yield line.strip().removeprefix("$ ").partition("  # ")[0]


def commands_shown(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield each call of the command in a page: the subcommand and the words after."""
    for line in shown_lines(page):
        if found := re.match(r"(?:\w+=\S* |srun )*neuron-opsd (\S+)(.*)", line):
            yield found[1], found[2].split()


def flags_of(command: str) -> set[str]:
    """Return the flags that the reference lists for a command."""
    text = (DOCS / "reference" / "cli.md").read_text(encoding="utf-8")
    section = text.split(f"\n## neuron-opsd {command}\n")[1].split("\n## ")[0]
    return set(re.findall(r"--[a-z-]+", section))


@pytest.mark.newest
def test_the_generated_pages_are_up_to_date() -> None:
    # In a process of its own: usage lines name the program that was started.
    command = [sys.executable, str(DOCS / "generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_setting_has_a_line_with_an_explanation() -> None:
    page = settings_page()
    for name in flatten(Config()):
        field = name.rpartition(".")[2]
        assert re.search(rf"^\| `{field}` \| \S.* \| \S.* \| \S.* \|$", page, re.M)


@every_page
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in links(page):
        name, _, anchor = target.partition("#")
        leads_to = page.parent / name if name else page
        assert leads_to.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(leads_to), f"{page.name}: {target}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    found, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop().resolve()
        if page not in found and page.suffix == ".md" and page.exists():
            found.add(page)
            waiting += [page.parent / link.partition("#")[0] for link in links(page)]
    assert {page.resolve() for page in PAGES} <= found


def test_the_list_of_pages_has_every_page_once() -> None:
    listed = sections((DOCS / "README.md").read_text(encoding="utf-8"))
    pages = [DOCS / one.page for entries in listed.values() for one in entries]
    assert sorted([DOCS / "README.md", *pages]) == sorted(DOCS.rglob("*.md"))


def test_a_line_of_another_form_is_not_left_out_of_the_list() -> None:
    with pytest.raises(ValueError, match="what it is about"):
        entry("- [A page](page.md), which is about something")


@every_page
def test_commands_that_a_page_shows_exist(page: Path) -> None:
    commands = list(commands_shown(page))
    for command, words in commands:
        if command in {"COMMAND", "--help", "--version"}:
            continue
        flags = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert flags <= flags_of(command), f"{page.name}: {command} {flags}"
        for word in words:
            if re.fullmatch(r"[a-z_]+\.[a-z_]+=\S+", word):
                assert word.partition("=")[0] in flatten(Config()), word
    if page.name == "README.md":
        assert page.parent == DOCS or len(commands) >= 5


@every_page
def test_targets_and_scripts_that_a_page_shows_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for line in shown_lines(page):
        if found := re.match(r"make ([a-z-]+)", line):
            assert re.search(rf"^{found[1]}:", makefile, re.M), line
        if found := re.search(r"python (?:-m )?(benchmarks[/.]\S+)", line):
            stem = found[1].removesuffix(".py").replace(".", "/")
            assert any((ROOT / stem).parent.glob(f"{Path(stem).name}*")), line


@every_page
def test_names_of_the_library_that_a_page_uses_exist(page: Path) -> None:
    for line in shown_lines(page):
        for name in re.findall(r"\bno\.([a-z_A-Z]+)", line):
            assert name in neuron_opsd.__all__, line


def test_the_readme_begins_with_the_two_commands_and_is_short() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^ {4}(\S+ \S+)", text, re.M)[:2] == ["make demo", "make test"]
    assert len(text.split()) < 850
    assert not re.search(r"^\|", text, re.M)


def test_pictures_come_from_the_script_are_shown_and_small() -> None:
    shown = {(page.parent / link).resolve() for page in PAGES for link in links(page)}
    pictures = list((DOCS / "images").iterdir())
    assert {picture.name for picture in pictures} == set(PICTURES)
    for picture in pictures:
        assert picture.stat().st_size < 200_000, picture
        assert picture.resolve() in shown


def test_functions_that_the_page_of_the_method_names_exist() -> None:
    text = (DOCS / "explanation" / "method.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:[a-z_]+\.)+)([A-Za-z_]+)\(\)`", text)
    assert named
    for module, function in named:
        path = PACKAGE / (module.strip(".").replace(".", "/") + ".py")
        source = path.read_text(encoding="utf-8")
        assert re.search(rf"^ *(def|class) {function}\b", source, re.M), function


def test_the_page_of_files_names_every_public_set_with_its_licence() -> None:
    page = FILES.read_text(encoding="utf-8")
    for one in SETS:
        (row,) = re.findall(rf"^\| `{one.name}` \|.*$", page, re.M)
        assert one.licence in row
        assert not one.reader or f"`answers.reader={one.reader}`" in row


def test_the_page_of_files_names_every_column_that_is_read() -> None:
    page = FILES.read_text(encoding="utf-8")
    named = {squash(name) for name in re.findall(r"`([^`]+)`", page)}
    for names in (QUESTIONS, PROMPTS, CHOICES, ANSWERS, INDICES, IDS):
        assert set(names) <= named, set(names) - named


def test_versions_of_other_programs_are_those_that_are_installed() -> None:
    """A version in the table must be one that the requirements pin."""
    lists = sorted((ROOT / "requirements").glob("*.txt"))
    pinned = {
        version
        for file in lists
        for version in re.findall(r"^[\w.-]+==([\w.]+)", file.read_text(), re.M)
    }
    page = (DOCS / "reference" / "other-programs.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\| [^|]+ \| \D*?(\d[\d.]+)[^|]* \|", page, re.M)
    assert len(shown) > 15
    assert [version for version in shown if version not in pinned] == []
