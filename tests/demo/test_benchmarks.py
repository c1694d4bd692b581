"""How the rows of each benchmark are read."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pytest

from neuron_opsd.demo.benchmarks import READERS, Item, read_items
from neuron_opsd.demo.sources import SETS


def requests_data(documents: Sequence[Mapping[str, Any]]) -> bytes:
    """Return requests as the wheel packs them: by choice, and all of it twice."""
    lines = [
        json.dumps({"doc_id": start + number, "idx": index, "doc": document})
        for start in (0, 1_000_000)
        for number, document in enumerate(documents)
        for index in range(len(document["choices"]))
    ]
    return gzip.compress("\n".join(lines).encode())


def arrow_data(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Return rows as an Arrow stream."""
    table = pa.Table.from_pylist(list(rows))
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def only(name: str, data: bytes) -> Item:
    """Return the single item in some data."""
    [item] = read_items(name, data, "")
    return item


def test_a_question_is_read_once_however_many_choices_it_has() -> None:
    documents = [
        {"id": "sky", "query": "Question: Sky?\nAnswer:", "choices": ["x"], "gold": 0},
        {
            "id": "sea",
            "query": "Question: Sea?\nAnswer:",
            "choices": [*"xy"],
            "gold": 1,
        },
    ]

    items = read_items("query", requests_data(documents), "")

    assert items == [
        Item("sky", "Sky?", ("x",), 0),
        Item("sea", "Sea?", ("x", "y"), 1),
    ]


def test_basic_skills_keep_the_lines_of_code() -> None:
    code = "def f(a):\n    return"
    row = {"id": "0", "question": code, "choices": ["a", "a\n+ 1"], "gold": 0}

    assert only("skill", requests_data([row])) == Item("0", code, ("a", "a\n+ 1"), 0)


def test_medmcqa_has_a_field_for_each_choice() -> None:
    options = {"opa": "w", "opb": "x", "opc": "y", "opd": "z"}
    row = {"id": "m", "question": "Which  one", "cop": 2, "choices": list("ABCD")}

    item = only("medmcqa", requests_data([row | options]))

    assert item == Item("m", "Which one", ("w", "x", "y", "z"), 2)


@pytest.mark.parametrize(
    ("name", "row", "expected"),
    [
        (
            "sst2",
            {"sentence": "a fine film . ", "label": 1},
            Item("0", "a fine film .", ("negative", "positive"), 1),
        ),
        (
            "piqa",
            {"goal": "boil an egg", "sol1": "in water", "sol2": "in sand", "label": 0},
            Item("0", "boil an egg", ("in water", "in sand"), 0),
        ),
        (
            "siqa",
            {
                "context": "Kai fell.",
                "question": "How is Kai?",
                "answerA": "well",
                "answerB": "hurt",
                "answerC": "away",
                "label": "2",
            },
            Item(
                "0", "Kai fell. How is Kai?", ("well", "hurt", "away"), 1, "Kai fell."
            ),
        ),
        (
            "sciq",
            {
                "question": "Which gas?",
                "correct_answer": "oxygen",
                "distractor1": "iron",
                "distractor2": "salt",
                "distractor3": "sand",
            },
            Item("0", "Which gas?", ("oxygen", "iron", "salt", "sand"), 0),
        ),
        (
            "boolq",
            {"passage": "Ice floats.", "question": "does ice float", "answer": True},
            Item(
                "0",
                "Ice floats.\nQuestion: does ice float?",
                ("no", "yes"),
                1,
                "Ice floats.",
            ),
        ),
        (
            "mmlu",
            {"question": " Two lines:\nwhich? ", "choices": list("wxyz"), "answer": 3},
            Item("0", "Two lines:\nwhich?", tuple("wxyz"), 3),
        ),
    ],
)
def test_a_row_says_question_choices_and_answer(
    name: str, row: Mapping[str, Any], expected: Item
) -> None:
    assert only(name, arrow_data([row])) == expected


def test_rows_without_a_key_are_named_by_their_place() -> None:
    data = arrow_data([{"sentence": text, "label": 0} for text in "ab"])

    assert [item.key for item in read_items("sst2", data, "1-")] == ["1-0", "1-1"]


def test_every_set_names_a_reader_that_exists() -> None:
    assert {entry.reader for entry in SETS} <= set(READERS)
