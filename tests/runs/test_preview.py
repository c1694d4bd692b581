"""One question as student and teacher see it, before anything is trained."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from neuron_opsd.cli import main
from neuron_opsd.errors import DataError
from neuron_opsd.method.contexts import CONTEXT_RULES, SHOWN_ANSWERS
from neuron_opsd.pipeline import Prepared, prepare
from neuron_opsd.progress import Silent
from neuron_opsd.runs.preview import Preview, preview
from tiny_runs import (
    SETTINGS,
    parity_rows,
    sum_rows,
    tiny_config,
    write_rows,
)


@pytest.fixture
def pool(tmp_path: Path) -> str:
    return str(write_rows(tmp_path / "pool.jsonl", parity_rows(range(12))))


def previewed(
    pool: str, model: Path, *assignments: str, question: str | None = None
) -> Preview:
    return preview(pool, question, tiny_config(model, *assignments), Silent())


def test_the_first_question_is_shown_as_both_see_it(
    pool: str, tiny_llama_plain: Path
) -> None:
    seen = previewed(pool, tiny_llama_plain)
    assert seen.question_id == "p0"
    assert seen.student_prompt == "Question: Is 0 odd or even?\nAnswer:"
    assert seen.teacher_prompt.endswith(f"\n\n{seen.student_prompt}")
    assert seen.teacher_prompt.count("Question:") == 1 + seen.demonstrations == 3
    assert seen.completion_example in ("odd", "even")
    assert seen.answer == seen.completion_example
    assert seen.answer_why == "sampled among the choices"
    assert seen.num_dropped == 0
    assert seen.num_teacher_tokens > seen.num_student_tokens > 0


@pytest.mark.parametrize(("answer", "samples"), [("first", 1), ("voted", 4)])
def test_questions_are_asked_no_more_often_than_what_is_shown_takes(
    answer: str,
    samples: int,
    pool: str,
    tiny_llama_plain: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Eight reasoned answers of each would make a preview as long as a stage."""
    found: list[int] = []

    def counted(*arguments: Any, **named: Any) -> Prepared:
        prepared = prepare(*arguments, **named)
        found.append(len(prepared.rollouts))
        return prepared

    monkeypatch.setattr("neuron_opsd.runs.preview.prepare", counted)
    settings = (f"contexts.answer={answer}", "rollouts.num_samples=4")
    previewed(pool, tiny_llama_plain, *settings)
    assert found == [12 * samples]


def test_every_token_of_the_completion_is_marked_as_trained(
    pool: str, tiny_llama_plain: Path
) -> None:
    seen = previewed(pool, tiny_llama_plain)
    trained = re.findall(r"\[(.*?)\]", seen.mask)
    assert len(trained) == seen.num_completion_tokens
    assert "".join(trained).strip() == f"{seen.completion_example}\\n"
    before = seen.mask.partition("[")[0]
    assert "Answer" not in "".join(trained)
    assert before.rstrip().endswith(":")


def test_in_a_chat_the_end_of_the_turn_is_trained(pool: str, tiny_llama: Path) -> None:
    seen = previewed(pool, tiny_llama)
    # Choices are sampled, so the template's switch closes reasoning at once.
    assert seen.student_prompt.endswith("assistant\n<think>\n\n</think>\n\n")
    assert seen.mask.endswith("[<|im_end|>]")


def test_a_question_can_be_named(pool: str, tiny_llama: Path) -> None:
    seen = previewed(pool, tiny_llama, question="p7")
    assert seen.question_id == "p7"
    assert "Is 7 odd or even?" in seen.student_prompt


def test_an_unknown_question_is_told_some_that_are_known(
    pool: str, tiny_llama: Path
) -> None:
    with pytest.raises(DataError, match="no question 'p99'; its ids begin with p0, p1"):
        previewed(pool, tiny_llama, question="p99")


@pytest.mark.parametrize("answer", SHOWN_ANSWERS)
@pytest.mark.parametrize("source", ["pool", "selected"])
def test_demonstrations_come_as_the_settings_say(
    pool: str, tiny_llama: Path, source: str, answer: str
) -> None:
    settings = [f"contexts.source={source}", f"contexts.answer={answer}"]
    seen = previewed(pool, tiny_llama, *settings)
    assert seen.demonstrations == 2


@pytest.mark.parametrize("rule", CONTEXT_RULES)
def test_every_rule_can_be_previewed(pool: str, tiny_llama: Path, rule: str) -> None:
    seen = previewed(pool, tiny_llama, f"contexts.rule={rule}")
    assert seen.demonstrations == 2


def test_free_answers_and_no_demonstrations_can_be_previewed(
    tmp_path: Path, tiny_llama: Path
) -> None:
    pool = str(write_rows(tmp_path / "pool.jsonl", sum_rows(range(3))))
    seen = previewed(pool, tiny_llama, "contexts.num_demonstrations=0")
    assert seen.teacher_prompt == seen.student_prompt
    assert seen.num_completion_tokens <= 8


def test_a_teachers_prompt_that_is_too_long_loses_the_farthest(
    pool: str, tiny_llama: Path
) -> None:
    room = previewed(pool, tiny_llama).num_teacher_tokens - 1
    seen = previewed(pool, tiny_llama, f"rollouts.max_new_tokens={1024 - room}")
    assert (seen.demonstrations, seen.num_dropped) == (1, 1)


def test_the_command_shows_what_the_library_gives(
    pool: str, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["preview", "--model", str(tiny_llama), "--pool", pool, "--question", "p3"]
    argv += ["--set", *SETTINGS, "--quiet"]
    assert main([*argv, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    seen = previewed(pool, tiny_llama, question="p3")
    assert Preview(**shown) == seen
    assert main(argv) == 0
    text = capsys.readouterr().out
    assert "question p3, student's prompt" in text
    assert "2 demonstrations, 0 dropped" in text
    assert f"answer ({seen.answer_why})" in text
