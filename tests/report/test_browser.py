"""The pages in a real browser: whatever foreign text they hold, it stays text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from browser import Browser, find_browser, open_browser
from comparison_examples import small_comparison
from neuron_opsd.report.analysis_page import render_analysis
from neuron_opsd.report.atlas_page import render_atlas
from neuron_opsd.report.comparison_page import render_comparison
from neuron_opsd.report.probe_page import render_probe
from neuron_opsd.report.run_page import render_page
from report_examples import example_report
from tests.report import (
    test_analysis_page,
    test_atlas_page,
    test_comparison_page,
    test_probe_page,
    test_run_page,
)

OPENERS = ("", "'>", '">', "</style></title></textarea>", "--></svg></desc>]]>")
"""What would leave an attribute, a style, a title, a comment or a drawing."""

VECTORS = (
    "<script>alert(1)</script>",
    "<script src=http://evil.invalid/x.js></script>",
    "<img src=http://evil.invalid/x onerror=alert(1)>",
    "<img src=x: onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<iframe src=javascript:alert(1)></iframe>",
    "<a href=javascript:alert(1)>here</a>",
    "<details open ontoggle=alert(1)>",
    "<input autofocus onfocus=alert(1)>",
    "<body onload=alert(1)>",
    "<video src=http://evil.invalid/v onerror=alert(1)></video>",
    "<meta http-equiv=refresh content='0;url=http://evil.invalid/'>",
    "<link rel=stylesheet href=http://evil.invalid/c.css>",
    "<style>@import 'http://evil.invalid/i.css';*{display:none}</style>",
    "<base href=http://evil.invalid/>",
    "<object data=http://evil.invalid/o></object>",
    "<embed src=http://evil.invalid/e>",
    "<form action=http://evil.invalid/f><input autofocus></form>",
    "<math><mtext><img src=x: onerror=alert(1)></mtext></math>",
    "<template><script>alert(1)</script></template>",
    "{{ ''.__class__ }}{% raw %}&lt;script&gt;alert(1)&lt;/script&gt;",
    " onmouseover=alert(1) style=background:url(http://evil.invalid/s) x=",
)
PAYLOADS = tuple(opener + vector for opener, vector in product(OPENERS, VECTORS))
SOME = PAYLOADS[:: len(PAYLOADS) // 9][:10]

Poison = Callable[[], str]

OWN_WORDS = 500
"""Characters that each of the pages has to say, at least."""


def bad_report() -> str:
    data = test_run_page.poisoned(example_report())
    return render_page(replace(data, config=test_run_page.hostile_config()))


def bad_comparison() -> str:
    return render_comparison(test_comparison_page.poisoned(small_comparison()))


def bad_analysis() -> str:
    data = test_analysis_page.example_analysis()
    return render_analysis(test_analysis_page.poisoned(data))


def bad_probe() -> str:
    return render_probe(test_probe_page.poisoned(test_probe_page.example_probe()))


def bad_atlas() -> str:
    return render_atlas(test_atlas_page.poisoned_atlas())


PAGES: Mapping[str, Poison] = {
    "report": bad_report,
    "comparison": bad_comparison,
    "analysis": bad_analysis,
    "probe": bad_probe,
    "atlas": bad_atlas,
}
TESTS = (test_run_page, test_comparison_page, test_analysis_page, test_probe_page)
"""Each puts its `HOSTILE` wherever foreign text enters a page."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_browser()
    if program is None:
        pytest.skip("there is no Chromium to open the pages in")
    with open_browser(program, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def check_payloads(
    payloads: tuple[str, ...],
    browser: Browser,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Open every page with every payload in every place, and see nothing happen."""
    page = folder / "page.html"
    for payload in payloads:
        for module in TESTS:
            monkeypatch.setattr(module, "HOSTILE", payload)
        for name, render in PAGES.items():
            page.write_text(render(), encoding="utf-8")
            seen = browser.look_at(page)
            case = f"{name} with {payload!r}"
            assert seen.dialogs == (), case
            assert seen.requests == (), case
            facts = seen.facts
            own = {k: facts[k] for k in ("scripts", "handlers", "alive", "outside")}
            assert own == dict.fromkeys(own, 0), case
            assert (facts["metas"], facts["styles"]) == (1, 1), case
            assert payload.split()[0] in facts["text"], f"{case} is not shown"
            assert len(facts["text"]) > OWN_WORDS, case


def test_the_browser_sees_what_an_open_page_would_do(
    browser: Browser, tmp_path: Path
) -> None:
    page = tmp_path / "open.html"
    page.write_text(f"<title>x</title><body>{VECTORS[0]}{VECTORS[2]}{VECTORS[14]}")
    seen = browser.look_at(page)
    assert seen.dialogs[0] == "1"
    assert {a.rpartition("/")[2] for a in seen.requests} == {"x", "c.css"}
    assert seen.facts["scripts"] == 1
    assert seen.facts["handlers"] == 1


def test_some_payloads_stay_text(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(SOME) == 10
    check_payloads(SOME, browser, tmp_path, monkeypatch)


@pytest.mark.long
def test_all_payloads_stay_text(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(set(PAYLOADS)) == 120
    check_payloads(PAYLOADS, browser, tmp_path, monkeypatch)


@pytest.mark.parametrize("name", PAGES)
def test_the_pages_are_read_without_scripts(
    name: str, browser: Browser, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    page.write_text(PAGES[name](), encoding="utf-8")
    with_scripts = browser.look_at(page).facts
    without = browser.look_at(page, scripts=False).facts
    assert without == with_scripts
    assert len(without["text"]) > OWN_WORDS
