"""The settings of each method's source, and what the user says above them."""

from __future__ import annotations

import json
from typing import Any

import pytest

import places
from neuron_opsd.cli import main
from neuron_opsd.comparison.variants import (
    NUM_SAMPLES,
    OWN_SECTIONS,
    check_variants,
    config_of,
    parse_variant,
)
from neuron_opsd.config import Config
from neuron_opsd.config.tables import config_from_table, load_config
from neuron_opsd.errors import ConfigError
from neuron_opsd.methods import METHODS, Oracle
from neuron_opsd.runs.resolution import with_method

RUNNABLE = [name for name, method in METHODS.items() if not issubclass(method, Oracle)]


def run_config(*assignments: str) -> Config:
    """Return the settings of a run by its method."""
    return with_method(load_config(None, assignments))


def compared(text: str, *assignments: str) -> Config:
    """Return a variant's settings in a comparison."""
    return config_of(parse_variant(text), load_config(None, assignments))


@pytest.mark.parametrize("name", METHODS)
def test_a_preset_is_made_of_settings_that_a_method_may_have(name: str) -> None:
    table = METHODS[name].preset.table(Config())
    assert set(table) <= set(OWN_SECTIONS)
    assert "steps" not in table["distill"]
    config_from_table(table)


@pytest.mark.parametrize("name", RUNNABLE)
def test_a_run_takes_the_preset_where_the_user_says_nothing(name: str) -> None:
    config = run_config(f"method={name}", "preset=paper")
    for section, fields in METHODS[name].preset.table(config).items():
        for field, value in fields.items():
            assert getattr(getattr(config, section), field) == value


def test_ttrl_has_what_its_public_code_has() -> None:
    config = run_config("method=ttrl", "preset=paper", "distill.steps=200")
    assert (config.policy.num_votes, config.distill.num_samples) == (64, 32)
    assert (config.distill.schedule, config.distill.warmup_steps) == ("cosine", 6)
    assert (config.distill.temperature, config.policy.kl_weight) == (1.0, 0.0)
    assert config.distill.learning_rate == 5e-6
    assert config.selection.rule == "all"


def test_the_paper_s_rules_are_its_own_whatever_the_defaults_are() -> None:
    table = METHODS["neuron-opsd"].preset.table(Config())
    rule = {"rule": "fewest-neurons", "keep_fraction": 0.2, "balance": False}
    assert table["selection"] == rule
    shown = {"rule": "nearest", "num_demonstrations": 10, "answer": "first"}
    assert table["contexts"] == {**shown, "num_contexts": 1}
    given = run_config("preset=paper", "contexts.rule=given")
    assert given.contexts.num_demonstrations == 1
    control = run_config("preset=paper", "method=random-opsd")
    assert (control.selection.rule, control.contexts.rule) == ("random", "random")
    control = run_config("preset=paper", "method=ema-only")
    assert control.contexts.num_demonstrations == 0


def test_full_tuning_takes_the_source_s_own_rate() -> None:
    config = run_config("method=ttrl", "preset=paper", "distill.tuning=full")
    assert config.distill.learning_rate == 5e-7


def test_what_is_set_by_name_wins_over_the_preset() -> None:
    chosen = ("distill.learning_rate=0.25", "distill.num_samples=3")
    config = run_config("method=rent", "preset=paper", *chosen)
    assert config.distill.learning_rate == 0.25
    assert config.distill.num_samples == 3
    assert config.policy.kl_weight == 0.001


def test_without_a_preset_all_methods_have_one_rate_and_one_length() -> None:
    rates = {
        (c.distill.learning_rate, c.distill.steps, c.distill.batch_size)
        for c in (run_config(f"method={name}") for name in RUNNABLE)
    }
    assert rates == {(1e-4, 150, 16)}


@pytest.mark.parametrize("name", ["lmsi", "context-sft"])
def test_who_imitates_a_frozen_model_draws_as_lmsi_does(name: str) -> None:
    assert run_config(f"method={name}").distill.temperature == 0.7
    assert compared(name).distill.temperature == 0.7
    told = "distill.temperature=0.9"
    assert run_config(f"method={name}", told).distill.temperature == 0.9
    assert compared(name, told).distill.temperature == 0.9
    assert compared("ttrl").distill.temperature == 1.0


def test_a_comparison_may_give_every_method_its_own_preset() -> None:
    ttrl = compared("ttrl", "preset=paper")
    assert (ttrl.distill.num_samples, ttrl.policy.num_votes) == (32, 64)
    assert compared("intuitor", "preset=paper").distill.num_samples == 7
    told = compared("ttrl", "preset=paper", "distill.num_samples=4")
    assert (told.distill.num_samples, told.distill.learning_rate) == (4, 5e-6)
    assert compared("ttrl").distill.num_samples == NUM_SAMPLES


def test_one_variant_may_have_its_preset_beside_others() -> None:
    variant = parse_variant("wide=ttrl:preset=paper,distill.learning_rate=0.5")
    check_variants([variant], oracle=False)
    own = config_of(variant, load_config(None, []))
    assert own.distill.num_samples == 32
    assert own.distill.learning_rate == 0.5
    equal = compared("one=ttrl:preset=equal", "preset=paper")
    assert (equal.preset, equal.policy.num_votes) == ("equal", 0)
    assert equal.distill.learning_rate == 1e-4


def test_a_preset_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="preset is 'papers', but it must be 'equal'"):
        load_config(None, ["preset=papers"])
    with pytest.raises(ConfigError, match="preset is 'papers'"):
        compared("one=ttrl:preset=papers")


def test_controls_are_trained_as_the_method_they_are_of() -> None:
    ours = run_config("preset=paper")
    for name in ("random-opsd", "ema-only", "form-only"):
        own = run_config("preset=paper", f"method={name}")
        assert own.distill == ours.distill
        assert own.selection.keep_fraction == ours.selection.keep_fraction
    assert METHODS["oracle-grpo"].preset.lora_rate == METHODS["ttrl"].preset.lora_rate


def test_the_flag_shows_in_the_settings_that_are_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["config", "--set", "method=intuitor", "--preset", "paper", "--json"]
    assert main(command) == 0
    shown: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert shown["preset"] == "paper"
    assert shown["distill"]["learning_rate"] == 3e-5
    assert shown["policy"]["kl_weight"] == 0.005


def test_the_page_of_methods_says_every_departure() -> None:
    page = places.DOCS / "reference" / "methods.md"
    text = page.read_text(encoding="utf-8")
    for method in METHODS.values():
        section = text.split(f"## {method.name}\n")[1].split("\n## ")[0]
        for note in method.notes:
            assert note in section
        if method.preset is not METHODS["ema-only"].preset:
            assert f"{method.preset.lora_rate:g}" in section
            for value in method.preset.said.values():
                assert value in section


def test_own_settings_without_a_preset_are_those_of_the_method() -> None:
    own = METHODS["lmsi"].settings
    assert own["distill"] == {"temperature": 0.7, "num_samples": 8}
