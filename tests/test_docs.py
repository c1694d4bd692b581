"""The generated pages say what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from generate import HERE, pages, settings_page
from neuron_opsd.config import Config
from neuron_opsd.settings import flatten

ROOT = HERE.parent


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.name)
def test_a_generated_page_is_up_to_date(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text == pages()[path], f"{path} is out of date; run `make docs`"


def test_every_setting_has_a_line_with_an_explanation() -> None:
    page = settings_page()
    for name in flatten(Config()):
        field = name.rpartition(".")[2]
        assert re.search(rf"^\| `{field}` \| \S.* \| \S.* \| \S.* \|$", page, re.M)


@pytest.mark.parametrize(
    "page", [*ROOT.glob("*.md"), *HERE.glob("*.md")], ids=lambda page: page.name
)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", ["docs/method.md"])
def test_functions_that_a_page_names_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = re.findall(r"`((?:[a-z_]+\.)+)([A-Za-z_]+)\(\)`", text)
    assert named
    for module, function in named:
        path = ROOT / "src/neuron_opsd" / (module.strip(".").replace(".", "/") + ".py")
        source = path.read_text(encoding="utf-8")
        assert re.search(rf"^ *(def|class) {function}\b", source, re.M), function
