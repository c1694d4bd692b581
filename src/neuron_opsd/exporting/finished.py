"""A finished run, verified complete, for exports."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuron_opsd.config import Config, ModelConfig
from neuron_opsd.errors import ConfigError, DataError
from neuron_opsd.models.weights.shards import ADAPTER_SETTINGS, Source
from neuron_opsd.results.run import ReportData
from neuron_opsd.runs.fingerprint import files_hash, model_fingerprint
from neuron_opsd.runs.reporting import REPORT, base_of
from neuron_opsd.storage import integrity
from neuron_opsd.storage.folders import ADAPTER, require_folder
from neuron_opsd.storage.manifest import Manifest, read_manifest

MODEL = "model"
"""The manifest's name for the hash of the base."""


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A finished run with what it trained."""

    folder: Path
    manifest: Manifest
    report: ReportData
    base: ModelConfig
    """Settings that load the base from its current place."""

    @property
    def config(self) -> Config:
        """The run's settings."""
        return self.report.config

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        return self.folder.resolve().name

    @property
    def adapter(self) -> Path:
        """Folder of the trained PEFT adapter or whole model."""
        return self.folder / ADAPTER

    @property
    def is_whole_model(self) -> bool:
        """Whether all weights were trained, without an adapter."""
        return not (self.adapter / ADAPTER_SETTINGS).exists()

    @property
    def model(self) -> ModelConfig:
        """Settings that load the trained tokenizer and chat template."""
        if not self.is_whole_model:
            return self.base
        whole = {"name": str(self.adapter), "quantization": "none"}
        return self.base.model_copy(update=whole)

    @property
    def stops(self) -> list[str]:
        """Texts that end an answer; in the plain form also a line break."""
        own = list(self.config.rollouts.stop)
        return own if self.config.prompts.form == "chat" else ["\n", *own]

    @property
    def sampling(self) -> dict[str, Any]:
        """The tests' sampling settings, in vLLM's terms."""
        rollouts = self.config.rollouts
        return {
            "temperature": self.config.evaluation.temperature,
            "top_p": rollouts.top_p,
            "top_k": rollouts.top_k,
            "min_p": rollouts.min_p,
        }


def finished_run(folder: Path, base: str = "") -> FinishedRun:
    """Read a finished run, and verify its report and what it trained.

    `base` is the place of its base, if it moved.

    Raises:
        ConfigError: If it is no run directory, or another base is named.
        DataError: If the run is not finished, or was changed afterwards.
    """
    require_folder(folder, "run")
    manifest = read_manifest(folder)
    if not os.path.lexists(folder / REPORT.file_name):
        raise DataError(
            f"{folder} has no {REPORT.file_name}: the run is not finished; the same "
            "`neuron-opsd run` command resumes it"
        )
    for name in (REPORT.file_name, ADAPTER):
        known = manifest.outputs.get(name)
        fault = integrity.fault_of(folder, known) if known else integrity.GONE
        if fault:
            raise DataError(
                f"{folder / name} {fault}; the `neuron-opsd run` command that started "
                "the run creates it again"
            )
    report = REPORT.load(folder / REPORT.file_name)
    return FinishedRun(folder, manifest, report, base_settings(folder, report, base))


def base_settings(run: Path, report: ReportData, base: str) -> ModelConfig:
    """Return settings that load the base from its place, offline."""
    model = report.config.model
    stored = base_of(run / ADAPTER)
    gone = not Path(model.name).expanduser().exists()
    # The run's path may be relative to the folder in which it started.
    place = base or (stored if gone and Path(stored).is_dir() else model.name)
    return model.model_copy(update={"name": place, "allow_download": False})


def check_base(run: FinishedRun) -> None:
    """Refuse a base that is missing or not the one trained."""
    place = Path(run.base.name).expanduser()
    if not place.exists() and (place.is_absolute() or run.base.name.startswith(".")):
        raise ConfigError(
            f"the base {run.base.name} was not found; give its folder or hub id with "
            "--base"
        )
    known, found = run.manifest.inputs.get(MODEL, ""), model_fingerprint(run.base)
    _, _, weights = known.partition(" ")
    if weights and place.is_dir():  # of a hub id, now given as a folder
        known, found = weights, files_hash(place, Source(str(place)).weight_files())
    if known and known != found:
        raise ConfigError(
            f"the base {run.base.name} is not the one that the run trained: its "
            f"fingerprint is {shortened(found)}, the run's {shortened(known)}; give "
            "that one with --base"
        )


def first_token(tokenizer: Any) -> str:
    """Return the token put before every text; else empty."""
    inner = tokenizer.tokens.tokenizer
    begins = inner("a").input_ids[:1] == [inner.bos_token_id]
    return str(inner.bos_token) if begins else ""


def shortened(fingerprint: str) -> str:
    """Shorten a fingerprint, enough to compare."""
    name, at, rest = fingerprint.rpartition("@")
    return f"{name}{at}{rest[:12]}..."
