"""Whether two LaTeX expressions are equal, and why that could not be found out.

math-verify can hang or eat all memory, so it works in a process of its own, within
limits: see `latex_worker`. A verdict depends on the pair alone: not on what was asked
before, on what else the machine is doing, or on how fast it is. What cannot be settled
counts as different, and is never passed over: it is noted with its reason.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from neuron_opsd.answers import latex_worker
from neuron_opsd.answers.latex import equal_by_sight, refusal, tidy
from neuron_opsd.errors import ConfigError, TryAgainError
from neuron_opsd.processes import workers

MAX_SHOWN: Final = 40
"""Characters of an expression that a message shows."""
STARTS: Final = 2
"""How often a pair is asked about before its process is given up."""
COMPARES: Final = "compares expressions"
VARIABLES: Final = "SYMPY_", "MPMATH_"
"""Beginnings of the variables that change how sympy computes, which it does not see."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether two expressions are equal."""

    one: str
    other: str
    same: bool
    unsettled: str = ""
    """Why it could not be found out, in which case they count as different."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one comparison may take."""

    quick_seconds: float = 0.25
    """Of processor time, after which it begins again, with its calls counted."""
    steps: int = 30_000_000
    """Calls and returns, some five seconds' worth. Within `quick_seconds` no machine
    makes so many, so that a quick verdict is one that counting would have given."""
    seconds: int = 30
    """Of processor time while calls are counted, for what makes few of them."""
    memory_bytes: int = 1 << 30


class Verifier:
    """Says whether two LaTeX expressions are equal.

    The process starts with the first pair that needs it. Use it as a context manager,
    or call `close`. Safe to share between threads, one of which waits for the other.

    """

    start_seconds = 300.0
    """Wall-clock limit of the process's start, which imports sympy."""
    wait_seconds = 1800.0
    """Wall-clock limit of one reply, which only a machine that stands still can miss;
    that is an error and no verdict."""

    def __init__(self, limits: Limits = Limits()) -> None:
        self.limits = limits
        self.seconds = 0.0
        """Processor time that comparing took."""
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._replies: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._known: dict[tuple[str, str], Verdict] = {}
        self._notes: list[dict[tuple[str, str], Verdict]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def equal(self, one: str, other: str, max_minutes: float = float("inf")) -> bool:
        """Say whether two expressions have the same value.

        Symmetric. What cannot be parsed is not equal, and neither is what cannot be
        settled; see `noting`. `max_minutes` is the processor time that all comparisons
        together may take, after which a `TryAgainError` is raised.
        """
        same = equal_by_sight(one, other)
        if same is not None:
            return same
        with self._lock:
            return self._settle(one, other, max_minutes).same

    def learn(self, verdicts: Iterable[Verdict]) -> None:
        """Take verdicts that were kept, so that they are not asked for again."""
        with self._lock:
            self._known.update({(v.one, v.other): v for v in verdicts})

    def forget(self) -> None:
        """Forget all verdicts and the time they took, when another command begins."""
        with self._lock:
            self._known.clear()
            self.seconds = 0.0

    @contextlib.contextmanager
    def noting(self) -> Iterator[dict[tuple[str, str], Verdict]]:
        """Give what fills, by pair, with the verdicts that are used meanwhile.

        Verdicts by sight are left out. The order is that of first use, whether a
        verdict was known by then or not.
        """
        notes: dict[tuple[str, str], Verdict] = {}
        self._notes.append(notes)
        try:
            yield notes
        finally:
            self._notes = [other for other in self._notes if other is not notes]

    def close(self) -> None:
        """End the process; a later comparison would start another."""
        process, self._process = self._process, None
        if process is None:
            return
        # Its fork, if one is running, belongs to its group.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()

    def _settle(self, one: str, other: str, max_minutes: float) -> Verdict:
        """Return the verdict on a pair that sight does not settle, and note it."""
        first, second = sorted((tidy(one), tidy(other)))
        verdict = self._known.get((first, second))
        if verdict is None:
            if reason := refusal(first) or refusal(second):
                verdict = Verdict(first, second, same=False, unsettled=reason)
            else:
                verdict = self._asked(first, second, max_minutes)
            self._known[first, second] = verdict
        for notes in self._notes:
            notes[first, second] = verdict
        return verdict

    def _asked(self, one: str, other: str, max_minutes: float) -> Verdict:
        """Ask the process about a pair, unless the time for that is over."""
        if self.seconds > 60 * max_minutes:
            raise TryAgainError(
                f"comparing expressions took {max_minutes:g} minutes of processor time "
                "(answers.max_minutes), so the command stops; what was compared is "
                "kept, and the same command resumes for as long again"
            )
        reply = self._ask(one, other)
        self.seconds += reply["seconds"]
        cut = reply["cut"]
        why = self._reasons()[cut] if cut else ""
        return Verdict(one, other, same=bool(reply["same"]), unsettled=why)

    def _reasons(self) -> dict[str, str]:
        """Return what is said of a comparison that did not end, by how it was cut."""
        limits = self.limits
        return {
            "steps": f"more than {limits.steps:,} steps of math-verify",
            "seconds": f"more than {limits.seconds} s of processor time",
            "memory": f"too much memory for {limits.memory_bytes >> 20:,} MiB",
            "crash": "math-verify crashed",
        }

    def _ask(self, one: str, other: str) -> dict[str, Any]:
        """Hand one pair to the process, once more if something killed it."""
        question = json.dumps([one, other, asdict(self.limits)]).encode() + b"\n"
        for _ in range(STARTS):
            process = self._process or self._start()
            try:
                if process.stdin is not None:
                    process.stdin.write(question)
                    process.stdin.flush()
                line = self._replies.get(timeout=self.wait_seconds)
            except BrokenPipeError:
                line = b""
            except queue.Empty:
                self.close()
                raise TryAgainError(
                    f"the process that {COMPARES} did not reply within "
                    f"{self.wait_seconds:g} s, though it may work for "
                    f"{self.limits.seconds} s only: this machine stood still or is "
                    "overloaded; the same command resumes"
                ) from None
            reply: dict[str, Any] = json.loads(line) if line else {"cut": "killed"}
            if reply["cut"] != "killed":
                return reply
            self.close()
        raise TryAgainError(
            f"the process that {COMPARES} was killed over {shown(one)} and "
            f"{shown(other)}, {STARTS} times; if memory ran out, make room; the same "
            "command resumes"
        )

    def _start(self) -> subprocess.Popen[bytes]:
        """Start the process and wait until it is ready."""
        # Nothing in its environment changes a verdict.
        kept = {k: v for k, v in os.environ.items() if not k.startswith(VARIABLES)}
        environment = kept | {"PYTHONHASHSEED": "0"}
        process = workers.start(latex_worker, COMPARES, environment)
        self._process, self._replies = process, queue.SimpleQueue()
        pair = process, self._replies
        threading.Thread(target=forward, args=pair, daemon=True).start()
        try:
            ready = self._replies.get(timeout=self.start_seconds)
        except queue.Empty:
            ready = b""
        if ready != b"true\n":
            self.close()
            raise ConfigError(
                "answers.reader is latex, but the math-verify process did not start "
                f"within {self.start_seconds:g} s; it needs Linux or macOS; check that "
                "python -c 'import math_verify' works, or choose another reader"
            )
        return process


def forward(
    process: subprocess.Popen[bytes], replies: queue.SimpleQueue[bytes]
) -> None:
    """Pass on every line a process writes, and an empty one when it has ended."""
    if process.stdout is None:
        return
    with process.stdout as lines:
        for line in lines:
            replies.put(line)
    replies.put(b"")


def unsettled_text(verdicts: Iterable[Verdict]) -> str:
    """Say how many comparisons were not settled, why, and which was the first."""
    listed = list(verdicts)
    cut = [verdict for verdict in listed if verdict.unsettled]
    if not cut:
        return ""
    reasons = dict.fromkeys(verdict.unsettled for verdict in cut)
    first = cut[0]
    return (
        f"{len(cut):,} of {len(listed):,} comparisons of expressions could not be "
        f"settled ({'; '.join(reasons)}) and count as different, first "
        f"{shown(first.one)} and {shown(first.other)}"
    )


def shown(text: str) -> str:
    """Return an expression as a message shows it."""
    return repr(text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…")


@functools.cache
def shared_verifier() -> Verifier:
    """Return the verifier that the `latex` reader uses, closed when Python ends."""
    verifier = Verifier()
    atexit.register(verifier.close)
    return verifier


@functools.cache
def same_within(max_minutes: int) -> Callable[[str, str], bool]:
    """Return what compares two expressions by the shared verifier."""
    return functools.partial(shared_verifier().equal, max_minutes=max_minutes)
