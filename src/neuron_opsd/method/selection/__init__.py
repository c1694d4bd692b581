"""Which questions of the pool are trained on.

`signals` is what a rule may see, `orders` has a function for each rule, `rules` the
table of them that settings name, and `ranking` what is kept in the end.
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
