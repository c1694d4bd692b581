"""What samples of a run tell of the whole: which to take, and what follows from them.

`planning.costs` does the sum; `planning.trials` takes the samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from neuron_opsd.planning.workload import Decoding
from neuron_opsd.records import Completion

T = TypeVar("T")


def spread(items: Sequence[T], count: int) -> list[T]:
    """Return items at evenly spaced ranks, none of them at an end.

    A sample of sorted items taken so has the mean, the spread and the largest item
    that a random one of its size has on average.

    Args:
        items: In order of size, at least one.
        count: How many are wanted; above their number, items come more than once.

    Example:
        >>> spread([1, 2, 3, 4, 5, 6], 2), spread([1, 2], 3)
        ([2, 5], [1, 2, 2])
    """
    return [items[(2 * i + 1) * len(items) // (2 * count)] for i in range(count)]


def affordable(seconds_each: float, allowed: float, most: int) -> int:
    """Return how many things may be done in a time, at least one."""
    if seconds_each * most <= allowed:
        return most
    return max(1, int(allowed / seconds_each))


def fit_decoding(few: tuple[int, int, float], many: tuple[int, int, float]) -> Decoding:
    """Tell what a decoding step costs from what each of its rows costs.

    Example:
        >>> fit_decoding((10, 10, 30.0), (10, 40, 60.0))
        Decoding(step_seconds=2.0, token_seconds=1.0)
    """
    slope = few[0] * many[1] - many[0] * few[1]
    token = (few[0] * many[2] - many[0] * few[2]) / slope if slope else 0.0
    # A line that does not rise is noise: the larger sample alone says what tokens cost.
    token = token if 0.0 < token * many[1] <= many[2] else many[2] / max(1, many[1])
    return Decoding(max(0.0, many[2] - token * many[1]) / max(1, many[0]), token)


def end_chance(completions: Sequence[Completion]) -> float:
    """Return the chance that a token ends a completion, taken to be alike for all.

    Completions that were cut say how long others may become; a plain mean would not.

    Example:
        >>> end_chance([])
        0.0
    """
    made = sum(len(one.token_ids) for one in completions)
    return min(1.0, sum(one.finished for one in completions) / made) if made else 0.0


def mean_length(chance: float, longest: int) -> float:
    """Return the mean length of completions whose tokens end them with a chance.

    Args:
        chance: Of every token; 0 if none ever ends one.
        longest: Where completions are cut.

    Example:
        >>> mean_length(0.5, 2), mean_length(0.0, 7)
        (1.5, 7.0)
    """
    if not chance:
        return float(longest)
    return (1.0 - (1.0 - chance) ** longest) / chance
