"""Low-rank adapters: ours, and what other tools wrote.

PEFT imports bitsandbytes where that is installed, and this fetches code from the hub
where the package `kernels` is installed too. Nothing here runs such code, so it is
imported first, without that package.
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
