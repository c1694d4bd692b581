"""Which questions of the pool are trained on.

`signals` is what a rule may see, `orders` has a function for each rule, `rules` the
table of them that settings name, and `ranking` what is kept in the end.
"""

from neuron_opsd.method.selection.ranking import LEFT_OUT as LEFT_OUT
from neuron_opsd.method.selection.ranking import entries_of as entries_of
from neuron_opsd.method.selection.ranking import groups_of as groups_of
from neuron_opsd.method.selection.ranking import kept_ids as kept_ids
from neuron_opsd.method.selection.ranking import limit_of as limit_of
from neuron_opsd.method.selection.ranking import num_left_out as num_left_out
from neuron_opsd.method.selection.ranking import rank_questions as rank_questions
from neuron_opsd.method.selection.ranking import select_questions as select_questions
from neuron_opsd.method.selection.ranking import (
    selection_warnings as selection_warnings,
)
from neuron_opsd.method.selection.ranking import share_asked as share_asked
from neuron_opsd.method.selection.rules import SELECTION_RULES as SELECTION_RULES
from neuron_opsd.method.selection.rules import SelectionConfig as SelectionConfig
from neuron_opsd.method.selection.rules import SelectionRule as SelectionRule
from neuron_opsd.method.selection.signals import PoolSignals as PoolSignals
from neuron_opsd.method.selection.signals import Values as Values
