"""The exit statuses of the program and what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from neuron_opsd.errors import NeuronOpsdError, TryAgainError
from neuron_opsd.processes.stopping import SIGNALS, status_of

DONE: Final = 0
FAULT: Final = 1
"""Python's own, for an uncaught exception."""
MISTAKE: Final = NeuronOpsdError.exit_status
TRY_AGAIN: Final = TryAgainError.exit_status
BROKEN_PIPE: Final = 128 + 13
"""As if killed by SIGPIPE, which Windows lacks."""

EXIT_STATUSES: Final[Mapping[int, str]] = {
    DONE: "done",
    FAULT: "a bug, with a traceback: please report it",
    MISTAKE: "a mistake in a flag, a setting, a file or a model, which the message "
    "explains; from `doctor`: something must be fixed first",
    TRY_AGAIN: "try again: disk or memory is full, the network is down, or another "
    "process is using the folder",
    **{
        status_of(number): f"stopped by {number.name}; the same command resumes"
        for number in sorted(SIGNALS)
    },
    BROKEN_PIPE: "whatever read the output, for example `head`, has closed it",
}
