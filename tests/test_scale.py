"""The page of what fits where says what the planning code says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.scale import paper
from benchmarks.scale.__main__ import PAGE
from benchmarks.scale.hours import H100, RTX_4090, Setting, hours, vllm_share
from benchmarks.scale.models import outlines
from benchmarks.scale.tables import fitted, run_hours, sections
from neuron_opsd.models.outline import Outline

PARAMETERS = {
    "Qwen2.5-0.5B": 494_032_768,
    "Qwen3-1.7B": 1_720_574_976,
    "Qwen3-4B": 4_022_468_096,
    "Qwen3-8B": 8_190_735_360,
}
"""As the hub counts them in the published files."""


@pytest.fixture(scope="module")
def models() -> dict[str, Outline]:
    return outlines()


def test_the_configurations_are_those_of_the_published_models(
    models: dict[str, Outline],
) -> None:
    found = {name: outline.num_parameters for name, outline in models.items()}
    assert found == PARAMETERS


def test_the_page_holds_what_the_script_prints(models: dict[str, Outline]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name, lines in sections(models):
        text = "\n".join(lines)
        block = f"<!-- begin scale {name} -->\n{text}\n<!-- end scale {name} -->"
        assert block in page, "run `python -m benchmarks.scale --write`"


def test_bytes_are_those_that_the_page_says_were_counted(
    models: dict[str, Outline],
) -> None:
    plain, again, *_ = fitted(models["Qwen3-4B"], 8192, 80).options
    page = PAGE.read_text(encoding="utf-8")
    for counted in ("5.955", "0.379", "8.81 GB"):
        assert counted in page
    assert plain.saved == pytest.approx(5.955e6, rel=0.01)
    assert again.saved == pytest.approx(0.379e6, rel=0.01)
    assert plain.peak.static.total == pytest.approx(8.81e9, rel=0.01)


def test_more_gpus_share_the_pool_and_wait_for_the_longest_rollout(
    models: dict[str, Outline],
) -> None:
    outline = models["Qwen3-4B"]
    one, eight = (run_hours(outline, 8192, H100, count) for count in (1, 8))
    assert one is not None
    assert eight is not None
    assert one.pool == pytest.approx(8 * eight.pool)
    assert one.tests == pytest.approx(8 * eight.tests)
    assert one.training / 8 < eight.training < one.training


def test_hours_grow_with_what_is_done(models: dict[str, Outline]) -> None:
    outline, usual = models["Qwen3-1.7B"], Setting()

    def total(setting: Setting) -> float:
        return hours(outline, setting, RTX_4090, 16, 1, again=True).total

    least = total(usual)
    for more in ("pool", "samples", "steps", "batch", "tests", "limit", "shown"):
        assert total(replace(usual, **{more: 2 * getattr(usual, more)})) > least


def test_the_papers_comparison_is_counted_from_its_recipe(
    models: dict[str, Outline],
) -> None:
    recipe = paper.read()
    done = paper.counts(recipe)
    # Four methods with three seeds, two with one, and the form-only control.
    assert (done.groups, done.sampling, done.trained) == (18, 14 * 6, 17 * 6)
    assert done.tested == 120
    assert done.pools + done.tests == sum(paper.SOURCES.values())
    whole = paper.parts(models["Qwen3-4B"], recipe, H100, 40, 1)
    assert whole["tests"].completions == 120 * done.tests * 8
    once = paper.parts(models["Qwen3-4B"], recipe | {"seeds": 1}, H100, 40, 1)
    share = once["tests"].hours / whole["tests"].hours
    assert share == pytest.approx(48 / 120)


def test_the_share_of_the_bandwidth_is_a_share() -> None:
    assert 0.2 < vllm_share() < 1.0
