"""Measure how well the probe's label-free score predicted what training gained.

    python benchmarks/probe_validity.py COMPARISONS sst2=PROBE arc-easy=PROBE [--write]

COMPARISONS is a folder with finished comparisons, or that of one; each PROBE is the
folder of a probe of the pool of one of its sources, made with the settings of the
comparison. A source may have several, for example one with selection.balance=true. An
arm is a model that was distilled from a teacher with demonstrations; its score is that
of its selection rule with its context rule, and its gain is Avg@k in-domain above the
untrained model's, the mean over seeds. With --write the result becomes the record that
probes read, and by which they decide whether to recommend by the score.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src")]

from neuron_opsd.config import tables  # noqa: E402
from neuron_opsd.method.selection import SELECTION_RULES  # noqa: E402
from neuron_opsd.methods.distillation import NeuronOPSD  # noqa: E402
from neuron_opsd.probing import validity  # noqa: E402
from neuron_opsd.probing.validity import ScoredArms  # noqa: E402
from neuron_opsd.results.comparison import BASE  # noqa: E402
from neuron_opsd.results.probe import Validity  # noqa: E402
from neuron_opsd.storage.codecs import without_nan  # noqa: E402
from neuron_opsd.storage.score_rows import SCORES  # noqa: E402

METHOD = NeuronOPSD.name


@dataclass(frozen=True)
class Gained:
    """What one arm gained on one source, the mean over seeds."""

    source: str
    arm: str
    settings: Mapping[str, Any]
    """By dotted name."""
    gain: float
    num_seeds: int


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and keep the result where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("comparisons", type=Path)
    parser.add_argument("probes", nargs="+", help="SOURCE=FOLDER")
    parser.add_argument("--write", action="store_true")
    chosen = parser.parse_args(argv)
    probes = read_probes(chosen.probes)
    gained = list(gains_in(chosen.comparisons))
    scored = [(one, score_of(one, probes)) for one in gained]
    for one, score in scored:
        said = "no such pair was probed" if score is None else f"{score:+.4f}"
        print(f"{one.source}  {one.arm:<28} gain {one.gain:+.4f}  score {said}")
    known = [(one, score) for one, score in scored if score is not None]
    table = table_of(known)
    found = Validity(
        correlation=table.correlation(),
        num_arms=table.scores.shape[1],
        num_sources=table.scores.shape[0],
        model=", ".join(sorted({p["model"] for own in probes.values() for p in own})),
        command=shlex.join(["python", "benchmarks/probe_validity.py", *named(chosen)]),
    )
    print(json.dumps(without_nan(asdict(found)), indent=2))
    if chosen.write:
        text = json.dumps(without_nan(asdict(found)), indent=2, ensure_ascii=False)
        place = Path(validity.__file__).with_name(validity.RECORD)
        place.write_text(text + "\n", "utf-8")
    return 0


def named(chosen: argparse.Namespace) -> list[str]:
    """Return the arguments with folders by their names alone."""
    probes = [
        f"{s}={Path(f).name}" for s, _, f in (p.partition("=") for p in chosen.probes)
    ]
    return [chosen.comparisons.name, *probes]


def read_probes(specs: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the probes of each source."""
    found: dict[str, list[dict[str, Any]]] = {}
    for spec in specs:
        source, _, folder = spec.partition("=")
        data = json.loads((Path(folder) / "probe.json").read_text("utf-8"))
        found.setdefault(source, []).append(data)
    return found


def gains_in(folder: Path) -> Iterator[Gained]:
    """Yield what every distilled arm of comparisons gained in its own domain."""
    gains: dict[tuple[str, str], list[float]] = defaultdict(list)
    settings: dict[str, Mapping[str, Any]] = {}
    for path in sorted(folder.rglob("comparison.json")):
        data = json.loads(path.read_text("utf-8"))
        for line in data["methods"]:
            known = settings_of(data, line)
            shows = known["contexts.num_demonstrations"] > 0
            if shows and line["summary"].startswith(NeuronOPSD.summary):
                settings[line["name"]] = known
        found = accuracies(path.with_name(SCORES))
        for (source, arm, seed), after in found.items():
            if arm in settings:
                gains[source, arm].append(after - found[source, BASE, seed])
    for (source, arm), own in gains.items():
        yield Gained(source, arm, settings[arm], fmean(own), len(own))


def settings_of(data: Mapping[str, Any], line: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return all settings of a method of a comparison, by dotted name."""
    texts = {"method": json.dumps(METHOD)} | data["settings"] | line["settings"]
    written = "\n".join(f"{name} = {text}" for name, text in texts.items())
    return tables.flatten(tables.config_from_table(tomllib.loads(written)))


def accuracies(path: Path) -> dict[tuple[str, str, int], float]:
    """Return accuracy in the own domain by source, method and seed.

    Of trained models it is that after the last step.
    """
    rows = pq.read_table(path).to_pylist()
    own = [r for r in rows if r["test"] == r["source"] and r["start"] == BASE]
    last = max(row["steps"] for row in own)
    found: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    for row in own:
        if row["steps"] in (0, last):
            key = row["source"], row["method"], row["seed"]
            found[key].append(row["num_correct"] / row["num_rollouts"])
    return {key: fmean(values) for key, values in found.items()}


def score_of(
    one: Gained, probes: Mapping[str, Sequence[Mapping[str, Any]]]
) -> float | None:
    """Return the score of an arm's selection with its contexts, `None` without one."""
    own = one.settings
    keeps_all = SELECTION_RULES[own["selection.rule"]].keeps_all
    for probe in probes.get(one.source, ()):
        names = [
            name
            for name in probe["taught"]
            if not (keeps_all and name.startswith("selection."))
        ]
        if any(probe["taught"][name] != own[name] for name in names):
            continue
        for pair in probe["pairs"]:
            wanted = own["selection.rule"], own["contexts.rule"]
            if (pair["selection"], pair["contexts"]) == wanted:
                return float(pair["score"]["value"])
    return None


def table_of(known: Sequence[tuple[Gained, float]]) -> ScoredArms:
    """Return scores and gains by source and arm."""
    sources = list(dict.fromkeys(one.source for one, _ in known))
    arms = list(dict.fromkeys(one.arm for one, _ in known))
    scores = np.full((len(sources), len(arms)), np.nan)
    gains = scores.copy()
    for one, score in known:
        place = sources.index(one.source), arms.index(one.arm)
        scores[place], gains[place] = score, one.gain
    return ScoredArms(scores, gains)


if __name__ == "__main__":
    sys.exit(main())
