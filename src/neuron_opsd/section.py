"""Base class of settings sections, ranges of numbers, and checks beyond types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Protocol, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError, PydanticKnownError, core_schema


def iso_date(value: object) -> str:
    """Return a day as ``2026-11-29``, from such a text or a TOML date.

    Raises:
        PydanticCustomError: If it is neither; an empty text is allowed.
    """
    text = value.isoformat() if isinstance(value, date) else value
    try:
        return date.fromisoformat(str(text)).isoformat() if text != "" else ""
    except ValueError:
        raise PydanticCustomError(
            "day", "it must be a day such as 2026-11-29, or empty"
        ) from None


Fraction: TypeAlias = Annotated[float, Field(gt=0.0, le=1.0)]
Probability: TypeAlias = Annotated[float, Field(ge=0.0, le=1.0)]
MOST = 2**63 - 1
"""Of a whole number: what arrays and files can count."""

Positive: TypeAlias = Annotated[int, Field(ge=1, le=MOST)]
NotNegative: TypeAlias = Annotated[int, Field(ge=0, le=MOST)]
Depth: TypeAlias = Annotated[int, Field(ge=1, le=500)]
"""Python's JSON reader follows twice as many levels and no more."""
Temperature: TypeAlias = Annotated[float, Field(gt=0.0, le=10.0)]
Rate: TypeAlias = Annotated[float, Field(gt=0.0)]
Day: TypeAlias = Annotated[str, BeforeValidator(iso_date)]


class Entry(Protocol):
    """An entry of a table that a setting may name."""

    @property
    def help(self) -> str:
        """What it does, in words that follow its name."""


@dataclass(frozen=True)
class OneOf:
    """Lets a setting take a table's names, and appends their help to its own.

    The table is read each time.
    """

    table: Mapping[str, Entry]
    more: tuple[str, ...] = ()
    """Further names, explained in the setting's own text."""

    @property
    def names(self) -> tuple[str, ...]:
        """All names in listed order."""
        return (*self.more, *self.table)

    @property
    def help(self) -> str:
        """What each entry does, one per line."""
        return ";\n".join(
            f"`{name}`: {e.help.removesuffix(',')}" for name, e in self.table.items()
        )

    def __get_pydantic_core_schema__(self, *_: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, *_: Any) -> dict[str, Any]:
        return {"type": "string", "enum": [*self.names]}

    def check(self, value: Any) -> str:
        """Return a known name."""
        if isinstance(value, str) and value in self.names:
            return value
        *most, last = map(repr, self.names)
        allowed = f"{', '.join(most)} or {last}"
        raise PydanticKnownError("literal_error", {"expected": allowed})


class Section(BaseModel):
    """Base of every section: frozen, no unknown names."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        validate_default=True,
    )

    @classmethod
    def __pydantic_init_subclass__(cls, **more: Any) -> None:
        """Append the help of table entries to settings."""
        super().__pydantic_init_subclass__(**more)
        for info in cls.model_fields.values():
            for table in filter(lambda one: isinstance(one, OneOf), info.metadata):
                info.description = f"{info.description}\n{table.help}."
