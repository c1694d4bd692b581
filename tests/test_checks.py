"""Questions that a model cannot be asked are refused before anything is computed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from loaded import loaded
from neuron_opsd.errors import DataError
from neuron_opsd.jobs.checks import check_questions
from neuron_opsd.jobs.inputs import Inputs
from neuron_opsd.jobs.setting import TestSet
from neuron_opsd.models.hf import HFModel
from neuron_opsd.records import GoldAnswers, Message, Question
from neuron_opsd.settings import load_config

POOL = Question("p", (Message("user", "Is two even?"),), ("yes", "no"))


@pytest.fixture(scope="module")
def model(tiny_llama_plain: Path) -> HFModel:
    return loaded(tiny_llama_plain)


def inputs(test: Question) -> Inputs:
    """Return a good pool and a test set of one question."""
    tests = (TestSet("exam", (test,), GoldAnswers({}), in_domain=True),)
    return Inputs((POOL,), tests, {})


def check(model: HFModel, test: Question, *settings: str) -> None:
    """Check a test question under the plain form."""
    config = load_config(None, ["prompts.form=plain", *settings])
    check_questions(model, inputs(test), config, constrained=True)


def test_good_questions_pass(model: HFModel) -> None:
    check(model, replace(POOL, id="t"))


def test_choices_of_a_test_that_tokenise_alike_are_refused(model: HFModel) -> None:
    with pytest.raises(DataError, match="question t: the choices 'a b' and 'a  b'"):
        check(model, replace(POOL, id="t", choices=("a b", "a  b")))


def test_a_test_question_that_is_too_long_is_refused(model: HFModel) -> None:
    long = (Message("user", "odd? " * 2000),)
    with pytest.raises(DataError, match="exam: question t takes"):
        check(model, replace(POOL, id="t", messages=long))


def test_a_free_question_keeps_room_for_a_whole_completion(model: HFModel) -> None:
    # It stands after one with choices, whose answers are short.
    free = Question("f", (Message("user", "Why?"),))
    tests = (TestSet("exam", (POOL, free), GoldAnswers({}), in_domain=True),)
    settings = ["prompts.form=plain", f"rollouts.max_new_tokens={10**6}"]
    config = load_config(None, settings)
    found = Inputs((POOL,), tests, {})
    with pytest.raises(DataError, match="exam: question f takes"):
        check_questions(model, found, config, constrained=True)


def test_more_choices_than_letters_are_refused(model: HFModel) -> None:
    many = tuple(f"number {n}" for n in range(27))
    with pytest.raises(DataError, match="has 27 choices, but there are 26 letters"):
        check(
            model, replace(POOL, id="t", choices=many), "prompts.list_choices=letters"
        )
