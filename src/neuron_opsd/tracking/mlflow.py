"""MLflow: `mlflow.db` in the current folder, or MLFLOW_TRACKING_URI."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from typing import Final

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# An unreachable server must not stall training for long.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag

from neuron_opsd.tracking.subject import PROJECT, Log, Subject

KEY: Final = "neuron_opsd.key"
TAKEN: Final = "neuron_opsd.steps_taken"
UNFIT: Final = re.compile(r"[^\w\-./ ]")
"""Characters not allowed in metric names."""
MOST_PARAMS: Final = 100
"""Maximum per request."""
LONGEST: Final = 5000
"""Maximum characters of a value."""


class TrainingLog(Log):
    """One run of an experiment."""

    def __init__(self, subject: Subject) -> None:
        """Open or resume the run."""
        self._client = MlflowClient()
        found = known_run(self._client, subject.key)
        run = found or new_run(self._client, subject)
        self._id: str = run.info.run_id
        self.taken = int(run.data.tags.get(TAKEN, 0))
        if found is not None:
            self._client.update_run(self._id, status="RUNNING")

    def write(
        self, step: int, values: Mapping[str, float], events: Sequence[str]
    ) -> None:
        """Log the values, and a tag per event, in one call."""
        now = int(time.time() * 1000)
        metrics = [Metric(UNFIT.sub("_", n), v, now, step) for n, v in values.items()]
        tags = [RunTag(TAKEN, str(step + 1))]
        for number, text in enumerate(events):
            tags.append(RunTag(f"event.{step}.{number}", text[:LONGEST]))
        self._client.log_batch(self._id, metrics=metrics, tags=tags)

    def close(self, *, finished: bool) -> None:
        """Record how the run ended."""
        self._client.set_terminated(self._id, "FINISHED" if finished else "KILLED")


def experiment(client: MlflowClient) -> str:
    """Return the experiment's id, creating it if missing."""
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
    found = client.get_experiment_by_name(name)
    return str(found.experiment_id if found else client.create_experiment(name))


def known_run(client: MlflowClient, key: str) -> Run | None:
    """Return a training's existing run, if any."""
    wanted = f"tags.`{KEY}` = '{key}'"
    return next(iter(client.search_runs([experiment(client)], wanted)), None)


def new_run(client: MlflowClient, subject: Subject) -> Run:
    """Start a training's run with its settings."""
    run = client.create_run(
        experiment(client),
        run_name=subject.name,
        tags={KEY: subject.key, "group": subject.folder.resolve().name},
    )
    params = [Param(n, str(v)[:LONGEST]) for n, v in subject.settings.items()]
    for start in range(0, len(params), MOST_PARAMS):
        some = params[start : start + MOST_PARAMS]
        client.log_batch(run.info.run_id, params=some)
    return run
