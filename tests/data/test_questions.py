"""Tests of reading questions: every good row comes in, every bad one is named."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_opsd.config import QuestionsConfig
from neuron_opsd.data.formats.fields import NOTHING
from neuron_opsd.data.question_files import split_name, table_of
from neuron_opsd.data.questions import (
    QuestionFile,
    is_dataset,
    read_questions,
    write_questions,
)
from neuron_opsd.errors import DataError, TryAgainError
from neuron_opsd.records import GoldAnswers, Message, Question

YES_NO = ("yes", "no")
SKY = {"id": "q1", "question": "Is the sky blue?", "choices": ["yes", "no"]}


def ask(text: str, question_id: str = "q1", choices: Sequence[str] = ()) -> Question:
    return Question(question_id, (Message("user", text),), tuple(choices))


def read_bytes(data: bytes, name: str, folder: Path) -> QuestionFile:
    path = folder / name
    path.write_bytes(data)
    return read_questions(path)


@pytest.fixture
def read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., QuestionFile]:
    """Read bytes as if they lay in the file of the given name."""
    monkeypatch.chdir(tmp_path)

    def read(data: bytes | str, name: str = "pool.jsonl") -> QuestionFile:
        raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
        return read_bytes(raw, name, Path())

    return read


Read = Callable[..., QuestionFile]


def row(**values: Any) -> str:
    return json.dumps({"question": "Why?"} | values) + "\n"


def parquet(columns: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(dict(columns)), buffer)
    return buffer.getvalue()


def csv_text(rows: Sequence[Sequence[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue()


# --- Good files


def test_json_lines_are_read(read: Read) -> None:
    data = json.dumps(SKY | {"answer": "no", "source": "x"}) + "\n"
    file = read(data)
    assert file.questions == (ask("Is the sky blue?", "q1", YES_NO),)
    assert file.gold == GoldAnswers({"q1": "no"})
    assert file.sha256 == hashlib.sha256(data.encode()).hexdigest()


def test_zipped_json_lines_are_read(read: Read) -> None:
    file = read(gzip.compress((row() + row()).encode()), "pool.jsonl.gz")
    assert [question.id for question in file.questions] == ["pool-1", "pool-2"]


def test_parquet_is_read(read: Read) -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "?"},
    ]
    data = parquet(
        {
            "id": [7, 8],
            "prompt": [turns, turns],
            "choices": [["a", "b"], None],
            "answer": ["b", None],
            "meta": [1, 2],
        }
    )
    file = read(data, "pool.parquet")
    messages = (Message("system", "Be brief."), Message("user", "?"))
    assert file.questions == (
        Question("7", messages, ("a", "b")),
        Question("8", messages),
    )
    assert file.gold.answer_of == {"7": "b"}


def test_csv_is_read(read: Read) -> None:
    data = csv_text(
        [
            ["question", "choices", "answer", "id", "note"],
            ["Two\nlines, quoted?", '["yes", "no"]', "1", "", "x"],
            ["Free?", "", "42", "free", ""],
            ["Is it?", '["yes", "no"]', "0", "is", ""],
        ]
    )
    file = read(data, "pool.csv")
    assert file.questions == (
        ask("Two\nlines, quoted?", "pool-1", YES_NO),
        ask("Free?", "free"),
        ask("Is it?", "is", YES_NO),
    )
    assert file.gold.answer_of == {"pool-1": "no", "free": "42", "is": "yes"}


def test_a_prompt_may_be_text(read: Read) -> None:
    (question,) = read('{"prompt": "Why?", "question": null}').questions
    assert question == ask("Why?", "pool-1")


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + row().encode(),
        row().replace("\n", "\r\n").encode(),
        row().strip().encode(),
        ("\n  \r\n" + row() + "\n\n").encode(),
        row().encode("utf-16"),
        b"\xfe\xff" + row().encode("utf-16-be"),
    ],
    ids=["mark", "CRLF", "no last line end", "blank lines", "UTF-16", "UTF-16-BE"],
)
@pytest.mark.parametrize("name", ["pool.jsonl", "POOL.JSONL"])
def test_how_a_text_file_is_stored_does_not_matter(
    read: Read, data: bytes, name: str
) -> None:
    (question,) = read(data, name).questions
    assert question.text == "Why?"


def test_labels_are_read_and_written_back(tmp_path: Path) -> None:
    row = {
        "id": "r",
        "question": "A dull film.",
        "answer": "negative",
        "question_label": " Review ",
        "answer_label": "Sentiment",
    }
    path = tmp_path / "reviews.jsonl"
    path.write_text(json.dumps(row), encoding="utf-8")
    found = read_questions(str(path))
    (question,) = found.questions
    assert (question.question_label, question.answer_label) == ("Review", "Sentiment")
    again = tmp_path / "again.jsonl"
    write_questions(again, found.questions, found.gold)
    assert read_questions(str(again)).questions == found.questions


def test_a_label_that_is_no_text_is_a_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "reviews.jsonl"
    path.write_text('{"question": "x", "question_label": 3}', encoding="utf-8")
    with pytest.raises(DataError, match="line 1: question_label must be text"):
        read_questions(str(path))


def test_other_line_separators_stay_in_the_text(read: Read) -> None:
    (question,) = read('{"question": "a\u2028b\x85c"}').questions
    assert question.text == "a\u2028b\x85c"


@pytest.mark.parametrize(
    ("choices", "answer", "gold"),
    [
        (["yes", "no"], "no", "no"),
        (["yes", "no"], " no ", "no"),
        ([" yes", "no "], "no", "no"),
        (["yes", "no"], 0, "yes"),
        (["yes", "no"], 1, "no"),
        (["yes", "no"], "B", "no"),
        (["B", "A"], "B", "B"),
        (["1", "0"], "0", "0"),
        (["yes", "no"], "b", "no"),
        (["yes", "no"], 1.0, "no"),
        (["yes", "no"], 2, "no"),
        (["yes", "no"], "2", "no"),
        (["yes", "no"], "", None),
        (None, 18, "18"),
        (None, 2.5, "2.5"),
        (None, " text ", "text"),
        (None, None, None),
        (["yes", "no"], None, None),
    ],
)
def test_an_answer_is_found(
    read: Read, choices: list[str] | None, answer: object, gold: str | None
) -> None:
    file = read(row(choices=choices, answer=answer))
    assert file.gold.answer_of.get("pool-1") == gold


@pytest.mark.parametrize(
    ("answer", "gold"), [("0", "2"), ("2", "2"), ("B", "3"), ("3", "3")]
)
def test_digits_in_csv_are_an_index_unless_a_choices_text(
    read: Read, answer: str, gold: str
) -> None:
    data = csv_text([["question", "choices", "answer"], ["?", '["2", "3"]', answer]])
    assert read(data, "pool.csv").gold.answer_of == {"pool-1": gold}


# --- Bad rows


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"a": 1 "b": 2}', "not JSON (expecting ',' after column 8)"),
        ("nonsense", "not JSON (expecting value after column 0)"),
        (
            '{"a": "\0"}',
            "not JSON (invalid control character at after column 7); is the",
        ),
        (
            "[" * 10_000,
            "is nested 51 levels deep or more, but the limit is 50; flatten it, or ",
        ),
        (
            '{"a":' * 10_000,
            "is nested 51 levels deep or more, but the limit is 50; flatten it",
        ),
        ('{"a": ' + "9" * 5000 + "}", "not usable JSON (a number has too many digits)"),
        ("[1]", "not a JSON object but a list"),
        ("null", "not a JSON object but nothing"),
        (
            '{"question": "a", "question": "b"}',
            "'question' appears twice in one JSON obj",
        ),
        ('{"question": NaN}', "not JSON (NaN is not a JSON number)"),
        ("{}", "has neither a prompt nor a question"),
        ('{"Question": "a", "question": "b"}', "has the columns 'Question' and 'que"),
        ('{"promt": "a"}', "has neither a prompt nor a question; is 'promt' meant?"),
        ('{"question": "a", "prompt": "b"}', "has both a prompt and a question"),
        ('{"question": 3}', "question must be text, not a number"),
        ('{"question": true}', "question must be text, not true or false"),
        ('{"question": " \\n"}', "question is empty"),
        ('{"question": "\\u0000"}', "question holds a NUL character"),
        ('{"question": "\\ud800"}', "question holds half of a surrogate pair"),
        ('{"prompt": 3}', "prompt must be text or a list of messages, not a number"),
        ('{"prompt": []}', "prompt is an empty list of messages"),
        ('{"prompt": ["a"]}', "message 1 of prompt must be an object, not text"),
        (
            '{"prompt": [{"role": "me", "content": "a"}]}',
            "message 1 of prompt has the r",
        ),
        ('{"prompt": [{"role": ["user"], "content": "a"}]}', "message 1 of prompt has"),
        (
            '{"prompt": [{"role": "user", "content": ["a"]}]}',
            "content of message 1 of p",
        ),
        (
            '{"prompt": [{"role": "user"}]}',
            "content of message 1 of prompt must be text",
        ),
        (
            '{"prompt": [{"role": "user", "content": "a", "image": "b"}]}',
            "message 1 of prompt has 'image', which is not used; remove it",
        ),
        (
            '{"prompt": [{"role": "assistant", "content": "a"}]}',
            "the last message of prompt is from assistant, not from user",
        ),
        ('{"question": "a", "id": ""}', "id is empty"),
        ('{"question": "a", "id": true}', "id must be text, not true or false"),
        (
            '{"question": "a", "choices": "yes"}',
            """choices must be a list of texts such as ["yes", "no"], not 'yes'""",
        ),
        (
            '{"question": "a", "choices": 3}',
            'choices must be a list of texts such as ["yes", "no"], not a number',
        ),
        ('{"question": "a", "choices": [1, 2]}', "choice 1 must be text, not a number"),
        ('{"question": "a", "choices": ["a", ""]}', "choice 2 is empty"),
        ('{"question": "a", "choices": ["a", "a "]}', "the choice 'a' appears twice"),
        ('{"question": "a", "choices": ["a"]}', "has fewer than two choices"),
        ('{"question": "a", "choices": []}', "has fewer than two choices"),
        ('{"question": "a", "answer": [["b"]]}', "answer must be text, not a list"),
        ('{"question": "a", "answer": []}', "answer is an empty list"),
        ('{"question": "a", "answer": true}', "answer must be text, not true or false"),
    ],
)
def test_a_bad_row_is_named_with_its_reason(
    read: Read, line: str, problem: str
) -> None:
    with pytest.raises(DataError) as caught:
        read(row() + line + "\n")
    assert str(caught.value).startswith(f"pool.jsonl, line 2: {problem}")


@pytest.mark.parametrize("answer", ["maybe", "C", "AB", 3, -1, 1.5])
def test_an_answer_that_is_no_choice_is_a_bad_row(read: Read, answer: object) -> None:
    with pytest.raises(DataError) as caught:
        read(row(choices=["yes", "no"], answer=answer))
    assert str(caught.value) == (
        f"pool.jsonl, line 1: answer {answer!r} is not a choice; give a choice's text, "
        "its number from 0 to 1 or its letter from A to B"
    )


def test_bytes_that_are_not_utf8_are_a_bad_row(read: Read) -> None:
    with pytest.raises(DataError) as caught:
        read(row().encode() + b'{"question": "\xff"}\n' + b"\xc3\x28\n")
    first, second = str(caught.value).splitlines()
    assert first == (
        "pool.jsonl, line 2: not UTF-8 (byte 0xff after byte 14); save it as UTF-8"
    )
    assert second.startswith("pool.jsonl, line 3: not UTF-8 (byte 0xc3 after byte 0)")


def test_an_id_that_stands_twice_is_a_bad_row(read: Read) -> None:
    with pytest.raises(DataError) as caught:
        read(row(id="a") + row(id="pool-3") + row() + row(id="a"))
    assert str(caught.value).splitlines() == [
        "pool.jsonl, line 3: has the id 'pool-3' of line 2",
        "pool.jsonl, line 4: has the id 'a' of line 1",
    ]


def test_all_bad_rows_are_told_at_once_and_twenty_shown(read: Read) -> None:
    with pytest.raises(DataError) as caught:
        read(row() + "{}\n" * 23)
    lines = str(caught.value).splitlines()
    assert len(lines) == 21
    assert lines[19].startswith("pool.jsonl, line 21: ")
    assert lines[20] == "and 3 more"


def test_bad_rows_of_csv_are_named(read: Read) -> None:
    rows = [
        ["question", "choices"],
        ["two\nlines", ""],
        ["a", "yes|no"],
        ["a", "{}"],
        ["", ""],
        ["a"],
    ]
    with pytest.raises(DataError) as caught:
        read(csv_text(rows), "pool.csv")
    assert str(caught.value).splitlines() == [
        'pool.csv, line 4: choices must be a list of texts such as ["yes", "no"], not '
        "'yes|no'",
        "pool.csv, line 5: has fewer than two choices; leave choices out if the "
        "answer is free",
        "pool.csv, line 6: has neither a prompt nor a question",
        "pool.csv, line 7: 1 fields, but 2 columns",
    ]


@pytest.mark.parametrize(
    "data",
    [
        "question,answer\nWhy?,so,\n",
        "question;answer\nWhy?;so\n",
        "question\tanswer\nWhy?\tso\n",
        "question|answer\nWhy?|so\n",
        'sep=;\r\nquestion;answer\r\n"Why?";so\r\n',
        ",question,answer\n0,Why?,so\n",
        "Unnamed: 0,question,answer\n0,Why?,so\n",
        'question, answer\n"Why?", "so"\n',
        "Question,ANSWER \rWhy?,so\r",
    ],
)
def test_csv_is_read_as_spreadsheets_write_it(read: Read, data: str) -> None:
    file = read(data, "p.csv")
    assert [question.text for question in file.questions] == ["Why?"]
    assert [*file.gold.answer_of.values()] == ["so"]


def test_a_line_before_the_header_counts(read: Read) -> None:
    with pytest.raises(DataError, match="line 3: 1 fields, but 2 columns"):
        read("sep=,\nquestion,answer\nWhy?\n", "p.csv")


def test_a_filled_field_without_a_name_is_a_bad_row(read: Read) -> None:
    with pytest.raises(DataError, match="column 3 has no name in the header, but hol"):
        read("question,answer,\nWhy?,so,what\n", "p.csv")


def test_bad_rows_of_parquet_are_named(read: Read) -> None:
    with pytest.raises(DataError) as caught:
        read(parquet({"question": ["a", None], "answer": [1.5, None]}), "p.parquet")
    assert str(caught.value) == "p.parquet, row 2: has neither a prompt nor a question"


# --- Bad files


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("p.jsonl", b"", "p.jsonl holds no questions"),
        ("p.jsonl", b"\n \n", "p.jsonl holds no questions"),
        ("p.jsonl", b"\xff\xfea", "p.jsonl: begins like UTF-16 but is not"),
        ("p.jsonl.gz", gzip.compress(b"", mtime=0), "p.jsonl.gz holds no questions"),
        ("p.jsonl.gz", b"{}", "p.jsonl.gz: Not a gzipped file"),
        (
            "p.jsonl.gz",
            gzip.compress(b"{}" * 99, mtime=0)[:-9],
            "p.jsonl.gz: Compressed file",
        ),
        ("p.csv", "question\na".encode("utf-16-le"), "p.csv: seems to be UTF-16 wi"),
        ("p.csv", b"", "p.csv holds no questions"),
        ("p.csv", b"question\n", "p.csv holds no questions"),
        ("p.csv", b"id,id\na,b\n", "p.csv: two columns are called 'id'"),
        ("p.csv", b"question\na\n\xff\n", "p.csv, line 3: not UTF-8"),
        ("p.csv", b'question\n"a\n', "p.csv, line 2: not CSV (unexpected end of data)"),
        ("p.parquet", b"", "p.parquet: not a readable Parquet file"),
        ("p.parquet", b"PAR1xxxxPAR1", "p.parquet: not a readable Parquet file"),
        (
            "p.parquet",
            parquet({"question": pa.array([], pa.string())}),
            "p.parquet hold",
        ),
        (
            "p.json",
            b"[]",
            "p.json holds no questions",
        ),
        ("p.json", b'{"data": []}', "p.json: holds one JSON object with data, not an"),
        (
            "p.json",
            b"[",
            "p.json, item 1: not JSON (expecting value after column 1 of line 1)",
        ),
        (
            "p.txt",
            b"[]",
            "p.txt has .txt, which is not a format of question files; allowed are",
        ),
        ("p", b"", "p has no ending, which is not a format of question files"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    read: Read, name: str, data: bytes, problem: str
) -> None:
    with pytest.raises(DataError) as caught:
        read(data, name)
    assert str(caught.value).startswith(problem)


def test_an_unknown_ending_is_told_what_is_allowed(read: Read) -> None:
    with pytest.raises(DataError) as caught:
        read(b"", "pool.jsnl")
    assert str(caught.value) == (
        "pool.jsnl has .jsnl, which is not a format of question files; allowed are "
        ".jsonl, .jsonl.gz, .json, .parquet, .csv, .tsv, .eval, or the id of a Hugging "
        "Face dataset; did you mean .jsonl?"
    )


def test_a_missing_file_is_told_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "questions.jsonl").write_text("")
    missing = tmp_path / "question.jsonl"
    with pytest.raises(DataError) as caught:
        read_questions(str(missing))
    assert str(caught.value) == (
        f"{missing} does not exist; did you mean {tmp_path / 'questions.jsonl'}?"
    )
    with pytest.raises(DataError, match="nor does the folder"):
        read_questions(tmp_path / "no" / "pool.jsonl")
    with pytest.raises(DataError, match="does not exist"):
        read_questions(tmp_path / "pool")


@pytest.mark.parametrize("name", ["folder", "folder.jsonl"])
def test_a_folder_is_no_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="is a folder; name a file in it"):
        read_questions(tmp_path / name)


@given(st.binary(max_size=200), st.sampled_from(["p.jsonl", "p.csv", "p.parquet"]))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_questions_or_a_data_error(data: bytes, name: str) -> None:
    with TemporaryDirectory() as folder:
        try:
            assert read_bytes(data, name, Path(folder)).questions
        except DataError as error:
            assert name in str(error)  # noqa: PT017


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(
    st.dictionaries(
        st.sampled_from(["id", "prompt", "question", "choices", "answer"]), JSON_VALUES
    )
)
@settings(max_examples=150, deadline=None)
def test_any_row_is_a_question_or_a_data_error(values: dict[str, Any]) -> None:
    with TemporaryDirectory() as folder:
        try:
            read_bytes(json.dumps(values).encode(), "p.jsonl", Path(folder))
        except DataError as error:
            assert "p.jsonl, line 1: " in str(error)  # noqa: PT017


# --- Hugging Face datasets


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("owner/name", True),
        ("owner/name:test", True),
        ("owner/name:main:test", True),
        ("owner/name.jsonl", False),
        ("here/name", False),
        ("name", False),
        ("a/b/c", False),
        (Path("owner/name"), False),
    ],
)
def test_a_dataset_id_is_no_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str | Path,
    expected: bool,
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    assert is_dataset(source) is expected


def test_a_dataset_id_names_configuration_and_split() -> None:
    assert split_name("a/b") == ("a/b", None, "train")
    assert split_name("a/b:test") == ("a/b", None, "test")
    assert split_name("a/b:main:test") == ("a/b", "main", "test")


def test_without_the_package_a_dataset_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="pip install datasets"):
        read_questions("owner/name")


class Records(list[dict[str, Any]]):
    """Stands for a `datasets.Dataset`."""

    column_names = ("question", "answer", "extra")

    def select_columns(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Return the records with the named columns alone."""
        return [{name: record[name] for name in names} for record in self]


class OddError(Exception):
    """Stands for an error of `datasets` that is of no other kind."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """Put a hub of one dataset in the place of `datasets`."""
    module = types.SimpleNamespace(
        config=types.SimpleNamespace(HF_HUB_OFFLINE=False),
        exceptions=types.SimpleNamespace(DatasetsError=OddError),
        error=None,
        calls=[],
    )

    def load_dataset(*arguments: Any, **named: Any) -> Records:
        module.calls.append((arguments, named, module.config.HF_HUB_OFFLINE))
        if module.error is not None:
            raise module.error
        return Records([{"question": "Why?", "answer": "so", "extra": 1}])

    module.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", module)
    return module


def test_a_dataset_is_read_without_the_network_unless_allowed(
    hub: types.SimpleNamespace,
) -> None:
    file = read_questions("owner/name:main:test")
    assert file.questions == (ask("Why?", "name-1"),)
    assert file.gold.answer_of == {"name-1": "so"}
    again = read_questions("owner/name:main:test", allow_download=True)
    assert again.sha256 == file.sha256
    arguments = (("owner/name", "main"), {"split": "test"})
    assert hub.calls == [(*arguments, True), (*arguments, False)]
    assert hub.config.HF_HUB_OFFLINE is False


class Image:
    """Stands for the feature of that name, whose column must not be decoded."""


def test_a_dataset_with_images_is_refused_without_decoding_them() -> None:
    class Pictures(Records):
        features: Mapping[str, object] = {"question": None, "picture": Image()}

        def remove_columns(self, names: Sequence[str]) -> Records:
            return Records(
                {key: row[key] for key in row if key not in names} for row in self
            )

    records = Pictures([{"question": "Why?", "picture": "x"}])
    table = table_of("o/n", "o/n", records, QuestionsConfig())
    (row,) = table.rows
    assert row.values == {"question": "Why?", "picture": {"bytes": None}}


def test_a_dataset_that_is_not_there_says_what_to_do(
    hub: types.SimpleNamespace,
) -> None:
    hub.error = ConnectionError("offline")
    with pytest.raises(DataError, match=r"model\.allow_download=true"):
        read_questions("owner/name")
    with pytest.raises(TryAgainError, match="could not download owner/name"):
        read_questions("owner/name", allow_download=True)
    for kind in (ValueError, OddError):
        hub.error = kind("Unknown split\nand more")
        said = "cannot read the dataset owner/name: Unknown split$"
        with pytest.raises(DataError, match=said):
            read_questions("owner/name")
    hub.error = OSError(28, "No space left on device")
    with pytest.raises(TryAgainError, match="owner/name: the disk is full"):
        read_questions("owner/name")


# --- Writing


def test_written_questions_are_read_again(tmp_path: Path) -> None:
    turns = (
        Message("user", "Hi"),
        Message("assistant", "Yes?"),
        Message("user", "Why"),
    )
    questions = (ask("ünï?", "a", YES_NO), ask("Free?", "b"), Question("c", turns))
    gold = GoldAnswers({"a": "no", "b": "42"})
    write_questions(tmp_path / "pool.jsonl", questions, gold)
    file = read_questions(tmp_path / "pool.jsonl")
    assert (file.questions, file.gold) == (questions, gold)


TEXTS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1
)
FULL_TEXTS = TEXTS.filter(str.strip)
CHOICES = FULL_TEXTS.map(str.strip).filter(lambda text: text not in NOTHING)


@given(
    st.lists(
        st.builds(
            ask,
            FULL_TEXTS,
            FULL_TEXTS,
            st.just([]) | st.lists(CHOICES, min_size=2, unique=True),
        ),
        min_size=1,
        max_size=4,
        unique_by=lambda question: question.id,
    )
)
@settings(max_examples=50, deadline=None)
def test_any_written_questions_are_read_again(questions: Sequence[Question]) -> None:
    gold = GoldAnswers({q.id: q.choices[-1] for q in questions if q.choices})
    with TemporaryDirectory() as folder:
        path = Path(folder, "pool.jsonl")
        write_questions(path, questions, gold)
        file = read_questions(path)
    assert file.questions == tuple(questions)
    assert file.gold == gold
