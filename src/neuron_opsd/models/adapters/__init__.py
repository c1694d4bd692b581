"""Low-rank adapters: ours, and those written by other tools.

Where bitsandbytes is installed, PEFT imports it, and with the package `kernels` it
would fetch code from the hub. Importing it here first, with `kernels` hidden, prevents
that.
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
