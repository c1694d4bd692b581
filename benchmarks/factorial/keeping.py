"""Results of finished blocks, small enough to stand in the tree.

What the analysis reads is kept: how often each model was right on each question and how
sure it was, what every arm set, what its training took, what was warned of, and what
the guard measured. The texts of questions and answers, which have licences of their
own, are not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from neuron_opsd.demo.sources import MODEL
from neuron_opsd.probing.summary import JSON as PROBE
from neuron_opsd.runs.metrics import read_metrics
from neuron_opsd.storage.files import write_folder
from neuron_opsd.storage.score_rows import SCORES

COMPARISON: Final = "comparison.json"
LOOKS: Final = "looks.parquet"
COLUMNS: Final = (
    *("start", "source", "method", "seed", "steps", "test", "question_id"),
    *("num_correct", "num_rollouts", "majority_correct", "agreement"),
)
ENTRIES: Final = (
    *("sources", "seeds", "steps", "num_samples", "methods", "settings", "budgets"),
    *("failures", "missing", "warnings", "versions", "data_hashes"),
)
"""Of `comparison.json`."""


def is_kept(block: str, kept: Path | None) -> bool:
    """Say whether the results of a block stand where they are kept."""
    return kept is not None and (kept / block).is_dir()


def keep(folder: Path, kept: Path) -> None:
    """Keep what the analysis reads of a finished block, all of it or nothing.

    Args:
        folder: Of the comparison or the probe.
        kept: Folder that is made for it.
    """
    write_folder(kept, partial(write_kept, folder))


def write_kept(folder: Path, kept: Path) -> None:
    """Write what is kept of a block to an empty folder."""
    if (folder / PROBE).is_file():
        probed = json.loads((folder / PROBE).read_text(encoding="utf-8"))
        paths = ("model", "run", "command")
        own = {name: value for name, value in probed.items() if name not in paths}
        write_json({**own, "model": MODEL.title}, kept / PROBE)
        return
    whole = json.loads((folder / COMPARISON).read_text(encoding="utf-8"))
    whole["settings"].pop("model.name", None)  # a path of this machine
    write_json({name: whole[name] for name in ENTRIES}, kept / COMPARISON)
    scores = pq.read_table(folder / SCORES, columns=list(COLUMNS))
    pq.write_table(scores, kept / SCORES, compression="zstd", compression_level=19)
    write_looks(folder, kept / LOOKS)


def write_looks(folder: Path, path: Path) -> None:
    """Write what the guard measured of every model that a comparison trained."""
    table = pa.Table.from_pylist(list(look_rows(folder)))
    pq.write_table(table, path, compression="zstd", compression_level=19)


def look_rows(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield a row for every look, in the order of source, seed, arm and step."""
    for training in sorted(folder.glob("blocks/*/seed-*/*/methods/*/train")):
        arm, start, seed, source = (training.parents[n].name for n in (0, 2, 3, 4))
        known = {"source": source, "seed": int(seed.removeprefix("seed-"))}
        for step in read_metrics(training):
            if step.look is not None:
                looked = {"base": asdict(step.look.base)}
                looked["student"] = asdict(step.look.student)
                named = {"start": start, "arm": arm, "step": step.step}
                yield known | named | looked


def write_json(table: Mapping[str, Any], path: Path) -> None:
    """Write what is kept as JSON, a value on a line."""
    path.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
