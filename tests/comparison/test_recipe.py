"""Recipes: what a comparison's file may say, and what it is refused for."""

from __future__ import annotations

from pathlib import Path

import pytest

import places
from neuron_opsd.comparison.variants import (
    DEFAULT_METHODS,
    Variant,
    check_resolved,
    check_variants,
    config_of,
    variants_of,
)
from neuron_opsd.config.recipes import Recipe, read_recipe
from neuron_opsd.config.tables import config_from_table
from neuron_opsd.errors import ConfigError
from neuron_opsd.library import comparison_of

RECIPE = """
seeds = 2
at = [1]

[settings]
distill.steps = 3

[methods]
lmsi = {}
by-words = { method = "neuron-opsd", seeds = 1, contexts.rule = "words" }
"""


def written(folder: Path, text: str) -> Path:
    """Write a recipe."""
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def test_a_recipe_gives_methods_settings_and_choices(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path, RECIPE))
    words = Variant("by-words", "neuron-opsd", {"contexts": {"rule": "words"}}, 1)
    assert variants_of(recipe, ()) == (Variant("lmsi", "lmsi"), words)
    config = config_of(words, config_from_table(recipe.settings))
    assert (config.distill.steps, config.contexts.rule) == (3, "words")


def test_the_papers_recipe_says_what_the_paper_states() -> None:
    recipe = read_recipe(places.ROOT / "recipes" / "paper.toml")
    shared = config_from_table(recipe.settings)
    variants = variants_of(recipe, ())
    check_variants(variants, oracle=False)
    said: list[str] = []
    check_resolved(variants, shared, said.append)
    assert said == []
    by_name = {one.name: config_of(one, shared) for one in variants}
    assert [*by_name][:4] == [*DEFAULT_METHODS]
    for config in by_name.values():
        distill, tests = config.distill, config.evaluation
        assert (distill.steps, distill.batch_size, distill.num_samples) == (150, 16, 8)
        assert distill.divergence == "reverse-kl"
        assert (distill.teacher, distill.ema_rate) == ("ema", 0.01)
        assert (tests.num_samples, tests.temperature, tests.num_bins) == (8, 0.6, 15)
    ours = [by_name[name] for name in ("neuron-opsd", *[*by_name][4:])]
    assert {config.selection.keep_fraction for config in ours} == {0.2}
    assert {config.contexts.num_demonstrations for config in ours} == {10}
    rules = [(config.selection.rule, config.contexts.rule) for config in ours]
    assert rules == [
        ("fewest-neurons", "nearest"),
        ("most-neurons", "nearest"),
        ("fewest-neurons", "random"),
    ]
    for rival in ("lmsi", "ttrl", "intuitor"):
        assert by_name[rival].selection.rule == "all"
    assert by_name["ttrl"].policy.kl_weight == 0.0
    assert by_name["ttrl"].distill.schedule == "cosine"


def test_methods_are_taken_by_name_and_others_as_written(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path, RECIPE))
    ttrl, words = variants_of(recipe, ("ttrl", "by-words"))
    assert ttrl == Variant("ttrl", "ttrl")
    assert words.settings == {"contexts": {"rule": "words"}}
    assert [one.name for one in variants_of(Recipe(), ())] == [*DEFAULT_METHODS]


def test_what_is_chosen_wins_over_a_recipe(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path, RECIPE))
    files = {"x": "x.jsonl"}
    found = comparison_of(files, files, tmp_path, {"recipe": recipe})
    assert (found.num_seeds, found.shown_steps) == (2, (1,))
    changed = comparison_of(files, files, tmp_path, {"recipe": recipe, "seeds": 4})
    assert (changed.num_seeds, changed.shown_steps) == (4, (1,))
    wrong = read_recipe(written(tmp_path, "warm_start = 'x'\nmethods.lmsi = {}"))
    with pytest.raises(ConfigError, match="warm_start is 'x'"):
        comparison_of(files, files, tmp_path, {"recipe": wrong})


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
        variants_of(read_recipe(path), ())
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_recipe_is_called_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"recipe .* does not exist"):
        read_recipe(tmp_path / "none.toml")


RECIPES = Path(__file__).resolve().parents[2] / "recipes"


@pytest.mark.parametrize("name", [path.name for path in RECIPES.glob("*.toml")])
def test_the_recipes_of_the_source_tree_can_be_compared(name: str) -> None:
    recipe = read_recipe(RECIPES / name)
    variants, said = variants_of(recipe, ()), list[str]()
    check_variants(variants, oracle=False)
    check_resolved(variants, config_from_table(recipe.settings), said.append)
    assert said == []
