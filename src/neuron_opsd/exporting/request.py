"""What an export is asked for, and what a target's module gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypedDict

from neuron_opsd.exporting.finished import FinishedRun
from neuron_opsd.progress import Progress

DType: TypeAlias = Literal["base", "float32", "bfloat16", "float16"]
"""Types in which weights are written; `base` keeps that of the base's files."""


class Choices(TypedDict, total=False):
    """What some targets need besides; the fields of `Request`."""

    dtype: DType
    base: str
    pool: str
    tests: Mapping[str, str]
    name: str


@dataclass(frozen=True, slots=True)
class Request:
    """What is exported, and where to."""

    run: Path
    to: str
    """Name of a target."""
    out: Path
    """A new or empty folder."""
    dtype: DType = "base"
    base: str = ""
    """Folder or hub id of the base where it is not where the run had it."""
    pool: str = ""
    """File or dataset with the questions that the run had as its pool."""
    tests: Mapping[str, str] = field(default_factory=dict)
    """Files or datasets of its test sets, by the run's names for them."""
    name: str = ""
    """What a server calls the model; the run's folder where empty."""


@dataclass(frozen=True, slots=True)
class Made:
    """What a target has to say besides its files."""

    facts: Mapping[str, Any] = field(default_factory=dict)
    """Values that JSON can hold, by name."""
    next_steps: tuple[str, ...] = ()
    """What to do with the files, as far as only the target knows it; commands are run
    in the folder."""


Write: TypeAlias = Callable[[FinishedRun, Request, Path, Progress], Made]
"""Fills an empty folder with what a target makes of a finished run."""
