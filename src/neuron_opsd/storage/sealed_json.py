"""Small files that nothing else proves: each carries the hash of its own contents.

A manifest proves what is stored beside it, but a flipped bit of the manifest itself
would otherwise be a number that the report states.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from neuron_opsd.documents import DocumentError, parse_table

SEAL: Final = "seal"
"""Field with the SHA-256 of all others."""


def json_sha256(value: Any) -> str:
    """Return the SHA-256 of a value that JSON can hold."""
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def as_json(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table as it comes back from a file: tuples as lists, names as text."""
    return dict(json.loads(json.dumps(dict(table))))


def seal(table: Mapping[str, Any]) -> bytes:
    """Return the JSON text of a table with its seal."""
    held = as_json(table)
    return (json.dumps({**held, SEAL: json_sha256(held)}, indent=2) + "\n").encode()


def unseal(data: bytes) -> dict[str, Any]:
    """Return a table without its seal; earlier versions wrote none."""
    table = parse_table(data)
    known = table.pop(SEAL, None)
    if known is not None and known != json_sha256(table):
        raise DocumentError("it is not as it was written")
    return table
