"""Centred choices: by hand on scripted answers, and in all that draws among choices."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neuron_opsd.config import Config
from neuron_opsd.config.tables import load_config, to_toml
from neuron_opsd.errors import ConfigError
from neuron_opsd.methods import method_of
from neuron_opsd.models.decoding.choices import (
    ChoiceScores,
    choice_logprobs,
    find_branches,
)
from neuron_opsd.pipeline import centred
from neuron_opsd.progress import Silent
from neuron_opsd.records import Message, Prompt, Question, TrainingExample
from neuron_opsd.runs.context import RunContext
from neuron_opsd.runs.prepare import prepare_run
from neuron_opsd.runs.testing import evaluate
from neuron_opsd.stages.centring import choice_bias
from neuron_opsd.stages.rollouts import ask, bias_of, sample_rollouts
from neuron_opsd.stages.training import Batch
from neuron_opsd.stages.training_rollouts import draw
from neuron_opsd.storage.caching import Employed
from neuron_opsd.storage.run_directory import RunDirectory
from resolved import sampled_among_choices, written_freely
from scripted import ScriptedModel

NUMBERS = range(20)
POOL = tuple(
    Question(f"q{n}", (Message("user", f"Comment {n:02}."),), ("why", "none"))
    for n in NUMBERS
)
PULLED = {
    f"Comment {n:02}.": ["why"] * (30 if n % 2 else 2) + ["none"] * 970 for n in NUMBERS
}
"""Nearly all say none; of odd comments fifteen times as many say why as of even."""


def config_of(*assignments: str) -> Config:
    given = ["prompts.form=plain", "neurons.per_layer=4", "neurons.keep=6"]
    return load_config(None, [*given, *assignments])


def with_bias(config: Config, known: dict[str, float]) -> Config:
    return config.changed(rollouts={"choice_bias": known})


def bias() -> dict[str, float]:
    """Return what the scripted model gives each choice on average."""
    asked = ask(POOL, sampled_among_choices(config_of()))
    return choice_bias(Employed(ScriptedModel(PULLED)), asked, 7)


def said(config: Config) -> dict[str, Counter[str | None]]:
    """Return how often each answer is given to even and to odd comments."""
    asked = ask(POOL, sampled_among_choices(config))
    drawn = sample_rollouts(ScriptedModel(PULLED), asked, config, "rollout", [(0.6, 8)])
    found: dict[str, Counter[str | None]] = {"even": Counter(), "odd": Counter()}
    for one in drawn:
        found["odd" if int(one.question_id[1:]) % 2 else "even"][one.answer] += 1
    return found


def test_a_bias_is_the_mean_log_probability_over_the_pool() -> None:
    found = bias()
    even, odd = np.log(2 / 972), np.log(30 / 1000)
    assert found["why"] == pytest.approx((even + odd) / 2, rel=1e-5)
    even, odd = np.log(970 / 972), np.log(970 / 1000)
    assert found["none"] == pytest.approx((even + odd) / 2, rel=1e-4)


def test_no_label_wins_by_its_words_alone() -> None:
    config = config_of()
    plain, even_handed = said(config), said(with_bias(config, bias()))
    assert plain["odd"]["none"] + plain["even"]["none"] >= 155
    assert even_handed["odd"]["why"] >= 70
    assert even_handed["even"]["none"] >= 70


def test_only_choices_that_many_questions_share_are_centred() -> None:
    few = ask(POOL[:9], sampled_among_choices(config_of()))
    assert choice_bias(Employed(ScriptedModel(PULLED)), few, 64) == {}
    free = ask(POOL, written_freely(config_of()))
    assert choice_bias(Employed(ScriptedModel(PULLED)), free, 64) == {}
    config = with_bias(config_of(), {"why": -1.0}).rollouts
    assert bias_of(POOL[0], config) == ()
    known = with_bias(config_of(), {"why": -1.0, "none": -2.0}).rollouts
    assert bias_of(POOL[0], known) == (-1.0, -2.0)
    assert bias_of(POOL[0], config_of().rollouts) == ()


def test_centred_log_probabilities_by_hand() -> None:
    completions = ((1,), (2,), (3,))
    logits = (np.log(np.array([6.0, 3.0, 1.0], dtype=np.float32)),)
    halves = tuple(np.log([0.6, 0.1, 0.3]).tolist())
    scores = ChoiceScores(completions, find_branches(completions), logits, halves)
    # Each over its mean: 1, 3 and 1/3.
    assert np.exp(choice_logprobs(scores, 1.0)) == pytest.approx(
        [3 / 13, 9 / 13, 1 / 13]
    )
    squared = np.array([9, 81, 1]) / 91
    assert np.exp(choice_logprobs(scores, 0.5)) == pytest.approx(squared)
    assert np.exp(choice_logprobs(scores, 0.0)).tolist() == [0.0, 1.0, 0.0]


def test_training_draws_are_centred_too() -> None:
    examples = [
        TrainingExample(
            question,
            Prompt(text=f"Question: {question.text}\nAnswer:"),
            Prompt(text=f"Question: {question.text}\nAnswer:"),
            question.choices,
        )
        for question in POOL
    ]
    model, config = ScriptedModel(PULLED), with_bias(config_of(), bias())
    for with_context in (False, True):
        groups = draw(model, Batch(examples, 0), 8, config, with_context=with_context)
        texts = Counter(one.text for group in groups for one in group)
        assert texts["why"] >= 60
    plain = draw(model, Batch(examples, 0), 8, config_of())
    assert sum(one.text == "why" for group in plain for one in group) <= 16


@contextmanager
def opened(folder: Path, config: Config) -> Iterator[RunContext]:
    """Open a run directory."""
    with RunDirectory.open(folder, {}, {}, warn=Silent().warn) as run:
        yield RunContext(run, sampled_among_choices(config), Silent())


def test_a_run_measures_the_means_once_and_keeps_them(tmp_path: Path) -> None:
    config = config_of("rollouts.centre_choices=true")
    with opened(tmp_path, config) as run:
        first = centred(run.work, ScriptedModel(PULLED), POOL)
        assert centred(run.work, ScriptedModel({}), POOL).config == first.config
        assert centred(first, ScriptedModel({}), POOL) is first
    kept = json.loads((tmp_path / "choice-bias.json").read_text())
    assert kept == first.config.rollouts.choice_bias == pytest.approx(bias())
    with opened(tmp_path / "plain", config_of()) as plain:
        work = plain.work
        assert centred(work, ScriptedModel({}), POOL) is work
    assert not (tmp_path / "plain" / "choice-bias.json").exists()


def test_the_check_of_the_teacher_sees_centred_choices(tmp_path: Path) -> None:
    small = ["contexts.num_demonstrations=2", "teacher_check.one_answer=warn"]
    found = {}
    for name, extra in (("plain", []), ("centred", ["rollouts.centre_choices=true"])):
        with opened(tmp_path / name, config_of(*small, *extra)) as run:
            model = ScriptedModel(PULLED)
            config = centred(run.work, model, POOL).config
            told = replace(run, config=config)
            found[name] = prepare_run(told, model, POOL).teacher_check
    assert found["plain"] is not None
    assert found["centred"] is not None
    assert found["plain"].pool_answer_share > 0.95
    assert found["centred"].pool_answer_share < 0.7
    assert found["centred"].student_entropy > 10 * found["plain"].student_entropy


def test_centring_that_can_do_nothing_is_said(tmp_path: Path) -> None:
    with opened(tmp_path, config_of("rollouts.centre_choices=true")) as run:
        centred(run.work, ScriptedModel(PULLED), POOL[:5])
        assert run.directory.warnings[0].startswith(
            "rollouts.centre_choices has no effect"
        )


@pytest.mark.parametrize("method", ["ttrl", "intuitor", "rent", "empo"])
def test_methods_that_reward_probabilities_refuse_centred_choices(method: str) -> None:
    given = [f"method={method}", "distill.num_samples=4"]
    method_of(config_of(*given))
    centring = config_of(*given, "rollouts.centre_choices=true")
    with pytest.raises(ConfigError, match=f"{method} trains on the probabilities"):
        method_of(centring)


def test_a_test_has_no_pool_to_centre_by() -> None:
    with pytest.raises(ConfigError, match=r"choice-bias\.json"):
        evaluate({"t": "x"}, config_of("rollouts.centre_choices=true"), None, Silent())


def test_a_bias_comes_back_from_a_settings_file(tmp_path: Path) -> None:
    config = with_bias(config_of(), {'no "x"': -0.5, "b": 1e-7})
    path = tmp_path / "config.toml"
    path.write_text(to_toml(config), encoding="utf-8")
    assert load_config(path).rollouts.choice_bias == {'no "x"': -0.5, "b": 1e-7}
    assert tomllib.loads(to_toml(Config()))["rollouts"]["choice_bias"] == {}
    flag = load_config(None, ['rollouts.choice_bias={"no x" = -1.5}'])
    assert flag.rollouts.choice_bias == {"no x": -1.5}
