"""Any file of a run or a comparison, damaged in any way, and any command after it.

Nothing may end in a traceback, take for ever, touch what is somebody else's, or give
another result in silence. The default suite tries a sample, `-m long` many more;
`DAMAGE_CASES` says how many for each command and specimen, 0 means all.
"""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest

import run_specimens
from file_damage import Damage, damages
from run_specimens import COMMANDS, Specimen, analysis_of, argv_of, end_of, results_of

MAKERS: Mapping[str, Callable[[Path, Path], Specimen]] = {
    "finished": run_specimens.finished,
    "in blocks": run_specimens.in_blocks,
    "in training": run_specimens.in_training,
    "compared": run_specimens.compared,
    "comparing": run_specimens.comparing,
}
SAMPLED = {"status": 16, "status --json": 4, "report": 10, "resume": 2, "analyse": 3}
"""How many cases of each command the default suite tries."""

LONG = int(os.environ.get("DAMAGE_CASES", "100"))


@pytest.fixture
def specimen(
    request: pytest.FixtureRequest, tmp_path: Path, tiny_llama: Path
) -> Specimen:
    """Give a run or a comparison that is made for one test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return MAKERS[request.param](tmp_path, tiny_llama)


def wanted_of(specimen: Specimen) -> dict[str, Any]:
    """Return what a copy that nothing harmed leaves, and what is said of it."""
    with specimen.copied(specimen.home / "copy") as out:
        assert end_of(specimen.command(out)).status == 0
        found = results_of(out)
        if end_of(argv_of("analyse", specimen, out)).status == 0:
            found |= analysis_of(out)
        return found


Case: TypeAlias = tuple[str, Damage]
"""A file and what is done to it."""


def some_of(cases: Sequence[Case], seed: str, count: int) -> list[Case]:
    """Return some cases, the same for the same seed; all for a count of 0."""
    return random.Random(seed).sample(cases, min(count or len(cases), len(cases)))


def sweep(specimen: Specimen, counts: Mapping[str, int]) -> list[str]:
    """Try damage after damage; say what went wrong."""
    wanted = wanted_of(specimen)
    cases = [
        (file, damage)
        for file in specimen.files()
        for damage in damages(specimen.folder / file)
    ]
    found = []
    for command, count in counts.items():
        seed = f"{specimen.name} {command}"
        for file, damage in some_of(cases, seed, count):
            fault = run_specimens.fault_after(specimen, file, damage, command, wanted)
            if fault:
                found.append(f"{command} after {file} ({damage}): {fault}")
    return found


@pytest.mark.parametrize("specimen", ["finished", "comparing"], indirect=True)
def test_damage_is_told_or_mended(specimen: Specimen) -> None:
    assert sweep(specimen, SAMPLED) == []


@pytest.mark.long
@pytest.mark.parametrize("specimen", MAKERS, indirect=True)
def test_much_damage_is_told_or_mended(specimen: Specimen) -> None:
    assert sweep(specimen, dict.fromkeys(COMMANDS, LONG)) == []
