"""Files written from memory of how public sets and tools write them.

`cases/question_shapes.json` says what each is as a pool and as a test set: its rows,
with the gold answer and its aliases; or how the one line begins that refuses it.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

import places
from neuron_opsd.data.questions import QuestionFile, read_questions
from neuron_opsd.errors import DataError

FILES = places.CASES / "questions"
SHAPES: dict[str, dict[str, Any]] = json.loads(
    (FILES.parent / "question_shapes.json").read_text()
)


def rows_of(file: QuestionFile) -> list[dict[str, Any]]:
    """Return what was read, as the expectations are written."""
    rows = []
    for question in file.questions:
        row: dict[str, Any] = {"question": question.text}
        if question.choices:
            row["choices"] = list(question.choices)
        if question.id in file.gold.answer_of:
            others = file.gold.aliases_of.get(question.id, ())
            row["answer"] = [file.gold.answer_of[question.id], *others]
        rows.append(row)
    return rows


@pytest.mark.parametrize("role", ["pool", "test"])
@pytest.mark.parametrize("name", SHAPES)
def test_a_file_is_read_right_or_refused(name: str, role: str) -> None:
    wanted = SHAPES[name][role]
    path = FILES / name
    if isinstance(wanted, list):
        assert rows_of(read_questions(path, labelled=role == "test")) == wanted
        return
    with pytest.raises(DataError) as caught:
        read_questions(path, labelled=role == "test")
    lines = str(caught.value).splitlines()
    assert lines[0].removeprefix(str(path)).lstrip(",: ").startswith(wanted)
    assert all(line.startswith(str(path)) for line in lines)


@pytest.mark.parametrize("name", SHAPES)
def test_a_pool_asks_what_a_test_set_asks(name: str) -> None:
    pool, test = SHAPES[name]["pool"], SHAPES[name]["test"]
    if isinstance(pool, list) and isinstance(test, list):
        asked = [row | {"answer": None} for row in test]
        assert [row | {"answer": None} for row in pool] == asked
