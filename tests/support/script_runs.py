"""What a script of this folder leaves: it trains in processes of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType


def left_by(script: ModuleType, folder: Path, model: Path) -> Path:
    """Run a script that trains a model; return the folder of what it left."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script.__file__), str(folder), str(model)],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return folder
