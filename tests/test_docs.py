"""The generated pages say what the code says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from generate import HERE, settings_page
from neuron_opsd.config import Config
from neuron_opsd.config.tables import flatten
from neuron_opsd.data.formats.cells import squash
from neuron_opsd.data.formats.column_names import (
    ANSWERS,
    CHOICES,
    IDS,
    INDICES,
    PROMPTS,
    QUESTIONS,
)
from neuron_opsd.data.formats.public_sets import SETS

ROOT = HERE.parent


def test_the_generated_pages_are_up_to_date() -> None:
    # In a process of its own: usage lines name the program that was started.
    command = [sys.executable, str(HERE / "generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_setting_has_a_line_with_an_explanation() -> None:
    page = settings_page()
    for name in flatten(Config()):
        field = name.rpartition(".")[2]
        assert re.search(rf"^\| `{field}` \| \S.* \| \S.* \| \S.* \|$", page, re.M)


@pytest.mark.parametrize(
    "page", [*ROOT.glob("*.md"), *HERE.rglob("*.md")], ids=lambda page: page.name
)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", ["docs/explanation/method.md"])
def test_functions_that_a_page_names_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = re.findall(r"`((?:[a-z_]+\.)+)([A-Za-z_]+)\(\)`", text)
    assert named
    for module, function in named:
        path = ROOT / "src/neuron_opsd" / (module.strip(".").replace(".", "/") + ".py")
        source = path.read_text(encoding="utf-8")
        assert re.search(rf"^ *(def|class) {function}\b", source, re.M), function


def test_the_page_of_files_names_every_public_set_with_its_licence() -> None:
    page = (HERE / "reference" / "files.md").read_text(encoding="utf-8")
    for one in SETS:
        (row,) = re.findall(rf"^\| `{one.name}` \|.*$", page, re.M)
        assert one.licence in row
        assert not one.reader or f"`answers.reader={one.reader}`" in row


def test_the_page_of_files_names_every_column_that_is_read() -> None:
    page = (HERE / "reference" / "files.md").read_text(encoding="utf-8")
    named = {squash(name) for name in re.findall(r"`([^`]+)`", page)}
    for names in (QUESTIONS, PROMPTS, CHOICES, ANSWERS, INDICES, IDS):
        assert set(names) <= named, set(names) - named
