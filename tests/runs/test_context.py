"""What the settings of a run come to for a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from neuron_opsd.config.tables import load_config
from neuron_opsd.errors import ConfigError
from neuron_opsd.runs.context import resolve
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
