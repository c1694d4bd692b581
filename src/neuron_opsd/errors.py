"""Errors that a user of the tool can cause, and therefore can mend.

Anything else that goes wrong is a bug and keeps its ordinary Python exception. The
command line turns these, and only these, into one line on stderr and an exit status.
"""

from __future__ import annotations

from typing import ClassVar


class NeuronOpsdError(Exception):
    """Base of every error below."""

    exit_status: ClassVar[int] = 2
    """What the command line exits with: 2 for a user's mistake, 75 for `try again`."""


class ConfigError(NeuronOpsdError, ValueError):
    """A setting is missing, unknown or out of range."""


class DataError(NeuronOpsdError, ValueError):
    """A record of an input file cannot be used."""


class ModelError(NeuronOpsdError, ValueError):
    """A model cannot be found, read or used for the method."""


class TeacherError(NeuronOpsdError):
    """The teacher is not fit to teach, and the run was told to stop when that is so."""


class TrainingError(NeuronOpsdError):
    """Training cannot go on, for example because the loss is no longer a number."""


class TryAgainError(NeuronOpsdError):
    """The world is in the way: a full disk, no network, a run directory in use."""

    exit_status = 75


class InUseError(TryAgainError):
    """Another process holds what this one needs."""
