"""A model or a template that cannot be used ends the command with one line, status 2.

It does so before anything is computed, so no run directory is made.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import templates
from loaded import loaded
from neuron_opsd.config.tables import load_config
from neuron_opsd.errors import DataError
from neuron_opsd.models.hf import HFModel
from neuron_opsd.planning.estimate import estimate
from neuron_opsd.progress import Silent
from neuron_opsd.records import GoldAnswers, Message, Question
from neuron_opsd.runs.context import NO_VOTES, OPEN_ANSWERS, TestSet, remarks
from neuron_opsd.runs.inputs import Inputs
from neuron_opsd.runs.model_checks import check_questions
from neuron_opsd.runs.preview import preview
from neuron_opsd.runs.testing import evaluate
from resolved import written_freely
from templates import templated
from tiny import tiny_model
from tiny_runs import run_command, tiny_config, tiny_request, tiny_run

CHAT = ("prompts.form=chat",)

CASES = {
    "system": (templates.NO_SYSTEM, ["prompts.system=Be brief."], "refuses a system"),
    "dropped": (
        templates.SILENT_ON_SYSTEM,
        ["prompts.system=Be brief."],
        "leaves out what a system turn says",
    ),
    "syntax": (templates.NOT_COMPILING, [], "cannot be used: unexpected end of templ"),
    "demonstrations": (
        "{% if messages | length > 1 %}{{ raise_exception('one turn') }}{% endif %}"
        + templates.ALL_TURNS,
        [],
        "refuses the turns user, assistant, user: one turn",
    ),
    "forgotten": (templates.LAST_TURN_ONLY, [], "leaves out what a user turn says"),
}


def refused(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line with which a command is refused."""
    line = capsys.readouterr().err.strip()
    assert "\n" not in line
    assert not (tmp_path / "run").exists()
    return line.replace(str(model), "MODEL")


@pytest.mark.parametrize("case", CASES)
def test_a_template_that_cannot_be_used_ends_a_run_before_it_begins(
    case: str, tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    template, settings, reason = CASES[case]
    model = templated(tiny_llama, tmp_path / "model", template)
    status = run_command(tiny_request(tmp_path), model, [*CHAT, *settings])
    line = refused(model, tmp_path, capsys)
    assert status == 2
    assert f"the chat template of MODEL {reason}" in line
    assert "prompts.form=plain" in line


def test_the_advice_helps(tiny_llama: Path, tmp_path: Path) -> None:
    model = templated(tiny_llama, tmp_path / "model", templates.NO_SYSTEM)
    said = "Be brief."
    for settings in (
        ("prompts.form=plain", f"prompts.system={said}"),
        (*CHAT, f"prompts.instruction={said}"),
    ):
        request = tiny_request(tmp_path, out=settings[0])
        assert run_command(request, model, settings) == 0


def test_a_4_bit_checkpoint_ends_a_run_before_it_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_model(tmp_path / "model")
    path = model / "config.json"
    quantised = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    settings = json.loads(path.read_text("utf-8")) | {"quantization_config": quantised}
    path.write_text(json.dumps(settings), "utf-8")
    assert run_command(tiny_request(tmp_path), model) == 2
    line = refused(model, tmp_path, capsys)
    assert "model MODEL is a quantised checkpoint (bitsandbytes, 4 bits)" in line
    assert "give the unquantised checkpoint" in line


@pytest.mark.parametrize("command", ["preview", "estimate", "evaluate"])
def test_other_commands_refuse_a_template_before_they_sample(
    command: str, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The template stumbles over the questions alone, so each must have been tried."""
    monkeypatch.setattr(HFModel, "sample", None)
    monkeypatch.setattr(HFModel, "logits_at", None)
    picky = "{% if ' odd ' in messages[0]['content'] %}{{ 1 / 0 }}{% endif %}"
    model = templated(tiny_llama, tmp_path / "model", picky + templates.ALL_TURNS)
    config = tiny_config(model, *CHAT)
    request = tiny_request(tmp_path)
    calls: dict[str, Callable[[], object]] = {
        "preview": lambda: preview(request.pool, None, config, Silent()),
        "estimate": lambda: estimate(request.pool, request.tests, config, Silent()),
        "evaluate": lambda: evaluate(request.tests, config, None, Silent()),
    }
    with pytest.raises(DataError, match=r"question [ap]\d+: .* division by zero"):
        calls[command]()


def test_turns_of_a_test_question_are_tried_after_those_of_the_pool(
    tiny_llama: Path, tmp_path: Path
) -> None:
    """A test with demonstrations in its prompt joins turns of both files."""
    short = "{% if messages | length > 3 %}{{ raise_exception('three') }}{% endif %}"
    folder = templated(tiny_llama, tmp_path / "model", short + templates.ALL_TURNS)
    asked = (Message("user", "Is two even?"),)
    pool = Question("p", asked)
    test = Question("t", (*asked, Message("assistant", "yes"), *asked))
    tests = (TestSet("exam", (test,), GoldAnswers({}), in_domain=True),)
    config = load_config(None, ["prompts.form=chat"])
    inputs = Inputs((pool,), tests, {})
    with pytest.raises(DataError) as error:
        check_questions(loaded(folder), inputs, written_freely(config))
    assert str(error.value).startswith(
        "exam: question t after the answered p: the chat template of "
    )
    assert "refuses the turns user, assistant, user, assistant, user: three" in str(
        error.value
    )
    alone = load_config(None, ["prompts.form=chat", "contexts.num_demonstrations=0"])
    check_questions(loaded(folder), inputs, written_freely(alone))


def test_a_token_without_weights_is_refused_by_name(tmp_path: Path) -> None:
    """A tokenizer with more tokens than the model was fine-tuned without them."""
    model = tiny_model(tmp_path / "model")
    path = model / "tokenizer.json"
    table = json.loads(path.read_text("utf-8"))
    new = {"id": 352, "content": "<|new|>", "special": True}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    table["added_tokens"].append(new | flags)
    path.write_text(json.dumps(table), "utf-8")
    (model / "chat_template.jinja").write_text("<|new|>" + templates.ALL_TURNS, "utf-8")
    inputs = Inputs((Question("p", (Message("user", "Is two even?"),)),), (), {})
    config = load_config(None, ["prompts.form=chat"])
    with pytest.raises(DataError) as error:
        check_questions(loaded(model), inputs, written_freely(config))
    assert str(error.value) == (
        "pool: question p is written with token 352 (''), but the model has weights "
        "for 352; its tokenizer or its chat template belongs to another model, so get "
        "their files again"
    )


def test_a_template_that_closes_with_text_is_told_in_a_run(
    tiny_llama: Path, tmp_path: Path
) -> None:
    model = templated(tiny_llama, tmp_path / "model", templates.CLOSING_WITH_TEXT)
    done = tiny_run(tiny_request(tmp_path), tiny_config(model, *CHAT))
    assert OPEN_ANSWERS in done.warnings
    facts = loaded(model).facts
    plain = load_config(None, ["prompts.form=plain", "rollouts.mode=free"])
    assert remarks(facts, plain, plain) == ()
    once = plain.changed(evaluation={"num_samples": 1})
    assert remarks(facts, once, once) == (NO_VOTES,)
