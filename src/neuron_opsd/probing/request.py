"""What a probe is asked to do, and the settings and questions that it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from neuron_opsd.analysis.inputs import Place, place_of, read_output
from neuron_opsd.config import Config
from neuron_opsd.config.tables import as_config, config_from_table, differences, merge
from neuron_opsd.errors import ConfigError, DataError
from neuron_opsd.method.contexts import GIVEN
from neuron_opsd.probing.rules import CONTEXTS, SELECTION, check_names
from neuron_opsd.records import Question
from neuron_opsd.runs.inputs import POOL, check_size, questions_hash, read_pool
from neuron_opsd.runs.resolution import with_method
from neuron_opsd.seeds import generator
from neuron_opsd.storage.codecs import json_codec

NUM_QUESTIONS: Final = 128
NUM_DRAWS: Final = 3
NUM_COMPLETIONS: Final = 4
RANKED_PER_ASKED: Final = 8
"""Questions that selection rules choose among, for each that context rules are tried
on."""

TRAINING: Final = (
    *("distill.", "policy.", "guard.", "evaluation.", "teacher_check."),
    *("method", "preset"),
)
"""Beginnings of settings of what comes after the teacher is chosen."""

FREE_TO_CHANGE: Final = (
    *(*TRAINING, "selection.", "cluster.", "engine."),
    *("contexts.rule", "contexts.num_demonstrations", "contexts.content"),
    *("contexts.max_tokens", "contexts.max_demonstration_tokens"),
    *("model.device", "model.tokens_per_batch"),
)
"""Beginnings of settings that the answers and neurons of a run do not depend on."""


WITHOUT_NEURONS: Final = {"selection": {"rule": "all"}, "contexts": {"rule": "random"}}
"""Where a probe begins if the model's neurons cannot be read."""


@dataclass(frozen=True, slots=True)
class ProbeRequest:
    """What a probe is asked to do."""

    pool: str
    """File or dataset of unlabelled questions; answers in it are not read."""
    out: Path
    """Folder of the probe, which resumes."""
    run: Path | None = None
    """A run, or a method of a comparison, whose answers and neurons are taken."""
    answers: str | None = None
    """File with the pool's gold answers; without it nothing is said of right and
    wrong."""
    num_questions: int = NUM_QUESTIONS
    """Questions on which context rules are tried."""
    num_draws: int = NUM_DRAWS
    """Draws of a rule that draws."""
    library: int = 0
    """Questions of the pool that are answered; 0 means all."""
    num_completions: int = NUM_COMPLETIONS
    """Of a question that is answered freely, scored under each teacher's prompt."""
    num_written: int = 0
    """Free answers that each teacher writes anew; 0 scores the student's own."""
    context_rules: tuple[str, ...] = ()
    """Those that are tried; all if left out."""
    selection_rules: tuple[str, ...] = ()
    command: str = ""
    """How the probe was called, for its page."""


def check_request(request: ProbeRequest) -> None:
    """Refuse numbers and rules that cannot be."""
    numbers = {
        "--questions": (request.num_questions, 2),
        "--draws": (request.num_draws, 2),
        "--completions": (request.num_completions, 1),
        "--write": (request.num_written, 0),
        "--library": (request.library, 0),
    }
    for flag, (value, least) in numbers.items():
        if value < least:
            raise ConfigError(f"{flag} is {value}, but it must be {least} or more")
    check_names(CONTEXTS, request.context_rules)
    check_names(SELECTION, request.selection_rules)
    if request.run is not None and request.library:
        raise ConfigError(
            f"--library is {request.library}, but {request.run} has answered its whole "
            "pool already; leave one of the two out"
        )


def settings_for(request: ProbeRequest, config: Config, place: Place | None) -> Config:
    """Return the settings of a probe: those of the run that is probed, if any.

    Raises:
        ConfigError: If the user wants other settings than those which the run's
            answers were made with.
    """
    if place is None:
        return searching(with_method(config))
    own = as_config(kept_settings(place))
    wanted = merge(own.model_dump(), config.model_dump(exclude_unset=True))
    found = config_from_table(wanted)
    changed = [
        name for name in differences(own, found) if not name.startswith(FREE_TO_CHANGE)
    ]
    if changed:
        raise ConfigError(
            f"{request.run} answered its pool with other settings of "
            f"{', '.join(changed)}; leave these out, or probe the pool without the run"
        )
    return searching(found)


def searching(config: Config) -> Config:
    """Return settings by which demonstrations are found, or refuse others.

    Raises:
        ConfigError: If the teacher sees what is given with each question instead.
    """
    if config.contexts.rule == GIVEN:
        raise ConfigError(
            f"contexts.rule is {GIVEN}, which finds no demonstrations, but a probe "
            "compares rules that do; choose another rule"
        )
    return config


def kept_settings(place: Place) -> Mapping[str, Any]:
    """Return all settings of a run, or of a method in its group, by dotted name."""
    if not place.method:
        return place.manifest.settings
    name = place.own("settings")
    found: Mapping[str, Any] = read_output(place, name, json_codec(f"{name}.json"))
    return found


def place_for(request: ProbeRequest) -> Place | None:
    """Find the run that is probed."""
    return None if request.run is None else place_of(request.run)


def read_library(
    request: ProbeRequest,
    config: Config,
    place: Place | None,
    warn: Callable[[str], None],
) -> tuple[tuple[Question, ...], int]:
    """Read the questions that are answered, in the order of the pool.

    Returns:
        Them, and how many there are in the pool.

    Raises:
        DataError: If the pool is too small, or not the one of the run.
    """
    found = read_pool(request.pool, config)
    for note in found.notes:
        warn(note)
    questions = found.questions
    check_size(request.pool, len(questions), config.contexts.num_demonstrations)
    if place is not None and questions_hash(questions) != place.manifest.inputs[POOL]:
        raise DataError(
            f"{request.pool} does not hold the questions that {request.run} was given; "
            "name the file that it had as its --pool"
        )
    if not 0 < request.library < len(questions):
        return questions, len(questions)
    kept = first_drawn(questions, request.library, config.seed, "library")
    check_size(request.pool, len(kept), config.contexts.num_demonstrations)
    return kept, len(questions)


def first_drawn(
    questions: Sequence[Question], count: int, seed: int, purpose: str
) -> tuple[Question, ...]:
    """Return so many questions drawn without replacement, in their order.

    A larger draw for the same purpose holds a smaller one.
    """
    order = generator(seed, "probe", purpose).permutation(len(questions))
    return tuple(questions[i] for i in sorted(order[:count].tolist()))
