"""Running a case: load every system, warm it up, let them take turns.

A system that cannot run does not stop the others: it is reported with the reason.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import median
from typing import Final, Protocol, TypeAlias, TypeVar

from benchmarks.speed.cases import Case, System
from benchmarks.speed.job import Facts, Job, Work
from benchmarks.speed.outcome import Measured, Outcome
from benchmarks.speed.process import ROOT, Process, QuitError, Setting

T = TypeVar("T")

Say: TypeAlias = Callable[[str], None]

RATES: Final = ("float32", "bfloat16", "bandwidth")
"""What the machine says of itself."""


class Player(Protocol):
    """Something that takes turns."""

    def turn(self) -> Facts:
        """Do the work once and tell of it."""
        ...


Players: TypeAlias = Sequence[tuple[Measured, Player]]


def run_case(
    case: Case, setting: Setting, machine: Player, rounds: int, say: Say
) -> Outcome:
    """Measure all systems of a case that can run here.

    Raises:
        QuitError: If the machine cannot be measured or the job cannot be made.
    """
    make = cache(lambda scale: prepared(case.work, scale, setting))
    measured = [Measured(system, make(system.scale)) for system in case.systems]
    rates: list[Facts] = []
    with ExitStack() as stack:
        players: list[tuple[Measured, Player]] = []
        for entry in measured:
            say(f"{case.name}: loading {entry.system.label}")
            process = started(entry, setting)
            if process is not None:
                stack.callback(process.stop)
                players.append((entry, process))
        play(players, counts=False)
        for number in range(rounds):
            say(f"{case.name}: round {number + 1} of {rounds}")
            rates.append(machine.turn())
            play(rotated(players, number), counts=True)
    typical = {name: median(facts[name] for facts in rates) for name in RATES}
    return Outcome(case, measured, typical)


def started(entry: Measured, setting: Setting) -> Process | None:
    """Load a system; where that fails, note why and return nothing."""
    system = entry.system
    if lacks(system, setting):
        entry.problem = f"give --{system.needs}"
        return None
    if system.needs == "vllm":  # it has an environment of its own
        setting = replace(setting, python=Path(setting.vllm))
    try:
        return Process(system.run, job_of(system, entry.work, setting), setting)
    except QuitError as error:
        entry.problem = str(error)
        return None


def lacks(system: System, setting: Setting) -> bool:
    """Whether something is missing that a system needs."""
    given = {
        "": "nothing",
        "gguf": setting.gguf,
        "neufs": setting.neufs,
        "vllm": setting.vllm,
    }
    return not given[system.needs]


def job_of(system: System, work: Work, setting: Setting) -> Job:
    """Return what a system's process is told."""
    return Job(
        work=work,
        model=str(setting.model),
        device=setting.device,
        threads=setting.threads,
        options=system.told(),
        gguf=setting.gguf,
        neufs=setting.neufs,
    )


def play(players: Players, *, counts: bool) -> None:
    """Give each player one turn; one that has quit is left out from then on."""
    for entry, player in players:
        if entry.problem:
            continue
        try:
            entry.add(player.turn(), counts=counts)
        except QuitError as error:
            entry.problem = str(error)
            entry.seconds.clear()


def rotated(items: Sequence[T], number: int) -> list[T]:
    """Return the items beginning with another one each round.

    So none always follows the same one, whose heat it would inherit.

    Example:
        >>> rotated("abc", 1)
        ['b', 'c', 'a']
    """
    start = number % len(items) if items else 0
    return [*items[start:], *items[:start]]


def prepared(work: str, scale: int, setting: Setting) -> Work:
    """Make a job in the peers' environment, whose tokenizer everyone shares.

    Raises:
        QuitError: If it cannot be made.
    """
    wanted = {
        "work": work,
        "scale": scale,
        "model": str(setting.model),
        "questions": str(setting.questions),
        "new_tokens": setting.new_tokens,
    }
    done = subprocess.run(
        [setting.python, "-m", "benchmarks.speed.prepare"],
        input=json.dumps(wanted),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=setting.environment(),
    )
    if done.returncode:
        raise QuitError(f"the job {work} cannot be made: {done.stderr.strip()[-300:]}")
    return Work(**json.loads(done.stdout))


def machine_job(setting: Setting) -> Job:
    """Return what the process is told that measures the machine."""
    return job_of(System("machine", "", "float32"), Work("turn"), setting)
