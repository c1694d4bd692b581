"""Where the checkout, its documents and the tests' own files lie."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import neuron_opsd

SUPPORT: Final = Path(__file__).parent
ROOT: Final = SUPPORT.parents[1]
CASES: Final = ROOT / "tests" / "cases"
DOCS: Final = ROOT / "docs"
PACKAGE: Final = Path(neuron_opsd.__file__).parent
SOURCES: Final = PACKAGE.parent
"""What stands in `PYTHONPATH` of a process that imports the package."""
