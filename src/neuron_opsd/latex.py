r"""LaTeX answers: where they stand in a text, and whether two of them are equal.

math-verify can hang or eat all memory on an expression such as ``9^{9^{9^{9}}}``, so
it works in a process of its own that is killed when it is late. Most pairs never reach
it: equal spellings and plain numbers are settled here.
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
from neuron_opsd.numerals import same_number, whole_numeral

MAX_LENGTH: Final = 1000
"""Longest expression that math-verify is asked about; longer ones are not equal."""

BRACES: Final = re.compile(r"\\boxed\s{0,3}\{|\\.|[{}]", re.DOTALL)
MATH: Final = re.compile(r"(?<!\\)\$\$?|\\[()\[\]]")
UNWRAP: Final = re.compile(r"\\(?:text|mathrm|mathbf|textbf)\s*\{([^{}]*)\}")
SPACING: Final = re.compile(
    r"\\[!,;: ]|\\(?:left|right|displaystyle|quad|qquad)(?![A-Za-z])|~"
)


def last_boxed(text: str) -> str | None:
    r"""Return what the last closed ``\boxed{...}`` holds, `None` where there is none.

    Of boxes in boxes the innermost counts. One pass, whatever the nesting.
    """
    opened: list[int | None] = []
    last_start, content = -1, None
    for match in BRACES.finditer(text):
        token = match.group()
        if token.startswith("\\boxed"):
            opened.append(match.end())
        elif token == "{":
            opened.append(None)
        elif token == "}" and opened:
            start = opened.pop()
            if start is not None and start > last_start:
                last_start, content = start, (start, match.start())
    return None if content is None else text[content[0] : content[1]].strip()


def last_math(text: str) -> str | None:
    r"""Return what the last ``$...$``, ``\(...\)`` or ``\[...\]`` holds."""
    closing = {"$": "$", "$$": "$$", "\\(": "\\)", "\\[": "\\]"}
    wanted, start, last = "", 0, None
    for match in MATH.finditer(text):
        token = match.group()
        if wanted and token == wanted:
            last, wanted = text[start : match.start()].strip() or last, ""
        elif token in closing and not wanted:
            wanted, start = closing[token], match.end()
    return last


def tidy(expression: str) -> str:
    r"""Strip what does not change an expression: ``\left``, ``\text``, spacing, ``$``.

    Words stay apart, so the result can still be parsed.
    """
    expression = UNWRAP.sub(r" \1 ", SPACING.sub(" ", expression))
    expression = expression.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
    return " ".join(expression.split()).strip("$").strip().rstrip(".,;").strip()


def equal_by_sight(one: str, other: str) -> bool | None:
    """Compare without math-verify; `None` where that cannot be decided."""
    if spelling(one) == spelling(other):
        return True
    number, another = whole_numeral(one), whole_numeral(other)
    if number is not None and another is not None:
        return same_number(number, another)
    if max(len(one), len(other)) > MAX_LENGTH:
        return False
    return None


def spelling(expression: str) -> str:
    """Return the expression without spaces, for comparing only."""
    return "".join(tidy(expression).split())


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
