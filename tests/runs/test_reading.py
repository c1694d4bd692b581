"""The command that shows how answers are read, by the same readers as a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from neuron_opsd.cli import main
from neuron_opsd.config import Config
from neuron_opsd.config.tables import load_config
from neuron_opsd.errors import DataError
from neuron_opsd.runs.reading import ReadAnswer, read_answers

CITIES = ["Paris", "London"]


def write(folder: Path, *rows: dict[str, Any] | str) -> Path:
    """Write rows as JSON lines."""
    path = folder / "written.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def read_one(folder: Path, row: dict[str, Any], *settings: str) -> ReadAnswer:
    """Read the answer of one row."""
    path = write(folder, {"completion": "The answer is B.", **row})
    (found,) = read_answers(path, load_config(None, settings))
    return found


def test_a_row_is_read_as_its_choices_ask(tmp_path: Path) -> None:
    found = read_one(tmp_path, {"id": "q", "choices": CITIES, "gold": "London"})
    assert found == ReadAnswer("q", "London", "announced", same=True)


def test_a_row_without_gold_answer_is_not_judged(tmp_path: Path) -> None:
    assert read_one(tmp_path, {"choices": CITIES}).same is None
    assert read_one(tmp_path, {"choices": CITIES, "gold": None}).same is None


def test_an_unread_answer_is_not_the_gold_one(tmp_path: Path) -> None:
    found = read_one(tmp_path, {"completion": "A or B", "choices": CITIES, "gold": "A"})
    assert found.answer is None
    assert found.same is False


def test_a_rows_own_reader_wins(tmp_path: Path) -> None:
    number = "answers.reader=number"
    row: dict[str, Any] = {"completion": "B. 5 cities", "choices": CITIES}
    assert read_one(tmp_path, row, number).answer == "5"
    row["reader"] = "choice-letter"
    assert read_one(tmp_path, row, number).answer == "London"
    row["reader"] = "auto"
    assert read_one(tmp_path, row, number).answer == "London"


@pytest.mark.parametrize(
    ("completion", "opened", "answer"),
    [
        ("Maybe B. The answer is B", True, None),
        ("Maybe A.</think>The answer is B.", True, "London"),
        ("<think>Maybe A.</think>B", False, "London"),
        ("<think>The answer is B.", False, None),
    ],
)
def test_open_reasoning_holds_no_answer(
    tmp_path: Path, completion: str, opened: bool, answer: str | None
) -> None:
    row = {"completion": completion, "choices": CITIES, "thinking_opened": opened}
    found = read_one(tmp_path, row)
    assert found.answer == answer
    assert (found.why == "reasoning is not closed") == (answer is None)


def test_a_cut_completion_is_read_as_such(tmp_path: Path) -> None:
    row = {"completion": "The sum is 15 here", "reader": "number"}
    assert read_one(tmp_path, row).answer == "15"
    assert read_one(tmp_path, {**row, "finished": False}).answer is None


def test_the_settings_of_answers_apply(tmp_path: Path) -> None:
    comma = "answers.decimal_mark=comma"
    row = {"completion": "1.234", "reader": "number", "gold": "1.234,0"}
    assert read_one(tmp_path, row, comma).same is True
    assert read_one(tmp_path, row).same is False


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"completion": 5}, "completion must be text, not a number"),
        ({"id": "x"}, "completion must be text, not nothing"),
        ({"completion": "x", "choices": "a,b"}, "choices must be a list"),
        ({"completion": "x", "choices": ["a", "a"]}, "the choice 'a' appears twice"),
        ({"completion": "x", "reader": "letter"}, "reader is 'letter'; allowed are"),
        ({"completion": "x", "reader": "choice-text"}, "it has no choices"),
        ({"completion": "x", "finished": "no"}, "finished must be true or false"),
        ({"completion": "x", "Gold": "y"}, "has 'Gold', .* is gold meant"),
        ({"completion": "x", "gold": "a\nb"}, r"gold is 'a\\nb', which the reader"),
        ({"completion": "x", "gold": "Rome", "choices": CITIES}, "gold is 'Rome'"),
        ("[]", "not a JSON object"),
    ],
)
def test_a_bad_row_is_named_with_file_and_line(
    tmp_path: Path, row: dict[str, Any] | str, message: str
) -> None:
    path = write(tmp_path, {"completion": "fine"}, row)
    with pytest.raises(DataError, match=rf"written\.jsonl, line 2: .*{message}"):
        read_answers(path, Config())


def test_all_bad_rows_are_told_at_once(tmp_path: Path) -> None:
    path = write(
        tmp_path, {"id": "a", "completion": "x"}, "{}", {"id": "a", "completion": ""}
    )
    with pytest.raises(DataError) as caught:
        read_answers(path, Config())
    assert "line 2" in str(caught.value)
    assert "line 3: has the id 'a' of line 1" in str(caught.value)


def test_the_command_prints_one_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(
        tmp_path,
        {"id": "a", "completion": "B", "choices": CITIES, "gold": "B"},
        {"id": "b", "completion": "", "choices": CITIES},
    )
    assert main(["read", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "rows": [
            {"id": "a", "answer": "London", "why": "only answer", "same": True},
            {"id": "b", "answer": None, "why": "nothing is written"},
        ]
    }
    assert main(["read", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "London" in shown
    assert "1 of 2 read, 1 of 1 the gold answer" in shown


def test_the_command_ends_with_2_and_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, "{}")
    assert main(["read", str(path), "--set", "answers.reader=number"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "written.jsonl, line 1: completion must be text" in captured.err
    assert main(["read", str(tmp_path / "none.jsonl")]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert main(["read", str(tmp_path)]) == 2
