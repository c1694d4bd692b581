"""The probe as functions: plain arguments in, records out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict, Unpack

from neuron_opsd.config.tables import Settings, as_config
from neuron_opsd.planning.workload import Plan
from neuron_opsd.probing import plan as planning
from neuron_opsd.probing import probe as probing
from neuron_opsd.probing.request import (
    NUM_COMPLETIONS,
    NUM_DRAWS,
    NUM_QUESTIONS,
    ProbeRequest,
)
from neuron_opsd.progress import QUIET, Progress
from neuron_opsd.results.probe import ProbeData


class Choices(TypedDict, total=False):
    """How a pool is probed, where it is not by default."""

    run: str | Path
    """Folder of a run, or of a method of a comparison, whose answers are taken."""
    answers: str | Path
    """File with the pool's gold answers; without it none is read."""
    questions: int
    """On which context rules are tried."""
    draws: int
    """Of a rule that draws."""
    library: int
    """Questions of the pool that are answered; 0 means all."""
    completions: int
    """Own free answers to a question that teachers score, at most."""
    write: int
    """Free answers that each teacher writes anew to a question; 0 means none."""
    context_rules: Sequence[str]
    selection_rules: Sequence[str]
    command: str
    """How the probe was called, for its page."""


def probe(
    pool: str | Path,
    out: str | Path,
    settings: Settings,
    progress: Progress = QUIET,
    **choices: Unpack[Choices],
) -> ProbeData:
    """Say before any training which signals make the best teacher on a pool.

    The same call resumes a probe that was stopped.

    Args:
        pool: Unlabelled questions; answers in the file are not read.
        out: Folder that gets `probe.json`, `probe.csv` and `probe.html`.
        settings: Of the run that is to follow; they name the model, unless a run does.
        progress: Called with every stage.
        choices: What is tried, on how much.

    Raises:
        NeuronOpsdError: For anything that the user can mend.
    """
    return probing.probe(request_of(pool, out, choices), as_config(settings), progress)


def plan_probe(
    pool: str | Path,
    settings: Settings,
    progress: Progress = QUIET,
    **choices: Unpack[Choices],
) -> Plan:
    """Estimate tokens and time of a probe, at most; nothing is written.

    Takes what `probe` takes, but no folder.

    Raises:
        NeuronOpsdError: For anything that the user can mend.
    """
    request = request_of(pool, Path(), choices)
    return planning.plan_probe(request, as_config(settings), progress)


def request_of(pool: str | Path, out: str | Path, choices: Choices) -> ProbeRequest:
    """Return what a probe is asked to do."""
    run, answers = choices.get("run"), choices.get("answers")
    return ProbeRequest(
        pool=str(pool),
        out=Path(out),
        run=None if run is None else Path(run),
        answers=None if answers is None else str(answers),
        num_questions=choices.get("questions", NUM_QUESTIONS),
        num_draws=choices.get("draws", NUM_DRAWS),
        library=choices.get("library", 0),
        num_completions=choices.get("completions", NUM_COMPLETIONS),
        num_written=choices.get("write", 0),
        context_rules=tuple(choices.get("context_rules", ())),
        selection_rules=tuple(choices.get("selection_rules", ())),
        command=choices.get("command", ""),
    )
