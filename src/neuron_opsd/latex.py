r"""LaTeX answers: where they stand in a text, and whether two of them are equal.

math-verify can hang or eat all memory on an expression such as ``9^{9^{9^{9}}}``, so
it works in a process of its own that is killed when it is late. It is given expressions
as they were written; only equal spellings and plain digits are settled here.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import queue
import re
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from neuron_opsd.errors import ConfigError
from neuron_opsd.numerals import read_decimal, same_number, write_fraction

MAX_LENGTH: Final = 1000
"""Longest expression that math-verify is asked about; longer ones are not equal."""

THOUSANDS: Final = re.compile(
    r"(?<![0-9.,])([0-9]{1,3})((?:(?:\{,\}|,\\!|\\[,! ;:]|[\s~\u2009\u202f])[0-9]{3})+)"
    r"(?![0-9])"
)
PLAIN: Final = re.compile(r"[-+]? ?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)?(?:\.[0-9]+)?")
UNIT: Final = re.compile(
    r"\\(?:text|textrm|mathrm|mbox)\s?\{\s*(?!(?:and|or|if)\b)([A-Za-z]{1,3}|[ap]\.m\.)\s*\}"
)
BASE: Final = re.compile(r"(?<=[0-9A-F])_\s?\{?\s?([0-9]+)")
SCALE: Final = re.compile(r"\b(?:hundred|thousand|million|billion|trillion)\b")
MINUSES: Final = str.maketrans(dict.fromkeys("\N{MINUS SIGN}\N{EN DASH}‑‐－", "-"))


def tidy(text: str) -> str:
    r"""Take an expression out of its dollar signs, and mend its thousands alone.

    ``1\ 000``, ``1\,000`` and ``1{,}000`` lose their separators, because math-verify
    takes the first two for products.
    """
    text = " ".join(text.split()).translate(MINUSES)
    text = text.rstrip(".,;").strip()
    for start, end in (("\\(", "\\)"), ("\\[", "\\]"), ("$$", "$$"), ("$", "$")):
        if text.startswith(start) and text.endswith(end) and len(text) > len(start):
            text = text.removeprefix(start).removesuffix(end)
    text = text.rstrip(".,;").strip()
    return THOUSANDS.sub(lambda match: re.sub(r"[^0-9]", "", match.group()), text)


def equal_by_sight(one: str, other: str) -> bool | None:
    """Compare what is identical, or plain digits; `None` where math-verify must."""
    one, other = tidy(one), tidy(other)
    if one == other:
        return True
    number, another = plain_number(one), plain_number(other)
    if number is not None and another is not None:
        return same_number(number, another)
    if max(len(one), len(other)) > MAX_LENGTH or contradict(one, other):
        return False
    return None


def contradict(one: str, other: str) -> bool:
    """Say whether two expressions name what math-verify passes over, and differently.

    That are short units and bases, where both have one; words such as `million`; and
    the braces of a set against the brackets of a tuple.
    """
    for pattern in (UNIT, BASE):
        said, also = set(pattern.findall(one)), set(pattern.findall(other))
        if said and also and said != also:
            return True
    if SCALE.findall(one) != SCALE.findall(other):
        return True
    first, second = (text.replace("\\left", "").strip() for text in (one, other))
    return {first[:1], second[:1]} == {"(", "\\"} and "\\{" in {first[:2], second[:2]}


def plain_number(text: str) -> str | None:
    """Return the numeral of plain digits, `None` for anything else."""
    if not PLAIN.fullmatch(text) or not re.search("[0-9]", text):
        return None
    digits = text.lstrip("+- ")
    value = read_decimal(digits)
    sign = -1 if text.startswith("-") else 1
    return None if value is None else write_fraction(sign * value)


class Verifier:
    """Says whether two LaTeX expressions are equal; never longer than its limit.

    The process starts with the first pair that needs it and again after each one it
    was killed for. Use it as a context manager, or call `close`. Safe to share
    between threads, one of which waits for the other.

    Args:
        seconds: Wall-clock limit of one comparison; a later verdict is `not equal`.
        start_seconds: Limit of the process's start, which imports sympy.
    """

    def __init__(self, seconds: float = 2.0, start_seconds: float = 120.0) -> None:
        self.seconds = seconds
        self.start_seconds = start_seconds
        self.num_killed = 0
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._replies: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._known: dict[tuple[str, str], bool] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def equal(self, one: str, other: str) -> bool:
        """Say whether two expressions have the same value.

        Symmetric. What cannot be parsed, is longer than `MAX_LENGTH`, or takes too
        long is not equal; within one verifier the verdict on a pair never changes.

        Raises:
            ConfigError: If the process cannot be started.
        """
        verdict = equal_by_sight(one, other)
        if verdict is not None:
            return verdict
        first, second = sorted((tidy(one), tidy(other)))
        with self._lock:
            if (first, second) not in self._known:
                self._known[first, second] = self._ask(first, second)
            return self._known[first, second]

    def close(self) -> None:
        """End the process; a later comparison would start another."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()

    def _ask(self, one: str, other: str) -> bool:
        """Hand one pair to the process, which is started where none runs."""
        process = self._process or self._start()
        reply = ""
        try:
            if process.stdin is not None:
                process.stdin.write(json.dumps([one, other]) + "\n")
                process.stdin.flush()
            reply = self._replies.get(timeout=self.seconds)
        except (queue.Empty, BrokenPipeError):
            pass
        if not reply:
            self.num_killed += 1
            self.close()
        return reply == "true\n"

    def _start(self) -> subprocess.Popen[str]:
        """Start the process and wait until it is ready."""
        worker = Path(__file__).with_name("latex_worker.py")
        # -P keeps this package's modules from shadowing the standard library's.
        process = subprocess.Popen(
            [sys.executable, "-P", str(worker)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )
        self._process, self._replies = process, queue.SimpleQueue()
        threading.Thread(
            target=forward, args=(process, self._replies), daemon=True
        ).start()
        try:
            ready = self._replies.get(timeout=self.start_seconds)
        except queue.Empty:
            ready = ""
        if ready != "true\n":
            self.close()
            raise ConfigError(
                "answers.reader is latex, but the math-verify process did not start "
                f"within {self.start_seconds:g} s; check that python -c 'import "
                "math_verify' works, or choose another reader"
            )
        return process


def forward(process: subprocess.Popen[str], replies: queue.SimpleQueue[str]) -> None:
    """Pass on every line a process writes, and an empty one when it has ended."""
    if process.stdout is None:
        return
    with process.stdout as lines:
        for line in lines:
            replies.put(line)
    replies.put("")


@functools.cache
def shared_verifier() -> Verifier:
    """Return the verifier that the `latex` reader uses, closed when Python ends."""
    verifier = Verifier()
    atexit.register(verifier.close)
    return verifier


def same_latex(one: str, other: str) -> bool:
    """Say whether two LaTeX expressions are equal, by the shared verifier."""
    return shared_verifier().equal(one, other)
