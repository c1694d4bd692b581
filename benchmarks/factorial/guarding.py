"""How often the guard was right about models that it was not made with.

Labels say afterwards which models collapsed; the guard saw none.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

import pyarrow.parquet as pq

from benchmarks.factorial.answers import Table, accuracies
from benchmarks.factorial.keeping import COMPARISON, LOOKS
from neuron_opsd.config import GuardConfig
from neuron_opsd.method.guard import ON_LOOKS, ON_STEPS, signs_of
from neuron_opsd.records import Reading
from neuron_opsd.results.comparison import BASE
from neuron_opsd.results.run import PROMPTED

COLLAPSED: Final = -0.05
"""Change of accuracy on a model's own test at which it has collapsed, or below."""
HEALTHY: Final = -0.01
"""Change at which it is healthy, or above."""

WARNING: Final = re.compile(
    r"(?P<source>\S+) seed (?P<seed>\d+), (?P<arms>[^:]+): step (?P<step>\d+): "
    rf"(?P<sign>the loss grows|[^(]+? (?:{ON_STEPS}|{ON_LOOKS})) \("
)
"""A sign in a comparison's warnings; several arms may share one."""

Case: TypeAlias = tuple[str, int, str]
"""Source, seed and arm."""


def signs_in(out: Path, part: str) -> dict[Case, dict[str, int]]:
    """Return the signs of every trained model with the step of each."""
    found: dict[Case, dict[str, int]] = defaultdict(dict)
    for path in sorted(out.glob(f"{part}/*/{COMPARISON}")):
        for text in json.loads(path.read_text(encoding="utf-8"))["warnings"]:
            sign = WARNING.match(text)
            if sign is None:
                continue
            for arm in sign["arms"].split(", "):
                case = sign["source"], int(sign["seed"]), arm
                found[case].setdefault(sign["sign"], int(sign["step"]))
    return found


def signs_today(out: Path, part: str) -> dict[Case, dict[str, int]]:
    """Return the signs that today's limits give, from what the guard measured then.

    Those of the steps' own rollouts are as they were warned of.

    Raises:
        FileNotFoundError: If a block has no looks; it would pass for one without signs.
    """
    limits = GuardConfig()
    found = {
        case: {
            sign: step for sign, step in signs.items() if not sign.endswith(ON_LOOKS)
        }
        for case, signs in signs_in(out, part).items()
    }
    for path in sorted(out.glob(f"{part}/*/{COMPARISON}")):
        for row in pq.read_table(path.with_name(LOOKS)).to_pylist():
            base, student = Reading(**row["base"]), Reading(**row["student"])
            own = found.setdefault((row["source"], row["seed"], row["arm"]), {})
            for sign in signs_of(base, student, limits, ON_LOOKS):
                own.setdefault(sign, row["step"])
    return found


def changes_of(tables: Mapping[str, Table]) -> dict[Case, float]:
    """Return by how much every trained model is above the untrained one, by labels."""
    found = {}
    for source, table in tables.items():
        scores = accuracies(table, [source])
        base = scores[BASE]
        trained = {key[1] for key in table} - {BASE, PROMPTED}
        for arm in trained:
            for seed, own in scores[arm].items():
                found[source, seed, arm] = float(own.mean() - base[seed].mean())
    return found


@dataclass
class Count:
    """Models of one kind."""

    healthy: int = 0
    alarmed: int = 0
    """Healthy ones with a sign."""
    collapsed: int = 0
    missed: int = 0
    """Collapsed ones without a sign."""
    between: int = 0
    signs: Counter[str] = field(default_factory=Counter)
    """Of the false alarms."""


HEADINGS: Final = (
    "healthy",
    "false alarms",
    "collapsed",
    "missed",
    "between",
    "signs of false alarms",
)


def guard_rows(
    signs: Mapping[Case, Mapping[str, int]], changes: Mapping[Case, float]
) -> Iterator[list[str]]:
    """Yield a row for every source and one for all."""
    counts: dict[str, Count] = {}
    for case, change in changes.items():
        for where in (case[0], "all sources"):
            add(counts.setdefault(where, Count()), change, signs.get(case, {}))
    for where in sorted(counts, key="all sources".__eq__):
        one = counts[where]
        said = ", ".join(f"{sign} ({n})" for sign, n in one.signs.most_common())
        numbers = one.healthy, one.alarmed, one.collapsed, one.missed, one.between
        yield [where, *map(str, numbers), said]


def add(count: Count, change: float, signs: Mapping[str, int]) -> None:
    """Count one model."""
    if change >= HEALTHY:
        count.healthy += 1
        count.alarmed += bool(signs)
        count.signs.update(signs.keys())
    elif change <= COLLAPSED:
        count.collapsed += 1
        count.missed += not signs
    else:
        count.between += 1
