"""Low-rank adapters: ours, and those of other tools.

PEFT imports bitsandbytes if it is installed, which with the package `kernels` fetches
code from the hub. Importing it first with `kernels` hidden prevents that.
"""

import logging
import sys
from importlib.util import find_spec

if find_spec("bitsandbytes") is not None and "bitsandbytes" not in sys.modules:
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    found = sys.modules.get("kernels")
    sys.modules["kernels"] = None  # type: ignore[assignment]
    try:
        import bitsandbytes as bitsandbytes
    finally:
        del sys.modules["kernels"]
        if found is not None:
            sys.modules["kernels"] = found
