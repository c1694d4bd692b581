"""Compare label-free scores by how they order teachers that answers order as well.

    python benchmarks/probe_scores.py PROBE...

Each PROBE is the folder of a probe with --answers. For every candidate the rank
correlation with the teachers' accuracy is taken over context rules within each pool,
then its mean over pools, with an interval over resampled rules and pools.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src")]

from neuron_opsd.method.statistics import FloatArray, spearman  # noqa: E402
from neuron_opsd.probing.arms import STUDENT  # noqa: E402
from neuron_opsd.probing.summary import QUESTIONS  # noqa: E402
from neuron_opsd.probing.validity import ScoredArms  # noqa: E402

Columns = Mapping[str, FloatArray]

CANDIDATES: Mapping[str, Callable[[Columns], FloatArray]] = {
    "fix - break": lambda c: c["fix"] - c["break"],
    "vote share * (fix - break)": lambda c: c["vote_share"] * (c["fix"] - c["break"]),
    "agreement * stability": lambda c: c["agreement"] * c["stability"],
    "agreement * shift": lambda c: c["agreement"] * c["shift"],
    "vote share * agreement * shift": lambda c: (
        c["vote_share"] * c["agreement"] * c["shift"]
    ),
    "support": lambda c: c["support"],
    "support * stability": lambda c: c["support"] * c["stability"],
    "stability": lambda c: c["stability"],
    "shift": lambda c: c["shift"],
    "divergence": lambda c: c["divergence"],
    "- entropy": lambda c: -c["entropy"],
}
"""By name, ``(Q,)`` of the measures of one rule; the score is the mean."""


def main() -> int:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("probes", type=Path, nargs="+")
    chosen = parser.parse_args()
    pools = {folder.name: read_columns(folder / QUESTIONS) for folder in chosen.probes}
    rules = list(dict.fromkeys(rule for pool in pools.values() for rule in pool))
    accuracy = table(pools.values(), rules, lambda c: c["accuracy"])
    names = " | ".join(pools)
    print(f"| score | {names} | mean of pools (95 % interval) |")
    print("|---" * (len(pools) + 2) + "|")
    for name, candidate in CANDIDATES.items():
        scores = table(pools.values(), rules, candidate)
        each = [
            spearman(s[known], a[known])
            for s, a in zip(scores, accuracy, strict=True)
            for known in [~np.isnan(s)]
        ]
        found = ScoredArms(scores, accuracy).correlation()
        cells = " | ".join(f"{one:+.2f}" for one in each)
        ends = f"{found.low:+.2f} to {found.high:+.2f}"
        print(f"| {name} | {cells} | {found.value:+.2f} ({ends}) |")
    return 0


def read_columns(path: Path) -> dict[str, Columns]:
    """Return the measures of each rule's questions."""
    rows: dict[str, list[dict[str, str]]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["rule"] != STUDENT:
                rows.setdefault(row["rule"], []).append(row)
    return {
        rule: {
            name: np.array([float(row[name]) for row in some])
            for name in some[0]
            if name not in ("question_id", "rule") and some[0][name]
        }
        for rule, some in rows.items()
    }


def table(
    pools: Iterable[Mapping[str, Columns]],
    rules: Sequence[str],
    candidate: Callable[[Columns], FloatArray],
) -> FloatArray:
    """Return ``(S, A)`` the mean of a candidate, NaN where a pool has not the rule."""
    return np.array(
        [
            [float(candidate(pool[r]).mean()) if r in pool else np.nan for r in rules]
            for pool in pools
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
