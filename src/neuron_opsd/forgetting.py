"""What training made a model forget: lm-eval's standard tasks before and after.

lm-eval runs in its own process; its logs are judged like any others.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from neuron_opsd.config import Config
from neuron_opsd.errors import ConfigError, ModelError, TryAgainError
from neuron_opsd.exporting.export import check_out
from neuron_opsd.exporting.finished import FinishedRun, check_base, finished_run
from neuron_opsd.judging.judge import judge
from neuron_opsd.progress import QUIET, Progress
from neuron_opsd.records.scores import Interval
from neuron_opsd.report.measures import KINDS, in_words, judged
from neuron_opsd.report.wording import GOT_WORSE
from neuron_opsd.results.judging import JudgementData
from neuron_opsd.results.run import Least

STANDARD: Final = ("arc_easy", "hellaswag", "piqa", "winogrande")
"""Tasks most models know, decided by choice likelihood: quick, and not sampled."""
BASE, TRAINED = "base", "trained"
LOG: Final = "lm_eval.log"
LINES: Final = 3
"""Last lines of lm-eval's log shown in an error."""
ACCURACY: Final = "avg_at_k"


@dataclass(frozen=True, slots=True)
class ForgettingRequest:
    """The run to look at, and the tasks."""

    run: Path
    out: Path
    """A new or empty folder."""
    tasks: tuple[str, ...] = STANDARD
    limit: int = 0
    """Questions per task, from the first; 0 for all."""
    tasks_folder: Path | None = None
    """Folder of tasks besides lm-eval's."""
    base: str = ""
    """Where the base is, if it moved since the run."""
    batch_size: str = "auto"
    download: bool = False
    """Whether lm-eval may fetch its tasks' questions."""
    command: str = ""


@dataclass(frozen=True, slots=True)
class TaskChange:
    """The change of accuracy on one task."""

    num_questions: int
    base: float
    trained: float
    change: Interval
    mcnemar: float
    shows: str
    """In words; empty if the interval holds zero."""
    report: str
    """The task's page."""


@dataclass(frozen=True, slots=True)
class Forgetting:
    """The change on every task."""

    outcome: str
    tasks: Mapping[str, TaskChange] = field(default_factory=dict)


def forgetting(request: ForgettingRequest, progress: Progress = QUIET) -> Forgetting:
    """Ask base and trained model standard tasks, and pair their answers.

    Raises:
        ConfigError: If lm-eval is not installed, or folder or tasks cannot be used.
        ModelError: If lm-eval fails.
        TryAgainError: If it needs files that are not on this machine.
    """
    if find_spec("lm_eval") is None:
        raise ConfigError(
            "lm-eval is not installed in this environment; pip install 'lm-eval[hf]'"
        )
    if not request.tasks:
        raise ConfigError(f"no task is named; for example --tasks {STANDARD[0]}")
    check_out(request.out)
    run = finished_run(request.run, request.base)
    if not run.is_whole_model:
        check_base(run)
    request.out.mkdir(parents=True, exist_ok=True)
    logs = {}
    with progress.stage("lm-eval", 2, "models") as done:
        for label, model in models_of(run).items():
            logs[label] = asked(request, label, model)
            done(1)
    names = [name for name in logs[BASE] if name in logs[TRAINED]]
    if not names:
        raise ModelError(
            f"lm-eval wrote no samples of {', '.join(request.tasks)}; see "
            f"{request.out / BASE / LOG}"
        )
    found = {
        name: judged_task(name, logs, request, run.config, progress) for name in names
    }
    tasks = {name: change_of(one, request, name) for name, one in found.items()}
    return Forgetting(outcome(tasks), tasks)


def models_of(run: FinishedRun) -> dict[str, str]:
    """Return lm-eval's model names before and after training."""
    plain = {"pretrained": run.base.name}
    if run.base.compute != "auto":
        plain["dtype"] = run.base.compute
    kind = "pretrained" if run.is_whole_model else "peft"
    trained = plain | {kind: str(run.adapter.resolve())}
    for value in (*plain.values(), *trained.values()):
        if "," in value:
            raise ConfigError(
                f"lm-eval takes no folder with a comma in its name: {value}"
            )
    return {
        label: ",".join(f"{name}={value}" for name, value in arguments.items())
        for label, arguments in ((BASE, plain), (TRAINED, trained))
    }


def asked(request: ForgettingRequest, label: str, model: str) -> dict[str, Path]:
    """Have lm-eval ask one model; return its logs by task."""
    out = request.out / label
    out.mkdir()
    argv = [sys.executable, "-m", "lm_eval", "--model", "hf", "--model_args", model]
    argv += ["--tasks", ",".join(request.tasks), "--batch_size", request.batch_size]
    argv += ["--log_samples", "--output_path", str(out)]
    if request.limit:
        argv += ["--limit", str(request.limit)]
    if request.tasks_folder is not None:
        argv += ["--include_path", str(request.tasks_folder)]
    environment = dict(os.environ)
    if not request.download:
        environment |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    with (out / LOG).open("wb") as log:
        done = subprocess.run(
            argv, stdout=log, stderr=subprocess.STDOUT, env=environment, check=False
        )
    if done.returncode:
        refuse_failed(out / LOG, request)
    return {task_in(path): path for path in sorted(out.rglob("samples_*.jsonl"))}


def refuse_failed(log: Path, request: ForgettingRequest) -> None:
    """Say why lm-eval failed, with the end of its log."""
    lines = log.read_text("utf-8", "replace").splitlines()
    said = " | ".join(line.strip() for line in lines[-LINES:])
    if not request.download and any("ffline" in line for line in lines):
        raise TryAgainError(
            f"lm-eval needs files that are not on this machine ({said}); allow it to "
            "fetch them with --download"
        )
    raise ModelError(f"lm-eval failed: {said}; all of it is in {log}")


def task_in(path: Path) -> str:
    """Return the task of a log ``samples_TASK_DATE.jsonl``."""
    return path.stem.removeprefix("samples_").rpartition("_")[0]


def judged_task(
    name: str,
    logs: Mapping[str, Mapping[str, Path]],
    request: ForgettingRequest,
    config: Config,
    progress: Progress,
) -> JudgementData:
    """Judge one task, and write its page."""
    files = {label: logs[label][name] for label in (BASE, TRAINED)}
    out = request.out / f"{name}.json"
    return judge(files, config, None, out, progress, command=request.command)


def change_of(data: JudgementData, request: ForgettingRequest, name: str) -> TaskChange:
    """Return the change of accuracy on a task."""
    (pair,) = data.pairs
    before, after = (one.measures[ACCURACY].value for one in data.files)
    change = pair.change[ACCURACY]
    least = Least(data.least_accuracy, data.least_calibration)
    return TaskChange(
        pair.num_questions,
        before,
        after,
        change,
        pair.mcnemar,
        judged(KINDS[ACCURACY], change, least),
        str((request.out / f"{name}.html").resolve()),
    )


def outcome(tasks: Mapping[str, TaskChange]) -> str:
    """Say on which tasks the model got worse."""
    worse = [name for name, one in tasks.items() if one.shows == GOT_WORSE]
    if not worse:
        return f"On none of {len(tasks)} tasks is the trained model measurably worse."
    said = [f"{name} ({in_words(tasks[name].change, ACCURACY)})" for name in worse]
    return (
        f"On {len(worse)} of {len(tasks)} tasks the trained model is worse, in points "
        f"of accuracy: {', '.join(said)}."
    )
