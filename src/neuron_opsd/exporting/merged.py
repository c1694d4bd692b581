"""The base with the adapter merged in: a model folder like any other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Final

from neuron_opsd.errors import DataError
from neuron_opsd.exporting.export import DType, Made, Request
from neuron_opsd.exporting.finished import FinishedRun, check_base
from neuron_opsd.models.weights.merging import (
    DTYPES,
    MergedWeights,
    merged_weights,
    whole_weights,
    write_tensors,
)
from neuron_opsd.models.weights.shards import INDEX, snapshot_of
from neuron_opsd.progress import Progress

SETTINGS: Final = "config.json"
COPIED: Final = (".jinja", ".json", ".model", ".txt")
"""Endings of a model's other files."""
LICENCES: Final = ("LICENSE", "LICENCE", "NOTICE", "USE_POLICY")
"""Prefixes of files that must accompany a model."""
TEMPLATES: Final = "additional_chat_templates"
LEAST_SHARE: Final = 0.9
"""Share of the adapter's change below which rounding is warned of."""


def write(run: FinishedRun, request: Request, folder: Path, progress: Progress) -> Made:
    """Write a merged model."""
    weights = weights_of(run, request)
    write_model(weights, folder, progress)
    return Made(facts_of(run, weights, request.dtype, progress))


def weights_of(run: FinishedRun, request: Request) -> MergedWeights:
    """Return the weights that a run trained, merged as they are read."""
    dtype = DTYPES[request.dtype]
    if run.is_whole_model:
        return whole_weights(run.base, run.adapter, dtype)
    check_base(run)
    return merged_weights(run.base, run.report.model.compute, run.adapter, dtype)


def write_model(weights: MergedWeights, folder: Path, progress: Progress) -> None:
    """Write weights and companions, split into files like the base."""
    specs = {path: weights.specs(path) for path in weights.source.weight_files()}
    total = weights.num_bytes
    with progress.stage("merge", total, "bytes") as done:
        for path, some in specs.items():
            write_tensors(folder / path.name, some, weights.tensors(path), done)
    index = weights.source.file(INDEX)
    if index is not None:
        table = json.loads(index.read_bytes())
        table.setdefault("metadata", {})["total_size"] = total
        save(table, folder / INDEX)
    copy_companions(home_of(weights), folder)
    settings = json.loads((folder / SETTINGS).read_bytes())
    if weights.dtype is not None:
        settings.pop("torch_dtype", None)
        settings["dtype"] = str(weights.dtype).removeprefix("torch.")
        save(settings, folder / SETTINGS)


def home_of(weights: MergedWeights) -> Path:
    """Return a model's folder, in the hub's cache if it is an id."""
    source = weights.source
    if Path(source.place).is_dir():
        return Path(source.place)
    found = snapshot_of(source.place, source.revision)
    if found is None:
        raise DataError(
            f"{source.place} is not in the hub's cache; download it with `hf download "
            f"{source.place}`, or give its folder with --base"
        )
    return found


def copy_companions(home: Path, folder: Path) -> None:
    """Copy a model's configuration, tokenizer, templates and licences."""
    for path in sorted(home.iterdir()):
        wanted = path.suffix in COPIED or path.name.upper().startswith(LICENCES)
        if wanted and path.is_file() and path.name != INDEX:
            shutil.copyfile(path, folder / path.name)
    if (home / TEMPLATES).is_dir():
        shutil.copytree(home / TEMPLATES, folder / TEMPLATES)


def save(table: Any, path: Path) -> None:
    """Write a table as libraries write their settings."""
    path.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")


def facts_of(
    run: FinishedRun, weights: MergedWeights, dtype: DType, progress: Progress
) -> dict[str, Any]:
    """Return what was done to the weights, and warn of lost precision."""
    facts: dict[str, Any] = {"dtype": dtype, "matrices_changed": len(weights.changes)}
    if weights.changes:
        share = weights.arrival.share
        facts["share_of_change_kept"] = share
        if share < LEAST_SHARE:
            progress.warn(
                f"rounding the merged weights keeps {share:.0%} of what the adapter "
                "changes, so the merged model answers more like the base; export "
                "with --dtype float32, or serve the adapter beside the base (--to "
                "vllm, --to gguf-lora)"
            )
    if run.base.quantization != "none" and not run.is_whole_model:
        facts["rounded_to"] = run.base.quantization
        progress.warn(
            f"the run trained over a base rounded to {run.base.quantization}, so that "
            "rounding is in the merged weights; they cannot be packed into four bits "
            "again without rounding the adapter's change as well"
        )
    return facts


def warn_of_rounded(run: FinishedRun, progress: Progress) -> None:
    """Warn that the adapter was trained and tested over other weights."""
    if run.base.quantization != "none":
        progress.warn(
            f"the run trained and tested over a base rounded to "
            f"{run.base.quantization}; over the unrounded base, or one rounded "
            "otherwise, answers differ a little from those in its report"
        )
