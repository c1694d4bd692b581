"""Results of finished blocks, small enough to stand in the tree.

What the analysis reads is kept: how often each model was right on each question and how
sure it was, what every arm set, what its training took, and what was warned of. The
texts of questions and answers, which have licences of their own, are not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from neuron_opsd.demo.sources import MODEL
from neuron_opsd.probing.summary import JSON as PROBE
from neuron_opsd.storage.files import write_folder
from neuron_opsd.storage.score_rows import SCORES

COMPARISON: Final = "comparison.json"
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


def write_json(table: Mapping[str, Any], path: Path) -> None:
    """Write what is kept as JSON, a value on a line."""
    path.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
