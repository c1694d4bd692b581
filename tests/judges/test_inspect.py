"""What inspect calls right is what we call right; needs inspect: `make test-judges`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import neuron_opsd as no
from neuron_opsd.progress import Silent
from neuron_opsd.results.judging import JudgedFile
from sample_files import capitals
from tiny_runs import FinishedRun

pytest.importorskip("inspect_ai", reason="inspect is not installed: make test-judges")

from inspect_ai import Epochs, Task
from inspect_ai import eval as inspect_eval
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.log import EvalLog, convert_eval_logs
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import choice
from inspect_ai.solver import multiple_choice

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs are not ours to mend

FEW = {"evaluation.num_resamples": 20}
REPLIES = (" A", "The answer is B.", "12", "<think>A</think>B", "no idea", "ANSWER: C")


def outputs(count: int) -> list[ModelOutput]:
    """Return replies of a model, some of them cut."""
    found = []
    for number in range(count):
        cut = "max_tokens" if number % 11 == 10 else "stop"
        reply = REPLIES[(number * number + number // 3) % len(REPLIES)]
        made = ModelOutput.from_content("mockllm/model", reply, stop_reason=cut)
        # Without it inspect would count tokens by a vocabulary from the network.
        made.usage = ModelUsage(input_tokens=9, output_tokens=3, total_tokens=12)
        found.append(made)
    return found


def evaluated(task: Any, folder: Path, count: int) -> EvalLog:
    """Run a task by inspect with scripted replies; the log is in the folder."""
    model = get_model("mockllm/model", custom_outputs=outputs(count))
    (log,) = inspect_eval(task, model=model, log_dir=str(folder), display="none")
    assert log.status == "success", log.error
    return log


def accuracy(log: EvalLog) -> float:
    """Return what inspect measured."""
    assert log.results is not None
    return float(log.results.scores[0].metrics["accuracy"].value)


def judged(path: Path, test: Any, settings: Any = FEW) -> JudgedFile:
    """Score a log ourselves."""
    tests = {} if test is None else {"exam": test}
    data = no.judge({"log": path}, settings, tests, progress=Silent())
    return data.files[0]


@pytest.mark.parametrize("name", ["parity", "sums"])
def test_an_exported_task_has_our_accuracy(
    name: str, finished_run: FinishedRun, tmp_path: Path
) -> None:
    run, out = finished_run, tmp_path / "tasks"
    found = no.export(run.folder, "inspect", out, Silent(), tests=run.request.tests)
    (task,) = (one for one in found.facts["tasks"] if one.endswith(name))
    log = evaluated(f"{out}/tasks.py@{task}", tmp_path / "logs", 200)
    settings = run.data.config.changed(prompts={"list_choices": "letters"})
    (path,) = (tmp_path / "logs").glob("*.eval")
    own = judged(path, run.request.tests[name], settings)
    assert own.samples == (4, 4)
    assert own.measures["avg_at_k"].value == pytest.approx(accuracy(log), abs=1e-12)
    assert own.agreement == (own.num_samples, own.num_samples)
    if name == "parity":
        assert 0.0 < accuracy(log) < 1.0
        assert 0.0 < own.measures["truncation"].value < 1.0
    # The log carries the questions, so that a test set is not needed.
    alone = judged(path, None, settings)
    assert {name: one.value for name, one in alone.measures.items()} == {
        name: one.value for name, one in own.measures.items()
    }


def test_a_task_of_their_own_and_both_forms_of_a_log(tmp_path: Path) -> None:
    samples = [
        Sample(
            id=row["id"],
            input=row["question"],
            choices=row["choices"],
            target="ABC"[row["choices"].index(row["answer"])],
        )
        for row in capitals()
    ]
    task = Task(
        dataset=MemoryDataset(samples),
        solver=multiple_choice(),
        scorer=choice(),
        epochs=Epochs(5, "mean"),
    )
    log = evaluated(task, tmp_path / "logs", 15)
    (path,) = (tmp_path / "logs").glob("*.eval")
    convert_eval_logs(str(path), "json", str(tmp_path / "json"))
    (plain,) = (tmp_path / "json").glob("*.json")
    one, other = judged(path, None), judged(plain, None)
    assert one.measures == other.measures
    assert one.samples == (5, 5)
    # inspect's own scorer takes `ANSWER: C` alone, ours any clear answer.
    assert one.agreement is not None
    assert one.measures["avg_at_k"].value >= accuracy(log)
    assert one.agreement[1] == 15
