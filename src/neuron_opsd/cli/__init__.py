"""The command `neuron-opsd`: arguments in, exit status out, and all printing.

Nothing heavy is imported here or by command modules: each command imports what it needs
when it runs, to keep help fast.
"""

from __future__ import annotations

from collections.abc import Sequence

from neuron_opsd.processes.stopping import STOPPING, stoppable

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status, whenever a signal arrives."""
    with stoppable():
        try:
            from neuron_opsd.cli import app

            return app.main(argv)
        except KeyboardInterrupt:
            return STOPPING.status
