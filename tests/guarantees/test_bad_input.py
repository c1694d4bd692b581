"""Bad input of every kind: one line each with file, place and reason, never more (R12).

Each case is read as a pool, as a test set and, where it is JSON lines, as the files of
`neurons` and `read`: what is wrong with the bytes is told by all of them alike.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_opsd.config import QuestionsConfig
from neuron_opsd.config.tables import load_config
from neuron_opsd.data.questions import read_questions
from neuron_opsd.errors import DataError
from neuron_opsd.runs.completions import read_completions
from neuron_opsd.runs.reading import read_answers

GOOD = b'{"question": "Why?"}\n'


def parquet(columns: Any, names: list[str] | None = None) -> bytes:
    """Return a Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns, names=names), buffer, compression="zstd")
    return buffer.getvalue()


def flipped(data: bytes, place: int) -> bytes:
    """Return bytes of which one has other bits."""
    changed = bytearray(data)
    changed[place] ^= 0xFF
    return bytes(changed)


TABLE = parquet({"question": [f"What is {n}?" for n in range(99)]})
NOT_TEXT = pa.array([b"ok", b"\xff\xfe"], pa.binary()).cast(pa.string(), safe=False)
ZIPPED = gzip.compress(GOOD * 99, mtime=0)

LINES: dict[str, tuple[bytes, str]] = {
    "bad UTF-8": (GOOD + b'{"question": "\xff"}\n', ", line 2: not UTF-8 (byte 0xff"),
    "overlong": (b'{"question": "\xc0\xaf"}\n', ", line 1: not UTF-8 (byte 0xc0"),
    "half a rune": (b'{"question": "\xe2\x82"}\n', ", line 1: not UTF-8 (byte 0xe2"),
    "encoded surrogate": (b'{"q": "\xed\xa0\x80"}\n', ", line 1: not UTF-8 (byte 0xed"),
    "UTF-16 cut": (b"\xff\xfe{", ": begins like UTF-16 but is not; save it as UTF-8"),
    "UTF-16 without mark": ('{"q": 1}'.encode("utf-16-le"), ": seems to be UTF-16"),
    "UTF-32": ('{"q": 1}'.encode("utf-32"), ", line 1: not JSON"),
    "NUL": (GOOD + b'{"question": "a\0b"}\n', ", line 2: not JSON (invalid control"),
    "only NUL": (b"a\0\0\0", ": seems to be UTF-16 without a mark; save it"),
    "two objects": (b"{} {}\n", ", line 1: not JSON (extra data after column 3)"),
    "no object": (b"[1]\n" + GOOD, ", line 1: not a JSON object but a list"),
    "text": (b'"Why?"\n', ", line 1: not a JSON object but text"),
    "cut": (b'{"question": "Wh', ", line 1: not JSON (unterminated string"),
    "comma": (b'{"question": "a",}\n', ", line 1: not JSON"),
    "single quotes": (b"{'question': 'a'}\n", ", line 1: not JSON"),
    "comment": (b"// a\n" + GOOD, ", line 1: not JSON"),
    "doubled key": (b'{"id": "a", "id": "b"}\n', ", line 1: 'id' appears twice in one"),
    "doubled deep": (
        b'{"a": {"b": 1, "b": 2}}\n',
        ", line 1: 'b' appears twice",
    ),
    "NaN": (b'{"a": NaN}\n', ", line 1: not JSON (NaN is not a JSON number)"),
    "Infinity": (b'{"a": -Infinity}\n', ", line 1: not JSON (-Infinity is not a JSON"),
    "5000 digits": (
        b'{"a": ' + b"9" * 5000 + b"}\n",
        ", line 1: not usable JSON (a",
    ),
    "deep list": (
        b'{"a": ' + b"[" * 10_000,
        ", line 1: is nested 51 levels deep or more",
    ),
    "deep object": (
        b'{"a": ' * 10_000,
        ", line 1: is nested 51 levels deep or more, but the limit",
    ),
    "array": (
        b"[" + GOOD.strip() + b"]",
        ": holds a JSON array, not one object per line",
    ),
    "long array": (
        b"[\n" + GOOD + b"]",
        ": holds a JSON array, not one object per line",
    ),
    "pretty": (b'{\n "a": 1\n}\n', ": holds one JSON object over several lines"),
    "pretty CRLF": (b'{\r\n "a": 1\r\n}', ": holds one JSON object over several lines"),
    "pretty CR": (b'{\r "a": 1\r}', ": holds one JSON object over several lines"),
    "columns": (
        json.dumps(dict.fromkeys(map(str, range(1001)))).encode(),
        ", line 1: has 1,001 columns, but the limit is 1,000; leave some out, or raise "
        "questions.max_columns",
    ),
}
"""What is wrong with JSON lines whoever reads them, and what the first line says."""

FILES: dict[str, tuple[str, bytes, str]] = {
    "empty": ("p.jsonl", b"", " holds no questions"),
    "empty zipped": ("p.jsonl.gz", b"", " holds no questions"),
    "blank": ("p.jsonl", b" \n\r\n\t\n", " holds no questions"),
    "only a mark": ("p.jsonl", b"\xef\xbb\xbf", " holds no questions"),
    "no gzip": ("p.jsonl.gz", GOOD, ": Not a gzipped file"),
    "zipped cut": ("p.jsonl.gz", ZIPPED[:-9], ": Compressed file ended before"),
    "zipped cut early": ("p.jsonl.gz", ZIPPED[:12], ": Compressed file ended before"),
    "zipped flipped": ("p.jsonl.gz", flipped(ZIPPED, len(ZIPPED) // 2), ": "),
    "zipped checksum": ("p.jsonl.gz", flipped(ZIPPED, -6), ": CRC check failed"),
    "zipped garbage": ("p.jsonl.gz", ZIPPED + b"more", ": Not a gzipped file (b'mo')"),
    "raw deflate": ("p.jsonl.gz", zlib.compress(GOOD), ": Not a gzipped file"),
    "zipped twice": ("p.jsonl.gz", gzip.compress(ZIPPED), ", line 1: not "),
    "array open": ("p.json", b"[" + GOOD, ", item 2: not JSON (expecting ','"),
    "array half": ("p.json", b'[{"question": "a', ", item 1: not JSON (untermin"),
    "array more": (
        "p.json",
        b"[" + GOOD + b"] x",
        ", item 2: not JSON (expecting the ",
    ),
    "array comma": ("p.json", b"[" + GOOD + b",]", ", item 2: not JSON (expecting "),
    "array doubled": ("p.json", b'[{"a": 1, "a": 2}]', ", item 1: 'a' appears twice"),
    "array digits": (
        "p.json",
        b'[{"a": ' + b"9" * 5000 + b"}]",
        ", item 1: not us",
    ),
    "array NaN": ("p.json", b'[{"a": NaN}]', ", item 1: not JSON (NaN is not a JSON"),
    "array of texts": ("p.json", b'["a"]', ", item 1: not a JSON object but text"),
    "array deep": ("p.json", b"[" * 10_000, ", item 1: not usable JSON (nested too"),
    "array nested": (
        "p.json",
        b'[{"a": ' + b"[" * 60 + b"]" * 60 + b"}]",
        ", item 1: is n",
    ),
    "array UTF-8": ("p.json", b"[\n" + b'{"a": "\xff"}]', ": line 2: not UTF-8"),
    "number": ("p.json", b"12", ": holds a number, not an array of objects"),
    "object": ("p.json", b'{"data": []}', ": holds one JSON object with data, not an"),
    "quote open": ("p.csv", b'question\n"a\nb\n', ", line 3: not CSV (unexpected end"),
    "quote inside": ("p.csv", b'question\n"a"b\n', ", line 2: not CSV ("),
    "few fields": (
        "p.csv",
        b"question,answer\na\n",
        ", line 2: 1 fields, but 2 colum",
    ),
    "many fields": ("p.csv", b"question\na,b\n", ", line 2: 2 fields, but 1 columns"),
    "CSV UTF-8": ("p.csv", b"question\na\n\xff\n", ", line 3: not UTF-8"),
    "CSV head UTF-8": ("p.csv", b"q\xfe\na\n", ", line 1: not UTF-8"),
    "CSV NUL": ("p.csv", b"question\na\0b\n", ", line 2: question holds a NUL"),
    "CSV doubled": ("p.csv", b"id,id\na,b\n", ": two columns are called 'id'"),
    "CSV wide": ("p.csv", b"," * 1001, ", line 1: has 1,002 columns, but the limit is"),
    "TSV": ("p.tsv", b"question\nWhy?\tno\n", ", line 2: 2 fields, but 1 columns"),
    "Parquet cut": ("p.parquet", TABLE[:-9], ": not a readable Parquet file ("),
    "Parquet magic": ("p.parquet", b"PAR2" + TABLE[4:-4] + b"PAR2", ": not a readable"),
    "Parquet encrypted": (
        "p.parquet",
        TABLE[:-4] + b"PARE",
        ": not a readable Parquet",
    ),
    "Parquet page": ("p.parquet", flipped(TABLE, 6), ": not a readable Parquet file"),
    "Parquet foot": ("p.parquet", flipped(TABLE, -9), ": not a readable Parquet file"),
    "Parquet UTF-8": (
        "p.parquet",
        parquet({"question": NOT_TEXT}),
        ", row 2: a text is not UTF-8 (byte 0xff",
    ),
    "Parquet doubled": (
        "p.parquet",
        parquet([pa.array(["a"]), pa.array(["b"])], names=["question", "question"]),
        ": two columns are called 'question'",
    ),
    "Parquet years": (
        "p.parquet",
        parquet({"question": ["a"], "x": pa.array([2**62], pa.timestamp("us"))}),
        ", row 1: has a value that cannot be read (",
    ),
}
"""By what is wrong: the file's name, its bytes, and what the first line says."""

ROWS: dict[str, tuple[Any, str]] = {
    "empty": ({"question": ""}, "question is empty"),
    "other columns": ({"frage": "x"}, "has neither a prompt nor a question"),
    "surrogate": ({"question": "\ud83d"}, "question holds half of a surrog"),
    "NUL": ({"question": "a\0"}, "question holds a NUL character"),
    "turns": (
        {"messages": [{"role": "user"}, "x"]},
        "content of message 1 of messages",
    ),
    "last turn": (
        {"prompt": [{"role": "assistant", "content": "a"}]},
        "the last message of prompt is from assistant",
    ),
    "mixed": ({"question": "a", "messages": []}, "has both 'messages' and 'ques"),
    "long name": (
        {"question": "a", "x" * 2000: 1},
        "has a column whose name has",
    ),
    "doubled in text": (
        {"question": "a", "choices": '{"A": "x", "A": "y"}'},
        "'A' appears twice in one JSON object",
    ),
}


def first_line(path: Path, read: Callable[[], object]) -> str:
    """Return what the first line says of a file that cannot be read."""
    with pytest.raises(DataError) as caught:
        read()
    lines = str(caught.value).splitlines()
    assert all(line.startswith((path.name, str(path))) for line in lines)
    return lines[0].removeprefix(str(path)).removeprefix(path.name)


@pytest.mark.parametrize("name", LINES)
def test_bad_lines_are_told_alike_by_all_who_read_them(
    tmp_path: Path, name: str
) -> None:
    data, said = LINES[name]
    path = tmp_path / "p.jsonl"
    path.write_bytes(data)
    readers: list[Callable[[], object]] = [
        lambda: read_questions(path, labelled=False),
        lambda: read_questions(path),
        lambda: read_answers(path, load_config(None, [])),
        lambda: read_completions(path, QuestionsConfig()),
    ]
    told = [first_line(path, read) for read in readers[:2]]
    assert [line[: len(said)] for line in told] == [said, said]
    # The rows before are of no use to the other two, so they tell of those as well.
    for read in readers[2:]:
        with pytest.raises(DataError) as caught:
            read()
        assert said in str(caught.value)


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file_is_one_line_with_its_place(tmp_path: Path, name: str) -> None:
    file_name, data, said = FILES[name]
    path = tmp_path / file_name
    path.write_bytes(data)
    for labelled in (False, True):
        line = first_line(path, lambda: read_questions(path, labelled=labelled))  # noqa: B023 - called at once
        assert line.startswith(said)


@pytest.mark.parametrize("name", ROWS)
def test_a_bad_row_is_one_line_with_its_place(tmp_path: Path, name: str) -> None:
    row, said = ROWS[name]
    path = tmp_path / "p.jsonl"
    path.write_bytes(GOOD + json.dumps(row).encode())
    line = first_line(path, lambda: read_questions(path))
    assert line.startswith(f", line 2: {said}")


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + GOOD,
        GOOD + b"\xef\xbb\xbf" + GOOD.replace(b"Why", b"What"),
        GOOD.decode().encode("utf-16"),
        GOOD.replace(b"\n", b"\r\n"),
        GOOD.replace(b"\n", b"\r") + GOOD.replace(b"Why", b"What"),
        b"\n \r\n" + GOOD,
        GOOD.replace(b"Why?", b"<|im_end|> Why?"),
        GOOD.replace(b'"}', b'", "n": ' + b"9" * 401 + b"}"),
        GOOD.replace(b'"}', b'", "n": 1e999}'),
    ],
)
def test_what_is_odd_and_good_is_read(tmp_path: Path, data: bytes) -> None:
    for name, stored in (("p.jsonl", data), ("p.jsonl.gz", gzip.compress(data))):
        (tmp_path / name).write_bytes(stored)
        questions = read_questions(tmp_path / name).questions
        assert [q.text.split()[-1][-1] for q in questions] == ["?"] * len(questions)
        assert len(questions) == 1 + data.count(b"What")


def test_parts_of_a_zipped_file_and_zeros_behind_it_are_read(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl.gz"
    more = gzip.compress(GOOD.replace(b"Why", b"What"))
    path.write_bytes(gzip.compress(GOOD) + more + b"\0" * 99)
    assert [q.text for q in read_questions(path).questions] == ["Why?", "What?"]


def test_numbers_of_any_size_are_answers(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"question": "How many?", "answer": 1%s}' % ("0" * 400))
    file = read_questions(path)
    assert [*file.gold.answer_of.values()] == ["1" + "0" * 400]


# --- Generated: what is valid, changed a little

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.sampled_from(["A", "0", "yes", "<|im_end|>", "[", "\ud800", "\0", "####"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["role", "content", "text", "label", "A", "B", "0"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
COLUMNS = (
    *("id", "question", "prompt", "messages", "choices", "options", "answer", "label"),
    *("answerKey", "A", "B", "C", "option1", "option2", "correct_answer", "solution"),
    *("context", "question_label", "reward_model", "Question", "unread"),
)
VALID: tuple[dict[str, Any], ...] = (
    {"question": "Why?", "answer": "so"},
    {"question": "Is it?", "choices": ["yes", "no"], "answer": "B"},
    {"question": "Is it?", "choices": {"text": ["a", "b"], "label": ["A", "B"]}},
    {"prompt": [{"role": "user", "content": "Why?"}], "reward_model": {"x": 1}},
    {"Question": "a", "A": "1", "B": "2", "C": "3", "answer": 1},
)
CHANGED = st.tuples(
    st.sampled_from(VALID),
    st.dictionaries(st.sampled_from(COLUMNS), VALUES, max_size=3),
).map(lambda pair: pair[0] | pair[1])


def written(rows: list[dict[str, Any]], name: str) -> bytes:
    """Return rows as a file of one format."""
    if name.endswith(".json"):
        return json.dumps(rows).encode("utf-8", "surrogatepass")
    if name.endswith(".csv"):
        columns = list(dict.fromkeys(key for row in rows for key in row))
        lines = [columns, *([str(row.get(c, "")) for c in columns] for row in rows)]
        text = "\n".join(",".join(line) for line in lines)
        return text.encode("utf-8", "surrogatepass")
    return "\n".join(map(json.dumps, rows)).encode()


def check_any(rows: list[dict[str, Any]], name: str, cut: float, flip: int) -> None:
    """Read rows that were written, and then cut or changed in one byte."""
    data = written(rows, name)
    data = data[: round(cut * len(data))]
    if data and flip >= 0:
        data = flipped(data, flip % len(data))
    path = Path("generated", name)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    for labelled in (False, True):
        try:
            found = read_questions(path, labelled=labelled)
        except DataError as error:
            lines = str(error).splitlines()
            assert lines
            assert all(len(line) < 600 for line in lines)
            assert all(str(path) in line or "more" in line for line in lines)
        else:
            assert len(found.questions) <= len(rows) + 1


GENERATED = (
    st.lists(CHANGED, min_size=1, max_size=4),
    st.sampled_from(["p.jsonl", "p.jsonl.gz", "p.json", "p.csv"]),
    st.sampled_from([1.0, 1.0, 1.0, 0.9, 0.5]),
    st.integers(-200, 400),
)


@pytest.fixture(scope="module", autouse=True)
def _own_folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Keep generated files in a folder of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("bad-input"))
        yield


@given(*GENERATED)
@settings(max_examples=150, deadline=None)
def test_rows_that_were_changed_are_read_or_refused(
    rows: list[dict[str, Any]], name: str, cut: float, flip: int
) -> None:
    check_any(rows, name, cut, flip)


@pytest.mark.long
@given(*GENERATED)
@settings(max_examples=20_000, deadline=None)
def test_many_rows_that_were_changed_are_read_or_refused(
    rows: list[dict[str, Any]], name: str, cut: float, flip: int
) -> None:
    check_any(rows, name, cut, flip)


def check_table(place: int, cut: int) -> None:
    """Read a Parquet file with one changed byte, or cut."""
    path = Path("generated", "p.parquet")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(flipped(TABLE, place % len(TABLE))[: len(TABLE) - cut])
    try:
        read_questions(path)
    except DataError as error:
        assert str(path) in str(error)  # noqa: PT017


@given(st.integers(0, len(TABLE)), st.sampled_from([0, 0, 0, 1, 50]))
@settings(max_examples=60, deadline=None)
def test_a_table_with_one_wrong_byte_is_read_or_refused(place: int, cut: int) -> None:
    check_table(place, cut)


@pytest.mark.long
def test_a_table_with_any_wrong_byte_is_read_or_refused() -> None:
    for place in range(len(TABLE)):
        check_table(place, 0)
