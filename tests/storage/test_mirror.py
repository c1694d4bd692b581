"""A copy of a folder on another machine follows it change by change."""

from __future__ import annotations

from pathlib import Path

import pytest

from neuron_opsd.storage import mirror
from neuron_opsd.storage.files import write_atomic
from neuron_opsd.storage.lock import locked
from neuron_opsd.storage.mirror import Original, copied, repeat
from tiny_runs import files_of


def test_a_copy_follows_and_what_deletes_comes_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    write_atomic(one / "manifest.json", b"0")
    for name, data in copied(one).items():
        write_atomic(other / name, data)
    original = Original(one)
    assert not original.changes().written
    written: list[str] = []

    def noted(path: Path, data: bytes) -> None:
        written.append(path.name)
        assert (other / "parts" / "old").exists() or "old" not in known
        write_atomic(path, data)

    known: list[str] = []
    monkeypatch.setattr(mirror, "write_atomic", noted)
    with locked(one):
        write_atomic(one / "parts" / "old", b"1")
        write_atomic(one / "z.json", b"2")
        write_atomic(one / "manifest.json", b"3")
        repeat(other, original.changes())
    assert written == ["old", "z.json", "manifest.json"]
    assert files_of(other) == {"parts/old": b"1", "z.json": b"2", "manifest.json": b"3"}
    known.append("old")
    with (one / "z.json").open("ab") as file:
        file.write(b"4")
    (one / "parts" / "old").unlink()
    (one / "parts").rmdir()
    write_atomic(one / "manifest.json", b"5")
    change = original.changes()
    assert (set(change.written), change.deleted) == (
        {"z.json", "manifest.json"},
        frozenset({"parts/old"}),
    )
    repeat(other, change)
    assert files_of(other) == {"z.json": b"24", "manifest.json": b"5"}
    assert not (other / "parts").exists()
