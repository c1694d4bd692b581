"""Forgetting as lm-eval itself measures it; needs lm-eval: `make test-judges`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import places
from neuron_opsd.forgetting import ForgettingRequest, forgetting
from neuron_opsd.progress import Silent
from sample_files import capitals, write_rows
from tiny_runs import FinishedRun

pytest.importorskip("lm_eval", reason="lm-eval is not installed: make test-judges")

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs are not ours to mend

TASK = """\
task: capitals
dataset_path: json
dataset_kwargs:
  data_files: {test: FILE}
test_split: test
output_type: multiple_choice
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_choice: "{{choices}}"
doc_to_target: "{{choices.index(answer)}}"
"""


def test_a_run_is_asked_before_and_after(
    finished_run: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [str(places.SOURCES), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    exam = write_rows(tmp_path / "capitals.jsonl", capitals())
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    (tasks / "capitals.yaml").write_text(TASK.replace("FILE", str(exam)))
    request = ForgettingRequest(
        finished_run.folder,
        tmp_path / "out",
        ("capitals",),
        tasks_folder=tasks,
        batch_size="4",
    )
    found = forgetting(request, Silent())
    task = found.tasks["capitals"]
    assert task.num_questions == 3
    for label, accuracy in (("base", task.base), ("trained", task.trained)):
        (path,) = (tmp_path / "out" / label).rglob("results_*.json")
        theirs = path.read_text()
        assert f'"acc,none": {accuracy}' in theirs
    assert Path(task.report).is_file()
