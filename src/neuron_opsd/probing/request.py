"""What a probe is asked: rules, settings and questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypedDict

from neuron_opsd.analysis.places import Place, kept_settings, place_of
from neuron_opsd.config import Config
from neuron_opsd.config.tables import as_config, config_from_table, differences, merge
from neuron_opsd.errors import ConfigError, DataError
from neuron_opsd.method.contexts import CONTEXT_RULES, GIVEN, ContextRule
from neuron_opsd.method.contexts.search import Signal
from neuron_opsd.method.selection import SELECTION_RULES, SelectionRule
from neuron_opsd.models.load import ModelTokenizer, load_tokenizer
from neuron_opsd.models.roles import ModelFacts
from neuron_opsd.records import Question
from neuron_opsd.results.probe import Skipped
from neuron_opsd.runs.context import have_choices, resolve_method
from neuron_opsd.runs.inputs import POOL, check_size, questions_hash, read_pool
from neuron_opsd.runs.model_checks import check_sets
from neuron_opsd.runs.resolution import for_model, with_method
from neuron_opsd.seeds import generator

RANKED_PER_ASKED: Final = 8
"""Questions that selection rules rank, per question tried on context rules."""

TRAINING: Final = (
    *("distill.", "policy.", "guard.", "evaluation.", "teacher_check."),
    *("method", "preset"),
)
"""Prefixes of settings for what follows the choice of a teacher."""

FREE_TO_CHANGE: Final = (
    *(*TRAINING, "selection.", "cluster.", "engine."),
    *("contexts.rule", "contexts.num_demonstrations", "contexts.content"),
    *("contexts.max_tokens", "contexts.max_demonstration_tokens"),
    *("model.device", "model.tokens_per_batch"),
)
"""Prefixes of settings that do not affect a run's answers and neurons."""


WITHOUT_NEURONS: Final = {"selection": {"rule": "all"}, "contexts": {"rule": "random"}}
"""Rules to start from if the neurons cannot be read."""


ANSWER: Final = Signal.ANSWER_NEURONS
CONTEXTS, SELECTION = "contexts", "selection"
"""Settings sections that name a rule."""
TABLES: Final[Mapping[str, Mapping[str, ContextRule] | Mapping[str, SelectionRule]]] = {
    CONTEXTS: CONTEXT_RULES,
    SELECTION: SELECTION_RULES,
}
FLAGS: Final = {CONTEXTS: "--context-rules", SELECTION: "--selection-rules"}


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of a probe."""

    contexts: tuple[str, ...]
    selections: tuple[str, ...]
    skipped: tuple[Skipped, ...] = ()
    """Rules that this model cannot follow."""

    @property
    def reading(self) -> str:
        """A context rule that reads answers' neurons, if any tried rule needs them."""
        of_answers = [
            name for name, rule in CONTEXT_RULES.items() if ANSWER in rule.reads
        ]
        selects = any(SELECTION_RULES[name].reads_neurons for name in self.selections)
        tried = [name for name in self.contexts if name in of_answers]
        return next(iter(tried or (of_answers if selects else ())), "")


def check_names(section: str, names: Sequence[str]) -> None:
    """Refuse unknown rules."""
    for name in names:
        if name not in TABLES[section]:
            raise ConfigError(
                f"{FLAGS[section]} has {name!r}, but there are "
                f"{', '.join(TABLES[section])}"
            )


def rules_for(
    contexts: Sequence[str], selections: Sequence[str], facts: ModelFacts
) -> Rules:
    """Return the rules to try: the named, or all of a section."""
    tried: dict[str, list[str]] = {}
    skipped = []
    for section, names in ((CONTEXTS, contexts), (SELECTION, selections)):
        tried[section] = []
        for name, rule in TABLES[section].items():
            if names and name not in names:
                continue
            if rule.reads_neurons and facts.why_no_neurons:
                skipped.append(Skipped(section, name, facts.why_no_neurons))
            else:
                tried[section].append(name)
    return Rules(tuple(tried[CONTEXTS]), tuple(tried[SELECTION]), tuple(skipped))


@dataclass(frozen=True, slots=True)
class ProbeRequest:
    """What a probe is asked to do; see `Choices`."""

    pool: str
    out: Path
    run: Path | None = None
    answers: str | None = None
    questions: int = 128
    draws: int = 3
    library: int = 0
    completions: int = 4
    write: int = 0
    context_rules: tuple[str, ...] = ()
    """Empty for all."""
    selection_rules: tuple[str, ...] = ()
    command: str = ""


class Choices(TypedDict, total=False):
    """How a pool is probed, where not by default."""

    run: str | Path
    """Folder of a run, or of a method of a comparison, whose answers are used."""
    answers: str | Path
    """File with the pool's gold answers; without it none is read."""
    questions: int
    """How many questions context rules are tried on."""
    draws: int
    """Draws of each rule that draws at random."""
    library: int
    """Questions of the pool to answer; 0 means all."""
    completions: int
    """Maximum of the student's own free answers to a question that teachers score."""
    write: int
    """New free answers that each teacher writes to a question; 0 means none."""
    context_rules: Sequence[str]
    selection_rules: Sequence[str]
    command: str
    """Command line, for the page."""


def request_of(pool: str | Path, out: str | Path, choices: Choices) -> ProbeRequest:
    """Build a probe request."""
    run, answers = choices.get("run"), choices.get("answers")
    given: dict[str, Any] = {
        **choices,
        "run": None if run is None else Path(run),
        "answers": None if answers is None else str(answers),
        "context_rules": tuple(choices.get("context_rules", ())),
        "selection_rules": tuple(choices.get("selection_rules", ())),
    }
    return ProbeRequest(str(pool), Path(out), **given)


def check_request(request: ProbeRequest) -> None:
    """Refuse impossible numbers and rules."""
    numbers = {
        "--questions": (request.questions, 2),
        "--draws": (request.draws, 2),
        "--completions": (request.completions, 1),
        "--write": (request.write, 0),
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
    """Return the settings of a probe, based on those of any probed run.

    Raises:
        ConfigError: If the user wants other settings than the run answered with.
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
            f"{request.run} answered its pool with other settings for "
            f"{', '.join(changed)}; leave these out, or probe the pool without the run"
        )
    return searching(found)


def searching(config: Config) -> Config:
    """Return settings that search for demonstrations, refuse others.

    Raises:
        ConfigError: If the teacher sees what each question comes with instead.
    """
    if config.contexts.rule == GIVEN:
        raise ConfigError(
            f"contexts.rule is {GIVEN}, which finds no demonstrations, but a probe "
            "compares rules that do; choose another rule"
        )
    return config


def resolved_for(
    request: ProbeRequest,
    config: Config,
    library: tuple[Question, ...],
    begun: Sequence[Path] = (),
) -> tuple[ModelTokenizer, Config, Config]:
    """Return the tokenizer, and settings before and after resolution."""
    tokenizer = load_tokenizer(config.model)
    own = for_model(config, tokenizer.facts, WITHOUT_NEURONS)
    chooses = have_choices(library)
    resolved = resolve_method(own, tokenizer, library, begun, chooses=chooses)
    check_sets(tokenizer, {POOL: library}, resolved, {POOL: request.pool})
    return tokenizer, own, resolved


def place_for(request: ProbeRequest) -> Place | None:
    """Find the probed run."""
    return None if request.run is None else place_of(request.run)


def read_library(
    request: ProbeRequest,
    config: Config,
    place: Place | None,
    warn: Callable[[str], None],
) -> tuple[tuple[Question, ...], int]:
    """Read the questions to answer, in pool order.

    Returns:
        The questions, and how many the pool has.

    Raises:
        DataError: If the pool is too small, or not the run's.
    """
    found = read_pool(request.pool, config)
    for note in found.notes:
        warn(note)
    questions = found.questions
    check_size(request.pool, len(questions), config.contexts)
    if place is not None and questions_hash(questions) != place.manifest.inputs[POOL]:
        raise DataError(
            f"{request.pool} does not hold the questions that {request.run} was given; "
            "name the file that it had as its --pool"
        )
    if not 0 < request.library < len(questions):
        return questions, len(questions)
    kept = first_drawn(questions, request.library, config.seed, "library")
    check_size(request.pool, len(kept), config.contexts)
    return kept, len(questions)


def first_drawn(
    questions: Sequence[Question], count: int, seed: int, purpose: str
) -> tuple[Question, ...]:
    """Sample `count` questions without replacement, in their order.

    A larger sample for the same purpose contains a smaller one.
    """
    order = generator(seed, "probe", purpose).permutation(len(questions))
    return tuple(questions[i] for i in sorted(order[:count].tolist()))
