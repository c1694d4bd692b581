"""Early checks that a command can write to its outputs.

Nothing is changed: trial files have no name, or are gone at once.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from neuron_opsd.documents import is_half_pair
from neuron_opsd.errors import ConfigError
from neuron_opsd.storage.disk import disk_errors

KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFDIR: "a folder",
    stat.S_IFREG: "a file",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
}
FILE, FOLDER = KINDS[stat.S_IFREG], KINDS[stat.S_IFDIR]
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
MAX_LENGTH: Final = 64
DEVICES: Final = frozenset(
    {"con", "prn", "aux", "nul"}
    | {f"{port}{n}" for port in ("com", "lpt") for n in range(10)}
)
"""Device names on Windows, with any ending."""


def kind_of(path: Path, *, follow: bool = False) -> str:
    """Say what is at a path, or at a link's target; empty for nothing."""
    try:
        mode = (path.stat() if follow and path.exists() else path.lstat()).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return ""
    return KINDS.get(stat.S_IFMT(mode), "no file")


def check_file_place(path: Path) -> None:
    """Refuse a place where no file can be written."""
    check_name(path)
    with disk_errors(path, 0):
        found = kind_of(path)
    if found not in ("", FILE):
        raise ConfigError(
            f"--out is {path}, which is {found}; give the name of a file, a new one "
            "or one to replace"
        )
    check_writing(path, path.parent)


def check_folder_place(path: Path, flag: str = "--out") -> None:
    """Refuse a place where no folder can be filled."""
    check_name(path)
    with disk_errors(path, 0):
        found = kind_of(path, follow=True)
    if found not in ("", FOLDER):
        raise ConfigError(
            f"{flag} is {path}, which is {found}; give a folder, a new or an empty one"
        )
    check_writing(path, path)


def check_name(path: Path) -> None:
    """Refuse a name that some libraries cannot write to."""
    if is_half_pair(str(path.absolute())):
        raise ConfigError(f"cannot write {path}: its name is not UTF-8; choose another")
    if "\0" in str(path):
        raise ConfigError(f"cannot write {str(path)!r}: it holds NUL; choose another")


def check_writing(path: Path, folder: Path) -> None:
    """Try to make a nameless file in a folder or its nearest parent."""
    place = folder.absolute()
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    found = kind_of(place, follow=True)
    if found != FOLDER:
        raise ConfigError(
            f"cannot write {path}: {place} is {found}, not a folder; choose another "
            "place"
        )
    with disk_errors(path, 0), tempfile.TemporaryFile(dir=place):
        pass


def check_names(names: Iterable[str], what: str) -> None:
    """Refuse names that are no folder names on some machine, and near duplicates.

    A run may move to a file system where `Exam` and `exam` are the same, or to Windows
    and its device names. `what` is named, such as ``a test set``.
    """
    seen: dict[str, str] = {}
    for name in names:
        if not NAME.fullmatch(name) or len(name) > MAX_LENGTH or name.endswith("."):
            raise ConfigError(
                f"{name!r} cannot name {what}; use up to {MAX_LENGTH} letters, digits, "
                "dots, dashes and underscores, beginning with a letter or digit and "
                "not ending with a dot"
            )
        if name.partition(".")[0].casefold() in DEVICES:
            raise ConfigError(
                f"{name!r} cannot name {what}, because it is a device on Windows, "
                "where the results may be read; give it another name"
            )
        twin = seen.setdefault(name.casefold(), name)
        if twin != name:
            raise ConfigError(
                f"{twin!r} and {name!r} cannot both name {what}, because they are one "
                "folder where case does not count; give one of them another name"
            )
