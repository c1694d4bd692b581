"""How much of a file is read at most: told with place, value, bound and setting."""

from __future__ import annotations

import gzip
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import places
from neuron_opsd.config import QuestionsConfig
from neuron_opsd.config.tables import load_config
from neuron_opsd.data.byte_streams import PIECE, lines_of
from neuron_opsd.data.question_files import table_of
from neuron_opsd.data.questions import read_questions
from neuron_opsd.errors import DataError
from neuron_opsd.runs.completions import read_completions
from neuron_opsd.runs.inputs import run_settings
from neuron_opsd.runs.reading import read_answers

LONG = [{"question": "Why?"}, {"question": "x" * 300}, {"question": "How?"}]
DEEP: list[dict[str, Any]] = [
    {"question": "Why?", "unread": None},
    {"question": "x", "unread": [[[["x"]]]]},
]
WIDE = [{"question": "Why?"} | {f"c{n}": 1 for n in range(20)}]
MANY = [{"question": f"Why {n}?"} for n in range(20)]

BOUNDS: dict[str, tuple[list[dict[str, Any]], int, str, str]] = {
    "max_row_bytes": (LONG, 200, "2", r"holds 3\d\d bytes or more, but a row may"),
    "max_depth": (
        DEEP,
        3,
        "2",
        "is nested 4 levels deep or more, but the limit is 3; flatten",
    ),
    "max_columns": (
        WIDE,
        10,
        "1",
        "has 21 columns, but the limit is 10; leave some out",
    ),
    "max_rows": (MANY, 15, "16", "is row 16, but a file may hold 15; split it"),
}
"""By setting: rows beyond it, its value, the row that is, and what is said."""


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def csv(rows: list[dict[str, Any]]) -> bytes:
    names = list(rows[0])
    lines = [names, *([str(row.get(name, "")) for name in names] for row in rows)]
    return "".join(",".join(line) + "\n" for line in lines).encode()


def parquet(rows: list[dict[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


FORMATS: dict[str, tuple[Callable[[list[dict[str, Any]]], bytes], str, int]] = {
    "p.jsonl": (jsonl, "line", 0),
    "p.jsonl.gz": (lambda rows: gzip.compress(jsonl(rows)), "line", 0),
    "p.json": (lambda rows: json.dumps(rows).encode(), "item", 0),
    "p.csv": (csv, "line", 1),
    "p.tsv": (lambda rows: csv(rows).replace(b",", b"\t"), "line", 1),
    "p.parquet": (parquet, "row", 0),
}
"""Name, writer, what its rows are called, and lines before the first of them."""


def bounded(setting: str, bound: int) -> QuestionsConfig:
    """Return settings with one bound."""
    return QuestionsConfig.model_validate({setting: bound})


def refusal(read: Callable[[], object]) -> str:
    """Return the one line with which something is refused."""
    with pytest.raises(DataError) as caught:
        read()
    (line,) = str(caught.value).splitlines()
    return line


@pytest.mark.parametrize("setting", BOUNDS)
@pytest.mark.parametrize("name", FORMATS)
def test_a_row_beyond_a_bound_is_told_with_the_setting(
    tmp_path: Path, name: str, setting: str
) -> None:
    rows, bound, number, said = BOUNDS[setting]
    write, unit, before = FORMATS[name]
    if setting == "max_depth" and before:
        pytest.skip("the cells of CSV are texts")
    path = tmp_path / name
    path.write_bytes(write(rows))
    line = refusal(lambda: read_questions(path, config=bounded(setting, bound)))
    # The columns of a table are told once, before its rows.
    place = {
        ("max_columns", "p.csv"): ", line 1",
        ("max_columns", "p.tsv"): ", line 1",
        ("max_columns", "p.parquet"): "",
    }.get((setting, name), f"[,:] {unit} {int(number) + before}")
    assert re.match(f"{path}{place}: {said}", line), line
    assert line.endswith(f"or raise questions.{setting}")
    enough = bounded(setting, 5 if setting == "max_depth" else 1000)
    plain = enough.model_copy(update={"format": "plain"})
    assert len(read_questions(path, config=plain).questions) == len(rows)


@pytest.mark.parametrize("name", ["p.jsonl", "p.jsonl.gz"])
def test_all_who_read_rows_keep_the_bounds(tmp_path: Path, name: str) -> None:
    rows = [{"id": "a", "prompt": "x", "completion": "y" * 300}]
    path = tmp_path / name
    path.write_bytes(FORMATS[name][0](rows))
    config = load_config(None, ["questions.max_row_bytes=200"])
    for read in (
        lambda: read_completions(path, config.questions),
        lambda: read_answers(path, config),
    ):
        assert "line 1: holds 3" in refusal(read)


def test_a_dataset_keeps_the_bounds() -> None:
    table = table_of("o/n", "o/n", LONG, QuestionsConfig(max_row_bytes=200))
    _, long, last = table.rows
    assert "or raise questions.max_row_bytes" in str(long.values)
    assert last.values == LONG[2]


def test_rows_after_a_long_one_are_read(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(jsonl([*LONG, {"frage": "x"}]))
    with pytest.raises(DataError) as caught:
        read_questions(path, config=QuestionsConfig(max_row_bytes=200))
    first, second = str(caught.value).splitlines()
    assert "line 2: holds" in first
    assert "line 4: has neither a prompt" in second


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_that_is_too_large_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(FORMATS[name][0](MANY))
    line = refusal(
        lambda: read_questions(path, config=QuestionsConfig(max_file_bytes=100))
    )
    assert "but a file may hold 100; split it, or raise questions.max_file_by" in line


def test_bounds_that_let_a_run_pass_are_none_of_its_settings() -> None:
    raised = load_config(None, ["questions.max_row_bytes=99999999"])
    assert run_settings(raised) == run_settings(load_config(None, []))


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_lines_are_the_same_however_a_text_is_cut(size: int) -> None:
    text = b"a\r\nbc\rd\n\n \r\r\n\x0b\x1c\x85e\n" + b"f" * 20 + b"\n last"

    def pieces() -> Iterator[bytes]:
        return (text[n : n + size] for n in range(0, len(text), size))

    wanted = text.splitlines(keepends=True)
    found = list(lines_of(pieces(), 1000, blank=True))
    assert [line.data for line in found] == wanted
    assert [line.number for line in found] == [*range(1, len(wanted) + 1)]
    cut = list(lines_of(pieces(), 5, blank=True))
    assert [line.data for line in cut] == [line[:5] for line in wanted]
    assert [line.num_bytes for line in cut] == list(map(len, wanted))
    some = {(line.number, line.data) for line in lines_of(pieces(), 1000)}
    assert some >= {(n, one) for n, one in enumerate(wanted, 1) if one.strip()}


def test_lines_count_through_pieces_of_blanks(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(b"\n" * (3 * PIECE) + b"\r\n" * PIECE + b" {}")
    assert f"line {4 * PIECE + 1}: has neither" in refusal(lambda: read_questions(path))


def test_items_are_the_same_however_an_array_is_cut(tmp_path: Path) -> None:
    texts = ["x" * n + '\\"\u00e9\U0001f600]},{[' for n in range(0, 3 * PIECE, 9999)]
    rows = [{"question": text} for text in texts]
    for indent in (None, 1):
        path = tmp_path / "p.json"
        path.write_text(json.dumps(rows, ensure_ascii=False, indent=indent))
        assert [q.text for q in read_questions(path).questions] == texts


def test_a_number_is_not_taken_for_its_first_digit(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text("[" + " " * (PIECE - 2) + '12, {"question": "Why?"}]')
    line = refusal(lambda: read_questions(path))
    assert line == f"{path}, item 1: not a JSON object but a number"


def test_parquet_of_all_shapes_is_read_as_it_was(tmp_path: Path) -> None:
    rows = [
        {
            "question": f"Q{n % 3}?",
            "choices": [None, ["a", "b"], ["b", "c", None]][n % 3],
        }
        for n in range(5000)
    ]
    path = tmp_path / "p.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=1999)
    found = read_questions(path).questions
    assert [q.text for q in found] == [row["question"] for row in rows]
    wanted = [tuple(c for c in row["choices"] or () if c) for row in rows]
    assert [q.choices for q in found] == wanted


# --- Files that become far more than they are

MEASURE = """
import resource, sys
from pathlib import Path
from neuron_opsd.errors import DataError
from neuron_opsd.data.questions import read_questions
for name in sys.argv[1:]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        said = f"{len(read_questions(Path(name)).questions)} questions"
    except DataError as error:
        said = str(error).splitlines()[0]
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print((after - before) // 1000, said)
"""


def bombs(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield files, and what is said of them."""

    def put(name: str, data: bytes) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    blanks, text = gzip.compress(b" " * 10**7, 6), b'{"question": "'
    # Parts of a zipped file follow one another, so a small one is enough.
    yield put("blanks.jsonl.gz", blanks * 50), "over 500 times as many"
    yield put("lines.jsonl.gz", gzip.compress(b"\n" * 10**7, 6) * 50), "over 500 times"
    yield put("long.jsonl", text + b"x" * 10**8 + b'"}\n'), "holds 100,000,017 bytes or"
    yield (
        put("long.json", b"[" + text + b"x" * 10**8),
        "a row may hold 16,000,000; is a",
    )
    yield (
        put("long.csv", b'question\n"' + (b"x" * 99 + b"\n") * 10**6),
        "is a quote not closed?",
    )
    keys = b"".join(b'"k%d": 1, ' % n for n in range(500_000))
    yield put("keys.jsonl", b"{" + keys + b'"k": 1}'), "has 500,001 columns"
    yield put("deep.jsonl", b'{"a": ' * 10**6), "is nested 51 levels deep"
    marks = json.dumps({"question": "![" * 10**6}).encode()
    yield put("pictures.jsonl", marks), "1 questions"
    words = json.dumps({"prompt": "[" + "a " * 10**6}).encode()
    yield put("words.jsonl", words), "1 questions"
    choices = {"question": "x", "choices": [f"c{n}" for n in range(10**5)]}
    yield put("choices.jsonl", json.dumps(choices).encode()), "1 questions"
    for name, table in tables().items():
        pq.write_table(table, folder / name, compression="zstd")
        yield folder / name, "over 500 times as many"


def tables() -> dict[str, pa.Table]:
    """Return tables that are small on the disk."""
    once = pa.array(np.zeros(10**6, np.int32))
    text = pa.DictionaryArray.from_arrays(once, ["x" * 10**7])
    ends = pa.array([0, 10**4], pa.int32())
    items = pa.DictionaryArray.from_arrays(once[: 10**4], ["x" * 10**6])
    numbers = pa.array(np.zeros(2 * 10**7, np.float32))
    whole = pa.array([0, len(numbers)], pa.int32())
    return {
        "text.parquet": pa.table({"question": text}),
        "list.parquet": pa.table(
            {"question": ["x"], "choices": pa.ListArray.from_arrays(ends, items)}
        ),
        "numbers.parquet": pa.table(
            {"question": ["x"], "n": pa.ListArray.from_arrays(whole, numbers)}
        ),
    }


def test_no_file_takes_much_memory(tmp_path: Path) -> None:
    files = dict(bombs(tmp_path))
    found = subprocess.run(
        [sys.executable, "-c", MEASURE, *files],
        env={"PYTHONPATH": str(places.SOURCES)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    lines = found.stdout.splitlines()
    for (path, said), line in zip(files.items(), lines, strict=True):
        megabytes, _, told = line.partition(" ")
        assert said in told, told
        assert int(megabytes) < 200, (path.name, line)
