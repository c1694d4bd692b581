"""Render chat templates in a process that can be killed at any time.

The system bounds its processor time per conversation and its memory.
"""

from __future__ import annotations

import atexit
import json
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeAlias

from neuron_opsd.errors import TryAgainError
from neuron_opsd.models.library_errors import full_line_of
from neuron_opsd.models.tokenizer import template_worker
from neuron_opsd.processes import workers
from neuron_opsd.processes.workers import BYTES, SECONDS

Conversation: TypeAlias = tuple[Mapping[str, Any], str]
"""A template's variables, including `messages`, and the date given to it."""

BATCH: Final = 1 << 16
"""Characters of conversations sent at once."""

MOST: Final = 1 << 22
"""Maximum characters of a conversation, beyond any model's prompts."""

WRITES: Final = "writes conversations by the chat template"

RAN_ON: Final = (
    f"it was stopped after {SECONDS:g} s of processor time, and writing a "
    "conversation takes milliseconds"
)
FILLED: Final = (
    f"it took more than {BYTES >> 20} MiB of memory, and writing a conversation "
    "takes next to none"
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a template did not render a conversation."""

    reason: str
    runaway: bool = False
    """Whether it had to be stopped, and must not be retried."""


Written: TypeAlias = str | Refusal

TOO_LONG: Final = Refusal(
    f"it has more than {MOST} characters, which no model reads at once"
)


class Renderer:
    """Runs chat templates; the process starts on demand and after each loss.

    Thread-safe.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._sources: dict[str, int] = {}
        """Sources sent to the process, with their numbers there."""
        self._runaways: dict[str, Refusal] = {}
        """Templates that were stopped and will not run again."""

    def render(
        self, source: str, conversations: Sequence[Conversation]
    ) -> list[Written]:
        """Render each conversation with the template `source`.

        A template that had to be stopped is not run again.

        Raises:
            TryAgainError: If the process does not start, or is killed from outside.
        """
        with self._lock:
            found: list[Written] = []
            while left := conversations[len(found) :]:
                if source in self._runaways:
                    return found + [self._runaways[source]] * len(left)
                batch = first_batch(left)
                found += self._rendered(source, batch) if batch else [TOO_LONG]
            return found

    def close(self) -> None:
        """End the process, if it runs."""
        process, self._process, self._sources = self._process, None, {}
        if process is None:
            return
        process.kill()
        # Waits, and closes what the pipes still hold.
        process.communicate()

    def _rendered(self, source: str, batch: Sequence[Conversation]) -> list[Written]:
        """Return a batch's replies, up to where the template ran away."""
        found: list[Written] = []
        for _ in range(2):
            found += self._ask(source, batch[len(found) :])
            last = found[-1] if found else None
            if isinstance(last, Refusal) and last.runaway:
                self._runaways[source] = last
                self.close()
            if len(found) == len(batch) or source in self._runaways:
                return found
        raise TryAgainError(
            f"the process that {WRITES} was ended twice from outside; make room in "
            "memory and run the same command again"
        )

    def _ask(self, source: str, batch: Sequence[Conversation]) -> list[Written]:
        """Return a batch's replies; fewer if the process was ended."""
        process = self._process or self._start()
        new = [] if source in self._sources else [source]
        number = self._sources.setdefault(source, len(self._sources))
        request = {"new": new, "source": number, "conversations": batch}
        found: list[Written] = []
        try:
            for line in exchange(process, request, len(batch)):
                found.append(read_reply(json.loads(line)))
                if isinstance(found[-1], Refusal) and found[-1].runaway:
                    return found
        except BaseException:
            # Unread replies must not be taken for later ones.
            self.close()
            raise
        if len(found) < len(batch):
            reason = why_ended(process.wait())
            self.close()
            found += [Refusal(reason, runaway=True)] if reason else []
        return found

    def _start(self) -> subprocess.Popen[bytes]:
        """Start the process, and wait until it is ready."""
        process = workers.start(template_worker, WRITES)
        self._process, self._sources = process, {}
        try:
            ready = process.stdout.readline() if process.stdout else b""
        except BaseException:
            self.close()
            raise
        if ready.strip() != workers.READY:
            process.communicate()
            self.close()
            raise TryAgainError(
                f"the process that {WRITES} does not start (status "
                f"{process.returncode}); free memory and run the same command again, "
                "and reinstall this package if that does not help"
            )
        return process


def exchange(
    process: subprocess.Popen[bytes], request: object, replies: int
) -> Iterator[bytes]:
    """Send a request and yield its reply lines, as far as they come."""
    if process.stdin is None or process.stdout is None:
        return
    # Minimal, as the process has little memory; a lone surrogate stays one.
    line = json.dumps(request, ensure_ascii=False).encode("utf-8", "surrogatepass")
    with suppress(BrokenPipeError):
        process.stdin.write(line + b"\n")
        process.stdin.flush()
    for _ in range(replies):
        reply = process.stdout.readline()
        if not reply.endswith(b"\n"):
            return
        yield reply


def first_batch(conversations: Sequence[Conversation]) -> Sequence[Conversation]:
    """Return the conversations that fit; none if the first is far too long."""
    total = 0
    for place, (given, _) in enumerate(conversations):
        size = sum(len(turn["content"]) for turn in given["messages"])
        total += size
        if size > MOST:
            return conversations[:place]
        if total > BATCH:
            return conversations[: place + 1]
    return conversations


def read_reply(reply: list[Any]) -> Written:
    """Parse a reply of the process."""
    if reply[0] == "text":
        return str(reply[1])
    if reply[0] == "long":
        return Refusal(
            f"it wrote {reply[1]} characters, far more than the conversation has"
        )
    _, kind, said, line = reply
    if kind == MemoryError.__name__:
        return Refusal(FILLED, runaway=True)
    where = f" (line {line} of the template)" if line else ""
    return Refusal(f"{full_line_of(said, kind)}{where}")


def why_ended(status: int) -> str:
    """Say how a template ended its process; empty if others ended it."""
    if status == -signal.SIGPROF:
        return RAN_ON
    if status in (-signal.SIGKILL, -signal.SIGTERM):
        return ""
    return f"it broke the process that runs it (status {status})"


@cache
def shared_renderer() -> Renderer:
    """Return this process's renderer, closed at exit."""
    renderer = Renderer()
    atexit.register(renderer.close)
    return renderer
