"""Find what must not be published by accident: paths, users, hosts, keys.

Every file to publish is searched, including headers of weights, except the base's
vocabulary, which contains pieces of anything.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from safetensors import safe_open

from neuron_opsd.errors import ConfigError, clauses

Content: TypeAlias = bytes | Path
"""A file's bytes, or their path."""

VOCABULARIES: Final = frozenset({"merges.txt", "tokenizer.json", "vocab.json"})
WEIGHTS: Final = ".safetensors"

PATTERNS: Final[Mapping[str, re.Pattern[str]]] = {
    "a path": re.compile(
        r"(?<![\w.:/~])(?:~|/[\w.+~-]+)(?:/[\w.+~ -]*[\w.+~-])+"  # POSIX
        r"|(?<!\w)[A-Za-z]:\\\\?[\w.+~ -]+(?:\\\\?[\w.+~ -]+)*"  # Windows
        r"|file://\S+"
    ),
    "an access token": re.compile(r"\b(?:hf_|sk-|ghp_|AKIA)[A-Za-z0-9_-]{16,}"),
    "an email address": re.compile(r"\b[\w.+-]+@[\w-]+\.[\w.-]*\w"),
}
"""Private on any machine."""

USUAL: Final = frozenset(
    {"admin", "debian", "ec2-user", "localhost", "nobody", "root", "ubuntu", "user"}
)
"""Names that reveal nothing."""

SHOWN: Final = 60


@dataclass(frozen=True, slots=True)
class Finding:
    """Something private in a file."""

    file: str
    line: int
    what: str
    text: str

    def __str__(self) -> str:
        """Say briefly where it is; of a secret, show the start."""
        shown = self.text if self.what != "an access token" else f"{self.text[:6]}..."
        return f"{self.file}, line {self.line}: {self.what} ({shown[:SHOWN]})"


def names_here() -> dict[str, str]:
    """Return names that identify user and machine, each with what it is."""
    found: dict[str, str] = {}
    with suppress(KeyError, OSError):  # a container may know no name
        found[getpass.getuser()] = "a user name"
    for variable in ("USER", "LOGNAME", "USERNAME", "SUDO_USER"):
        found[os.environ.get(variable, "")] = "a user name"
    host = socket.gethostname()
    for name in (host, host.partition(".")[0]):
        found[name] = "a machine name"
    return {n: what for n, what in found.items() if len(n) > 2 and n not in USUAL}


def findings(
    files: Mapping[str, Content], names: Mapping[str, str], allowed: Sequence[str] = ()
) -> Iterator[Finding]:
    """Yield private patterns and `names` in files, except `allowed` texts."""
    sought = {
        what: re.compile(
            "|".join(rf"(?<!\w){re.escape(n)}(?!\w)" for n in names if names[n] == what)
        )
        for what in names.values()
    }
    for file, content in files.items():
        if Path(file).name in VOCABULARIES:
            continue
        for number, line in enumerate(text_of(file, content).splitlines(), 1):
            for public in allowed:
                line = line.replace(public, " ")
            for what, pattern in {**PATTERNS, **sought}.items():
                for match in pattern.finditer(line):
                    yield Finding(file, number, what, match[0])


def text_of(file: str, content: Content) -> str:
    """Return a file's text; for weights, what accompanies the numbers.

    Escaped slashes of JSON are decoded.
    """
    if file.endswith(WEIGHTS) and isinstance(content, Path):
        with safe_open(content, "pt") as stored:
            return json.dumps([stored.metadata() or {}, *stored.keys()], indent=0)
    data = content.read_bytes() if isinstance(content, Path) else content
    text = data.decode("utf-8", "replace")
    return text.replace("\\/", "/") if file.endswith(".json") else text


def refuse_private(
    files: Mapping[str, Content], names: Mapping[str, str], allowed: Sequence[str] = ()
) -> None:
    """Refuse to publish files that hold something private; see `findings`."""
    found = [str(one) for one in findings(files, names, allowed)]
    if found:
        raise ConfigError(
            "nothing was pushed, because it would reveal private data: "
            f"{clauses(found)}; rename the test sets or the run's folder, or name the "
            "base with --base-model"
        )
