"""How well the label-free score predicted the gain of training, as it was measured.

`benchmarks/probe_validity.py` measures it and writes the record.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from pydantic import TypeAdapter

from neuron_opsd.documents import parse_json
from neuron_opsd.results.probe import Validity

RECORD: Final = "validity.json"


def known_validity() -> Validity:
    """Return what was measured; without a correlation where nothing was yet."""
    data = (files("neuron_opsd.probing") / RECORD).read_bytes()
    return TypeAdapter(Validity).validate_python(parse_json(data))
