"""Runs commands in a process that writes down what Python opens, starts and runs.

    python audited_commands.py EVENTS.json 'neuron-opsd arguments as a JSON list' ...

Events of the interpreter's own audit hooks are kept from before the first import of the
package on. Files that libraries in other languages open are not among them; whoever
looks at the events looks at the folders as well.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import CodeType
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

CHANGES = (
    *("os.mkdir", "os.rmdir", "os.remove", "os.rename", "os.link", "os.symlink"),
    *("os.chmod", "os.chown", "os.utime", "shutil.rmtree", "os.truncate"),
)
STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork")

EVENTS: list[tuple[str, list[str]]] = []
LISTENING = [True]


def heard(event: str, arguments: tuple[Any, ...]) -> None:
    """Keep an event of the kinds that matter."""
    if not LISTENING[0]:
        return
    if event == "open":
        if is_path(arguments[0]):
            place = place_of(arguments[0])
            EVENTS.append((kind_of(place, *arguments[1:]), [place]))
    elif event in CHANGES:
        folder = arguments[-1] if event != "os.truncate" else -1
        paths = [place_of(one, folder) for one in arguments if is_path(one)]
        if event == "os.mkdir" and Path(paths[0]).is_dir():
            return  # which changes nothing
        EVENTS.append(("write", paths))
    elif event in STARTS or event.startswith(("socket.", "pickle.")):
        EVENTS.append((event, [repr(argument) for argument in arguments[:2]]))
    elif event == "exec" and isinstance(arguments[0], CodeType):
        caller = sys._getframe(1).f_code.co_filename  # noqa: SLF001 - no other way
        EVENTS.append((event, [arguments[0].co_filename, caller]))


def kind_of(place: str, mode: str | None, flags: int | None) -> str:
    """Say what a file is opened for."""
    written = any(letter in (mode or "") for letter in "wax+")
    if not (written or (flags or 0) & WRITING):
        return "read"
    # In a folder that is opened so, a file without a name is made, gone when closed.
    return "try" if Path(place).is_dir() else "write"


def is_path(value: Any) -> bool:
    """Say whether an argument names a file."""
    return isinstance(value, str | bytes | os.PathLike)


def place_of(path: Any, folder: int = -1) -> str:
    """Return an absolute path, of a name in an open folder too."""
    name = os.fsdecode(path)
    if folder != -1:
        name = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), name)  # noqa: PTH115, PTH118 - Path would open
    return os.path.abspath(name)  # noqa: PTH100


def main() -> int:
    """Run the commands one after the other; end with the first that fails."""
    sys.addaudithook(heard)
    from neuron_opsd.cli import main as command

    try:
        for line in sys.argv[2:]:
            status = command(json.loads(line))
            if status:
                return status
        return 0
    finally:
        LISTENING[0] = False
        with Path(sys.argv[1]).open("w", encoding="utf-8") as file:
            json.dump(EVENTS, file)


if __name__ == "__main__":
    sys.exit(main())
