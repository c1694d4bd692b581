"""The command `neuron-opsd`: arguments in, exit status out, and all that prints.

Nothing heavy is imported here or by the modules of the commands; each command imports
what it needs when it runs, so that help pages come at once.
"""

from __future__ import annotations

from neuron_opsd.cli.app import main

__all__ = ["main"]
