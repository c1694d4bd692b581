"""The wheel: what it has, and that it stays small."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from places import PACKAGE, ROOT

MOST_BYTES = 2**20


def test_the_wheel_has_the_whole_package_and_stays_small(tmp_path: Path) -> None:
    wheels = pytest.importorskip("hatchling.builders.wheel")
    (built,) = wheels.WheelBuilder(str(ROOT)).build(
        directory=str(tmp_path), versions=["standard"]
    )
    assert Path(built).stat().st_size < MOST_BYTES
    with zipfile.ZipFile(built) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    wanted = {
        path.relative_to(PACKAGE.parent).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == wanted
