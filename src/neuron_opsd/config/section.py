"""What a section of settings is, the ranges of its numbers, and checks beyond types."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo
from pydantic_core import PydanticCustomError


def iso_date(value: object) -> str:
    """Return a day as ``2026-11-29``, from such a text or from a date of TOML.

    Raises:
        PydanticCustomError: If it is neither; an empty text stays empty.
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
"""Python's own reader of JSON follows twice as many and no more."""
Temperature: TypeAlias = Annotated[float, Field(gt=0.0, le=10.0)]
Rate: TypeAlias = Annotated[float, Field(gt=0.0)]
Day: TypeAlias = Annotated[str, BeforeValidator(iso_date)]


class Section(BaseModel):
    """Base of every section: frozen, no unknown names, docstrings are the help."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        validate_default=True,
    )


def known_rule(value: Any) -> Any:
    """Refuse the neuron rule of earlier versions that gave all questions one count.

    Raises:
        PydanticCustomError: If it is that rule.
    """
    if value == "per-layer":
        raise PydanticCustomError(
            "gone",
            "this rule was removed, since it gave every question the same count; use "
            "flat, on long completions with neurons.chunk_tokens",
        )
    return value


def only_under_flat(value: int, info: ValidationInfo) -> int:
    """Refuse chunks under neuron rules that have none.

    Raises:
        PydanticCustomError: If there are chunks and the section's rule is not `flat`.
    """
    rule = info.data.get("rule", "flat")
    if value and rule != "flat":
        raise PydanticCustomError(
            "no_chunks",
            "the rule {rule} has no chunks; leave it at 0, or set neurons.rule to flat",
            {"rule": rule},
        )
    return value
