"""Names that users give and that become folders: usable, and apart, on any machine.

A run may be moved to a file system that knows no difference between `Exam` and `exam`,
or to Windows, where some names are devices.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from neuron_opsd.errors import ConfigError

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
MAX_LENGTH: Final = 64
DEVICES: Final = frozenset(
    {"con", "prn", "aux", "nul"}
    | {f"{port}{n}" for port in ("com", "lpt") for n in range(10)}
)
"""What Windows takes for a device, with any ending."""


def check_names(names: Iterable[str], what: str) -> None:
    """Refuse what cannot name a folder, and two that may be one.

    Args:
        names: As the user gave them.
        what: Is named, such as ``a test set``.

    Raises:
        ConfigError: Naming the first such name.
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
