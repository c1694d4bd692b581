"""Run directories of other versions: resumed, or refused with a line that says how."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from neuron_opsd.cli import main
from neuron_opsd.storage.integrity import proof_of
from neuron_opsd.storage.manifest import json_sha256
from tiny_runs import (
    FinishedRun,
    outcome_of,
    read_json,
    read_sealed,
    tiny_run,
    write_sealed,
)

Change = Callable[[dict[str, Any]], None]


@pytest.fixture
def run(finished_run: FinishedRun, tmp_path: Path) -> FinishedRun:
    """Give a copy of a finished run."""
    folder = tmp_path / "run"
    shutil.copytree(finished_run.folder, folder)
    request = replace(finished_run.request, out=folder)
    return replace(finished_run, folder=folder, request=request)


def rewrite(folder: Path, change: Change) -> None:
    """Change a manifest."""
    path = folder / "manifest.json"
    table = read_sealed(path)
    change(table)
    write_sealed(path, table)


def later_schema(table: dict[str, Any]) -> None:
    table["schema_version"] = 2


def earlier_schema(table: dict[str, Any]) -> None:
    table["schema_version"] = 0


def no_schema(table: dict[str, Any]) -> None:
    del table["schema_version"]


def more_at_the_top(table: dict[str, Any]) -> None:
    table["leases"] = {}


def more_of_an_output(table: dict[str, Any]) -> None:
    table["outputs"]["adapter"]["signature"] = "x"


def damaged(table: dict[str, Any]) -> None:
    table["outputs"]["adapter"] = {"signature": "x"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (later_schema, "has schema version 2, this program reads 1; use the version"),
        (earlier_schema, "has schema version 0, this program reads 1; use the version"),
        (no_schema, "has schema version None, this program reads 1; use the version"),
        (
            more_at_the_top,
            "has entries that this version does not know (leases); use the ver",
        ),
        (more_of_an_output, "does not know (outputs.adapter.signature); use the ver"),
        (damaged, "is damaged"),
    ],
)
@pytest.mark.parametrize("command", ["status", "report", "analyse"])
def test_other_forms_of_a_manifest_are_refused_by_name(
    run: FinishedRun,
    capsys: pytest.CaptureFixture[str],
    command: str,
    change: Change,
    said: str,
) -> None:
    rewrite(run.folder, change)
    more = (
        ["--out", str(run.folder.parent / "analysis")] if command == "analyse" else []
    )
    assert main([command, str(run.folder), *more]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert said in told
    assert "Traceback" not in told
    assert said.startswith("is damaged") or "(of neuron-opsd " in told


def older(table: dict[str, Any]) -> None:
    """Take out what this version added to what the one before it wrote."""
    del table["outputs"]["scores.parquet"]
    for output in table["outputs"].values():
        del output["size"]
    for name in ("processor", "vectors", "limits"):
        del table["environment"][name]


def test_a_run_of_the_version_before_is_taken_up(run: FinishedRun) -> None:
    """Its report, in a form of its own, and what it lacked are made; the rest stays."""
    wanted = outcome_of(run.folder)
    rewrite(run.folder, older)
    (run.folder / "scores.parquet").unlink()
    report = run.folder / "report.json"
    report.write_text('{"title": "without a form"}\n')

    def list_report(table: dict[str, Any]) -> None:
        table["outputs"]["report.json"]["sha256"] = proof_of(report)[0]

    rewrite(run.folder, list_report)
    again = tiny_run(run.request, run.config)
    assert outcome_of(run.folder) == wanted
    assert (run.folder / "scores.parquet").is_file()
    assert read_json(report)["format"] == 2
    assert repr(again.data.tests) == repr(run.data.tests)
    assert any(
        line.startswith("not bit-exact: processor not there -> ")
        for line in again.warnings
    )
    assert not any(line.startswith("not bit-exact") for line in again.data.warnings)


def test_a_report_in_another_form_is_refused_with_what_to_do(
    run: FinishedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    report = run.folder / "report.json"
    report.write_text(json.dumps(read_json(report) | {"format": 3}))

    def list_report(table: dict[str, Any]) -> None:
        table["outputs"]["report.json"]["sha256"] = proof_of(report)[0]
        table["outputs"]["report.json"]["size"] = report.stat().st_size

    rewrite(run.folder, list_report)
    assert main(["report", str(run.folder)]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "has report format 3, but this version reads 2; use the vers" in told


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("distill.steps"), "distill.steps was (unset), now 4; resume"),
        (lambda s: s.update({"distill.twist": 1}), "distill.twist was 1, now (unset)"),
    ],
)
def test_settings_of_another_version_are_no_settings_to_go_back_to(
    run: FinishedRun, change: Callable[[Any], Any], said: str
) -> None:
    rewrite(run.folder, lambda table: change(table["settings"]))
    with pytest.raises(Exception, match="the version it was started with") as caught:
        tiny_run(run.request, run.config)
    assert said in str(caught.value)


def in_former_words(table: dict[str, Any]) -> None:
    """Name settings and outputs as the version before did, and hash what it hashed."""
    settings = {
        name.replace("teacher_check.", "fitness."): value
        for name, value in table["settings"].items()
    }
    table["settings"] = settings | {"rollouts.mode": "auto"}
    trained_by = {n: v for n, v in table["settings"].items() if n != "model.name"}
    outputs = table["outputs"]
    outputs["fitness"] = outputs.pop("teacher_check") | {"file": "fitness.json"}
    for output in outputs.values():
        known = output["made_from"]
        known |= {
            n: json_sha256(trained_by) for n in known if n.startswith("settings of ")
        }


def test_a_run_in_the_words_of_the_version_before_is_resumed(run: FinishedRun) -> None:
    wanted = outcome_of(run.folder)
    rewrite(run.folder, in_former_words)
    check = run.folder / "fitness.json"
    (run.folder / "teacher_check.json").rename(check)
    adapter = run.folder / "adapter" / "adapter_model.safetensors"
    made = [path.stat().st_mtime_ns for path in (adapter, check)]
    (run.folder / "evaluation.json").unlink()
    tiny_run(run.request, run.config)
    assert outcome_of(run.folder) == wanted
    assert [path.stat().st_mtime_ns for path in (adapter, check)] == made
    assert not (run.folder / "teacher_check.json").exists()


def test_a_report_in_the_words_of_the_version_before_is_read(run: FinishedRun) -> None:
    page = (run.folder / "report.html").read_bytes()
    report = run.folder / "report.json"
    data = read_json(report)
    data["fitness"] = data.pop("teacher_check")
    data["config"]["fitness"] = data["config"].pop("teacher_check")
    report.write_text(json.dumps(data))

    def list_report(table: dict[str, Any]) -> None:
        table["outputs"]["report.json"]["sha256"] = proof_of(report)[0]
        table["outputs"]["report.json"]["size"] = report.stat().st_size

    rewrite(run.folder, list_report)
    (run.folder / "report.html").unlink()
    assert main(["report", str(run.folder)]) == 0
    assert (run.folder / "report.html").read_bytes() == page
