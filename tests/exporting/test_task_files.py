"""Tasks for lm-eval and inspect as files; `tests/judges` runs them for real."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import neuron_opsd as no
from neuron_opsd.data.questions import read_questions
from neuron_opsd.errors import ConfigError, DataError
from neuron_opsd.judging.marking import marker
from neuron_opsd.progress import Silent
from tiny_runs import FinishedRun


def exported(run: FinishedRun, to: str, out: Path, **tests: str) -> list[str]:
    """Export the tasks of a run; return what was warned of."""
    progress = Silent()
    no.export(run.folder, to, out, progress, tests=tests or run.request.tests)
    return progress.warnings


def task_of(path: Path) -> dict[str, Any]:
    """Read a task's file, functions as texts."""

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        pass

    Loader.add_constructor("!function", lambda _, node: f"!{node.value}")
    table: dict[str, Any] = yaml.load(path.read_text(), Loader)
    return table


def test_lm_eval_gets_a_task_for_each_test_set(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    out = tmp_path / "tasks"
    assert exported(finished_run, "lm-eval", out) == []
    config = finished_run.data.config
    for name, source in finished_run.request.tests.items():
        (path,) = out.glob(f"*_{name}.yaml")
        task = task_of(path)
        assert task["task"] == path.stem
        assert task["custom_dataset"] == "!reads_as_neuron_opsd.load"
        assert task["dataset_kwargs"] == {"questions": f"{name}.jsonl"}
        original = read_questions(source, name=name)
        kept = read_questions(out / f"{name}.jsonl")
        assert kept.questions == original.questions
        assert kept.gold == original.gold
        rows = [json.loads(r) for r in (out / f"{name}.jsonl").read_text().splitlines()]
        last = [question.messages[-1].content for question in original.questions]
        assert [row["asked"] for row in rows] == last
        if original.questions[0].choices:
            assert task["output_type"] == "multiple_choice"
            assert task["target_delimiter"] == ""
            assert rows[0]["choices"][rows[0]["place"]] == rows[0]["answer"]
        else:
            assert task["output_type"] == "generate_until"
            assert task["repeats"] == config.evaluation.num_samples
            assert task["generation_kwargs"]["until"] == []
            assert task["generation_kwargs"]["max_gen_toks"] == config.test_tokens


def test_inspect_gets_a_file_of_python(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    out = tmp_path / "tasks"
    warnings = exported(finished_run, "inspect", out)
    assert "choices by letter" in warnings[0]
    tree = ast.parse((out / "tasks.py").read_text())
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    for name in finished_run.request.tests:
        assert any(found.endswith(f"_{name}") for found in names)
    rows = [json.loads(r) for r in (out / "parity.jsonl").read_text().splitlines()]
    (turn,) = rows[0]["asked"]
    assert turn["role"] == "user"
    assert turn["content"].endswith("A. odd\nB. even")
    assert rows[0]["target"] in "AB"


def test_a_marker_reads_as_the_run_does(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    exported(finished_run, "inspect", tmp_path / "tasks")
    marks = marker(str(tmp_path / "tasks" / "parity.jsonl"))
    (name, *_), gold = marks.questions, marks.right
    right = "A" if gold[name] == ("odd",) else "B"
    wrong = "B" if right == "A" else "A"
    assert marks.mark(name, f"<think>{wrong}</think>The answer is {right}.").correct
    assert not marks.mark(name, f"The answer is {wrong}.").correct
    assert marks.mark(name, f"<think>The answer is {right}.").answer is None
    told = marks.measures(name, [right, wrong, right, "?"])
    assert told == {"acc": 0.5, "maj": 1.0, "unread": 0.25}
    assert marks.measures(name, [wrong, right])["maj"] == 0.0
    assert marks.measures(name, ["?"]) == {"acc": 0.0, "maj": 0.0, "unread": 1.0}


@pytest.mark.parametrize("to", ["lm-eval", "inspect"])
def test_only_the_files_of_the_run_are_taken(
    to: str, finished_run: FinishedRun, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"--test parity=FILE sums=FILE"):
        no.export(finished_run.folder, to, tmp_path / "tasks", Silent())
    tests = finished_run.request.tests
    with pytest.raises(ConfigError, match="names other, but the run was tested on"):
        exported(finished_run, to, tmp_path / "tasks", other=tests["sums"])
    lines = Path(tests["sums"]).read_text().splitlines()
    changed = tmp_path / "sums.jsonl"
    changed.write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(DataError, match="does not hold the questions and answers"):
        exported(finished_run, to, tmp_path / "tasks", sums=str(changed))
    assert not (tmp_path / "tasks").exists()
