"""Two processes that start in one folder: the second comes at every moment."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from neuron_opsd.comparison.comparison import is_comparison
from neuron_opsd.errors import InUseError
from neuron_opsd.storage import files, lock
from neuron_opsd.storage.folders import check_folder, claim, kind_in
from neuron_opsd.storage.lock import locked
from neuron_opsd.storage.run_directory import RunDirectory

SYSTEM = ("posix", "fcntl", "_io")
"""Modules whose calls reach the system."""
MOST = 500
"""Calls of a start: more than any makes."""

Start: TypeAlias = Callable[[Path], AbstractContextManager[object]]


@contextmanager
def at_call(number: int, act: Callable[[], None]) -> Iterator[list[str]]:
    """Act before a call of the system, counted from 0; yield the calls until then."""
    calls: list[str] = []

    def watch(frame: Any, event: str, called: Any) -> None:
        del frame
        if event == "c_call" and called.__module__ in SYSTEM:
            if len(calls) == number:
                sys.setprofile(None)
                act()
            calls.append(called.__name__)

    sys.setprofile(watch)
    try:
        yield calls
    finally:
        sys.setprofile(None)


def outcomes(start: Start, other: Start, folder: Path, *, is_made: bool) -> set[str]:
    """Start in new folders, another before each call of the system; say how it ends."""
    found = set()
    for number in range(MOST):
        place = folder / str(number)
        if is_made:
            place.mkdir()
        with ExitStack() as others:

            def come(others: ExitStack = others, place: Path = place) -> None:
                with suppress(InUseError):
                    others.enter_context(other(place))

            calls: list[str] = []
            try:
                with at_call(number, come) as calls, start(place):
                    found.add("began")
            except InUseError:
                found.add("in use")
        if len(calls) <= number:
            assert number > 10
            return found
    raise AssertionError(f"more than {MOST} calls")


def open_run(folder: Path) -> AbstractContextManager[object]:
    return RunDirectory.open(folder, {}, {})


@contextmanager
def mark(folder: Path) -> Iterator[None]:
    claim(folder, "run")
    yield


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    claim(folder, "run")
    with locked(folder):
        yield


@contextmanager
def share(folder: Path) -> Iterator[None]:
    check_folder(folder, "comparison", is_comparison)
    claim(folder, "comparison", is_comparison)
    assert kind_in(folder) == "comparison"
    yield


@contextmanager
def share_and_hold(folder: Path) -> Iterator[None]:
    with share(folder), hold(folder / "blocks" / "science" / "0" / "base"):
        yield


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait neither for a holder's name nor for the disk."""
    monkeypatch.setattr(lock, "NAMED_WITHIN", 0.0)
    monkeypatch.setattr(files, "sync", lambda _: None)


@pytest.mark.parametrize("is_made", [True, False], ids=["empty", "new"])
@pytest.mark.parametrize(
    ("other", "ends"),
    [(mark, {"began"}), (hold, {"began", "in use"}), (open_run, {"began", "in use"})],
)
def test_a_run_begins_or_is_in_use_whenever_another_starts(
    other: Start, ends: set[str], is_made: bool, tmp_path: Path
) -> None:
    assert outcomes(open_run, other, tmp_path, is_made=is_made) == ends


@pytest.mark.parametrize("is_made", [True, False], ids=["empty", "new"])
@pytest.mark.parametrize("other", [share, share_and_hold])
def test_a_comparison_is_shared_whenever_another_starts(
    other: Start, is_made: bool, tmp_path: Path
) -> None:
    assert outcomes(share, other, tmp_path, is_made=is_made) == {"began"}
