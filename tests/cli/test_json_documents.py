"""What every command prints with `--json` is what its schema says.

Every document that any test prints is held against its schema too (`conftest.py`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from neuron_opsd.cli import main
from neuron_opsd.cli.app import COMMANDS, build_app
from neuron_opsd.cli.documents import DOCUMENTS
from printed import SCHEMAS, check
from tiny_runs import SETTINGS, FinishedRun, command_line, tiny_request

jsonschema = pytest.importorskip("jsonschema", reason="checks documents by schemas")


def prints_json(command: str) -> bool:
    """Say whether a command has the flag `--json`."""
    arguments = build_app()[command].assemble_argument_collection()
    return any("--json" in argument.names for argument in arguments)


def test_every_command_that_prints_json_has_a_schema() -> None:
    names = {command.__name__ for command in COMMANDS}
    assert set(DOCUMENTS) == set(filter(prints_json, names))
    assert {path.stem for path in SCHEMAS.glob("*.json")} == set(DOCUMENTS)


RUN: dict[str, Any] = {
    "run": "runs/first",
    "outcome": "It got better.",
    "adapter": "runs/first/adapter",
    "report": "runs/first/report.html",
    "summary": None,
    "evaluation": None,
}


@pytest.mark.parametrize(
    "change",
    [
        {"outcome": 3},
        {"more": 1},
        {"evaluation": {"exam": {}}},
        {"summary": {"outcome": "", "in_domain": "", "cross_domain_mean_delta": 0.1}},
    ],
)
def test_a_document_that_is_otherwise_is_noticed(change: dict[str, Any]) -> None:
    check("run", RUN)
    with pytest.raises(jsonschema.ValidationError):
        check("run", RUN | change)
    with pytest.raises(jsonschema.ValidationError):
        check("run", {name: RUN[name] for name in RUN if name != "report"})


def test_a_command_that_prints_something_else_fails_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("neuron_opsd.cli.options.resolve", lambda _: Odd())
    with pytest.raises(jsonschema.ValidationError):
        main(["config", "--json"])


class Odd:
    """Settings of another program."""

    model_fields_set: frozenset[str] = frozenset()

    def model_dump(self) -> dict[str, int]:
        """Return what no schema of ours knows."""
        return {"odd": 1}


def test_what_commands_print_of_a_run_fits(
    finished_run: FinishedRun,
    tiny_llama: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Documents are held against their schemas as they are printed."""
    request = tiny_request(tmp_path)
    asked = command_line(request, tiny_llama, ["guard.keep=best"])
    assert main([*asked, "--json"]) == 0
    pool = ["--pool", request.pool, "--model", str(tiny_llama), "--set", *SETTINGS]
    folder = str(finished_run.folder)
    for argv in (
        ["plan", *pool],
        ["plan", *pool, "--gpu-memory", "24"],
        ["preview", *pool],
        ["status", folder],
        ["status", folder, "--verify"],
        ["analyse", folder, "--out", str(tmp_path / "analysis")],
        ["methods"],
        ["config", "--set", "method=lmsi"],
    ):
        capsys.readouterr()
        assert main([*argv, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)
