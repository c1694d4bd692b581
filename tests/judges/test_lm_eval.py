"""What lm-eval calls right is what we call right; needs lm-eval: `make test-judges`."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import neuron_opsd as no
import places
from neuron_opsd.progress import Silent
from neuron_opsd.results.judging import JudgedFile
from sample_files import capitals, sums, write_rows
from tiny_runs import FinishedRun

pytest.importorskip("lm_eval", reason="lm-eval is not installed: make test-judges")

from lm_eval import simple_evaluate
from lm_eval.api.model import LM
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs are not ours to mend

FEW = {"evaluation.num_resamples": 20}


class Scripted(LM):  # type: ignore[misc]
    """A model whose answers follow from the prompt and from how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()

    def generate_until(self, requests: list[Any], **_: Any) -> list[str]:
        """Answer rightly, wrongly or not at all."""
        return [self.reply(request.args[0]) for request in requests]

    def reply(self, prompt: str) -> str:
        """Return a reply."""
        self.asked[prompt] += 1
        number = draw(prompt, self.asked[prompt])
        total = sum(map(int, re.findall(r"\d+", prompt)))
        return (f" {total}", "A", " The answer is B.", "dunno", " 12")[number % 5]

    def loglikelihood(self, requests: list[Any], **_: Any) -> list[tuple[float, bool]]:
        """Return some likelihood of each text."""
        return [(-(draw(*one.args) % 97) / 10, False) for one in requests]

    def loglikelihood_rolling(self, requests: list[Any], **_: Any) -> list[float]:
        """Refuse; no task here asks for it."""
        raise NotImplementedError(len(requests))


def draw(*parts: Any) -> int:
    """Return a number that follows from texts."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big")


def scored(
    task: str, folder: Path, out: Path, **more: Any
) -> tuple[dict[str, float], Path]:
    """Run a task by lm-eval; return its results and its log of samples."""
    found = simple_evaluate(
        model=Scripted(),
        tasks=[task],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        log_samples=True,
        bootstrap_iters=0,
        **more,
    )
    tracker = EvaluationTracker(output_path=str(out))
    tracker.general_config_tracker.model_name_sanitized = "scripted"
    tracker.date_id = "2026-11-30T00-00-00.000001"
    tracker.save_results_samples(task, found["samples"][task])
    (path,) = out.rglob(f"samples_{task}_*.jsonl")
    return found["results"][task], path


def values(found: JudgedFile) -> dict[str, float]:
    """Return measures without intervals, which the name of a test set decides."""
    return {name: interval.value for name, interval in found.measures.items()}


def judged(path: Path, test: Path | str | None, settings: Any = FEW) -> JudgedFile:
    """Score a log of samples ourselves."""
    tests = {} if test is None else {"exam": test}
    data = no.judge({"lm": path}, settings, tests, progress=Silent())
    return data.files[0]


@pytest.mark.parametrize("name", ["parity", "sums"])
def test_an_exported_task_has_our_accuracy(
    name: str, finished_run: FinishedRun, tmp_path: Path
) -> None:
    run = finished_run
    out = tmp_path / "tasks"
    found = no.export(run.folder, "lm-eval", out, Silent(), tests=run.request.tests)
    (task,) = (one for one in found.facts["tasks"] if one.endswith(name))
    theirs, path = scored(task, out, tmp_path / "results")
    own = judged(path, run.request.tests[name], run.data.config)
    accuracy = next(v for k, v in theirs.items() if k.split(",")[0] == "acc")
    assert own.measures["avg_at_k"].value == pytest.approx(accuracy, abs=1e-12)
    assert 0.0 < accuracy < 1.0
    if name == "sums":
        assert own.samples == (4, 4)
        assert own.measures["maj_at_k"].value == pytest.approx(theirs["maj,all"])
        unread = own.measures["parse_failure"].value
        assert unread == pytest.approx(theirs["unread,all"])
    else:
        assert own.agreement == (own.num_samples, own.num_samples)
        assert own.confidences[0].source == "likelihood"
    # The log carries the questions, so that a test set is not needed.
    alone = judged(path, None, run.data.config)
    assert values(alone) == values(own)


CHOICE_TASK = """\
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
FREE_TASK = """\
task: free
dataset_path: json
dataset_kwargs:
  data_files: {test: FILE}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
generation_kwargs: {until: []}
filter_list:
  - name: number
    filter:
      - {function: regex, regex_pattern: "(\\\\d+)"}
      - {function: take_first}
  - name: strict
    filter:
      - {function: take_first}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
"""


def test_a_task_of_their_own_with_choices(tmp_path: Path) -> None:
    exam = write_rows(tmp_path / "capitals.jsonl", capitals() * 1)
    (tmp_path / "capitals.yaml").write_text(CHOICE_TASK.replace("FILE", str(exam)))
    theirs, path = scored("capitals", tmp_path, tmp_path / "results")
    for test in (exam, None):
        own = judged(path, test)
        assert own.measures["avg_at_k"].value == pytest.approx(theirs["acc,none"])
        assert own.agreement == (3, 3)


def test_a_task_of_their_own_with_free_answers(tmp_path: Path) -> None:
    exam = write_rows(tmp_path / "sums.jsonl", sums(40))
    (tmp_path / "free.yaml").write_text(FREE_TASK.replace("FILE", str(exam)))
    theirs, path = scored("free", tmp_path, tmp_path / "results")
    settings = FEW | {"answers.reader": "number"}
    for test in (exam, None):
        own = judged(path, test, settings)
        accuracy = own.measures["avg_at_k"].value
        assert accuracy == pytest.approx(theirs["exact_match,number"])
        assert {one.kind: one.count for one in own.findings}["other filters"] == 40
        assert own.agreement == (40, 40)


def test_the_command_of_an_export_runs(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    run, out, results = finished_run, tmp_path / "tasks", tmp_path / "results"
    found = no.export(run.folder, "lm-eval", out, Silent(), tests=run.request.tests)
    line = found.next_steps[-1].partition("; then")[0].replace("RESULTS", str(results))
    paths = os.pathsep.join([str(places.SOURCES), os.environ.get("PYTHONPATH", "")])
    program, *argv = line.split(" ")
    assert program == "lm_eval"
    subprocess.run(
        [sys.executable, "-m", "lm_eval", *argv, "--device", "cpu"],
        check=True,
        env={**os.environ, "PYTHONPATH": paths, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        timeout=900,
    )
    for name, source in run.request.tests.items():
        (path,) = results.rglob(f"samples_*{name}_*.jsonl")
        own = judged(path, source, run.data.config)
        assert own.num_questions == len(Path(source).read_text().splitlines())
