"""Recipes: what a comparison's file may say, and what it is refused for."""

from __future__ import annotations

from pathlib import Path

import pytest

from neuron_opsd.comparison.recipe import read_recipe
from neuron_opsd.comparison.variants import (
    Variant,
    check_resolved,
    check_variants,
    config_of,
)
from neuron_opsd.config.tables import config_from_table
from neuron_opsd.errors import ConfigError

RECIPE = """
seeds = 2
at = [1]

[settings]
distill.steps = 3

[methods]
lmsi = {}
by-words = { method = "neuron-opsd", contexts.rule = "words" }
"""


def written(folder: Path, text: str) -> Path:
    """Write a recipe."""
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def test_a_recipe_gives_methods_settings_and_choices(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path, RECIPE))
    words = Variant("by-words", "neuron-opsd", {"contexts": {"rule": "words"}})
    assert recipe.variants == (Variant("lmsi", "lmsi"), words)
    assert recipe.choices == {"seeds": 2, "at": [1]}
    config = config_of(words, config_from_table(recipe.settings))
    assert (config.distill.steps, config.contexts.rule) == (3, "words")


def test_methods_are_taken_by_name_and_others_as_written(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path, RECIPE))
    assert recipe.chosen((), {})["methods"] == [*recipe.variants]
    wanted = recipe.chosen(("ttrl", "by-words"), {})["methods"]
    assert wanted == ["ttrl", recipe.variants[1]]


def test_flags_win_over_a_recipe_where_they_say_something(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path, RECIPE))
    silent = {"seeds": None, "at": (), "oracle": False}
    assert recipe.chosen((), silent)["seeds"] == 2
    assert recipe.chosen((), silent | {"seeds": 1})["seeds"] == 1
    assert recipe.chosen((), silent)["at"] == [1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seeds = 2", "names no method; give it a table [methods]"),
        ("method.lmsi = {}", "has no entry method; did you mean methods?"),
        ("seeds = true\nmethods.lmsi = {}", "seeds is True, but it must be a whole"),
        ("at = 3\nmethods.lmsi = {}", "at is 3, but it must be a list"),
        ("methods = 3", "methods is 3, but it must be a table"),
        ("methods.lmsi = 3", "the method lmsi is 3, but it must be a table"),
        ("methods.'a b' = {}", "'a b' cannot name a method"),
        ("methods.mine = {}", "the method of mine is 'mine'; set method to one of"),
        ("methods.lmsi.seeds = -1", "the seeds of lmsi are -1, but they must be a"),
        ("methods.mine.method = ['lmsi']", "the method of mine is ['lmsi']"),
        (
            "methods.lmsi.distill.rate = 1",
            "lmsi: [distill] has no setting rate; did you mean",
        ),
        ("methods.lmsi.distill = 1", "lmsi: distill is 1, but it is a section"),
        (
            "settings.distil.steps = 1\nmethods.lmsi = {}",
            "there is no section or setting distil; did you mean distill?",
        ),
        ("methods", "is not a TOML file"),
    ],
)
def test_a_wrong_recipe_is_refused_by_name(
    tmp_path: Path, text: str, said: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        read_recipe(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_recipe_is_called_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"recipe .* does not exist"):
        read_recipe(tmp_path / "none.toml")


RECIPES = Path(__file__).resolve().parents[2] / "recipes"


@pytest.mark.parametrize("name", [path.name for path in RECIPES.glob("*.toml")])
def test_the_recipes_of_the_source_tree_can_be_compared(name: str) -> None:
    recipe = read_recipe(RECIPES / name)
    check_variants(recipe.variants, oracle=False)
    said: list[str] = []
    check_resolved(recipe.variants, config_from_table(recipe.settings), said.append)
    assert said == []
    assert recipe.chosen((), {})["seeds"] > 0
