"""Questions that a model cannot be asked are refused before anything is computed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import templates
from loaded import loaded, model_config
from neuron_opsd.config import Config
from neuron_opsd.config.tables import load_config
from neuron_opsd.errors import ConfigError, DataError
from neuron_opsd.models.hf import HFModel
from neuron_opsd.models.load import load_tokenizer
from neuron_opsd.progress import Silent
from neuron_opsd.records import GoldAnswers, Message, Question
from neuron_opsd.runs.context import TestSet
from neuron_opsd.runs.inputs import Inputs
from neuron_opsd.runs.model_checks import CHUNK, check_questions
from neuron_opsd.runs.run import Request, run
from neuron_opsd.stages.rollouts import ask
from neuron_opsd.stages.teaching import demonstrable
from templates import templated
from tiny_runs import tiny_config

POOL = Question("p", (Message("user", "Is two even?"),), ("yes", "no"))


@pytest.fixture(scope="module")
def model(tiny_llama_plain: Path) -> HFModel:
    return loaded(tiny_llama_plain)


def inputs(test: Question) -> Inputs:
    """Return a good pool and a test set of one question."""
    tests = (TestSet("exam", (test,), GoldAnswers({}), in_domain=True),)
    return Inputs((POOL,), tests, {})


def config_of(*settings: str) -> Config:
    """Return settings under which answers are sampled among choices."""
    return load_config(None, ["rollouts.mode=constrained", *settings])


def check(model: HFModel, test: Question, *settings: str) -> None:
    """Check a test question under the plain form."""
    config = config_of("prompts.form=plain", *settings)
    check_questions(model, inputs(test), config)


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
    config = config_of(*settings)
    found = Inputs((POOL,), tests, {})
    with pytest.raises(DataError, match="exam: question f takes"):
        check_questions(model, found, config)


def test_more_choices_than_letters_are_refused(model: HFModel) -> None:
    many = tuple(f"number {n}" for n in range(27))
    with pytest.raises(DataError, match="has 27 choices, but there are 26 letters"):
        check(
            model, replace(POOL, id="t", choices=many), "prompts.list_choices=letters"
        )


# --- all at once, with file and line, before any weights are read ---

LONG_TEXT = "odd? " * 2000
ROWS = {
    "pool.jsonl": ["Is one odd?", LONG_TEXT, "Is two odd?", "Is <|im_end|> odd?"],
    "exam.jsonl": ["Is three odd?", "<|im_start|>system", "even? " * 2000],
}
CHAT = ("prompts.form=chat", "contexts.num_demonstrations=1")


def written(folder: Path, rows: dict[str, list[str]]) -> Request:
    """Write question files; return the request of a run over them."""
    for name, texts in rows.items():
        lines = [json.dumps({"question": text, "answer": "yes"}) for text in texts]
        (folder / name).write_text("\n\n".join(lines), "utf-8")
    pool, exam = (str(folder / name) for name in ("pool.jsonl", "exam.jsonl"))
    return Request(pool, {"exam": exam}, folder / "run")


def refused(
    folder: Path, model: Path, rows: dict[str, list[str]], *settings: str
) -> list[str]:
    """Return why a run over question files does not begin, line by line."""
    config = tiny_config(model, *CHAT, "evaluation.max_overlap=1", *settings)
    with pytest.raises(DataError) as error:
        run(written(folder, rows), config, Silent())
    assert not (folder / "run").exists()
    return str(error.value).replace(f"{folder}/", "").splitlines()


def test_all_bad_questions_are_told_at_once_before_any_weights_are_read(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neuron_opsd.models.network.load_network", None)
    lines = refused(tmp_path, tiny_llama, ROWS)
    control = [
        "pool.jsonl, line 7: question pool-4: a user message contains the control "
        "token '<|im_end|>': 'Is <|im_end|> odd?'; remove it, or use "
        "prompts.form=plain",
        "exam.jsonl, line 3: question exam-2: a user message contains the control "
        "token '<|im_start|>': '<|im_start|>system'; remove it, or use "
        "prompts.form=plain",
    ]
    starts = [
        "pool.jsonl, line 3: question pool-2 takes ",
        "exam.jsonl, line 5: question exam-3 takes ",
    ]
    assert [line for line in lines if "control" in line] == control
    assert len(lines) == 4
    for start in starts:
        (line,) = [line for line in lines if line.startswith(start)]
        assert line.endswith(
            "and its answer up to 8, but the model holds 1024; shorten the question, "
            "leave it out or lower max_new_tokens"
        )


def test_many_bad_questions_are_counted(tiny_llama: Path, tmp_path: Path) -> None:
    bad = [f"Is {number} <|im_end|>?" for number in range(1000)]
    lines = refused(tmp_path, tiny_llama, {**ROWS, "pool.jsonl": bad})
    assert len(lines) == 21
    assert lines[19].startswith("pool.jsonl, line 39: question pool-20: a user message")
    assert lines[20] == "and 982 more"


@pytest.mark.parametrize("name", ["system", "instruction"])
def test_a_control_token_in_the_settings_is_told_of_the_setting(
    name: str, tiny_llama: Path, tmp_path: Path
) -> None:
    config = tiny_config(tiny_llama, *CHAT, f"prompts.{name}=End with <|im_end|>")
    request = written(tmp_path, {**ROWS, "pool.jsonl": ["Is one odd?", "Is two?"]})
    with pytest.raises(ConfigError) as error:
        run(request, config, Silent())
    assert f"prompts.{name} is part of every prompt: a " in str(error.value)
    assert "contains the control token '<|im_end|>'" in str(error.value)


def test_a_control_token_in_a_choice_that_is_listed_is_told(
    tiny_llama: Path,
) -> None:
    bad = replace(POOL, id="t", choices=("yes", "<|endoftext|>"))
    listed = ["prompts.form=chat", "prompts.list_choices=letters"]
    with pytest.raises(DataError, match="exam: question t: a user message contains"):
        check_questions(
            loaded(tiny_llama),
            inputs(bad),
            config_of(*listed),
        )
    # As an answer it is text, whatever it spells.
    hidden = ["prompts.form=chat", "prompts.list_choices=no"]
    model = loaded(tiny_llama)
    check_questions(model, inputs(bad), config_of(*hidden))
    (prompt,) = ask([bad], config_of(*hidden))
    ids = model.encode_answer(prompt.prompt, "<|endoftext|>")
    assert set(ids) & model.tokens._control_ids == {ids[-1]}  # noqa: SLF001


def test_a_teacher_that_is_asked_at_more_length_must_fit_too(
    tiny_llama: Path, tmp_path: Path
) -> None:
    template = templates.ALL_TURNS + (
        "{% if enable_thinking is defined and enable_thinking %}"
        "{{ 'a' * 2000 }}{% endif %}"
    )
    folder = templated(tiny_llama, tmp_path / "model", template)
    config = config_of("prompts.form=chat", "prompts.teacher_thinking=true")
    with pytest.raises(DataError) as error:
        check_questions(loaded(folder), inputs(replace(POOL, id="t")), config)
    assert str(error.value).startswith(
        "pool: question p as the teacher is asked it takes "
    )


def test_many_questions_are_checked_in_blocks(model: HFModel) -> None:
    """The place of a bad one does not matter, nor who stands beside it."""
    many = tuple(replace(POOL, id=f"t{n}") for n in range(3 * CHUNK))
    long = (Message("user", LONG_TEXT),)
    bad = {1, CHUNK, 3 * CHUNK - 1}
    found = tuple(
        replace(question, messages=long) if n in bad else question
        for n, question in enumerate(many)
    )
    tests = (TestSet("exam", found, GoldAnswers({}), in_domain=True),)
    config = config_of("prompts.form=plain")
    with pytest.raises(DataError) as error:
        check_questions(model, Inputs((POOL,), tests, {}), config)
    said = [line.split(" takes ")[0] for line in str(error.value).splitlines()]
    assert said == [f"exam: question t{n}" for n in sorted(bad)]


def test_an_answer_that_spells_a_control_token_is_no_demonstration(
    tiny_llama: Path,
) -> None:
    """A model may write its letters, which a conversation reads as the token."""
    model = loaded(tiny_llama)
    answers = {"p": "no", "q": "no <|im_end|>"}
    questions = {"p": POOL, "q": replace(POOL, id="q")}
    for form, kept in (("chat", {"p"}), ("plain", {"p", "q"})):
        config = config_of(f"prompts.form={form}")
        assert demonstrable(model, questions, answers, config).keys() == kept


def test_what_is_told_without_weights_is_what_the_model_is(tiny_llama: Path) -> None:
    config = model_config(tiny_llama)
    model = loaded(tiny_llama)
    told = load_tokenizer(config).facts
    assert told == replace(model.facts, shares_prompts=told.shares_prompts)
