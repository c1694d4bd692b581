"""Where files lie that outlive a command: what was fetched, and converted models."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder, which the environment may name."""
    if own := os.environ.get("NEURON_OPSD_CACHE"):
        return Path(own).expanduser()
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared).expanduser() / "neuron-opsd"
    return Path.home() / ".cache" / "neuron-opsd"
