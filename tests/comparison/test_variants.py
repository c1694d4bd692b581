"""What a comparison says of settings that make it impossible or unequal."""

from __future__ import annotations

import re

import pytest

from neuron_opsd.comparison.variants import (
    check_own_settings,
    check_resolved,
    config_of,
    method_line,
    parse_variant,
    with_budget,
)
from neuron_opsd.config.tables import load_config
from neuron_opsd.errors import ConfigError


def told(methods: list[str], *settings: str) -> list[str]:
    """Return what is said before a comparison of some methods begins."""
    said: list[str] = []
    variants = [parse_variant(text) for text in methods]
    check_resolved(variants, load_config(None, settings), said.append)
    return said


def test_nothing_is_said_where_all_are_given_the_same() -> None:
    methods = ["neuron-opsd", "random-opsd", "ema-only", "lmsi", "ttrl", "form-only"]
    assert told(methods) == []
    assert told(methods, "distill.num_samples=4", "distill.batch_size=8") == []
    assert told(["lmsi", "form-only"], "contexts.num_demonstrations=3") == []


def test_a_section_that_is_no_table_is_refused_by_name() -> None:
    variant = parse_variant("t=ttrl:distill=3")
    check_own_settings(variant)
    with pytest.raises(ConfigError, match="distill is 3, but it is a section of sev"):
        config_of(variant, load_config(None, ()))


@pytest.mark.parametrize(
    ("method", "word", "own"),
    [
        ("ema-only", "contexts.num_demonstrations=4", "0"),
        ("random-opsd", "contexts.rule=words", "random"),
        ("random-opsd", "selection.rule=all", "random"),
    ],
)
def test_a_word_for_all_that_makes_another_method_is_refused(
    method: str, word: str, own: str
) -> None:
    name, _, value = word.partition("=")
    text = (
        rf"{name} is \"?{value}\"? for all methods, but {method} requires "
        rf"\"?{own}\"?; write {method}={method}:{name}={own} in --methods"
    )
    with pytest.raises(ConfigError, match=text):
        told([method], word)
    assert told([method], f"{name}={own}") == []
    for kept in (own, value):
        variant = f"{method}={method}:{name}={kept}"
        assert told([variant], word) == []
        config = config_of(parse_variant(variant), load_config(None, [word]))
        section, _, field = name.partition(".")
        assert str(getattr(getattr(config, section), field)) == kept


def test_a_group_of_one_for_all_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"ttrl compares .*num_samples is 1"):
        told(["neuron-opsd", "ttrl"], "distill.num_samples=1")


def test_a_word_for_all_that_wins_over_the_preset_of_one_is_told() -> None:
    wide = "wide=ttrl:preset=paper"
    (text,) = told([wide], "distill.num_samples=4", "distill.temperature=1.0")
    assert re.match(
        r"wide asks for its paper's preset, but settings for all methods override it: "
        r"distill\.num_samples = 4 \(the preset has 32\); to change that, set it in w",
        text,
    )
    assert told([f"{wide},distill.num_samples=32"], "distill.num_samples=4") == []
    assert told(["ttrl"], "preset=paper", "distill.num_samples=4") == []


def test_unequal_budgets_are_told() -> None:
    (text,) = told(["neuron-opsd", "lmsi", "ttrl", "form-only"], "policy.num_votes=24")
    assert text.startswith(
        "the methods have different budgets: rollouts of a question in a step are "
        "8 for neuron-opsd, 24 for lmsi and ttrl; what one gains"
    )
    rollouts, questions = told(["neuron-opsd", "wide=intuitor:preset=paper"])
    assert "8 for neuron-opsd, 7 for wide" in rollouts
    assert "questions of a step are 16 for neuron-opsd, 128 for wide" in questions


def test_what_all_share_is_written_with_the_number_of_rollouts() -> None:
    assert with_budget(load_config()).distill.num_samples == 8
    assert with_budget(load_config(None, ["distill.num_samples=3"])).distill == (
        load_config(None, ["distill.num_samples=3"]).distill
    )
    source = load_config(None, ["preset=paper"])
    assert with_budget(source) == source
    line = method_line(parse_variant("lmsi"), load_config())
    assert "distill.num_samples" not in line.settings
    assert line.settings["distill.temperature"] == "0.7"
