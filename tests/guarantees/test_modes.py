"""Who may read what a run leaves: what the umask says, whichever library wrote it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from neuron_opsd.storage.files import write_folder
from tiny_runs import run_command, tiny_request

SHORT = ("distill.steps=2", "distill.checkpoint_every=1", "evaluation.num_samples=1")


@contextmanager
def umask(mask: int) -> Iterator[None]:
    """Make files under another umask."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def wrong_modes(folder: Path, mask: int, group: int | None) -> list[str]:
    """Name what in a folder has other bits, or another group, than it should."""
    found = []
    for path in sorted([folder, *folder.rglob("*")]):
        status = path.stat()
        wanted = (0o777 if path.is_dir() else 0o666) & ~mask
        if path.is_dir() and group is not None:
            wanted |= stat.S_ISGID
        if stat.S_IMODE(status.st_mode) != wanted:
            found.append(f"{path}: {stat.S_IMODE(status.st_mode):o}, not {wanted:o}")
        if group is not None and status.st_gid != group:
            found.append(f"{path}: of another group")
    return found


@pytest.mark.parametrize("mask", [0o002, 0o027, 0o077])
def test_all_files_of_a_run_have_the_modes_of_the_umask(
    tiny_llama: Path, tmp_path: Path, mask: int
) -> None:
    request = tiny_request(tmp_path)
    with umask(mask):
        assert run_command(request, tiny_llama, SHORT) == 0
    assert (request.out / "train" / "checkpoints").is_dir()
    assert wrong_modes(request.out, mask, None) == []


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root"
)
def test_the_folder_of_a_group_stays_the_groups(
    tiny_llama: Path, tmp_path: Path
) -> None:
    group = 12345
    shared = tmp_path / "shared"
    shared.mkdir()
    os.chown(shared, -1, group)
    shared.chmod(0o2775)
    request = tiny_request(shared)
    with umask(0o002):
        assert run_command(request, tiny_llama, SHORT) == 0
    assert wrong_modes(request.out, 0o002, group) == []


def test_a_library_that_hides_its_file_does_not_hide_it_from_the_group(
    tmp_path: Path,
) -> None:
    def fill(folder: Path) -> None:
        (folder / "deep").mkdir()
        for path in (folder / "a", folder / "deep" / "b"):
            path.touch(mode=0o600)

    with umask(0o027):
        write_folder(tmp_path / "made", fill)
    assert wrong_modes(tmp_path / "made", 0o027, None) == []
