"""A cluster process that works on chunks with a model, writing nothing."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import neuron_opsd
from neuron_opsd.errors import NeuronOpsdError


@dataclass(frozen=True, slots=True)
class Reply:
    """A value, or an error that the user can fix."""

    value: Any = None
    error: NeuronOpsdError | None = None


class Worker:
    """A process with its own model."""

    def __init__(self, environment: Mapping[str, str], threads: int) -> None:
        """Set what decides the last bits before importing libraries."""
        os.environ.update(environment, OMP_NUM_THREADS=str(threads))
        import torch

        torch.set_num_threads(threads)
        self.model: Any = None

    def arrive(self) -> tuple[str, int, str]:
        """Return machine, process id and package version."""
        return socket.gethostname(), os.getpid(), neuron_opsd.__version__

    def leave(self) -> None:
        """Release the model and its files."""
        self.model = None

    def load(self, recipe: Callable[[], Any]) -> Reply:
        """Load a model, replacing any other."""
        self.model = None
        try:
            self.model = recipe()
        except NeuronOpsdError as error:
            return Reply(error=error)
        return Reply()

    def work(
        self,
        function: Callable[[Any, Sequence[Any]], Sequence[Any]],
        chunk: Sequence[Any],
    ) -> Reply:
        """Work on a chunk with the model."""
        try:
            return Reply(function(self.model, chunk))
        except NeuronOpsdError as error:
            return Reply(error=error)
