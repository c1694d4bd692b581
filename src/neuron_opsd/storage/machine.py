"""Where a run was computed: what may change the last bits of its results, and did.

The bytes of a run are promised for one machine, one number of threads and one set of
versions. A run may be resumed elsewhere, but never in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from neuron_opsd.errors import clauses
from neuron_opsd.storage.manifest import Manifest

CHANGES: Final = "not_bit_exact"
"""Fact of a manifest: what was otherwise than at the beginning where a part of the run
was computed, each as ``threads 2 -> 1``."""
ABSENT: Final = "not there"


def machine_of(manifest: Manifest) -> Mapping[str, str]:
    """Return versions and all else that may change the last bits of a result."""
    return manifest.versions | manifest.environment


def changes(begun: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Say what is otherwise now than when a run was started, each in a few words."""
    return [
        f"{name} {begun.get(name, ABSENT)} -> {now.get(name, ABSENT)}"
        for name in dict.fromkeys([*begun, *now])
        if begun.get(name) != now.get(name)
    ]


def known_changes(manifest: Manifest) -> list[str]:
    """Return what was otherwise where parts of a run were computed before."""
    return [str(one) for one in manifest.facts.get(CHANGES, ())]


class Elsewhere:
    """What is otherwise where a process works than where the run was started."""

    def __init__(
        self, begun: Manifest, fresh: Manifest, warn: Callable[[str], None]
    ) -> None:
        """Compare, and say what is otherwise, or was while a part was computed."""
        self._manifest = begun
        self._now = changes(machine_of(begun), machine_of(fresh))
        if self._now:
            warn(
                f"not bit-exact: {clauses(self._now)}; what is still to do may differ "
                "in the last bits from what one run would give"
            )
        others = [one for one in known_changes(begun) if one not in self._now]
        if others:
            warn(computed_elsewhere(others))

    def to_keep(self) -> list[str]:
        """Return all changes under which parts were computed, if any is not kept."""
        known = known_changes(self._manifest)
        found = list(dict.fromkeys([*known, *self._now]))
        return [] if found == known else found


def computed_elsewhere(found: list[str]) -> str:
    """Say that a part of a run was not computed where it was started."""
    return (
        f"not bit-exact: a part was computed elsewhere than where the run was started "
        f"({clauses(found)}), and may differ in the last bits from what one run would "
        "give"
    )
