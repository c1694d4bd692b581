"""What the atlas of a run's neurons says, as frozen records of plain values.

A neuron is named by its layer and its place there, both from 0. A question holds a
neuron if this is among the strongest that pushed the tokens of its own answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from neuron_opsd.records import Brief

POOL: Final = "pool"
SELECTED: Final = "selected"
DEMONSTRATIONS: Final = "demonstrations"

GROUPS: Final[Mapping[str, str]] = {
    POOL: "the pool",
    SELECTED: "selected questions",
    DEMONSTRATIONS: "demonstrations",
}
"""Groups of questions; a question that is shown as a demonstration counts once."""

WHY: Final[Mapping[str, str]] = {
    "asked": "asked for",
    "more": "more often in selected questions",
    "fewer": "less often in selected questions",
    "shown": "more often in demonstrations",
    "common": "in most questions of the pool",
}
"""Why a neuron has a section of its own."""

NUM_SHOWN: Final[Mapping[str, int]] = {"more": 24, "fewer": 8, "shown": 8, "common": 16}
"""How many have one at most, by the reason, besides those that are asked for."""


@dataclass(frozen=True, slots=True)
class LayerRow:
    """What the groups hold of one layer."""

    layer: int
    shares: Mapping[str, float]
    """By group: share of all that its questions hold which is of this layer."""
    used: Mapping[str, int]
    """By group: neurons that any of its questions holds."""
    common: Mapping[str, int]
    """By group: neurons that half of its questions hold, or more."""
    lifts: tuple[int, ...]
    """Neurons of this layer by their lift in the selected questions, given length; in
    the bins of `LIFT_EDGES`."""


LIFT_EDGES: Final = (0.25, 0.5, 0.8, 1.25, 2.0, 4.0)
"""Between the bins of `LayerRow.lifts`, which begin at 0 and have no end."""


@dataclass(frozen=True, slots=True)
class Found:
    """How many neurons a group holds more or less often than chance would have it."""

    more: int
    fewer: int


@dataclass(frozen=True, slots=True)
class GroupRow:
    """One group of questions beside the pool."""

    name: str
    num_questions: int
    mean_size: float
    """Neurons that one of its questions holds, in the mean."""
    mean_length: float
    """Tokens of the answers that they pushed."""
    used: int
    """Neurons that any of its questions holds."""
    found: Found | None = None
    """`None` for the pool itself."""
    by_chance: tuple[Found, ...] = ()
    """The same for draws of as many questions of the same lengths."""


@dataclass(frozen=True, slots=True)
class PushedQuestion:
    """A question whose answer a neuron pushed."""

    question_id: str
    question: str
    """Empty where the questions' texts were not given."""
    answer: str | None
    """The model's own, as it was read."""
    score: float
    """The neuron's best contribution to any token of it, in logits."""
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PushedToken:
    """A token that a neuron pushed, with the text before it."""

    question_id: str
    before: str
    token: str
    score: float
    """The neuron's contribution to it, in logits."""


@dataclass(frozen=True, slots=True)
class TokenWeight:
    """A token, and what one unit of a neuron's activation adds to its logit."""

    token: str
    weight: float


@dataclass(frozen=True, slots=True)
class OutputRow:
    """What a neuron's output says by itself, whatever the question."""

    favoured: tuple[TokenWeight, ...]
    """The highest first."""
    opposed: tuple[TokenWeight, ...]
    """The lowest first."""


@dataclass(frozen=True, slots=True)
class Rates:
    """How many of some questions hold a neuron, by model or run."""

    one: int
    other: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NeuronCard:
    """All that is told of one neuron."""

    layer: int
    neuron: int
    why: tuple[str, ...]
    """Of `WHY`."""
    counts: Mapping[str, int]
    """By group: questions that hold it."""
    lifts: Mapping[str, float]
    """By group but the pool: its share there over that of the pool."""
    expected: Mapping[str, float]
    """By group but the pool: questions that would hold it by chance, given length."""
    q: Mapping[str, float]
    """By group but the pool: see `Enrichment.q`."""
    mean_score: float
    """Of the questions that hold it, in logits."""
    questions: tuple[PushedQuestion, ...]
    tokens: tuple[PushedToken, ...] | None = None
    """Of those questions; `None` where the model was not read."""
    output: OutputRow | None = None
    trained: Rates | None = None
    """Of the questions read again: under the base, and under the trained model."""
    against: Mapping[str, Rates] = field(default_factory=dict)
    """By group: in this run, and in the one beside it."""

    @property
    def name(self) -> str:
        """What it is called on the page."""
        return f"{self.layer}:{self.neuron}"

    def lift_given_length(self, group: str) -> float:
        """Return how often a group holds it over what chance would give."""
        expected = self.expected[group]
        return self.counts[group] / expected if expected > 0 else float("nan")


@dataclass(frozen=True, slots=True)
class MovedGroup:
    """How far the sets of some questions moved."""

    name: str
    num_questions: int
    distance: float
    """Mean Jaccard distance of a question's sets under base and trained model."""
    control: float
    """The same between the run's own set and that of the base, read again now."""
    layers: tuple[float, ...]
    """The distance within each layer, counting questions that hold any of it."""


@dataclass(frozen=True, slots=True)
class MovedNeuron:
    """A neuron that more or fewer questions hold after training."""

    layer: int
    neuron: int
    rates: Rates


@dataclass(frozen=True, slots=True)
class Moved:
    """How sets moved through training, on the very answers of the base model."""

    num_questions: int
    groups: tuple[MovedGroup, ...]
    gained: tuple[MovedNeuron, ...]
    lost: tuple[MovedNeuron, ...]


@dataclass(frozen=True, slots=True)
class Beside:
    """Another run of the same model and neuron settings."""

    name: str
    groups: tuple[GroupRow, ...]
    layers: tuple[LayerRow, ...]
    same_pool: bool
    both_selected: int
    """Questions of the same id and pool that both runs selected."""
    correlations: Mapping[str, float]
    """By group: correlation over neurons of how many questions hold each."""
    common: Mapping[str, float]
    """By group: of the neurons that half of the questions of either run hold, the share
    that is of both."""
    lifts: float
    """Rank correlation over neurons of their lifts in the selected questions, among
    those that enough questions of either pool hold."""
    num_lifts: int


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class AtlasData(Brief):
    """Everything that the page and the file of one run's atlas say."""

    title: str
    run: str
    model: str
    num_layers: int
    num_neurons: int
    """Of one layer."""
    num_tested: int
    """Neurons that any question of the pool holds."""
    num_strata: int
    """Groups of answers of about the same length."""
    value: str
    """Which activation counts, the setting neurons.value."""
    selection_rule: str
    contexts_rule: str
    groups: tuple[GroupRow, ...]
    layers: tuple[LayerRow, ...]
    cards: tuple[NeuronCard, ...]
    """By layer and neuron."""
    with_texts: bool
    with_model: bool
    moved: Moved | None = None
    why_not_moved: str = ""
    beside: Beside | None = None
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    data_hashes: Mapping[str, str] = field(default_factory=dict)
