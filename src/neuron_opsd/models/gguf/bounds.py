"""What a GGUF file claims to hold, held against its length before it is read.

The reader of gguf believes counts and lengths: it walks through 2^60 entries of a list
that a file of a hundred bytes claims, and reads past the end as nothing.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO, Final

from neuron_opsd.errors import ModelError

SIZES: Final = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a value by its type."""

TEXT, LIST = 8, 9

LEAST_KEY: Final = 8 + 4 + 1
LEAST_TENSOR: Final = 8 + 4 + 8 + 4 + 8
MOST_DIMENSIONS: Final = 8
MOST_KEYS: Final = 1 << 16


def check_claims(path: Path) -> None:
    """Refuse a GGUF file that claims more than it can hold.

    One in the other byte order is left to others to refuse.
    """
    with path.open("rb") as file:
        claims = Claims(path, file)
        (version,) = claims.take("<I", skip=4)
        if version & 0xFFFF == 0:
            return
        tensors, keys = claims.take("<QQ")
        claims.fits(tensors * LEAST_TENSOR, f"{tensors} tensors")
        claims.fits(keys * LEAST_KEY, f"{keys} keys")
        if keys > MOST_KEYS:
            raise claims.refused(f"{keys} keys")
        for _ in range(keys):
            claims.pass_text()
            claims.pass_value(*claims.take("<I"))
        for _ in range(tensors):
            claims.pass_text()
            (dimensions,) = claims.take("<I")
            if dimensions > MOST_DIMENSIONS:
                raise claims.refused(f"a tensor of {dimensions} dimensions")
            claims.leap(8 * dimensions + 4 + 8, "one tensor more")


class Claims:
    """Walks through the head of a file."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self.file = file
        self.size = path.stat().st_size

    def refused(self, what: str) -> ModelError:
        """Return the error for a claim."""
        return ModelError(
            f"cannot read {self.path}: it claims to hold {what} and has {self.size} "
            "bytes; the file may be cut or damaged: fetch it again, or give a folder "
            "with safetensors"
        )

    def fits(self, num_bytes: int, what: str) -> None:
        """Refuse what does not fit into the rest of the file."""
        if num_bytes > self.size - self.file.tell():
            raise self.refused(what)

    def take(self, form: str, skip: int = 0) -> tuple[int, ...]:
        """Return the next numbers."""
        num_bytes = struct.calcsize(form)
        self.fits(skip + num_bytes, f"{skip + num_bytes} bytes more")
        self.file.seek(skip, 1)
        found: tuple[int, ...] = struct.unpack(form, self.file.read(num_bytes))
        return found

    def leap(self, num_bytes: int, what: str) -> None:
        """Pass over bytes."""
        self.fits(num_bytes, what)
        self.file.seek(num_bytes, 1)

    def pass_text(self) -> None:
        """Pass over a text."""
        (length,) = self.take("<Q")
        self.leap(length, f"a text of {length} bytes")

    def pass_value(self, kind: int) -> None:
        """Pass over a value of a type."""
        if kind in SIZES:
            self.leap(SIZES[kind], "one value more")
        elif kind == TEXT:
            self.pass_text()
        elif kind == LIST:
            inner, count = self.take("<IQ")
            if inner in SIZES:
                self.leap(SIZES[inner] * count, f"a list of {count}")
            elif inner == TEXT:
                self.fits(8 * count, f"a list of {count} texts")
                for _ in range(count):
                    self.pass_text()
            else:
                raise self.refused(f"a list of values of type {inner}")
        else:
            raise self.refused(f"a value of type {kind}")
