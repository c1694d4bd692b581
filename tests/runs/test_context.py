"""What the settings of a run come to for a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from neuron_opsd.comparison.variants import choosing, config_of, parse_variant, prompted
from neuron_opsd.config import Config
from neuron_opsd.config.tables import load_config
from neuron_opsd.errors import ConfigError
from neuron_opsd.records import Message, Question
from neuron_opsd.runs.context import resolve, resolve_method
from neuron_opsd.runs.resolution import with_method
from neuron_opsd.storage.manifest import new_manifest, write_manifest
from scripted import FACTS, ScriptedModel


@pytest.mark.parametrize(
    ("given", "num_parameters", "mode"),
    [
        ("auto", 135_000_000, "constrained"),
        ("auto", 1_000_000_000, "free"),
        ("constrained", 7_000_000_000, "constrained"),
        ("free", 135_000_000, "free"),
    ],
)
def test_small_models_answer_among_the_choices(
    given: str, num_parameters: int, mode: str
) -> None:
    model = ScriptedModel({}, replace(FACTS, num_parameters=num_parameters))
    found = resolve(load_config(None, [f"rollouts.mode={given}"]), model)
    assert found.rollouts.mode == mode
    listed = {"constrained": "no", "free": "letters"}
    assert found.prompts.list_choices == listed[mode]


def test_another_mode_is_refused_where_an_earlier_version_kept_auto(
    tmp_path: Path,
) -> None:
    write_manifest(tmp_path, new_manifest({"rollouts.mode": "auto"}, {}, {}))
    model = ScriptedModel({})
    named = {
        mode: load_config(None, [f"rollouts.mode={mode}"])
        for mode in ("auto", "constrained", "free")
    }
    with pytest.raises(ConfigError, match=r"which is constrained for this model, now"):
        resolve(named["free"], model, [tmp_path])
    for mode in ("auto", "constrained"):
        found = resolve(named[mode], model, [tmp_path])
        assert found == resolve(named[mode], model)
    write_manifest(tmp_path, new_manifest({"rollouts.mode": "free"}, {}, {}))
    assert resolve(named["free"], model, [tmp_path]) == resolve(named["free"], model)


CHOICES = Question("a", (Message("user", "Which?"),), ("this", "that"))
FREE = replace(CHOICES, choices=())
RECIPE = ("all", 4, "greedy")
PAPER = ("fewest-neurons", 10, "first")
"""Rule of selection, number of demonstrations, and the answer that they show."""


def taken(config: Config) -> tuple[str, int, str]:
    contexts = config.contexts
    return config.selection.rule, contexts.num_demonstrations, contexts.answer


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ("", RECIPE),
        ("rollouts.mode=constrained", RECIPE),
        ("rollouts.mode=free", PAPER),
        ("preset=paper", PAPER),
        ("preset=paper method=random-opsd", ("random", 10, "first")),
        ("contexts.answer=voted", ("all", 4, "voted")),
        ("contexts.num_demonstrations=9", ("all", 9, "greedy")),
        ("selection.rule=random", ("random", 4, "greedy")),
        ("selection.balance=true", ("fewest-neurons", 4, "greedy")),
        ("selection.keep_fraction=0.5", ("fewest-neurons", 4, "greedy")),
        ("contexts.rule=given", ("fewest-neurons", 1, "first")),
        ("method=context-sft", RECIPE),
        ("method=random-opsd", ("random", 4, "greedy")),
        ("method=ema-only", ("all", 0, "greedy")),
        ("method=form-only", ("all", 0, "greedy")),
        ("method=lmsi", ("all", 0, "first")),
    ],
)
def test_answers_among_choices_have_a_recipe_of_their_own(
    told: str, found: tuple[str, int, str]
) -> None:
    config = with_method(load_config(None, told.split()))
    model = ScriptedModel({})
    assert taken(resolve_method(config, model, [CHOICES])) == found
    # It goes by what is learned from, not by what is asked in a test.
    asked = resolve_method(config, model, [FREE]).selection
    assert asked == resolve(config, model).selection
    # In a comparison, a method is trained with the same.
    words = [word for word in told.split() if not word.startswith("method=")]
    shared = resolve(load_config(None, words), model)
    (form, own) = choosing([parse_variant(f"own={config.method}")], shared)
    assert taken(config_of(own, shared)) == found
    given = {word.partition("=")[0] for word in words}
    if not given & {"selection.rule", "selection.balance", "selection.keep_fraction"}:
        as_ours = "contexts.rule" not in given and "paper" not in told
        ours = "all" if as_ours and shared.rollouts.mode != "free" else PAPER[0]
        assert config_of(form, shared).selection.rule == ours


def test_the_prompted_control_shows_what_neuron_opsd_shows() -> None:
    model = ScriptedModel({})
    shared = resolve(load_config(None, ["method=lmsi"]), model)
    for chooses, found in ((True, RECIPE), (False, PAPER)):
        control = prompted(shared, model.facts, chooses=chooses)
        assert taken(control) == found
        assert control.method == "lmsi"
