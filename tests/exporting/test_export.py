"""What all exports share: a whole run in, a whole folder out, nothing overwritten."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import neuron_opsd as no
import places
from neuron_opsd.cli import main
from neuron_opsd.errors import ConfigError, DataError
from neuron_opsd.exporting.export import writer_of
from neuron_opsd.exporting.targets import TARGETS
from tiny_runs import FinishedRun, files_of

APART = {
    *("__init__", "export", "finished", "targets"),
    *("privacy", "publication", "task_files"),
}
"""Modules of the room that are no targets."""


def test_every_module_of_a_target_has_an_entry() -> None:
    room = places.PACKAGE / "exporting"
    modules = {path.stem for path in room.glob("*.py")} - APART
    assert {target.module for target in TARGETS.values()} == modules
    for target in TARGETS.values():
        assert callable(writer_of(target))
        assert target.next_step.format(out="OUT") != ""


def test_the_command_writes_a_folder_and_says_what_to_do(
    finished_run: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "merged"
    given = ["export", str(finished_run.folder), "--to", "merged", "--out", str(out)]
    before = files_of(finished_run.folder)
    assert main([*given, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["files"] == {name: len(data) for name, data in files_of(out).items()}
    assert str(out) in said["next_steps"][0]
    assert files_of(finished_run.folder) == before
    assert main(given) == 2
    assert "nothing is overwritten" in capsys.readouterr().err


def test_alone_it_lists_the_targets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == list(TARGETS)


@pytest.mark.parametrize(
    ("to", "out", "said"),
    [
        ("onnx", "new", "--to is 'onnx', but there is no such target; targets are mer"),
        ("", "new", "no --to; targets are merged"),
        ("merged", "run/inside", "nothing else is written there"),
    ],
)
def test_what_cannot_be_exported_is_refused_before_work(
    finished_run: FinishedRun, tmp_path: Path, to: str, out: str, said: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished_run.folder, run)
    with pytest.raises(ConfigError, match=said):
        no.export(run, to, tmp_path / out)
    assert not (tmp_path / out).exists()


def spoil_adapter(run: Path) -> None:
    path = run / "adapter" / "adapter_model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda run: (run / "report.json").unlink(), "the run is not finished"),
        (spoil_adapter, "adapter was changed or damaged"),
        (lambda run: shutil.rmtree(run / "adapter"), "adapter is gone"),
    ],
)
def test_a_run_that_is_not_whole_is_refused(
    finished_run: FinishedRun, tmp_path: Path, spoil: Any, said: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished_run.folder, run)
    spoil(run)
    with pytest.raises(DataError, match=said):
        no.export(run, "merged", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_a_failed_export_leaves_nothing(
    finished_run: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from neuron_opsd.exporting import merged

    def fail(*_: Any) -> None:
        raise ConfigError("half way")

    monkeypatch.setattr(merged, "copy_companions", fail)
    with pytest.raises(ConfigError, match="half way"):
        no.export(finished_run.folder, "merged", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
