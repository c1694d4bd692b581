"""Which questions of the pool are trained on.

`signals` is what rules may see, `orders` has a function per rule, `rules` lists them
for settings, and `ranking` decides what is kept.
"""

from neuron_opsd.method.selection.ranking import (
    LEFT_OUT,
    entries_of,
    kept_ids,
    limit_of,
    num_left_out,
    rank_questions,
    select_questions,
    selection_warnings,
    share_asked,
)
from neuron_opsd.method.selection.rules import (
    SELECTION_RULES,
    SelectionConfig,
    SelectionRule,
)
from neuron_opsd.method.selection.signals import PoolSignals, Values

__all__ = [
    "LEFT_OUT",
    "SELECTION_RULES",
    "PoolSignals",
    "SelectionConfig",
    "SelectionRule",
    "Values",
    "entries_of",
    "kept_ids",
    "limit_of",
    "num_left_out",
    "rank_questions",
    "select_questions",
    "selection_warnings",
    "share_asked",
]
