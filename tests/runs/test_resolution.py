"""Whose word wins in the settings of a method, in a run and in a comparison."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

from neuron_opsd.comparison import variants
from neuron_opsd.comparison.variants import config_of, parse_variant
from neuron_opsd.config import Config
from neuron_opsd.config.tables import load_config
from neuron_opsd.runs.resolution import method_remarks, with_method

RUN = ("default", "method", "preset", "file", "flag")
COMPARISON = ("default", "method", "budget", "preset", "file", "flag", "variant")

VALUES = {
    "default": 1,  # of neuron-opsd, which has no number of its own
    "method": 8,  # of ttrl
    "budget": 9,
    "preset": 32,
    "file": 5,
    "flag": 6,
    "variant": 7,
}
"""What `distill.num_samples` is by the word of each."""


def told(words: set[str], folder: Path) -> Config:
    """Return the settings of those who say something to all methods."""
    path = None
    if "file" in words:
        path = folder / "settings.toml"
        path.write_text(f"[distill]\nnum_samples = {VALUES['file']}\n")
    flag = [f"distill.num_samples={VALUES['flag']}"] if "flag" in words else []
    return load_config(path, flag)


def method_in(words: set[str]) -> str:
    """Return a method, one without a number of its own where the default counts."""
    return "neuron-opsd" if "default" in words and "preset" not in words else "ttrl"


@pytest.mark.parametrize(("lower", "higher"), [*combinations(RUN, 2)])
def test_the_later_word_wins_in_a_run(lower: str, higher: str, tmp_path: Path) -> None:
    words = {lower, higher}
    method = "ttrl" if "method" in words else method_in(words)
    preset = "paper" if "preset" in words else "equal"
    config = told(words, tmp_path).model_copy(
        update={"method": method, "preset": preset}
    )
    assert with_method(config).distill.num_samples == VALUES[higher]


@pytest.mark.parametrize(("lower", "higher"), [*combinations(COMPARISON, 2)])
@pytest.mark.parametrize("preset_of", ["all", "one"])
def test_the_later_word_wins_in_a_comparison(
    lower: str,
    higher: str,
    preset_of: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = {lower, higher}
    budget = {"distill": {"num_samples": VALUES["budget"]}}
    monkeypatch.setattr(variants, "BUDGET", budget if "budget" in words else {})
    method = "ttrl" if "method" in words else method_in(words)
    own = []
    shared = told(words, tmp_path)
    if "preset" in words and preset_of == "all":
        shared = shared.model_copy(update={"preset": "paper"})
    elif "preset" in words:
        own.append("preset=paper")
    if "variant" in words:
        own.append(f"distill.num_samples={VALUES['variant']}")
    variant = parse_variant(f"one={method}:{','.join(own)}")
    assert config_of(variant, shared).distill.num_samples == VALUES[higher]


SHARED = (
    ("neuron-opsd", "selection.keep_fraction=0.5"),
    ("random-opsd", "contexts.num_demonstrations=3"),
    ("context-sft", "distill.temperature=0.9"),
    ("u-opsd", "contexts.content=final"),
    ("lmsi", "selection.rule=random"),
    ("lmsi", "contexts.num_demonstrations=3"),
    ("ttrl", "selection.rule=fewest-neurons"),
    ("ttrl", "distill.num_samples=4"),
    ("intuitor", "policy.kl_weight=0.5"),
    ("form-only", "contexts.num_demonstrations=3"),
)


@pytest.mark.parametrize(("method", "word"), SHARED)
def test_run_and_comparison_take_the_same_word(method: str, word: str) -> None:
    in_run = with_method(load_config(None, [f"method={method}", word]))
    compared = config_of(parse_variant(method), load_config(None, [word]))
    name, _, value = word.partition("=")
    section, _, field = name.partition(".")
    for config in (in_run, compared):
        assert str(getattr(getattr(config, section), field)) == value


def test_a_run_says_where_a_word_makes_another_method() -> None:
    def told(*words: str) -> list[str]:
        config = with_method(load_config(None, words))
        return method_remarks(config, config)

    (text,) = told("method=ema-only", "contexts.num_demonstrations=2")
    assert text == (
        "ema-only requires contexts.num_demonstrations = 0, but it is set to 2: "
        "this trains another method"
    )
    assert told("method=ema-only") == []
    assert told("method=ema-only", "preset=paper") == []
    assert told("method=lmsi", "contexts.num_demonstrations=2") == []
