"""The selection rules, as settings name them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final

from neuron_opsd.method.selection import orders
from neuron_opsd.method.selection.signals import PoolSignals, Values
from neuron_opsd.section import Fraction, OneOf, Section


@dataclass(frozen=True, slots=True)
class SelectionRule:
    """A way to order the pool. To add one, write a function and an entry below.

    An entry declares what its rule reads; nothing else is computed.
    """

    order: Callable[[PoolSignals, int], Values]
    """Takes questions and a seed; returns ``(Q,)``: the lowest are kept, NaN is left
    out."""
    help: str
    reason: str
    """Why a question has its `place`: `value` is absolute, `signed` has a sign."""
    unknown: str = ""
    reads_neurons: bool = False
    reads_entropies: bool = False
    reads_votes: bool = False
    reads_beliefs: bool = False
    reads_divergence: bool = False
    keeps_all: bool = False

    @property
    def reads_teacher(self) -> bool:
        """Whether the teacher first sees the whole pool."""
        return self.reads_beliefs or self.reads_divergence


NO_VOTE: Final = "none of its samples holds an answer that can be read"

SELECTION_RULES: Final[dict[str, SelectionRule]] = {
    "fewest-neurons": SelectionRule(
        order=orders.fewest_neurons,
        help="those with the fewest neurons, which means high consensus",
        reason="{value:,.0f} neurons, {place} from the fewest",
        reads_neurons=True,
    ),
    "most-neurons": SelectionRule(
        order=orders.most_neurons,
        help="those with the most neurons, which means low consensus",
        reason="{value:,.0f} neurons, {place} from the most",
        reads_neurons=True,
    ),
    "length-free": SelectionRule(
        order=orders.fewest_for_length,
        help="those with fewer neurons than other completions of their length",
        reason="{signed:+,.0f} neurons beside others of its length, {place} from the "
        "fewest",
        reads_neurons=True,
    ),
    "k-medoids": SelectionRule(
        order=orders.spread_out,
        help="those in the middle of clusters of similar neurons, as many from each",
        reason="{value:,.0f} of its cluster are nearer to the middle, {place}",
        reads_neurons=True,
    ),
    "low-entropy": SelectionRule(
        order=orders.lowest_entropy,
        help="those answered with the lowest entropy",
        reason="{value:.3g} nats of entropy, {place} from the lowest",
        reads_entropies=True,
    ),
    "high-vote": SelectionRule(
        order=orders.highest_vote,
        help="those on whose answer the samples agree most",
        reason="{value:.0%} of its samples agree, {place} from the most",
        unknown=NO_VOTE,
        reads_votes=True,
    ),
    "belief-shift": SelectionRule(
        order=orders.largest_shift,
        help="those whose answer the demonstrations change most (INFLOW)",
        reason="{value:.3g} nats between its answers with and without demonstrations, "
        "{place} from the largest",
        unknown=NO_VOTE,
        reads_beliefs=True,
    ),
    "divergence": SelectionRule(
        order=orders.largest_divergence,
        help="those on which the teacher is farthest from what the student writes",
        reason="{value:.3g} nats from student to teacher, {place} from the largest",
        unknown="its student and teacher were not compared",
        reads_divergence=True,
    ),
    "reliable-and-teachable": SelectionRule(
        order=orders.reliable_and_teachable,
        help="those of low entropy whose answer the demonstrations change, each by the "
        "worse of its two ranks",
        reason="in the first {value:.1%} by both entropy and shift, {place}",
        unknown=NO_VOTE,
        reads_entropies=True,
        reads_beliefs=True,
    ),
    "random": SelectionRule(
        order=orders.random_order,
        help="those that a seeded draw picked",
        reason="{place} in a random order",
    ),
    "all": SelectionRule(
        order=orders.no_order,
        help="every question of the pool",
        reason="every question is kept",
        keeps_all=True,
    ),
}


class SelectionConfig(Section):
    """Which questions of the pool are trained on."""

    rule: Annotated[str, OneOf(SELECTION_RULES)] = "fewest-neurons"
    """Which questions to keep. Where answers are chosen among choices, it is `all`
    unless something of this section is set."""
    keep_fraction: Fraction = 0.2
    """Share of the pool to keep. Questions tied with the last one may add a twentieth
    to it; if they would add more, a seeded draw decides between them."""
    balance: bool = False
    """Keep the same share of the questions for each of the model's frequent answers, so
    that none dominates; for tasks whose answers repeat, such as labels."""
    include_unread: bool = False
    """Whether to keep questions whose own completion was cut off or has no readable
    answer; the rule `all` always keeps them."""
