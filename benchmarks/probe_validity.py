"""Measure how well the probe's label-free score predicted what training gained.

    python benchmarks/probe_validity.py COMPARISON [--write]
    python benchmarks/probe_validity.py COMPARISON sst2=PROBE arc-easy=PROBE [--write]

COMPARISON is the folder of a finished comparison; each PROBE is the folder of a probe
of the pool of one of its sources, made with the settings of the comparison. A source
may have several, for example one with selection.balance=true. Without a probe of its
source an arm has the score that its own check of the teacher gives, which is the same
measure on the first questions it selected: the teacher's agreement with the vote less
the student's. An arm is a model that
was distilled from a teacher with demonstrations; its score is that of its selection
rule with its context rule, and its gain is Avg@k in-domain above the untrained model's,
the mean over seeds. With --write the result becomes the record that probes read, and by
which they decide whether to recommend by the score.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src")]

from neuron_opsd.method.selection import SELECTION_RULES  # noqa: E402
from neuron_opsd.probing import validity  # noqa: E402
from neuron_opsd.probing.validity import ScoredArms  # noqa: E402
from neuron_opsd.results.comparison import BASE  # noqa: E402
from neuron_opsd.results.probe import Validity  # noqa: E402
from neuron_opsd.storage.codecs import without_nan  # noqa: E402
from neuron_opsd.storage.folders import BLOCKS, METHOD_FOLDERS  # noqa: E402

METHOD = "neuron-opsd"
METRIC = "avg_at_k"


@dataclass(frozen=True)
class Gained:
    """What one arm gained on one source, the mean over seeds."""

    source: str
    arm: str
    settings: Mapping[str, Any]
    """By dotted name."""
    gain: float
    num_seeds: int
    own_score: float | None = None
    """That of the arm's own check of its teacher, the mean over seeds."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and keep the result where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("comparison", type=Path)
    parser.add_argument("probes", nargs="*", help="SOURCE=FOLDER")
    parser.add_argument("--write", action="store_true")
    chosen = parser.parse_args(argv)
    probes = read_probes(chosen.probes)
    gained = list(gains_in(chosen.comparison))
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
        model=", ".join(sorted({model_of(one) for one, _ in known})),
        command=shlex.join(["python", "benchmarks/probe_validity.py", *named(chosen)]),
    )
    print(json.dumps(without_nan(asdict(found)), indent=2))
    if chosen.write:
        text = json.dumps(without_nan(asdict(found)), indent=2, ensure_ascii=False)
        place = Path(validity.__file__).with_name(validity.RECORD)
        place.write_text(text + "\n", "utf-8")
    return 0


def model_of(one: Gained) -> str:
    """Return the name of the model of an arm, without its place."""
    return Path(str(one.settings["model.name"])).name


def named(chosen: argparse.Namespace) -> list[str]:
    """Return the arguments with folders by their names alone."""
    probes = [
        f"{s}={Path(f).name}" for s, _, f in (p.partition("=") for p in chosen.probes)
    ]
    return [chosen.comparison.name, *probes]


def read_probes(specs: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the probes of each source."""
    found: dict[str, list[dict[str, Any]]] = {}
    for spec in specs:
        source, _, folder = spec.partition("=")
        data = json.loads((Path(folder) / "probe.json").read_text("utf-8"))
        found.setdefault(source, []).append(data)
    return found


def gains_in(comparison: Path) -> Iterator[Gained]:
    """Yield what every distilled arm gained in its own domain."""
    for source in sorted(p for p in (comparison / BLOCKS).iterdir() if p.is_dir()):
        gains: dict[str, list[float]] = {}
        settings: dict[str, Mapping[str, Any]] = {}
        scores: dict[str, list[float]] = {}
        for group in sorted(source.glob(f"seed-*/{BASE}")):
            before = accuracy_in(group / METHOD_FOLDERS / BASE, source.name)
            for cell in sorted((group / METHOD_FOLDERS).iterdir()):
                known = settings_in(cell)
                after = accuracy_in(cell, source.name)
                if known is None or before is None or after is None:
                    continue
                gains.setdefault(cell.name, []).append(after - before)
                settings[cell.name] = known
                scores.setdefault(cell.name, []).extend(own_score(cell))
        for arm, values in gains.items():
            own = fmean(scores[arm]) if scores[arm] else None
            yield Gained(
                source.name, arm, settings[arm], fmean(values), len(values), own
            )


def own_score(cell: Path) -> list[float]:
    """Return the score that an arm's check of its teacher gives, none without one."""
    path = cell / "teacher_check.json"
    if not path.is_file():
        return []
    found = json.loads(path.read_text("utf-8"))
    return [found["teacher_agreement"] - found["student_agreement"]]


def settings_in(cell: Path) -> Mapping[str, Any] | None:
    """Return the settings of an arm that learns from demonstrations, else `None`."""
    path = cell / "settings.json"
    if not path.is_file():
        return None
    found: Mapping[str, Any] = json.loads(path.read_text("utf-8"))
    shows = found["contexts.num_demonstrations"] > 0
    return found if found["method"] == METHOD and shows else None


def accuracy_in(cell: Path, source: str) -> float | None:
    """Return the accuracy of a model after its last step, `None` without a result."""
    path = cell / "result.json"
    if not path.is_file():
        return None
    tests = json.loads(path.read_text("utf-8"))["tests"]
    last = tests[max(tests, key=int)]
    return float(last[source]["metrics"][METRIC])


def score_of(
    one: Gained, probes: Mapping[str, Sequence[Mapping[str, Any]]]
) -> float | None:
    """Return the score of an arm's selection with its contexts, `None` without one."""
    own = one.settings
    if one.source not in probes:
        return one.own_score
    keeps_all = SELECTION_RULES[own["selection.rule"]].keeps_all
    for probe in probes[one.source]:
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
