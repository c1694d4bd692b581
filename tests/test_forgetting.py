"""Forgetting, with a stand-in for lm-eval; `tests/judges` asks the real one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from neuron_opsd import forgetting as room
from neuron_opsd.cli import main
from neuron_opsd.errors import ConfigError, ModelError, TryAgainError
from neuron_opsd.forgetting import ForgettingRequest, forgetting, task_in
from neuron_opsd.progress import Silent
from sample_files import capitals, likelihood_row
from tiny_runs import FinishedRun

STAND_IN = """
import json, os, sys
from pathlib import Path
argv = sys.argv[1:]
flags = {argv[i]: argv[i + 1] for i in range(len(argv) - 1) if argv[i][:2] == "--"}
here = Path(__file__).parent
rows = json.loads((here / "rows.json").read_text())
if flags["--tasks"] == "missing":
    sys.exit("ConnectionError: offline mode is enabled")
if flags["--tasks"] == "broken":
    sys.exit("ValueError: no such task")
out = Path(flags["--output_path"]) / "some__model"
out.mkdir()
label = "trained" if "peft=" in flags["--model_args"] else "base"
for task in flags["--tasks"].split(","):
    text = "".join(json.dumps(row) + "\\n" for row in rows[label])
    (out / f"samples_{task}_2026-11-30T00-00-00.000001.jsonl").write_text(text)
told = {"argv": argv, "offline": os.environ.get("HF_HUB_OFFLINE")}
(here / f"{label}.json").write_text(json.dumps(told))
"""
GOOD, BAD = (-2.0, -1.0, -3.0), (-1.0, -2.0, -3.0)


def rows(right: int, total: int = 40) -> list[dict[str, Any]]:
    """Return a log in which the first few questions are answered rightly."""
    question = capitals()[0]
    return [
        likelihood_row(n, question | {"id": f"c{n}"}, GOOD if n < right else BAD)
        for n in range(total)
    ]


@pytest.fixture
def lm_eval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a stand-in for lm-eval where Python finds it."""
    package = tmp_path / "packages" / "lm_eval"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(STAND_IN)
    logs = {"base": rows(30), "trained": rows(12)}
    (package / "rows.json").write_text(json.dumps(logs))
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.delitem(sys.modules, "lm_eval", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    return package


def test_tasks_are_asked_of_both_models_and_paired(
    lm_eval: Path,
    finished_run: FinishedRun,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "forgotten"
    argv = ["forgetting", str(finished_run.folder), "--out", str(out)]
    argv += ["--tasks", "arc_easy", "piqa_x", "--limit", "40"]
    assert main([*argv, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told["tasks"]) == ["arc_easy", "piqa_x"]
    task = told["tasks"]["arc_easy"]
    assert (task["base"], task["trained"], task["num_questions"]) == (0.75, 0.3, 40)
    assert task["change"]["value"] == pytest.approx(-0.45)
    assert task["mcnemar"] == pytest.approx(2 * 0.5**18)
    assert task["shows"] == "got worse"
    assert told["outcome"].startswith("On 2 of 2 tasks the trained model is worse")
    assert Path(task["report"]).read_text().startswith("<!DOCTYPE html>")
    base = json.loads((lm_eval / "base.json").read_text())
    trained = json.loads((lm_eval / "trained.json").read_text())
    assert base["offline"] == trained["offline"] == "1"
    (place,) = (i for i, one in enumerate(base["argv"]) if one == "--model_args")
    model = finished_run.config.model.name
    assert base["argv"][place + 1] == f"pretrained={model},dtype=float32"
    adapter = (finished_run.folder / "adapter").resolve()
    assert trained["argv"][place + 1] == f"{base['argv'][place + 1]},peft={adapter}"
    assert base["argv"][-2:] == ["--limit", "40"]
    assert main(argv) == 2
    assert "nothing is overwritten" in capsys.readouterr().err


def test_nothing_is_worse_where_answers_are_alike(
    lm_eval: Path, finished_run: FinishedRun, tmp_path: Path
) -> None:
    logs = {"base": rows(30), "trained": rows(30)}
    (lm_eval / "rows.json").write_text(json.dumps(logs))
    request = ForgettingRequest(
        finished_run.folder, tmp_path / "out", ("piqa",), download=True
    )
    found = forgetting(request, Silent())
    assert found.outcome == "On none of 1 tasks is the trained model measurably worse."
    assert found.tasks["piqa"].shows == "no difference seen"
    assert json.loads((lm_eval / "base.json").read_text())["offline"] is None


@pytest.mark.parametrize(
    ("task", "error", "said"),
    [
        ("missing", TryAgainError, "fetch them with --download"),
        ("broken", ModelError, "lm-eval failed: ValueError: no such task"),
    ],
)
def test_what_fails_there_is_said_here(
    task: str,
    error: type[Exception],
    said: str,
    lm_eval: Path,
    finished_run: FinishedRun,
    tmp_path: Path,
) -> None:
    del lm_eval
    request = ForgettingRequest(finished_run.folder, tmp_path / "out", (task,))
    with pytest.raises(error, match=said):
        forgetting(request, Silent())


def test_without_lm_eval_it_says_what_to_install(
    finished_run: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "find_spec", lambda _: None)
    request = ForgettingRequest(finished_run.folder, tmp_path / "out")
    with pytest.raises(ConfigError, match=r"pip install 'lm-eval\[hf\]'"):
        forgetting(request, Silent())
    assert not (tmp_path / "out").exists()


def test_the_task_is_read_from_the_name_of_its_log() -> None:
    name = "samples_mmlu_high_school_2026-11-30T00-38-50.568566.jsonl"
    assert task_in(Path(name)) == "mmlu_high_school"
