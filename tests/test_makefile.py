"""What `make` prints while it installs, with a pip that only pretends to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import places

FAKE = f"""#!{sys.executable}
import os, pathlib, shutil, sys
words = sys.argv[1:]
if words[:2] == ["-m", "venv"]:
    folder = pathlib.Path(words[-1]) / "bin"
    folder.mkdir(parents=True)
    shutil.copy(__file__, folder / "python")
elif words[:2] == ["-m", "pip"]:
    print("WARNING: Retrying after a broken connection", file=sys.stderr)
    with open(os.environ["CALLS"], "a") as calls:
        calls.write(" ".join(words) + "\\n")
    wanted = os.environ["BROKEN"]
    if wanted in ("always", "first" if "--retries" in words else "second"):
        print("ERROR: no such package", file=sys.stderr)
        sys.exit(1)
"""


def install(folder: Path, broken: str) -> tuple[subprocess.CompletedProcess[str], str]:
    """Run the installing part of `make` in a folder; also return pip's calls."""
    python, calls = folder / "python", folder / "calls"
    python.write_text(FAKE)
    python.chmod(0o755)
    venv = folder / "venv"
    done = subprocess.run(
        ["make", f"VENV={venv}", f"PYTHON={python}", f"{venv}/installed"],
        cwd=places.ROOT,
        env={"PATH": os.environ["PATH"], "CALLS": str(calls), "BROKEN": broken},
        capture_output=True,
        text=True,
        check=False,
    )
    return done, calls.read_text()


def test_an_index_out_of_reach_is_not_told_where_pip_gets_along(tmp_path: Path) -> None:
    done, calls = install(tmp_path, "never")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(calls.splitlines()) == 3
    assert (tmp_path / "venv/installed").exists()


@pytest.mark.parametrize("broken", ["first", "always"])
def test_what_keeps_pip_from_installing_is_told(tmp_path: Path, broken: str) -> None:
    done, calls = install(tmp_path, broken)
    assert "WARNING: Retrying" in done.stderr
    assert ("ERROR: no such package" in done.stderr) == (broken == "always")
    assert (done.returncode == 0) == (broken == "first")
    assert "--retries" not in calls.splitlines()[1]
