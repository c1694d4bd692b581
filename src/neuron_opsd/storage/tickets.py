"""The tickets of blocks: which block is whole, and what it took."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from neuron_opsd.documents import DocumentError
from neuron_opsd.errors import DataError
from neuron_opsd.storage.disk import read_plain
from neuron_opsd.storage.manifest import Seconds
from neuron_opsd.storage.seals import unseal

PLAN: Final = "plan.json"
"""Says how an output is cut, beside what is stored of it."""
TICKET: Final = ".done"
"""What the name of a ticket ends in."""


class Ticket(BaseModel):
    """What the file beside a finished block says of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    seconds: Seconds


def read_ticket(path: Path) -> Ticket | None:
    """Return a ticket, `None` where there is none or it is damaged."""
    try:
        return Ticket.model_validate(unseal(read_plain(path)))
    except (DataError, DocumentError, ValidationError):
        return None
