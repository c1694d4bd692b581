"""A folder of lm-eval tasks: a run's test sets, asked and read as there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from neuron_opsd.errors import ConfigError, questions_text
from neuron_opsd.exporting.export import Made, Request
from neuron_opsd.exporting.finished import FinishedRun
from neuron_opsd.exporting.task_files import (
    ENDING,
    Tested,
    read_sets,
    write_files,
)
from neuron_opsd.progress import Progress
from neuron_opsd.prompts import choice_answers
from neuron_opsd.records import Question
from neuron_opsd.runs.context import TestSet
from neuron_opsd.storage.files import write_atomic

MODULE: Final = "reads_as_neuron_opsd"
CODE: Final = '''\
"""Loads the questions of these tasks, and marks answers as neuron-opsd does."""

from pathlib import Path

import datasets
from neuron_opsd.judging.marking import marker, rows

HERE = Path(__file__).parent


def load(questions, **_):
    """Return the questions of a task by split."""
    return {"test": datasets.Dataset.from_list(rows(str(HERE / questions)))}


def mark(doc, results):
    """Return what the samples of one question score."""
    texts = results[0] if isinstance(results[0], list) else results
    return marker(str(HERE / doc["questions"])).measures(doc["id"], texts)
'''
CALLS: Final = ("custom_dataset", "process_results")
"""Fields of a task that name a function."""
MEASURES: Final = (("acc", True), ("maj", True), ("unread", False))
"""Measures of free answers; whether more is better."""


def write(run: FinishedRun, request: Request, folder: Path, progress: Progress) -> Made:
    """Write a task for each test set."""
    found = read_sets(run, request, progress.warn)
    system = system_text(found)
    write_files(found, folder, lambda question, test: columns(question, test, found))
    write_atomic(folder / f"{MODULE}.py", CODE.encode())
    for test in found.sets:
        name = found.task_name(test)
        write_atomic(folder / f"{name}.yaml", task_text(test, found, system).encode())
    return Made({"tasks": found.tasks}, (command(found, request),))


def system_text(found: Tested) -> str:
    """Return the system turn of all questions; refuse several."""
    systems: set[str] = set()
    for test in found.sets:
        for question in test.questions:
            turns = found.asked(question).messages
            systems.add("".join(t.content for t in turns if t.role == "system"))
            if sum(turn.role != "system" for turn in turns) > 1:
                raise ConfigError(
                    f"{questions_text([question.id])} of {test.name} is a conversation "
                    "of several turns, which lm-eval cannot ask; use --to inspect"
                )
    if len(systems) > 1:
        raise ConfigError(
            "questions have system turns of their own, which a task of lm-eval cannot "
            "have; use --to inspect"
        )
    return next(iter(systems), "")


def columns(question: Question, test: TestSet, found: Tested) -> dict[str, Any]:
    """Return a task's columns besides the question.

    Answers are single texts and no column is empty, so that rows are alike.
    """
    prompt = found.asked(question)
    asked = prompt.messages[-1].content if prompt.messages else prompt.text
    more: dict[str, Any] = {"asked": asked, "questions": f"{test.name}{ENDING}"}
    if question.choices:
        gold = test.gold.answer_of[question.id]
        more["written"] = list(choice_answers(question, found.prompts))
        more["place"] = question.choices.index(gold)
    return more


def task_text(test: TestSet, found: Tested, system: str) -> str:
    """Return a task's file: JSON but for names of functions."""
    task: dict[str, Any] = {
        "task": found.task_name(test),
        "custom_dataset": f"!function {MODULE}.load",
        "dataset_kwargs": {"questions": f"{test.name}{ENDING}"},
        "test_split": "test",
        "num_fewshot": 0,
        "doc_to_text": "asked",
        **({"description": system} if system else {}),
        **(likelihoods(found) if chooses(test, found) else free(found)),
        "metadata": {"version": 1},
    }
    # YAML, which includes JSON; functions have a tag of their own.
    return "".join(
        f"{name}: {value if name in CALLS else json.dumps(value, ensure_ascii=False)}\n"
        for name, value in task.items()
    )


def chooses(test: TestSet, found: Tested) -> bool:
    """Say whether a task compares the likelihood of choices."""
    chose = found.run.config.rollouts.mode == "constrained"
    return chose and all(question.choices for question in test.questions)


def likelihoods(found: Tested) -> dict[str, Any]:
    """Return how a task asks which choice is most likely."""
    return {
        "output_type": "multiple_choice",
        "doc_to_choice": "written",
        "doc_to_target": "place",
        "target_delimiter": " " if found.prompts.form == "plain" else "",
        "metric_list": [measure("acc", more_is_better=True)],
    }


def free(found: Tested) -> dict[str, Any]:
    """Return how a task asks for written answers."""
    config = found.run.config
    count = config.evaluation.num_samples
    sampling = {"top_k": config.rollouts.top_k, "min_p": config.rollouts.min_p}
    return {
        "output_type": "generate_until",
        "doc_to_target": "answer",
        "process_results": f"!function {MODULE}.mark",
        "repeats": count,
        "filter_list": [
            {"name": "all", "filter": [{"function": "take_first_k", "k": count}]}
        ],
        "generation_kwargs": {
            "do_sample": True,
            "temperature": config.evaluation.temperature,
            "top_p": config.rollouts.top_p,
            **{name: value for name, value in sampling.items() if value},
            "max_gen_toks": config.test_tokens,
            "until": found.run.stops,
        },
        "metric_list": [measure(name, more_is_better=up) for name, up in MEASURES],
    }


def measure(name: str, *, more_is_better: bool) -> dict[str, Any]:
    """Return one measure of a task."""
    return {"metric": name, "aggregation": "mean", "higher_is_better": more_is_better}


def command(found: Tested, request: Request) -> str:
    """Return the command that runs lm-eval on the tasks."""
    run = found.run
    model = f"pretrained={run.base.name},peft={run.adapter.resolve()}"
    if run.is_whole_model:
        model = f"pretrained={run.adapter.resolve()}"
    chat = " --apply_chat_template" if found.prompts.form == "chat" else ""
    return (
        f"lm_eval --model hf --model_args {model} --include_path {request.out} "
        f"--tasks {','.join(found.tasks)}{chat} --log_samples --output_path RESULTS; "
        "then `neuron-opsd evaluate --completions RESULTS/.../samples_TASK_....jsonl` "
        "gives the same accuracy, with intervals and calibration"
    )
