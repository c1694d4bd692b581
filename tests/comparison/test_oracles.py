"""What oracles are given: gold answers as they are read and as they are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from neuron_opsd.comparison.oracles import targets_of
from neuron_opsd.config import Config
from neuron_opsd.config.tables import load_config
from neuron_opsd.data.questions import read_questions
from neuron_opsd.errors import DataError
from neuron_opsd.methods import Target, Targets
from tiny_runs import Row, write_rows


def told(folder: Path, row: Row, *settings: str) -> Targets:
    pool = write_rows(folder / "pool.jsonl", [{"id": "q", **row}])
    config: Config = load_config(None, list(settings))
    return targets_of(str(pool), read_questions(str(pool)).questions, config)


CHOICE: Row = {"question": "Capital?", "choices": ["Rome", "Paris"], "answer": "Paris"}
FREE: Row = {"question": "Largest?", "answer": "The Pacific Ocean"}


def test_a_choice_is_written_as_its_text(tmp_path: Path) -> None:
    assert told(tmp_path, CHOICE) == {"q": Target("Paris", "Paris")}


def test_a_choice_with_a_letter_is_written_as_its_letter(tmp_path: Path) -> None:
    found = told(tmp_path, CHOICE, "prompts.list_choices=letters")
    assert found == {"q": Target("Paris", "B")}


def test_a_free_answer_is_written_as_it_stands_in_the_file(tmp_path: Path) -> None:
    assert told(tmp_path, FREE) == {"q": Target("pacific ocean", "The Pacific Ocean")}


def test_a_question_without_an_answer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no answer for question q"):
        told(tmp_path, {"question": "Why?"})
