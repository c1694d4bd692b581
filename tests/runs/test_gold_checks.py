"""Gold answers that could not be scored stop a run before anything is computed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

import places
from neuron_opsd.cli import main
from neuron_opsd.config.tables import load_config
from neuron_opsd.errors import ConfigError, DataError
from neuron_opsd.runs.context import TestSet
from neuron_opsd.runs.inputs import read_inputs, read_tests

CASES = places.CASES / "questions"

Check: TypeAlias = Callable[..., tuple[TestSet, list[str]]]

SOLUTION = {"question": "2 and 2?", "answer": "It is 4.\n#### 4"}


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """Read rows as the test set `exam` of `exam.jsonl`, with settings."""
    monkeypatch.chdir(tmp_path)

    def check(rows: list[dict[str, Any]], *settings: str) -> tuple[TestSet, list[str]]:
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        Path("exam.jsonl").write_text(lines, encoding="utf-8")
        said: list[str] = []
        config = load_config(None, settings)
        (test,) = read_tests({"exam": "exam.jsonl"}, "exam", config, said.append)
        return test, said

    return check


def asked(*answers: object) -> list[dict[str, Any]]:
    """Return one free question with each answer."""
    return [{"question": f"How many, {n}?", "answer": a} for n, a in enumerate(answers)]


def test_a_worked_solution_needs_a_reader_that_can_match_it(check: Check) -> None:
    with pytest.raises(DataError) as caught:
        check([SOLUTION])
    assert str(caught.value) == (
        "test set exam (exam.jsonl): its answers, such as '4' of exam-1 (line 1), are "
        "taken from worked solutions, but answers.reader=auto reads the first line of "
        "what a model writes; set answers.reader=number (or text, if the model is to "
        "write nothing else)"
    )
    for reader in ("number", "text", "latex"):
        test, _ = check([SOLUTION], f"answers.reader={reader}")
        assert test.gold.answer_of == {"exam-1": "4"}


def test_a_boxed_solution_needs_latex(check: Check) -> None:
    rows = [{"question": "?", "answer": r"It is $\boxed{\frac12}$."}]
    with pytest.raises(DataError, match=r"set answers\.reader=latex"):
        check(rows)
    test, said = check(rows, "answers.reader=latex")
    assert test.gold.answer_of == {"exam-1": r"\frac12"}
    assert len(said) == 1  # how the set was read
    _, said = check(rows, "answers.reader=text")
    assert "1 of 1 gold answers are LaTeX" in said[1]


def test_expressions_that_are_not_computed_are_told(check: Check) -> None:
    rows = asked(r"\frac{1}{2}", "9^{9^{9^{9}}}", "2^{10}")
    _, said = check(rows, "answers.reader=latex")
    assert said == [
        "exam: 1 of 3 gold answers are not computed, so only answers spelled the "
        "same match, first exam-2 (line 2) '9^{9^{9^{9}}}': a number of more "
        "than 20,000 digits"
    ]
    long = "Because " * 300 + r"it is \boxed{7}"
    _, said = check(asked(long), "answers.reader=latex")
    assert not any("not computed" in text for text in said)


def test_answers_of_several_lines_can_never_match_one(check: Check) -> None:
    rows = asked("one", "first\nsecond")
    for setting in ("answers.reader=auto", "answers.reader=text"):
        with pytest.raises(DataError) as caught:
            check(rows, setting)
        assert "1 of 2 gold answers have several lines, first exam-2 (line 2)" in str(
            caught.value
        )
    with pytest.raises(DataError, match="1 of 1 gold answers have several lines"):
        check([SOLUTION], "questions.format=plain")


def test_answers_that_the_reader_cannot_read_are_counted(check: Check) -> None:
    with pytest.raises(DataError) as caught:
        check(asked("8", "eight", "six"), "answers.reader=number")
    assert str(caught.value).startswith(
        "test set exam (exam.jsonl): 2 of 3 gold answers cannot be read by "
        "answers.reader=number: exam-2 (line 2) 'eight', exam-3 (line 3) 'six';"
    )


def test_answers_that_can_be_read_pass(check: Check) -> None:
    test, said = check(asked("8", "eight"))
    assert test.gold.answer_of == {"exam-1": "8", "exam-2": "eight"}
    assert said == []


def test_questions_with_choices_need_no_reader_of_their_own(check: Check) -> None:
    rows = [{"question": "?", "choices": ["A", "O"], "answer": "O"}]
    test, _ = check(rows)
    assert test.gold.answer_of == {"exam-1": "O"}


def test_a_missing_answer_is_named_with_its_row(check: Check) -> None:
    with pytest.raises(
        DataError, match=r"1 of 2 questions .*, first exam-2 \(line 2\)"
    ):
        check(asked("8", None))


def test_a_pool_with_unusable_answers_is_a_pool(tmp_path: Path) -> None:
    rows = [*asked("eight", ["a", {"b": 1}], None), SOLUTION]
    path = tmp_path / "pool.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = ["contexts.num_demonstrations=2", "answers.reader=number"]
    inputs = read_inputs(str(path), {}, load_config(None, settings))
    assert len(inputs.pool) == 4


def test_the_setting_of_a_format_names_a_file_that_is_there() -> None:
    config = load_config(None, ["questions.format='exm=gpqa'"])
    with pytest.raises(ConfigError, match="names 'exm', but the files are pool, exam"):
        read_inputs("pool.jsonl", {"exam": "exam.jsonl"}, config)


@pytest.mark.parametrize("command", ["run", "plan", "compare", "evaluate"])
def test_commands_refuse_gold_answers_before_they_load_a_model(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pool = str(CASES / "thirty_choices.jsonl")
    exam = f"exam={CASES / 'word_gold.jsonl'}"
    arguments = [command, "--model", str(tmp_path / "no-model"), "--test", exam]
    arguments += ["--set", "answers.reader=number"]
    if command != "evaluate":
        arguments += (
            ["--source", f"exam={pool}"] if command == "compare" else ["--pool", pool]
        )
    if command != "plan":
        arguments += ["--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "of 5 gold answers cannot be read by answers.reader=number" in error
    assert "word_gold-1 (line 1) 'eight'" in error


def test_the_format_is_an_option_of_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pool = str(CASES / "thirty_choices.jsonl")
    exam = f"exam={CASES / 'gpqa.csv'}"
    out = str(tmp_path / "out")
    arguments = ["run", "--model", "no", "--pool", pool, "--test", exam, "--out", out]
    assert main([*arguments, "--format", "exam=medmcqa"]) == 2
    assert "no column 'opa', which identifies medmcqa" in capsys.readouterr().err
    assert main([*arguments, "--format", "gqpa"]) == 2
    assert "did you mean gpqa?" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["preview", "plan", "evaluate", "run"])
def test_commands_refuse_more_choices_than_letters(
    command: str,
    tiny_llama_plain: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = str(CASES / "thirty_choices.jsonl")
    arguments = [command, "--model", str(tiny_llama_plain)]
    arguments += ["--test", f"exam={file}"] if command == "evaluate" else []
    arguments += ["--pool", file] if command != "evaluate" else []
    if command in ("evaluate", "run"):
        arguments += ["--out", str(tmp_path / "out")]
    assert main([*arguments, "--set", "prompts.list_choices=letters"]) == 2
    error = capsys.readouterr().err
    assert "has 30 choices, but there are 26 letters; set prompts.list_cho" in error
