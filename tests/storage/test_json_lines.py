"""Lists of records, a line each, that are written and read line by line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neuron_opsd.storage.codecs import read_listing, write_listing

RECORDS = [{"id": "a", "why": ["so", {"it": "so"}]}, {"id": "b", "why": []}, 3, "so"]


def test_a_listing_is_json_with_a_record_a_line(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    for records in (RECORDS, RECORDS[:1], []):
        lines = [json.dumps(record) for record in records]
        write_listing((line.encode() for line in lines), path)
        assert path.read_text() == "[\n" + ",\n".join(lines) + "\n]\n"
        assert json.loads(path.read_bytes()) == records
        assert list(read_listing(path)) == records


def test_equal_texts_are_read_as_one(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    write_listing((json.dumps({"why": "a reason"}).encode() for _ in "ab"), path)
    first, second = read_listing(path)
    assert first["why"] is second["why"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not a JSON list"),
        ("{}\n", "not a JSON list"),
        ('["a", "b"]\n', "not a JSON list"),
        ('[\n{"a": 1},\n{"b": 2}', "breaks off"),
        ('[\n{"a": 1},\n{"b"', "delimiter"),
    ],
)
def test_what_is_no_whole_listing_is_refused(
    text: str, why: str, tmp_path: Path
) -> None:
    path = tmp_path / "list.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=why):
        list(read_listing(path))
