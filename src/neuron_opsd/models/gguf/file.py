"""Read a GGUF file; refuse anything but a whole, supported language model.

gguf's reader trusts claims: it would walk 2^60 list entries that a file of a hundred
bytes announces. So counts and lengths are first checked against the file's length.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, NoReturn, TypeAlias

import numpy as np
from gguf import GGUFReader, dequantize
from numpy.typing import NDArray

from neuron_opsd.documents import first_line
from neuron_opsd.errors import ModelError

Array: TypeAlias = NDArray[np.float32]

SIZES: Final = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes per value type."""

TEXT, LIST = 8, 9

LEAST_KEY: Final = 8 + 4 + 1
LEAST_TENSOR: Final = 8 + 4 + 8 + 4 + 8
MOST_DIMENSIONS: Final = 8
MOST_KEYS: Final = 1 << 16

MAGIC = b"GGUF"

UNREADABLE = (ValueError, KeyError, IndexError, TypeError, struct.error, OverflowError)
"""What gguf's reader raises for unusable files."""

FOREIGN = {"adapter", "clip", "control_vector"}
"""First key parts of files other than whole models."""


class Keys:
    """A file's keys under one prefix, and which of them were taken.

    Keys that nobody took are refused, so none can be forgotten.
    """

    def __init__(self, path: Path, prefix: str, values: Mapping[str, Any]) -> None:
        self.path = path
        self.prefix = prefix
        self.taken: set[str] = set()
        """Names without the prefix."""
        start = f"{prefix}."
        below = ((n, value) for n, value in values.items() if n.startswith(start))
        self._values = {n.removeprefix(start): value for n, value in below}

    def take(self, name: str, default: Any = None) -> Any:
        """Return a key's value, or the default if absent."""
        self.taken.add(name)
        return self._values.get(name, default)

    def need(self, name: str) -> Any:
        """Return a required key's value."""
        value = self.take(name)
        if value is None:
            raise ModelError(
                f"{self.path} has no key {self.prefix}.{name}; give a complete GGUF "
                "file or a folder with safetensors"
            )
        return value

    def number(self, name: str, default: float | None = None) -> int | float:
        """Return a single number, required unless there is a default."""
        value = self.need(name) if default is None else self.take(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.refuse(name, value, "one number for all layers is needed")
        return value

    def expect(self, name: str, neutral: Any, why: str) -> None:
        """Take a key that must have its neutral value."""
        value = self.take(name, neutral)
        if value != neutral:
            self.refuse(name, value, why)

    def refuse(self, name: str, value: Any, why: str) -> NoReturn:
        """Refuse a key's value."""
        shown = repr(value)
        shown = shown if len(shown) <= 60 else f"{shown[:60]}…"
        raise ModelError(
            f"{self.path} sets {self.prefix}.{name} = {shown}: {why}; give the model "
            "as a folder with safetensors"
        )

    def refuse_left(self, harmless: frozenset[str]) -> None:
        """Refuse keys that nobody took."""
        for name, value in self._values.items():
            if name not in self.taken | harmless:
                self.refuse(name, value, "it is not known here what that changes")


@dataclass(frozen=True, slots=True, eq=False)
class GGUFFile:
    """A file's contents, arrays still on disk."""

    path: Path
    family: str
    """Its ``general.architecture``."""
    settings: Keys
    """Keys under the family's name."""
    tokenizer: Keys
    """Keys under ``tokenizer.ggml``."""
    chat_template: str | None
    tensors: Mapping[str, Any]
    """By name, as read by gguf."""

    def array(self, name: str) -> Array:
        """Return a tensor as float32; refuse unknown types and non-finite values."""
        tensor = self.tensors[name]
        try:
            with readable(self.path):
                found = dequantize(tensor.data, tensor.tensor_type)
                array = np.array(found, np.float32)
        except NotImplementedError as error:
            raise ModelError(
                f"{self.path}: tensor {name} is stored as {tensor.tensor_type.name}, "
                "which cannot be read here; give a file of a common kind, such as Q8_0 "
                "or F16"
            ) from error
        if not np.isfinite(array).all():
            raise ModelError(
                f"{self.path}: tensor {name} holds values that are not finite; the "
                "file is damaged: fetch it again"
            )
        return array


def is_gguf(path: Path) -> bool:
    """Say whether a file starts like GGUF."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read_gguf(path: Path) -> GGUFFile:
    """Read a file's keys and tensor locations."""
    if not is_gguf(path):
        raise ModelError(
            f"{path} is not a GGUF file: it does not begin with {MAGIC.decode()}; "
            "give a .gguf file or a folder with safetensors"
        )
    check_claims(path)
    with readable(path):
        with quiet_reader():
            reader = GGUFReader(path)
        values = {name: field.contents() for name, field in reader.fields.items()}
        tensors = {tensor.name: tensor for tensor in reader.tensors}
    if reader.byte_order != "I":  # its tensors would be misread
        raise ModelError(
            f"{path} is written in another byte order than this machine's; turn it "
            "with gguf-convert-endian"
        )
    refuse_other_kinds(path, values)
    family = values.get("general.architecture")
    if not isinstance(family, str):
        raise ModelError(f"{path} has no key general.architecture; give a whole model")
    return GGUFFile(
        path=path,
        family=family,
        settings=Keys(path, family, values),
        tokenizer=Keys(path, "tokenizer.ggml", values),
        chat_template=values.get("tokenizer.chat_template"),
        tensors=tensors,
    )


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn errors of gguf's reader into one line."""
    try:
        yield
    except ModelError:
        raise
    except UNREADABLE as error:
        raise ModelError(
            f"cannot read {path}: {first_line(error)}; the file may be cut or damaged: "
            "fetch it again, or give a folder with safetensors"
        ) from error


@contextmanager
def quiet_reader() -> Iterator[None]:
    """Silence gguf's reader."""
    logger = logging.getLogger("gguf.gguf_reader")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def refuse_other_kinds(path: Path, values: Mapping[str, Any]) -> None:
    """Refuse parts of split files, and anything but whole language models."""
    parts = values.get("split.count", 1)
    if parts > 1:
        number = values.get("split.no", 0) + 1
        raise ModelError(
            f"{path} is part {number} of {parts} of a split GGUF file (split.count = "
            f"{parts}); join the parts with `llama-gguf-split --merge` and give the "
            "one file"
        )
    kind = values.get("general.type", "model")
    found = sorted(FOREIGN & {name.partition(".")[0] for name in values})
    if kind != "model" or found:
        raise ModelError(
            f"{path} is not a whole language model (general.type = {kind!r}"
            f"{', keys of ' + ', '.join(found) if found else ''}); give a GGUF file of "
            "the model itself"
        )


def check_claims(path: Path) -> None:
    """Refuse a GGUF file that claims more than it can hold.

    Files in the other byte order are refused elsewhere.
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
    """Walks through a file's header."""

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
        """Refuse a size beyond the rest of the file."""
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
        """Skip bytes."""
        self.fits(num_bytes, what)
        self.file.seek(num_bytes, 1)

    def pass_text(self) -> None:
        """Skip a text."""
        (length,) = self.take("<Q")
        self.leap(length, f"a text of {length} bytes")

    def pass_value(self, kind: int) -> None:
        """Skip a value of a type."""
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
