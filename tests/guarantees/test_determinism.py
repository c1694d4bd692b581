"""Same bytes where they are promised; where they are not, the run says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from neuron_opsd.config import Config
from neuron_opsd.errors import ConfigError
from neuron_opsd.runs.run import Request
from neuron_opsd.storage import manifest as manifests
from neuron_opsd.storage.manifest import read_manifest
from neuron_opsd.storage.run_directory import known_changes
from repeated_runs import Halting, StoppedError
from tiny_runs import (
    FinishedRun,
    files_of,
    outcome_of,
    read_json,
    tiny_config,
    tiny_request,
    tiny_run,
)
from varied_runs import made, vary

NOT_EXACT = "not bit-exact: "


@pytest.fixture
def threads() -> Iterator[None]:
    """Give back the number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def halted(tiny_llama: Path, tmp_path: Path) -> tuple[Request, Config]:
    """Give a run that was stopped in the middle of training."""
    request = tiny_request(tmp_path)
    config = tiny_config(tiny_llama, "evaluation.form_only=false")
    with suppress(StoppedError):
        tiny_run(request, config, Halting("distillation", 3))
    return request, config


def said(run: FinishedRun) -> list[str]:
    """Return what a run says of bytes that may differ."""
    return [line for line in run.warnings if line.startswith(NOT_EXACT)]


def reported(run: FinishedRun) -> list[str]:
    """Return what its report says of them."""
    return [line for line in run.data.warnings if line.startswith(NOT_EXACT)]


def test_what_must_make_no_difference_makes_none(
    tiny_llama: Path, finished_run: FinishedRun, tmp_path: Path
) -> None:
    """Another process, hash seed, order of folders, place, encoding and time zone."""
    variables = {
        "OMP_NUM_THREADS": "1",
        "PYTHONHASHSEED": "4242",
        # Else Python would make C a locale of UTF-8.
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "TZ": "Pacific/Kiritimati",
    }
    place = tmp_path / "other place"
    place.mkdir()
    words = ("--backwards", "evaluation.form_only=true")
    told = vary(tiny_llama, place, variables, *words)
    assert made(place / "run") == made(finished_run.folder)
    assert not any(line.startswith(NOT_EXACT) for line in told)


@pytest.mark.usefixtures("threads")
def test_other_threads_are_told_and_kept(halted: tuple[Request, Config]) -> None:
    torch.set_num_threads(2)
    done = tiny_run(*halted)
    (line,) = said(done)
    assert line.startswith(f"{NOT_EXACT}threads 1 -> 2; ")
    (kept,) = reported(done)
    assert "(threads 1 -> 2)" in kept
    assert known_changes(read_manifest(done.folder)) == ["threads 1 -> 2"]
    page = (done.folder / "report.html").read_text()
    assert "threads 1 -&gt; 2" in page
    # Where it was started, and nothing is left to do, the run still says it.
    torch.set_num_threads(1)
    again = tiny_run(*halted)
    assert reported(again) == [kept]
    assert said(again) == [kept]


@pytest.mark.usefixtures("threads")
def test_to_look_at_a_finished_run_elsewhere_changes_nothing(
    halted: tuple[Request, Config],
) -> None:
    done = tiny_run(*halted)
    before = files_of(done.folder)
    torch.set_num_threads(2)
    again = tiny_run(*halted)
    assert len(said(again)) == 1
    assert reported(again) == []
    after = files_of(done.folder)
    assert {name for name in before if before[name] != after[name]} <= {
        "manifest.json",
        "LOCK",
    }
    assert known_changes(read_manifest(done.folder)) == []


def test_another_version_and_another_processor_are_told(
    halted: tuple[Request, Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    older = dict(manifests.installed_versions()) | {"torch": "2.14.1"}
    monkeypatch.setattr(manifests, "installed_versions", lambda: older)
    monkeypatch.setenv("DNNL_MAX_CPU_ISA", "AVX2")
    done = tiny_run(*halted)
    (line,) = said(done)
    assert "-> 2.14.1; limits " in line
    assert "-> DNNL_MAX_CPU_ISA=AVX2" in line
    versions = read_json(done.folder / "manifest.json")["versions"]
    assert versions["torch"] != "2.14.1"
    assert len(reported(done)) == 1


@pytest.mark.parametrize(
    "setting", ["model.compute=bfloat16", "model.tokens_per_batch=64"]
)
def test_another_precision_or_batch_is_refused(
    halted: tuple[Request, Config], tiny_llama: Path, setting: str
) -> None:
    request, _ = halted
    other = tiny_config(tiny_llama, "evaluation.form_only=false", setting)
    with pytest.raises(ConfigError, match=f"{setting.partition('=')[0]} was"):
        tiny_run(request, other)


def test_stopped_and_resumed_is_the_same_as_in_one_go(
    halted: tuple[Request, Config], tmp_path: Path
) -> None:
    whole = tiny_run(tiny_request(tmp_path, "whole"), halted[1])
    assert outcome_of(tiny_run(*halted).folder) == outcome_of(whole.folder)
