"""The lock holds what the project asks for, in versions it allows, all with hashes."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

import pytest
from packaging.requirements import Requirement

import places

ROOT = places.ROOT
LOCKED = re.compile(r"^([A-Za-z0-9._-]+==[^ \\]+)(?: ; [^\\]*)?(?: \\)?$", re.MULTILINE)
NOT_LOCKED = {"torch"}
"""Installed by its version, because the right build depends on the machine."""


def asked_of(name: str) -> Iterator[Requirement]:
    """Yield what a lock must hold."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    yield from map(Requirement, project["dependencies"])
    files = ["build.txt"] + ["dev.txt"] * (name == "lock-dev.txt")
    for file in files:
        lines = (ROOT / "requirements" / file).read_text().splitlines()
        yield from (Requirement(line) for line in lines if not line.startswith("#"))


def locked_in(name: str) -> dict[str, list[str]]:
    """Return the versions of every package in a lock; markers may allow several."""
    found: dict[str, list[str]] = {}
    for pin in LOCKED.findall((ROOT / "requirements" / name).read_text()):
        package, version = pin.split("==")
        found.setdefault(package, []).append(version)
    return found


@pytest.mark.parametrize("name", ["lock.txt", "lock-dev.txt"])
def test_the_lock_holds_what_is_asked_for(name: str) -> None:
    locked = locked_in(name)
    for requirement in asked_of(name):
        if requirement.name in NOT_LOCKED:
            continue
        versions = locked.get(requirement.name, [])
        assert versions, f"{requirement} is not in {name}; run make lock"
        for version in versions:
            assert version in requirement.specifier, f"{requirement}: {version}"


@pytest.mark.parametrize("name", ["lock.txt", "lock-dev.txt"])
def test_every_locked_package_has_a_hash_and_none_is_for_cuda(name: str) -> None:
    text = (ROOT / "requirements" / name).read_text()
    blocks = re.split(r"\n(?=[a-z0-9])", text.split("\n", 2)[2])
    assert len(blocks) > 50
    for block in blocks:
        assert "--hash=sha256:" in block, block.splitlines()[0]
    assert not re.search(r"^(?:nvidia|cuda|triton|torch==)", text, re.MULTILINE)


def test_both_locks_agree() -> None:
    core, tools = locked_in("lock.txt"), locked_in("lock-dev.txt")
    assert {name: tools.get(name) for name in core} == core
