"""Results of a run's neuron atlas, as frozen records of plain values.

A neuron is named by layer and position there, both from 0. A question holds a neuron if
it is among the strongest that pushed its own answer's tokens.
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
"""Groups of questions; repeated demonstrations count once."""

WHY: Final[Mapping[str, str]] = {
    "asked": "asked for",
    "more": "more often in selected questions",
    "fewer": "less often in selected questions",
    "shown": "more often in demonstrations",
    "common": "in most questions of the pool",
}
"""Why a neuron has its own section."""

NUM_SHOWN: Final[Mapping[str, int]] = {"more": 24, "fewer": 8, "shown": 8, "common": 16}
"""Maximum number of sections by reason, besides those asked for."""


@dataclass(frozen=True, slots=True)
class LayerRow:
    """What the groups hold of one layer."""

    layer: int
    shares: Mapping[str, float]
    """By group: share of its questions' neurons that are in this layer."""
    used: Mapping[str, int]
    """By group: neurons that any question holds."""
    common: Mapping[str, int]
    """By group: neurons that at least half of the questions hold."""
    lifts: tuple[int, ...]
    """Neurons by lift, given length, in selected questions, binned at `LIFT_EDGES`."""


LIFT_EDGES: Final = (0.25, 0.5, 0.8, 1.25, 2.0, 4.0)
"""Inner edges of the bins of `LayerRow.lifts`, from 0 to infinity."""


@dataclass(frozen=True, slots=True)
class Found:
    """How many neurons a group holds more or less often than chance."""

    more: int
    fewer: int


@dataclass(frozen=True, slots=True)
class GroupRow:
    """One group of questions compared with the pool."""

    name: str
    num_questions: int
    mean_size: float
    """Mean neurons per question."""
    mean_length: float
    """Mean tokens of the answers."""
    used: int
    """Neurons that any question holds."""
    found: Found | None = None
    """`None` for the pool itself."""
    by_chance: tuple[Found, ...] = ()
    """The same for random groups of equal size and answer lengths."""


@dataclass(frozen=True, slots=True)
class PushedQuestion:
    """A question whose answer a neuron pushed."""

    question_id: str
    question: str
    """Empty if the questions' texts were not given."""
    answer: str | None
    """The model's own answer, as read."""
    score: float
    """The highest contribution to any of its tokens, in logits."""
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PushedToken:
    """A token that a neuron pushed, with the text before it."""

    question_id: str
    before: str
    token: str
    score: float
    """Contribution to it, in logits."""


@dataclass(frozen=True, slots=True)
class TokenWeight:
    """A token, and its logit's change per unit of a neuron's activation."""

    token: str
    weight: float


@dataclass(frozen=True, slots=True)
class OutputRow:
    """What a neuron's output favours, regardless of question."""

    favoured: tuple[TokenWeight, ...]
    """Highest first."""
    opposed: tuple[TokenWeight, ...]
    """Lowest first."""


@dataclass(frozen=True, slots=True)
class Rates:
    """How many of some questions hold a neuron, by model or run."""

    one: int
    other: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NeuronCard:
    """Everything about one neuron."""

    layer: int
    neuron: int
    why: tuple[str, ...]
    """Keys of `WHY`."""
    counts: Mapping[str, int]
    """By group: questions that hold it."""
    lifts: Mapping[str, float]
    """By group except the pool: share there over share in the pool."""
    expected: Mapping[str, float]
    """By group except the pool: questions expected by chance, given length."""
    q: Mapping[str, float]
    """By group except the pool: see `Enrichment.q`."""
    mean_score: float
    """Over the questions that hold it, in logits."""
    questions: tuple[PushedQuestion, ...]
    tokens: tuple[PushedToken, ...] | None = None
    """From those questions; `None` if the model was not read."""
    output: OutputRow | None = None
    trained: Rates | None = None
    """Of the questions read again: base model, then trained model."""
    against: Mapping[str, Rates] = field(default_factory=dict)
    """By group: this run, then the other."""

    @property
    def name(self) -> str:
        """Its name on the page."""
        return f"{self.layer}:{self.neuron}"

    def lift_given_length(self, group: str) -> float:
        """Return a group's questions that hold it, relative to chance."""
        expected = self.expected[group]
        return self.counts[group] / expected if expected > 0 else float("nan")


@dataclass(frozen=True, slots=True)
class MovedGroup:
    """How far the sets of some questions moved."""

    name: str
    num_questions: int
    distance: float
    """Mean Jaccard distance of a question's sets, base to trained model."""
    control: float
    """The same from the run's own sets to the base model's, read again now."""
    layers: tuple[float, ...]
    """Distance per layer, over questions that hold any of it."""


@dataclass(frozen=True, slots=True)
class MovedNeuron:
    """A neuron that more or fewer questions hold after training."""

    layer: int
    neuron: int
    rates: Rates


@dataclass(frozen=True, slots=True)
class Moved:
    """How sets moved through training, on the base model's answers."""

    num_questions: int
    groups: tuple[MovedGroup, ...]
    gained: tuple[MovedNeuron, ...]
    lost: tuple[MovedNeuron, ...]


@dataclass(frozen=True, slots=True)
class Beside:
    """Another run with the same model and neuron settings."""

    name: str
    groups: tuple[GroupRow, ...]
    layers: tuple[LayerRow, ...]
    same_pool: bool
    both_selected: int
    """Questions, by id and pool, that both runs selected."""
    correlations: Mapping[str, float]
    """By group: correlation over neurons of how many questions hold each."""
    common: Mapping[str, float]
    """By group: neurons common to both runs, as a share of those that half of either
    run's questions hold."""
    lifts: float
    """Rank correlation over neurons of lifts in selected questions, where enough
    questions of both pools hold them."""
    num_lifts: int


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class AtlasData(Brief):
    """Contents of the page and file of a run's atlas."""

    title: str
    run: str
    model: str
    num_layers: int
    num_neurons: int
    """Per layer."""
    num_tested: int
    """Neurons that any question of the pool holds."""
    num_strata: int
    """Groups of answers of similar length."""
    value: str
    """Which activation counts: the setting `neurons.value`."""
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
