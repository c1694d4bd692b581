"""Errors that a user can cause, and therefore fix.

Anything else is a bug and keeps its ordinary Python exception. The command line turns
only these into one line on stderr and an exit status.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar, Final

MAX_NAMED = 16
"""Questions named in a message, as many as in a default step."""
MAX_LISTED = 5
"""Other items listed in a message."""


class NeuronOpsdError(Exception):
    """Base of every error below."""

    exit_status: ClassVar[int] = 2
    """Of the command line: 2 for a user's mistake, 75 for `try again`."""


class ConfigError(NeuronOpsdError, ValueError):
    """A setting is missing, unknown or out of range."""


class RenamedSettingWarning(FutureWarning):
    """A setting has an earlier version's name."""


class DataError(NeuronOpsdError, ValueError):
    """A record of an input file cannot be used."""


class ModelError(NeuronOpsdError, ValueError):
    """A model cannot be found, read or used for the method."""


class TeacherError(NeuronOpsdError):
    """The teacher failed its check, and the run was told to stop."""


class TrainingError(NeuronOpsdError):
    """Training cannot continue, for example because the loss is not a number."""


class NotFiniteError(NeuronOpsdError):
    """A model's result is not a number, or overflowed."""

    def __init__(
        self, what: str, places: Sequence[int] = (), questions: Sequence[str] = ()
    ) -> None:
        """Set the problem, such as ``the loss is nan``, and where it is.

        `places` index the model's input; `questions` are ids, once known.
        """
        of = f"{questions_text(questions)}: " if questions else ""
        super().__init__(
            f"{of}{what}; set model.compute=float32 if it is not, get the model's "
            "files again, or leave these questions out"
        )
        self.what = what
        self.places = tuple(places)
        self.questions = tuple(questions)

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), (self.what, self.places, self.questions)

    def among(self, questions: Sequence[str]) -> NotFiniteError:
        """Add the ids of the questions, given by position."""
        places = dict.fromkeys(self.places)
        return NotFiniteError(self.what, (), [questions[i] for i in places])


@contextmanager
def naming(questions: Sequence[str]) -> Iterator[None]:
    """Add question ids to a `NotFiniteError`, by position."""
    try:
        yield
    except NotFiniteError as error:
        if not error.places:
            raise
        raise error.among(questions) from error


def questions_text(questions: Sequence[str]) -> str:
    """Name some questions and count the rest."""
    plural = "s" if len(questions) > 1 else ""
    return f"question{plural} {listing(questions, MAX_NAMED)}"


def listing(items: Sequence[str], most: int = MAX_LISTED) -> str:
    """Join some names and count the rest."""
    hidden = len(items) - most
    return ", ".join(items[:most]) + (f" and {hidden} more" if hidden > 0 else "")


def clauses(items: Sequence[str]) -> str:
    """Join some phrases and count the rest."""
    hidden = len(items) - MAX_LISTED
    more = [f"and {hidden} more"] if hidden > 0 else []
    return "; ".join([*items[:MAX_LISTED], *more])


class TryAgainError(NeuronOpsdError):
    """Something outside is in the way: a full disk, no network, a directory in use."""

    exit_status = 75


NO_MEMORY: Final = (
    "can't allocate memory",
    "not enough memory: you tried to allocate",
    "MPS backend out of memory",
    "CUDA error: out of memory",
    "_STATUS_ALLOC_FAILED",
    "can't start new thread",
)
"""From PyTorch on processors, Windows, Apple's GPUs, and when the driver or a library
such as cuBLAS finds no room; and from Python for a thread's stack."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error of Python, NumPy, Arrow or PyTorch means no memory.

    PyTorch's are recognised by their words, to avoid the import.
    """
    if isinstance(error, RuntimeError):
        said = str(error)
        named = type(error).__name__ == "OutOfMemoryError"
        return named or any(words in said for words in NO_MEMORY)
    return isinstance(error, MemoryError)


class InUseError(TryAgainError):
    """Another process holds what this one needs."""
