"""Whether a command may write where it is told to, tried before the work begins.

Nothing is changed: the only file that is made has no name, or is gone in a moment.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

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


def kind_of(path: Path, *, follow: bool = False) -> str:
    """Say what is at a path, or where a link leads, in words; empty for nothing."""
    try:
        mode = (path.stat() if follow and path.exists() else path.lstat()).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return ""
    return KINDS.get(stat.S_IFMT(mode), "no file")


def check_file_place(path: Path, flag: str = "--out") -> None:
    """Refuse a place where no file can be written or replaced.

    Raises:
        ConfigError: If something else than a file stands there, or nothing may be
            written.
    """
    check_name(path)
    with disk_errors(path, 0):
        found = kind_of(path)
    if found not in ("", FILE):
        raise ConfigError(
            f"{flag} is {path}, which is {found}; give the name of a file, a new one "
            "or one to replace"
        )
    check_writing(path, path.parent)


def check_folder_place(path: Path, flag: str = "--out") -> None:
    """Refuse a place where no folder can be made or filled.

    Raises:
        ConfigError: If something else stands there, or nothing may be written.
    """
    check_name(path)
    with disk_errors(path, 0):
        found = kind_of(path, follow=True)
    if found not in ("", FOLDER):
        raise ConfigError(
            f"{flag} is {path}, which is {found}; give a folder, a new or an empty one"
        )
    check_writing(path, path)


def check_name(path: Path) -> None:
    """Refuse a name that some of the libraries which write files cannot say."""
    if is_half_pair(str(path.absolute())):
        raise ConfigError(f"cannot write {path}: its name is not UTF-8; choose another")
    if "\0" in str(path):
        raise ConfigError(f"cannot write {str(path)!r}: it holds NUL; choose another")


def check_writing(path: Path, folder: Path) -> None:
    """Make a nameless file in a folder, or in the nearest one above that exists."""
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
