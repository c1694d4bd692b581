"""What libraries raise over a file that they cannot use, as one line with advice.

A model's folder comes from anywhere, and transformers checks little of it before use: a
field of the wrong type ends as a `TypeError`, a missing library as an `ImportError`.
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
"""What transformers, PyTorch and safetensors raise over settings and weights; hub
errors are kinds of `OSError`."""

OS_ERROR: Final = re.compile(r"\(os error (\d+)\)")
"""How libraries in Rust write the number that the operating system gave."""


@contextmanager
def saving() -> Iterator[None]:
    """Turn what safetensors and tokenizers raise over a disk into an `OSError`.

    Both say it in words alone, the second with a bare `Exception`.
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
    """Turn what a library raises into a `ModelError`: ``what: reason; advice``.

    `what` says what could not be done, and with which model.
    """
    try:
        yield
    except NeuronOpsdError:
        raise
    except faults as error:
        if is_out_of_memory(error):
            error.add_note(what)
            raise  # it is no fault of the file
        # Who misses a library says which one, and how to get it.
        hint = f"; {advice}" if advice and not isinstance(error, ImportError) else ""
        raise ModelError(f"{what}: {full_line(error)}{hint}") from error


def full_line(error: Exception) -> str:
    """Return what an error says, as far as its first full line; its kind if nothing."""
    # A key alone, or the name of a field, says nothing without what is next to it.
    kind = KeyError if isinstance(error, KeyError) else type(error)
    return full_line_of(str(error), kind.__name__)


def full_line_of(said: str, kind: str) -> str:
    """Return the first full line of what an error said; its kind where it is empty."""
    lines = [shortened(line.strip()) for line in said.strip().splitlines()]
    if not lines:
        return kind
    if kind == KeyError.__name__:
        return f"there is no {lines[0]}"
    if lines[0].endswith(":") and len(lines) > 1:
        return f"{lines[0]} {lines[1]}"
    return lines[0] if lines[0].endswith("..") else lines[0].removesuffix(".")


def shortened(text: str) -> str:
    """Return the beginning of a text that is too long for a message."""
    return text if len(text) <= 400 else f"{text[:400]} ..."
