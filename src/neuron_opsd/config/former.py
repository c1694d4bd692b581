"""Settings as earlier versions kept them in run directories."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

AS_GIVEN: Final = {"rollouts.mode": "auto"}
"""What earlier versions kept as the user gave it, not as it was resolved."""


def as_begun(settings: Mapping[str, Any], begun: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as the run directory keeps them that they belong to.

    A run resumes with the settings it was started with, and what was made from them is
    known by their hash, so a directory of an earlier version keeps its own words.

    Args:
        settings: Of this version, by dotted name.
        begun: What the manifest of the directory holds.
    """
    given = {n: v for n, v in AS_GIVEN.items() if begun.get(n) == v}
    return {**settings, **given}
