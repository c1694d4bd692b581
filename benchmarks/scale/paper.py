"""What the paper's comparison costs, as recipes/paper.toml has it: counts and hours."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from benchmarks.scale.hours import GPU, HOUR, Setting, answering, passing, step
from neuron_opsd.models.outline import Outline

RECIPE: Final = Path(__file__).resolve().parents[2] / "recipes" / "paper.toml"

SOURCES: Final[Mapping[str, int]] = {
    "biology": 3541,
    "material": 4460,
    "physics": 2984,
    "chemistry": 5636,
    "MMLU-Pro": 12_032,
    "Edu-Feedback": 1799,
}
"""Questions of each: the paper's counts, and for the last what is public."""
TEST_SHARE: Final = 0.2


@dataclass(frozen=True, slots=True)
class Counts:
    """What the comparison does."""

    pools: int
    """Questions of all pools."""
    tests: int
    groups: int
    """Pools that are answered: one for each source and seed."""
    trained: int
    """Models, the form-only control of each group included."""
    sampling: int
    """Of these, those whose steps draw rollouts."""

    @property
    def tested(self) -> int:
        """Passes over all tests; each group tests the untrained model too."""
        return self.trained + self.groups


def counts(recipe: Mapping[str, Any]) -> Counts:
    """Count what a recipe does with the six sources."""
    seeds = recipe["seeds"]
    trained = sum(own.get("seeds", seeds) for own in recipe["methods"].values())
    tests = round(TEST_SHARE * sum(SOURCES.values()))
    return Counts(
        pools=sum(SOURCES.values()) - tests,
        tests=tests,
        groups=seeds * len(SOURCES),
        trained=(trained + seeds) * len(SOURCES),
        sampling=trained * len(SOURCES),
    )


def read() -> dict[str, Any]:
    """Return the recipe."""
    return tomllib.loads(RECIPE.read_text("utf-8"))


def setting(recipe: Mapping[str, Any]) -> Setting:
    """Return the sizes of a recipe's run."""
    settings = recipe["settings"]
    distill, rollouts = settings["distill"], settings["rollouts"]
    return replace(
        Setting(),
        samples=rollouts["num_samples"],
        limit=rollouts["max_new_tokens"],
        steps=distill["steps"],
        batch=distill["batch_size"] * distill["num_samples"],
    )


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the comparison."""

    completions: int
    hours: float


def parts(
    outline: Outline, recipe: Mapping[str, Any], gpu: GPU, rows: int, count: int
) -> dict[str, Part]:
    """Return the completions and the hours of each part on some GPUs."""
    done, sizes = counts(recipe), setting(recipe)
    answered = answering(outline, sizes, gpu, rows) / count / HOUR
    reading = passing(outline, sizes.prompt + sizes.mean, gpu) / count / HOUR
    pools = done.groups // len(SOURCES) * done.pools
    num_tested = done.tested * done.tests * sizes.samples
    a_step = step(outline, sizes, gpu, count, again=False) / HOUR
    return {
        "pools": Part(
            pools * sizes.samples, pools * (sizes.samples * answered + reading)
        ),
        "training": Part(
            done.sampling * sizes.steps * sizes.batch,
            done.sampling * sizes.steps * a_step,
        ),
        "tests": Part(num_tested, num_tested * answered),
    }
