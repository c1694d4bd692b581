"""Results of an analysis, as frozen records of plain values.

Numbers and intervals share one table keyed by name, so that page, JSON and CSV are
selections of rows. Names are defined only here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from neuron_opsd.records import Brief, TeacherCheck
from neuron_opsd.records.scores import Interval

ACCURACY = "accuracy"
"""Target: share of a question's sampled rollouts that are right."""
CAPTURED = "captured"
"""Target: whether the rollout whose neurons were read is right."""
VOTE = "vote"
"""Target: whether the most voted answer is right."""
AGREEMENT = "agreement"
"""Label-free target: share of rollouts with the most voted answer."""
LENGTH = "length"
"""Label-free target: tokens of the rollout whose neurons were read."""
ENTROPY = "entropy"
"""Label-free target: mean entropy per token, in nats."""


@dataclass(frozen=True, slots=True)
class Rival:
    """A label-free number that may separate right from wrong answers."""

    label: str
    hypothesis: str
    """Which answers should be right; an area above .5 supports it."""
    sign: float
    """1 if high values should be right, -1 if low ones."""


RIVALS: Mapping[str, Rival] = {
    "count": Rival("neuron count", "fewest neurons", -1.0),
    "length": Rival("answer length", "shortest", -1.0),
    "mean_length": Rival("mean answer length", "shortest", -1.0),
    "entropy": Rival("entropy per token", "lowest", -1.0),
    "logprob": Rival("log-probability per token", "highest", 1.0),
    "agreement": Rival("vote share", "most votes", 1.0),
    "count_per_token": Rival("neurons per token", "fewest", -1.0),
    "count_residual": Rival("count net of length", "fewest", -1.0),
    "shift": Rival("belief shift", "smallest", -1.0),
    "divergence": Rival("divergence of the teacher", "smallest", -1.0),
}
"""Candidate predictors of correctness, the count first."""

GROUPS: Mapping[str, str] = {
    "selected": "selected",
    "rest": "not selected",
    "all": "all questions",
}


def correlation_name(kind: str, target: str) -> str:
    """Name a correlation of the neuron count with a target.

    The kind is ``pearson``, ``spearman``, ``partial`` or ``partial_ranks``.
    """
    return f"{kind}.{target}"


def area_name(target: str, rival: str) -> str:
    """Name the area under a rival's ROC curve."""
    return f"auroc.{target}.{rival}"


def area_gain_name(target: str, rival: str) -> str:
    """Name the neuron count's area minus a rival's."""
    return f"auroc_gain.{target}.{rival}"


def vote_name(group: str, measure: str) -> str:
    """Name a vote statistic of a group of questions."""
    return f"votes.{group}.{measure}"


def shared_name(what: str, part: str) -> str:
    """Name how often ``demonstrations``, ``random`` ones or their ``excess`` share.

    What they share is ``gold`` or ``answer``, the question's own captured one.
    """
    return f"neighbours.{what}.{part}"


PAIRS = "distance.pairs"
"""Mean Jaccard distance between two questions."""
NEAREST = "distance.nearest"
"""Mean Jaccard distance from a question to its nearest other."""


@dataclass(frozen=True, slots=True)
class BinMean:
    """Questions of similar neuron count."""

    low: float
    high: float
    """Smallest (`low`) and largest count."""
    center: float
    """Mean count."""
    num_questions: int
    mean: Interval
    """Mean of the target."""


@dataclass(frozen=True, slots=True)
class ShownDemonstration:
    """A demonstration retrieved for a question."""

    question_id: str
    question: str
    """Empty if the question file was not given."""
    distance: float | None
    """`None` if it was found without neurons."""
    shown: str
    """What the teacher sees as its answer."""
    answer: str | None
    """The model's own captured answer, as read."""
    correct: bool | None
    """`None` without gold."""
    gold: str | None
    shares_answer: bool
    """Whether its own answer equals the question's own one."""
    shares_gold: bool | None
    """Whether both have the same true answer; `None` without gold."""


@dataclass(frozen=True, slots=True)
class ShownCase:
    """A selected question with its demonstrations."""

    question_id: str
    question: str
    choices: tuple[str, ...]
    reason: str
    answer: str | None
    """The captured answer."""
    majority: str | None
    agreement: float
    num_correct: int | None
    """Of the sampled rollouts; `None` without gold."""
    num_rollouts: int
    correct: bool | None
    gold: str | None
    demonstrations: tuple[ShownDemonstration, ...]
    """Nearest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAnalysis:
    """Results of one run's questions."""

    name: str
    model: str
    num_questions: int
    num_selected: int
    num_samples: int
    """k: sampled rollouts per question, the minimum if they differ."""
    selection_rule: str
    contexts_rule: str
    num_demonstrations: int
    labelled: bool
    with_texts: bool
    captured_greedy: bool
    """Whether neurons come from greedy rollouts. Entropy and log-probability, which
    mean nothing for these, are then means over the sampled ones."""
    measures: Mapping[str, Interval]
    """By this module's names; unmeasured ones are absent."""
    bins: Mapping[str, tuple[BinMean, ...]]
    """By target; lowest counts first."""
    teacher_check: TeacherCheck | None
    distances_of: int
    """Questions whose distances to all others were computed."""
    cases: tuple[ShownCase, ...]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class AnalysisData(Brief):
    """Contents of an analysis's page and files."""

    title: str
    runs: tuple[RunAnalysis, ...]
    overall: Mapping[str, Interval]
    """Unweighted means over runs; empty for one run."""
    between: tuple[tuple[float | None, ...], ...] = ()
    """Mean distance between questions of two runs, in run order; `None` if models or
    neuron settings differ."""
    num_resamples: int
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    data_hashes: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of each pool's questions, by run name."""
    atlases: Mapping[str, str] = field(default_factory=dict)
    """Pages about single neurons in `atlas`, by run name, as URL paths."""
