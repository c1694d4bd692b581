"""The receipts of chunks: which chunk is whole, and what it took."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from neuron_opsd.documents import DocumentError
from neuron_opsd.errors import DataError
from neuron_opsd.storage.disk import read_plain
from neuron_opsd.storage.manifest import Seconds
from neuron_opsd.storage.sealed_json import unseal

PLAN: Final = "plan.json"
"""Says how an output is cut, beside what is stored of it."""
RECEIPT: Final = ".done"
"""What the name of a receipt ends in."""


class Receipt(BaseModel):
    """What the file beside a finished chunk says of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    seconds: Seconds


def read_receipt(path: Path) -> Receipt | None:
    """Return a receipt, `None` where there is none or it is damaged."""
    try:
        return Receipt.model_validate(unseal(read_plain(path)))
    except (DataError, DocumentError, ValidationError):
        return None
