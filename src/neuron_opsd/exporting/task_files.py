"""What the lm-eval and inspect tasks share: questions as the run asked them.

A run keeps only hashes of its test sets, so the same files must be given again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from neuron_opsd.config import PromptsConfig
from neuron_opsd.data.questions import json_lines, question_table
from neuron_opsd.errors import ConfigError, DataError
from neuron_opsd.exporting.export import Request
from neuron_opsd.exporting.finished import FinishedRun
from neuron_opsd.judging.marking import SETTINGS
from neuron_opsd.prompts import student_prompt
from neuron_opsd.records import Prompt, Question
from neuron_opsd.runs.context import TestSet
from neuron_opsd.runs.inputs import check_names, read_tests, test_hash
from neuron_opsd.storage.codecs import encode, save_json
from neuron_opsd.storage.files import write_atomic

ENDING: Final = ".jsonl"
NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_]+")


@dataclass(frozen=True, slots=True)
class Tested:
    """A run's test sets, with how it asks and reads."""

    run: FinishedRun
    sets: tuple[TestSet, ...]
    prompts: PromptsConfig

    def asked(self, question: Question) -> Prompt:
        """Return the prompt of a question."""
        return student_prompt(question, self.prompts)

    @property
    def tasks(self) -> list[str]:
        """The names of the tasks."""
        return [self.task_name(test) for test in self.sets]

    def task_name(self, test: TestSet) -> str:
        """Name a task after the run and the test set."""
        return NOT_IN_NAMES.sub("_", f"{self.run.name}_{test.name}").strip("_")


def read_sets(
    run: FinishedRun,
    request: Request,
    warn: Callable[[str], None],
    list_choices: str = "",
) -> Tested:
    """Read the test sets of a run again.

    `list_choices` is how to list their choices, by default as in the run.

    Raises:
        ConfigError: If no file is given, or one for no test set of the run.
        DataError: If a file is not the one tested.
    """
    known = {test.name for test in run.report.tests}
    if not request.tests:
        named = " ".join(f"{name}=FILE" for name in sorted(known)) or "NAME=FILE"
        raise ConfigError(
            f"a run keeps no questions, so its test sets are needed: --test {named}"
        )
    check_names(request.tests)
    others = [name for name in request.tests if name not in known]
    if others:
        raise ConfigError(
            f"--test names {', '.join(others)}, but the run was tested on "
            f"{', '.join(sorted(known)) or 'nothing'}; name some of these"
        )
    sets = read_tests(request.tests, run.config.evaluation.in_domain, run.config, warn)
    for test in sets:
        if test_hash(test) != run.manifest.inputs.get(test.name):
            raise DataError(
                f"{request.tests[test.name]} does not hold the questions and answers "
                f"that the run was tested on as {test.name}; give that file"
            )
    prompts = run.config.prompts
    if list_choices:
        prompts = prompts.model_copy(update={"list_choices": list_choices})
    return Tested(run, sets, prompts)


def write_files(
    found: Tested, folder: Path, more: Callable[[Question, TestSet], dict[str, Any]]
) -> None:
    """Write the test sets' questions, and how their answers are read.

    `more` adds columns to those of a question file.
    """
    for test in found.sets:
        tables = (question_table(q, test.gold) | more(q, test) for q in test.questions)
        write_atomic(folder / f"{test.name}{ENDING}", encode(json_lines(tables)))
    model = found.run.config.model
    told = {
        "answers": found.run.config.answers.model_dump(),
        "prompts": {"list_choices": found.prompts.list_choices},
        "model": {
            "reasoning_start": model.reasoning_start,
            "reasoning_end": model.reasoning_end,
        },
    }
    save_json(told, folder / SETTINGS)
