"""A journal keeps whole lines, whenever its writer was killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from neuron_opsd.storage import journal as module
from neuron_opsd.storage.journal import Journal

ROWS = {"a": [1, 2.5, None], "b": {"text": "\ud800 é\n"}, "c": []}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give the path of a journal with some lines."""
    found = tmp_path / "00000.journal"
    journal = Journal(found, pytest.fail)
    for key, value in ROWS.items():
        journal.add(key, value)
    return found


def test_what_was_added_is_there_for_the_next_process(path: Path) -> None:
    again = Journal(path, pytest.fail)
    assert {key: again.get(key) for key in ROWS} == ROWS
    assert again.get("d") is None


def test_wherever_the_writing_stopped_whole_lines_are_left(path: Path) -> None:
    data = path.read_bytes()
    ends = [n + 1 for n, byte in enumerate(data) if byte == ord("\n")]
    for length in range(len(data) + 1):
        path.write_bytes(data[:length])
        journal = Journal(path, pytest.fail)
        known = [key for key in ROWS if journal.get(key) is not None]
        assert known == list(ROWS)[: sum(end <= length for end in ends)]
        journal.add("d", "more")
        assert Journal(path, pytest.fail).get("d") == "more"


def test_a_damaged_line_and_those_after_it_are_told_and_not_read(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    for place in range(len(lines[1]) - 1):
        bad = bytearray(lines[1])
        bad[place] ^= 1
        if b"\n" in bad[:-1]:
            continue
        path.write_bytes(lines[0] + bad + lines[2])
        told: list[str] = []
        journal = Journal(path, told.append)
        assert [journal.get(key) for key in ROWS] == [ROWS["a"], None, None]
        assert "changed or damaged" in told[0]


def test_lines_reach_the_disk_once_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million short answers must not wait for the disk a million times."""
    now: list[float] = [100.0]
    synced: list[int] = []
    monkeypatch.setattr(module, "perf_counter", lambda: now[0])
    monkeypatch.setattr("os.fsync", synced.append)
    journal = Journal(tmp_path / "00000.journal", pytest.fail)
    for n in range(40):
        journal.add(str(n), n)
        now[0] += 0.125
    assert len(synced) == 5 + 1  # the folder's list of names once
    assert Journal(journal.path, pytest.fail).get("39") == 39


def test_a_folder_in_its_place_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    assert Journal(tmp_path, told.append).get("a") is None
    assert "it is a folder; what it held is computed again" in told[0]
