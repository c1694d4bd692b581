"""What `sources.json` says of fetched folders, and when it is believed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from neuron_opsd.storage import download_cache as marker
from neuron_opsd.storage.download_cache import (
    MARKER,
    Part,
    is_intact,
    licences_text,
    note,
    read_marker,
    write_marker,
)

ABOUT: Part = {"title": "A set", "origin": "Someone 2020", "licence": "CC BY-NC 4.0"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with one file."""
    place = tmp_path / "questions"
    place.mkdir()
    (place / "pool.jsonl").write_text("one\n")
    return place


def test_a_noted_folder_is_intact(folder: Path) -> None:
    assert is_intact(folder, "r", note(folder, "r", ABOUT))


def test_a_folder_is_not_intact_without_a_note_or_by_another_recipe(
    folder: Path,
) -> None:
    assert not is_intact(folder, "r", None)
    assert not is_intact(folder, "new", note(folder, "r", ABOUT))
    assert not is_intact(folder, None, {"files": {}})


@pytest.mark.parametrize("damage", ["two\n", "longer\n", None])
def test_a_changed_or_missing_file_is_seen(folder: Path, damage: str | None) -> None:
    part = note(folder, "r", ABOUT)
    path = folder / "pool.jsonl"

    path.unlink() if damage is None else path.write_text(damage)

    assert not is_intact(folder, "r", part)


def test_a_large_file_is_hashed_only_when_its_time_has_changed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marker, "HASHED_AGAIN", 2)
    part = note(folder, "r", ABOUT)
    path = folder / "pool.jsonl"
    noted = path.stat().st_mtime_ns

    path.write_text("two\n")
    os.utime(path, ns=(noted, noted))
    assert is_intact(folder, "r", part)

    os.utime(path, ns=(noted, noted + 1))
    assert not is_intact(folder, "r", part)

    path.write_text("one\n")
    assert is_intact(folder, "r", part)


def test_what_is_written_reads_back(folder: Path) -> None:
    parts = {"questions": note(folder, "r", ABOUT)}

    write_marker(folder, parts)

    assert read_marker(folder) == parts


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "[" * 100_000,
        '{"parts": 3}',
        '{"parts": {"a": 1}}',
        '{"parts": {"a": {"files": 3}}}',
        '{"parts": {"a": {"files": {"b": {"bytes": "x"}}}}}',
        '{"parts": {"a": {"title": []}}}',
    ],
)
def test_a_damaged_marker_says_that_nothing_is_there(tmp_path: Path, text: str) -> None:
    (tmp_path / MARKER).write_text(text)

    assert read_marker(tmp_path) == {}


def test_a_missing_marker_says_that_nothing_is_there(tmp_path: Path) -> None:
    assert read_marker(tmp_path) == {}


def test_licences_name_each_folder_and_what_is_forbidden() -> None:
    text = licences_text({"a": ABOUT | {"noncommercial": True}, "b": ABOUT})

    rows = [line for line in text.splitlines() if line.startswith(("| a ", "| b "))]
    assert "**forbidden**" in rows[0]
    assert "CC BY-NC 4.0" in rows[1]
    assert "see the licence" in rows[1]
