"""Settings as earlier versions named them, in files, flags and run directories."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Final

from neuron_opsd.errors import RenamedSettingWarning

RENAMED: Final = {"fitness": "teacher_check"}
"""Sections of earlier versions, and what they are called now."""

AS_GIVEN: Final = {"rollouts.mode": "auto"}
"""What earlier versions kept as the user gave it, not as it was resolved."""


def renamed(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by section with each section under today's name.

    Where both names are given, today's wins.
    """
    found = dict(table)
    for old in RENAMED.keys() & table.keys():
        given, known = found.pop(old), found.get(RENAMED[old], {})
        both = isinstance(given, Mapping) and isinstance(known, Mapping)
        found[RENAMED[old]] = {**given, **known} if both else given
    return found


def renamed_by_user(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same of what a user wrote, and warn of each former name."""
    for old in RENAMED.keys() & table.keys():
        warnings.warn(
            f"the settings {old}.* are called {RENAMED[old]}.* now, and are read as "
            "such; please write the new name",
            RenamedSettingWarning,
            stacklevel=3,
        )
    return renamed(table)


def as_begun(settings: Mapping[str, Any], begun: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as the run directory keeps them that they belong to.

    A run resumes with the settings it was started with, and what was made from them is
    known by their hash, so a directory of an earlier version keeps its own words.
    """
    sections = {name.partition(".")[0] for name in begun}
    former = {new: old for old, new in RENAMED.items() if old in sections}
    given = {
        name: value for name, value in AS_GIVEN.items() if begun.get(name) == value
    }
    found = {}
    for name, value in settings.items():
        section, dot, field = name.partition(".")
        found[f"{former.get(section, section)}{dot}{field}"] = value
    return found | given
