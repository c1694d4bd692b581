"""The process that `verifier.Verifier` starts to run math-verify.

It runs as a file that imports nothing from this package, to start fast and stay small.
It writes `true` when ready, then answers each pair of expressions with `Limits` by a
`Reply`, as one line of JSON each.

Each pair is judged in a fork, so all start from the same memory, caches and random
state. Most finish within `quick_seconds` of processor time. The others start over with
calls counted: whether they finish within `steps` depends only on the pair. The clock
decides only for work with few calls, such as a number of a billion digits.
"""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import sys
from types import FrameType
from typing import Any, TypedDict

STACK_BYTES = 256 << 20
RECURSION_LIMIT = 20_000
"""Far above what expressions within the limits need."""
SUSPECT = 0.25
"""Share of the memory limit above which `not equal` is not trusted: math-verify
swallows running out of memory, and then finds nothing equal."""
RSS_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes per unit of `ru_maxrss`."""
OUT_OF_STEPS = 3
OUT_OF_MEMORY = 4
STOPPED_BY_CLOCK = frozenset({signal.SIGPROF, signal.SIGXCPU})
CRASHES = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE})

WARM_UP = (
    (r"\sqrt{8}+x^2", r"2\sqrt{2}+x_1"),
    (r"\{1,2\}", r"\{2,1\}"),
    (r"\frac{3\pi}{4}", r"-\frac{\pi}{4}"),
    (r"\sin^2 x+\cos^2 x", "1"),
    (r"x \in (-\infty, 2] \cup [3,\infty)", r"x\le 2"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{bmatrix}1&2\\3&4\end{bmatrix}"),
    (r"f(x)=e^{2x}+\ln(x)", r"y=\log_2 x"),
    (r"50\%", r"\text{even}"),
    ("(1,2)", "(1,-2)"),
    (r"\frac{a+b}{c-d}", r"\dfrac{a-b}{|c|}"),
    ("3!", "10^{-3}"),
    ("x=5", "5"),
)
"""Compared before the first fork, so that no fork builds the parser's tables."""


class Limits(TypedDict):
    """Limits of one comparison; see `verifier.Limits`."""

    quick_seconds: float
    steps: int
    seconds: int
    memory_bytes: int


class Reply(TypedDict):
    """The outcome of one pair."""

    same: bool
    cut: str
    """`steps`, `seconds`, `memory` or `crash` if it did not finish; `killed` from
    outside if the outcome is unknown."""
    seconds: float
    """Of processor time."""


class Trouble(logging.Handler):
    """Ends a fork in which math-verify hit the memory limit and ignored it."""

    def emit(self, record: logging.LogRecord) -> None:
        """End the process if the record reports such an error."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, MemoryError):
            os._exit(OUT_OF_MEMORY)


def prepare() -> None:
    """Import and build what forks share, in the same state each time."""
    import resource

    import sympy.core.random

    hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
    room = STACK_BYTES if hard == resource.RLIM_INFINITY else min(STACK_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_STACK, (room, hard))
    sys.setrecursionlimit(RECURSION_LIMIT)
    logger = logging.getLogger("math_verify")
    logger.propagate = False
    for one, other in WARM_UP:
        equal(one, other)
    logger.setLevel(logging.DEBUG)
    logger.addHandler(Trouble())
    random.seed(0)
    sympy.core.random.seed(0)


def equal(one: str, other: str) -> bool:
    """Ask math-verify in both directions; what it cannot digest is not equal."""
    from math_verify import parse, verify

    try:
        first = parse(f"${one}$", parsing_timeout=None)
        second = parse(f"${other}$", parsing_timeout=None)
        return bool(
            verify(first, second, timeout_seconds=None)
            or verify(second, first, timeout_seconds=None)
        )
    except (ArithmeticError, RecursionError, TypeError, ValueError):
        return False


def judge(one: str, other: str, limits: Limits) -> Reply:
    """Compare two expressions quickly, or else with counted calls."""
    quick = attempt(one, other, limits, counted=False)
    if quick["cut"] != "seconds":
        return quick
    full = attempt(one, other, limits, counted=True)
    return {**full, "seconds": quick["seconds"] + full["seconds"]}


def attempt(one: str, other: str, limits: Limits, *, counted: bool) -> Reply:
    """Compare two expressions in a fork of this process."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            limit(limits, counted=counted)
            os.write(theirs, b"1" if equal(one, other) else b"0")
            os._exit(0)
        except MemoryError:
            os._exit(OUT_OF_MEMORY)
        finally:
            os._exit(1)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        said = pipe.read()
    _, status, usage = os.wait4(child, 0)
    cut = "" if said else why(status)
    if said == b"0" and usage.ru_maxrss * RSS_UNIT > limits["memory_bytes"] * SUSPECT:
        cut = "memory"
    taken = usage.ru_utime + usage.ru_stime
    return {"same": said == b"1", "cut": cut, "seconds": taken}


def limit(limits: Limits, *, counted: bool) -> None:
    """Limit this forked process in memory, processor time and calls."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (limits["memory_bytes"], hard))
    seconds = limits["seconds"] if counted else limits["quick_seconds"]
    # Its signal ends the process; it counts only processor time.
    signal.setitimer(signal.ITIMER_PROF, seconds)
    if counted:
        count_calls(limits["steps"])


def count_calls(steps: int) -> None:
    """End this process after this many calls and returns."""
    left = steps

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal left
        del frame, event, argument
        left -= 1
        if left < 0:
            os._exit(OUT_OF_STEPS)

    sys.setprofile(count)


def why(status: int) -> str:
    """Say how a fork without a reply ended."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number in STOPPED_BY_CLOCK:
            return "seconds"
        return "crash" if number in CRASHES else "killed"
    known = {OUT_OF_STEPS: "steps", OUT_OF_MEMORY: "memory"}
    return known.get(os.WEXITSTATUS(status), "crash")


def main() -> None:
    """Answer pairs until the input ends, as it does when the parent ends."""
    # Batch systems signal all processes of a run; the parent decides when to end.
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    prepare()
    replies = sys.stdout
    replies.write("true\n")
    replies.flush()
    for line in sys.stdin:
        one, other, limits = json.loads(line)
        replies.write(json.dumps(judge(one, other, limits)) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
