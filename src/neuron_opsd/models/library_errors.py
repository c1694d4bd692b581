"""Library errors about unusable files, as one line with advice.

transformers checks little of an untrusted folder: a field of the wrong type ends as a
`TypeError`, a missing library as an `ImportError`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from neuron_opsd.errors import ModelError, NeuronOpsdError, is_out_of_memory

FAULTS: Final[tuple[type[Exception], ...]] = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ImportError,
    RuntimeError,
    ArithmeticError,
    AssertionError,
    SafetensorError,
    StrictDataclassError,
)
"""What libraries raise on bad settings and weights; hub errors are `OSError`s."""

OS_ERROR: Final = re.compile(r"\(os error (\d+)\)")
"""How Rust libraries write an error number."""


@contextmanager
def saving() -> Iterator[None]:
    """Turn disk errors of safetensors and tokenizers into an `OSError`.

    Both give the number only as text, tokenizers in a bare `Exception`.
    """
    try:
        yield
    except Exception as error:
        found = OS_ERROR.search(str(error))
        if found is None or getattr(error, "errno", None) is not None:
            raise
        code = int(found[1])
        raise OSError(code, os.strerror(code)) from error


@contextmanager
def refusing(
    what: str, advice: str = "", faults: tuple[type[Exception], ...] = FAULTS
) -> Iterator[None]:
    """Turn a library's error into a `ModelError`: ``what: reason; advice``.

    `what` says what failed, and for which model.
    """
    try:
        yield
    except NeuronOpsdError:
        raise
    except faults as error:
        if is_out_of_memory(error):
            error.add_note(what)
            raise  # not the file's fault
        # An ImportError already says what to install.
        hint = f"; {advice}" if advice and not isinstance(error, ImportError) else ""
        raise ModelError(f"{what}: {full_line(error)}{hint}") from error


def full_line(error: Exception) -> str:
    """Return an error's first full line, or its kind if it says nothing."""
    # A bare key or field name says nothing without its context.
    kind = KeyError if isinstance(error, KeyError) else type(error)
    return full_line_of(str(error), kind.__name__)


def full_line_of(said: str, kind: str) -> str:
    """Return a text's first full line, or `kind` if empty."""
    lines = [shortened(line.strip()) for line in said.strip().splitlines()]
    if not lines:
        return kind
    if kind == KeyError.__name__:
        return f"there is no {lines[0]}"
    if lines[0].endswith(":") and len(lines) > 1:
        return f"{lines[0]} {lines[1]}"
    return lines[0] if lines[0].endswith("..") else lines[0].removesuffix(".")


def shortened(text: str) -> str:
    """Cut a text that is too long for a message."""
    return text if len(text) <= 400 else f"{text[:400]} ..."
