"""Reading a GGUF file, and refusing what is no whole language model of a kind known."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import numpy as np
from gguf import GGUFReader, dequantize
from numpy.typing import NDArray

from neuron_opsd.documents import first_line
from neuron_opsd.errors import ModelError
from neuron_opsd.models.gguf.bounds import check_claims

Array: TypeAlias = NDArray[np.float32]

MAGIC = b"GGUF"

UNREADABLE = (ValueError, KeyError, IndexError, TypeError, struct.error, OverflowError)
"""What the reader of gguf raises for a file that it cannot use."""

FOREIGN = {"adapter", "clip", "control_vector"}
"""First parts of the keys that other things than whole models have."""


class Keys:
    """The keys of a file under one prefix, which remembers which were taken.

    Whoever builds a model from keys takes those that it understands; those left over
    are refused, so no key can be forgotten.
    """

    def __init__(self, path: Path, prefix: str, values: Mapping[str, Any]) -> None:
        self.path = path
        self.prefix = prefix
        self.taken: set[str] = set()
        """Names, without the prefix."""
        self._values = values

    def take(self, name: str, default: Any = None) -> Any:
        """Return a key's value, or the default where the file has none."""
        self.taken.add(name)
        return self._values.get(name, default)

    def need(self, name: str) -> Any:
        """Return the value of a key that a file must have."""
        value = self.take(name)
        if value is None:
            raise ModelError(
                f"{self.path} has no key {self.prefix}.{name}; give a complete GGUF "
                "file or a folder with safetensors"
            )
        return value

    def number(self, name: str, default: float | None = None) -> int | float:
        """Return a single number; needed where there is no default."""
        value = self.need(name) if default is None else self.take(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.refuse(name, value, "one number for all layers is needed")
        return value

    def expect(self, name: str, neutral: Any, why: str) -> None:
        """Take a key that may only have the value that changes nothing."""
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
        """Refuse what nobody took."""
        for name, value in self._values.items():
            if name not in self.taken | harmless:
                self.refuse(name, value, "it is not known here what that changes")


@dataclass(frozen=True, slots=True, eq=False)
class GGUFFile:
    """What a file holds, its arrays still on the disk."""

    path: Path
    family: str
    """Its ``general.architecture``."""
    settings: Keys
    """Keys under the name of the family."""
    tokenizer: Keys
    """Keys under ``tokenizer.ggml``."""
    chat_template: str | None
    tensors: Mapping[str, Any]
    """By name, as gguf reads them."""

    def array(self, name: str) -> Array:
        """Return a tensor as float32; refuse an unknown kind and what is not finite."""
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
    """Say whether a file begins as GGUF files do."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read_gguf(path: Path) -> GGUFFile:
    """Read a file's keys, and where its tensors are."""
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
    if reader.byte_order != "I":  # its tensors would be read wrong
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
        settings=Keys(path, family, under(values, family)),
        tokenizer=Keys(path, "tokenizer.ggml", under(values, "tokenizer.ggml")),
        chat_template=values.get("tokenizer.chat_template"),
        tensors=tensors,
    )


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what the reader of gguf raises into one line."""
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
    """Keep the remarks of gguf's reader off the terminal."""
    logger = logging.getLogger("gguf.gguf_reader")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def under(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return the keys below a prefix, without it."""
    start = f"{prefix}."
    return {n.removeprefix(start): v for n, v in values.items() if n.startswith(start)}


def refuse_other_kinds(path: Path, values: Mapping[str, Any]) -> None:
    """Refuse a part of a split file, and what is not a whole language model."""
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
