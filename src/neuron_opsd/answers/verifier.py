"""Compare two LaTeX expressions, and say why that failed if it did.

math-verify can hang or use up all memory, so it runs in a process with limits: see
`latex_worker`. A verdict depends only on the pair, not on earlier pairs or the machine.
An unsettled comparison counts as different and is noted with its reason.
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
STARTS: Final = 2
"""Attempts at a pair."""
COMPARES: Final = "compares expressions"
VARIABLES: Final = "SYMPY_", "MPMATH_"
"""Environment variables hidden from the process: they change how sympy computes."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether two expressions are equal."""

    one: str
    other: str
    same: bool
    unsettled: str = ""
    """Why it could not be settled, and so counts as different."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one comparison."""

    quick_seconds: float = 0.25
    """Processor time before it starts over with calls counted."""
    steps: int = 30_000_000
    """Calls and returns, about five seconds' worth; no machine makes as many within
    `quick_seconds`, so quick verdicts agree with counted ones."""
    seconds: int = 30
    """Processor time while calls are counted."""
    memory_bytes: int = 1 << 30


class Verifier:
    """Says whether two LaTeX expressions are equal.

    The process starts when first needed. Use as a context manager, or call `close`.
    Threads may share it; they take turns.
    """

    start_seconds = 300.0
    """Wall-clock limit of the start, which imports sympy."""
    wait_seconds = 1800.0
    """Wall-clock limit of one reply; missing it is an error, not a verdict."""

    def __init__(self, limits: Limits = Limits()) -> None:
        self.limits = limits
        self.seconds = 0.0
        """Processor time spent on comparisons."""
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

        Symmetric. What cannot be parsed or settled is not equal; see `noting`. If all
        comparisons together exceed `max_minutes` of processor time, a `TryAgainError`
        is raised.
        """
        same = equal_by_sight(one, other)
        if same is not None:
            return same
        with self._lock:
            return self._settle(one, other, max_minutes).same

    def learn(self, verdicts: Iterable[Verdict]) -> None:
        """Add verdicts from an earlier run."""
        with self._lock:
            self._known.update({(v.one, v.other): v for v in verdicts})

    def forget(self) -> None:
        """Forget all verdicts and the time spent, for another command."""
        with self._lock:
            self._known.clear()
            self.seconds = 0.0

    @contextlib.contextmanager
    def noting(self) -> Iterator[dict[tuple[str, str], Verdict]]:
        """Collect, by pair, the verdicts used in the context.

        Those by sight are left out. They are in order of first use, known or not.
        """
        notes: dict[tuple[str, str], Verdict] = {}
        self._notes.append(notes)
        try:
            yield notes
        finally:
            self._notes = [other for other in self._notes if other is not notes]

    def close(self) -> None:
        """End the process; a later comparison starts another."""
        process, self._process = self._process, None
        if process is None:
            return
        # A running fork belongs to its group.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()

    def _settle(self, one: str, other: str, max_minutes: float) -> Verdict:
        """Settle a pair that sight does not, and note the verdict."""
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
        """Ask the process about a pair, unless time is used up."""
        if self.seconds > 60 * max_minutes:
            raise TryAgainError(
                f"comparing expressions took {max_minutes:g} minutes of processor time "
                "(answers.max_minutes), so the command stops; results so far are kept, "
                "and the same command resumes with as many minutes again"
            )
        reply = self._ask(one, other)
        self.seconds += reply["seconds"]
        cut = reply["cut"]
        why = self._reasons()[cut] if cut else ""
        return Verdict(one, other, same=bool(reply["same"]), unsettled=why)

    def _reasons(self) -> dict[str, str]:
        """Return the reasons for not finishing, by limit."""
        limits = self.limits
        return {
            "steps": f"more than {limits.steps:,} steps of math-verify",
            "seconds": f"more than {limits.seconds} s of processor time",
            "memory": f"too much memory for {limits.memory_bytes >> 20:,} MiB",
            "crash": "math-verify crashed",
        }

    def _ask(self, one: str, other: str) -> dict[str, Any]:
        """Send one pair to the process, again if something killed it."""
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
                    f"{self.wait_seconds:g} s, though it has only "
                    f"{self.limits.seconds} s: this machine was suspended or is "
                    "overloaded; the same command resumes"
                ) from None
            reply: dict[str, Any] = json.loads(line) if line else {"cut": "killed"}
            if reply["cut"] != "killed":
                return reply
            self.close()
        raise TryAgainError(
            f"the process that {COMPARES} was killed {STARTS} times on {shown(one)} "
            f"and {shown(other)}; if memory ran out, free some; the same command "
            "resumes"
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
    """Forward a process's output by line, then an empty line at its end."""
    if process.stdout is None:
        return
    with process.stdout as lines:
        for line in lines:
            replies.put(line)
    replies.put(b"")


def unsettled_text(verdicts: Iterable[Verdict]) -> str:
    """Say how many comparisons were not settled, why, and the first."""
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
    """Shorten an expression for a message."""
    return repr(text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…")


@functools.cache
def shared_verifier() -> Verifier:
    """Return the `latex` reader's verifier, closed at exit."""
    verifier = Verifier()
    atexit.register(verifier.close)
    return verifier


@functools.cache
def same_within(max_minutes: int) -> Callable[[str, str], bool]:
    """Return a comparison by the shared verifier."""
    return functools.partial(shared_verifier().equal, max_minutes=max_minutes)
