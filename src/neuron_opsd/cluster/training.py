"""Cluster workers that train together, by Ray Train.

Ray Train starts them, sets up torch's process group, and ends all if one is lost. This
process sends requests to the first one by one, over Ray's queues and no disk.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeAlias

from neuron_opsd.cluster.session import Share, beside_this, cluster_text, load_ray
from neuron_opsd.cluster.worker import Reply
from neuron_opsd.config import ClusterConfig
from neuron_opsd.documents import first_line
from neuron_opsd.errors import TryAgainError

TICK: Final = 1.0
"""Seconds between checks."""
END: Final = "end"
"""The last request, which gets no answer."""
LOST: Final = (
    "a training worker was lost ({}); the last checkpoint is intact, and the same "
    "command resumes from it"
)


@dataclass(frozen=True, slots=True)
class Line:
    """Two queues between this process and the first worker."""

    asked: Any
    answered: Any

    def hear(self) -> tuple[str, Any]:
        """Wait, in the worker, for a request and its data."""
        asked: tuple[str, Any] = self.asked.get()
        return asked

    def answer(self, reply: Reply) -> None:
        """Answer in the worker."""
        self.answered.put(reply)


Work: TypeAlias = Callable[[Line, str], None]
"""What every worker runs; other processes can import it."""


class Team:
    """Workers for one joint training."""

    def __init__(
        self,
        size: int,
        share: Share,
        environment: Mapping[str, str],
        settings: ClusterConfig,
    ) -> None:
        self.size, self.share = size, share
        self.environment, self.settings = environment, settings
        self._end = ""
        """Why the workers ended, as Ray says it."""
        self._thread: threading.Thread | None = None
        self._line: Line | None = None
        self._arrived = False

    def begin(self, work: Work, text: str) -> None:
        """Start the workers, all with the same text."""
        load_ray()
        from ray.util.queue import Queue

        queues = (Queue(actor_options=beside_this()) for _ in range(2))
        self._line = Line(*queues)
        each = partial(work, self._line, text)
        self._thread = threading.Thread(target=self._fit, args=(each,), daemon=True)
        self._thread.start()

    def ask(self, what: str, data: object = None) -> Any:
        """Send the first worker a request; return its answer.

        Raises:
            NeuronOpsdError: What the worker raised.
            TryAgainError: If the workers do not come in time, or one is lost.
        """
        end = time.monotonic() + self.settings.timeout
        try:
            reply = self._answer(what, data, end)
        except load_ray().exceptions.RayError as error:
            raise TryAgainError(LOST.format(first_line(error))) from error
        self._arrived = True
        if reply.error is not None:
            raise reply.error
        return reply.value

    def _answer(self, what: str, data: object, end: float) -> Reply:
        assert self._line is not None
        self._line.asked.put((what, data))
        while True:
            try:
                found: Reply = self._line.answered.get(timeout=TICK)
            except queue.Empty:
                self._look(end)
            else:
                return found

    def close(self) -> None:
        """Release the workers."""
        if self._line is None or self._thread is None:
            return
        if self._thread.is_alive():
            self._line.asked.put((END, None))
            self._thread.join(self.settings.timeout if self._arrived else TICK)
        for one in (self._line.asked, self._line.answered):
            one.shutdown(force=True)
        self._line = self._thread = None

    def _look(self, end: float) -> None:
        if self._thread is not None and not self._thread.is_alive():
            raise TryAgainError(LOST.format(self._end or "Ray does not say why"))
        if not self._arrived and time.monotonic() > end:
            raise TryAgainError(
                f"{self.size} workers with {self.share} each did not start within "
                f"{self.settings.timeout} s (cluster.timeout); the cluster has "
                f"{cluster_text()}; wait until they are free, or lower "
                "cluster.workers, cluster.gpus_per_worker or cluster.cpus_per_worker"
            )

    def _fit(self, each: Callable[[], None]) -> None:
        """Run the workers to their end, in a thread."""
        # By name, since the types are an earlier version's classes.
        train, trainers, errors = map(
            import_module, ("ray.train", "ray.train.torch", "ray.exceptions")
        )
        logging.getLogger("ray.train").setLevel(logging.CRITICAL)
        resources = {"CPU": float(self.share.cpus)}
        if self.share.gpus:
            resources["GPU"] = self.share.gpus
        with TemporaryDirectory(prefix="neuron-opsd-") as folder:
            trainer = trainers.TorchTrainer(
                each,
                torch_config=trainers.TorchConfig(timeout_s=self.settings.step_timeout),
                scaling_config=train.ScalingConfig(
                    num_workers=self.size,
                    use_gpu=self.share.gpus > 0,
                    resources_per_worker=resources,
                ),
                run_config=train.RunConfig(
                    storage_path=folder,
                    worker_runtime_env={"env_vars": dict(self.environment)},
                ),
            )
            try:
                trainer.fit()
            except SystemExit:  # how Ray ends calls in other threads as it stops
                self._end = "Ray was stopped"
            except (train.TrainingFailedError, errors.RayError) as error:
                self._end = first_line(error)
