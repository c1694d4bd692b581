"""One system in a process of its own: a job on the first line, then turns.

    python -m benchmarks.speed.worker benchmarks.speed.rollouts:ours

It reads the job as JSON from the first line of stdin, loads, and answers one line. Each
further line asks for one repetition and is answered by one line.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from importlib import import_module

from benchmarks.speed.job import Facts, Job, Turns


def main() -> None:
    """Serve until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # Whatever a library prints must not be taken for an answer.
    os.dup2(2, 1)
    job = Job.from_dict(json.loads(sys.stdin.readline()))

    def answer(facts: Facts) -> None:
        answers.write(json.dumps(facts) + "\n")
        answers.flush()

    system = find(sys.argv[1])
    system(job, Turns(iter(sys.stdin.readline, ""), answer, job.device))


def find(name: str) -> Callable[[Job, Turns], None]:
    """Return the function that ``module:function`` names."""
    module, _, function = name.partition(":")
    system: Callable[[Job, Turns], None] = vars(import_module(module))[function]
    return system


if __name__ == "__main__":
    main()
