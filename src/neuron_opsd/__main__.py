"""`python -m neuron_opsd` is the command `neuron-opsd`."""

from __future__ import annotations

import sys

from neuron_opsd.cli import main

if __name__ == "__main__":
    sys.exit(main())
