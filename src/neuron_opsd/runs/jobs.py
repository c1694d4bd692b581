"""What another process must be told to take part in a training, as a text.

It holds the settings, the examples and the method's name. Weights are no part of it:
each process loads the model's own files, and says by their hash which these are.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from pydantic import TypeAdapter

from neuron_opsd.config import Config
from neuron_opsd.errors import ConfigError
from neuron_opsd.methods import METHODS, Method, Oracle
from neuron_opsd.records import TrainingExample
from neuron_opsd.runs.courses import Job
from neuron_opsd.stages.rollouts import PromptedQuestion

EXAMPLES: Final = TypeAdapter(tuple[TrainingExample, ...])
QUESTIONS: Final = TypeAdapter(tuple[PromptedQuestion, ...])


@dataclass(frozen=True, slots=True)
class Order:
    """A job as it is told, with what all that take part in it must have alike."""

    job: Job
    tokens: int
    """That a pass without gradient may hold to begin with."""
    fingerprint: str
    """Of the model's files, as `runs.fingerprint` finds it."""
    threads: int
    """Of each process."""


def order_text(order: Order) -> str:
    """Return a job as JSON.

    Raises:
        ConfigError: If other processes cannot be told of it.
    """
    job = order.job
    return json.dumps(
        {
            "config": job.config.model_dump(mode="json"),
            "method": name_of(job.objective),
            "examples": EXAMPLES.dump_python(tuple(job.examples)),
            "guarded": QUESTIONS.dump_python(tuple(job.guarded)),
            "tokens": order.tokens,
            "fingerprint": order.fingerprint,
            "threads": order.threads,
        }
    )


def name_of(objective: object) -> str:
    """Return the name by which another process finds a method."""
    if not isinstance(objective, Method) or METHODS.get(objective.name) is not type(
        objective
    ):
        raise ConfigError(
            f"{type(objective).__name__} is no method that other processes know, so "
            "they cannot train it; train with one process"
        )
    if isinstance(objective, Oracle):
        raise ConfigError(
            f"{objective.name} is told gold answers, which no other process is; train "
            "with one process"
        )
    return objective.name


def read_order(text: str) -> Order:
    """Return the job that `order_text` wrote down."""
    table: dict[str, Any] = json.loads(text)
    config = Config.model_validate(table["config"])
    method = METHODS[table["method"]](config)
    examples = EXAMPLES.validate_python(table["examples"])
    job = Job(config, examples, method, QUESTIONS.validate_python(table["guarded"]))
    return Order(job, table["tokens"], table["fingerprint"], table["threads"])
