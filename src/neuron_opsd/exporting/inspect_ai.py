"""A file of inspect tasks: a run's test sets, asked and read as there."""

from __future__ import annotations

import string
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from neuron_opsd.exporting.export import Made, Request
from neuron_opsd.exporting.finished import FinishedRun
from neuron_opsd.exporting.task_files import (
    ENDING,
    Tested,
    read_sets,
    write_files,
)
from neuron_opsd.progress import Progress
from neuron_opsd.records import Question
from neuron_opsd.runs.context import TestSet
from neuron_opsd.storage.files import write_atomic

MODULE: Final = "tasks.py"
CODE: Final = '''\
"""Tasks of a run of neuron-opsd: asked as it asks, and marked as it marks."""

from pathlib import Path

from inspect_ai import Epochs, Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageUser
from inspect_ai.model import GenerateConfig
from inspect_ai.scorer import CORRECT, INCORRECT, Score, accuracy, scorer, stderr
from inspect_ai.solver import generate
from neuron_opsd.judging.marking import marker, rows

HERE = Path(__file__).parent
CUT = ("max_tokens", "model_length")
EPOCHS = {epochs}
CONFIG = {config}
TURNS = dict(
    system=ChatMessageSystem, user=ChatMessageUser, assistant=ChatMessageAssistant
)


@scorer(metrics=[accuracy(), stderr()])
def reads_as_neuron_opsd(questions):
    """Mark completions by the readers of the run."""

    async def score(state, target):
        finished = state.output.stop_reason not in CUT
        text = state.output.completion
        found = marker(questions).mark(str(state.sample_id), text, finished=finished)
        return Score(
            value=CORRECT if found.correct else INCORRECT,
            answer=found.answer or "",
            explanation=found.why,
        )

    return score


def sample(row):
    """Return a question as inspect holds it."""
    asked = row["asked"]
    if not isinstance(asked, str):
        asked = [TURNS[turn["role"]](content=turn["content"]) for turn in asked]
    return Sample(
        id=row["id"], input=asked, choices=row.get("choices"), target=row["target"]
    )


def test_set(name):
    """Return the task of a test set."""
    questions = str(HERE / name)
    return Task(
        dataset=MemoryDataset([sample(row) for row in rows(questions)], name=name),
        solver=generate(),
        scorer=reads_as_neuron_opsd(questions),
        epochs=Epochs(EPOCHS, "mean"),
        config=GenerateConfig(**CONFIG),
    )
'''
TASK: Final = '''

@task
def {name}():
    """The test set {test}."""
    return test_set({file!r})
'''


def write(run: FinishedRun, request: Request, folder: Path, progress: Progress) -> Made:
    """Write a file with a task for each test set."""
    config = run.config
    chose = config.rollouts.mode == "constrained"
    if chose:
        progress.warn(
            "the run sampled answers among the choices, which inspect cannot: its "
            "tasks list the choices by letter and have the model write answers, so "
            "accuracy differs from the run's report; --to lm-eval compares likelihoods"
        )
    found = read_sets(run, request, progress.warn, "letters" if chose else "")
    write_files(found, folder, lambda question, test: columns(question, test, found))
    code = CODE.format(
        epochs=config.evaluation.num_samples, config=generation(found)
    ) + "".join(
        TASK.format(
            name=found.task_name(test), test=test.name, file=f"{test.name}{ENDING}"
        )
        for test in found.sets
    )
    write_atomic(folder / MODULE, code.encode())
    return Made({"tasks": found.tasks}, (command(found, request),))


def columns(question: Question, test: TestSet, found: Tested) -> dict[str, Any]:
    """Return a task's columns besides the question."""
    prompt, gold = found.asked(question), test.gold.answer_of[question.id]
    asked: Any = prompt.text
    if prompt.messages:
        asked = [asdict(turn) for turn in prompt.messages]
    target: Any = [gold, *test.gold.aliases_of.get(question.id, ())]
    if question.choices:
        target = string.ascii_uppercase[question.choices.index(gold)]
    return {"asked": asked, "target": target}


def generation(found: Tested) -> str:
    """Return the sampling settings, as Python."""
    config = found.run.config
    told: dict[str, Any] = {
        "temperature": config.evaluation.temperature,
        "top_p": config.rollouts.top_p,
        "max_tokens": config.test_tokens,
    }
    if config.rollouts.top_k:
        told["top_k"] = config.rollouts.top_k
    if found.run.stops:
        told["stop_seqs"] = found.run.stops
    return repr(told)


def command(found: Tested, request: Request) -> str:
    """Return the command that runs inspect on the tasks."""
    return (
        f"inspect eval {request.out}/{MODULE}@{found.tasks[0]} --model MODEL; then "
        "`neuron-opsd evaluate --completions logs/....eval` gives the same accuracy, "
        "with intervals and calibration"
    )
