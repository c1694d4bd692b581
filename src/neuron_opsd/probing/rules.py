"""The rules that a probe tries: all there are, or those that are named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from neuron_opsd.errors import ConfigError
from neuron_opsd.method.contexts import CONTEXT_RULES, ContextRule
from neuron_opsd.method.contexts.search import Signal
from neuron_opsd.method.selection import SELECTION_RULES, SelectionRule
from neuron_opsd.models.roles import ModelFacts
from neuron_opsd.results.probe import Skipped

ANSWER: Final = Signal.ANSWER_NEURONS
CONTEXTS, SELECTION = "contexts", "selection"
"""Sections of the settings that name a rule."""
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
    """Those that this model cannot follow."""

    @property
    def reading(self) -> str:
        """A context rule that reads the neurons of answers, if any rule does."""
        of_answers = [
            name for name, rule in CONTEXT_RULES.items() if ANSWER in rule.reads
        ]
        selects = any(SELECTION_RULES[name].reads_neurons for name in self.selections)
        tried = [name for name in self.contexts if name in of_answers]
        return next(iter(tried or (of_answers if selects else ())), "")


def check_names(section: str, names: Sequence[str]) -> None:
    """Refuse a rule that does not exist."""
    for name in names:
        if name not in TABLES[section]:
            raise ConfigError(
                f"{FLAGS[section]} has {name!r}, but there are "
                f"{', '.join(TABLES[section])}"
            )


def rules_for(
    contexts: Sequence[str], selections: Sequence[str], facts: ModelFacts
) -> Rules:
    """Return the rules that are tried; without names all of a section.

    Raises:
        ConfigError: If one does not exist.
    """
    tried: dict[str, list[str]] = {}
    skipped = []
    for section, names in ((CONTEXTS, contexts), (SELECTION, selections)):
        check_names(section, names)
        tried[section] = []
        for name, rule in TABLES[section].items():
            if names and name not in names:
                continue
            if rule.reads_neurons and facts.why_no_neurons:
                skipped.append(Skipped(section, name, facts.why_no_neurons))
            else:
                tried[section].append(name)
    return Rules(tuple(tried[CONTEXTS]), tuple(tried[SELECTION]), tuple(skipped))
