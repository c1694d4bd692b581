"""The examples and learning rate of each optimiser step, from its number alone."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from neuron_opsd.method.settings import DistillConfig
from neuron_opsd.seeds import generator


def batch_at(step: int, num_examples: int, batch_size: int, seed: int) -> list[int]:
    """Return which examples a step trains on.

    Each epoch has a new random order; a batch may span epochs and repeat an example.
    """
    if num_examples < 1:
        raise ValueError("cannot draw a batch from no examples")
    batch = []
    for visit in range(step * batch_size, (step + 1) * batch_size):
        epoch, place = divmod(visit, num_examples)
        batch.append(int(epoch_order(num_examples, seed, epoch)[place]))
    return batch


@lru_cache(maxsize=2)  # a batch may end one pass and begin the next
def epoch_order(num_examples: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the order ``(num_examples,)`` of one epoch."""
    order = generator(seed, "batch", epoch).permutation(num_examples)
    order.flags.writeable = False
    return order


def learning_rate_at(step: int, config: DistillConfig) -> float:
    """Return the learning rate of a step, counted from 0."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.learning_rate
    remaining = max(1, config.steps - config.warmup_steps)
    done = min(1.0, (step - config.warmup_steps) / remaining)
    if config.schedule == "linear":
        return config.learning_rate * (1.0 - done)
    return config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * done))
