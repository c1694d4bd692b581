"""The script that takes the documentation's pictures, on pages of our own."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from browser import Browser, find_browser, open_browser
from neuron_opsd.report.run_page import render_page
from pictures import PICTURES, WIDTH, take
from report_examples import example_report


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_browser()
    if program is None:
        pytest.skip("there is no Chromium to take pictures with")
    with open_browser(program, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def page(tmp_path: Path) -> Path:
    (tmp_path / "report.html").write_text(render_page(example_report()))
    return tmp_path / "report.html"


def test_every_picture_of_a_run_has_what_it_shows(browser: Browser, page: Path) -> None:
    shown = [one for one in PICTURES.values() if one.folder == "demo"]
    heights = set()
    for picture in shown:
        png = take(browser, page, picture)
        width, height = struct.unpack(">II", png[16:24])
        assert png.startswith(b"\x89PNG")
        assert width == WIDTH
        assert 100 < height < 1000, picture
        heights.add(height)
    assert len(heights) == len(shown)


def test_a_page_without_the_section_is_named(browser: Browser, page: Path) -> None:
    picture = replace(PICTURES["report.png"], last="#nowhere")
    with pytest.raises(ValueError, match=r"report\.html has no #nowhere"):
        take(browser, page, picture)
