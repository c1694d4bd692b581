"""All that an analysis of runs says, as frozen records of plain values.

Numbers stand in one table by name, each with its interval, so that page, JSON and CSV
are choices of rows. The names are made here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from neuron_opsd.records import Brief, TeacherCheck
from neuron_opsd.records.scores import Interval

ACCURACY = "accuracy"
"""Target: the share of a question's sampled rollouts that are right."""
CAPTURED = "captured"
"""Target: whether the rollout whose neurons were read is right."""
VOTE = "vote"
"""Target: whether the answer with most votes is right."""
AGREEMENT = "agreement"
"""Target without labels: the share of rollouts that gave the answer with most votes."""
LENGTH = "length"
"""Target without labels: tokens of the rollout whose neurons were read."""
ENTROPY = "entropy"
"""Target without labels: mean entropy per token, in nats."""


@dataclass(frozen=True, slots=True)
class Rival:
    """A label-free number that may tell right answers from wrong ones."""

    label: str
    hypothesis: str
    """Which answers it says are right; a higher area than .5 bears it out."""
    sign: float
    """1 where the highest values are said to be right, -1 where the lowest."""


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
"""What is asked to tell right from wrong, the count first."""

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
    """Name the area under the ROC curve of a rival."""
    return f"auroc.{target}.{rival}"


def area_gain_name(target: str, rival: str) -> str:
    """Name the area of the neuron count less that of a rival."""
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
"""Mean Jaccard distance of two questions."""
NEAREST = "distance.nearest"
"""Mean Jaccard distance of a question to the nearest other one."""


@dataclass(frozen=True, slots=True)
class BinMean:
    """Questions of about the same neuron count."""

    low: float
    high: float
    """Smallest and largest count of its questions."""
    center: float
    """Their mean count."""
    num_questions: int
    mean: Interval
    """Mean of the target over its questions."""


@dataclass(frozen=True, slots=True)
class ShownDemonstration:
    """One demonstration that was retrieved for a question."""

    question_id: str
    question: str
    """Empty where the file with the questions was not given."""
    distance: float | None
    """`None` where the run read no neurons to find it."""
    shown: str
    """What the teacher sees as its answer."""
    answer: str | None
    """The model's own captured answer to it, as it was read."""
    correct: bool | None
    """Whether that is right; `None` without gold."""
    gold: str | None
    shares_answer: bool
    """Whether its own answer is the question's own one."""
    shares_gold: bool | None
    """Whether the true answers of both are the same; `None` without gold."""


@dataclass(frozen=True, slots=True)
class ShownCase:
    """One selected question with what was retrieved for it."""

    question_id: str
    question: str
    choices: tuple[str, ...]
    reason: str
    """Why it was selected."""
    answer: str | None
    """The captured one."""
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
    """What one run's questions say."""

    name: str
    model: str
    num_questions: int
    num_selected: int
    num_samples: int
    """k: sampled rollouts of a question, the fewest where they differ."""
    selection_rule: str
    contexts_rule: str
    num_demonstrations: int
    labelled: bool
    """Whether gold answers were given."""
    with_texts: bool
    """Whether the questions' texts were given."""
    captured_greedy: bool
    """Whether neurons were read of greedy rollouts. Then entropy and log-probability,
    which mean nothing of these, are means over the sampled ones."""
    measures: Mapping[str, Interval]
    """By the names of this module; what could not be measured is left out."""
    bins: Mapping[str, tuple[BinMean, ...]]
    """By target; lowest counts first."""
    teacher_check: TeacherCheck | None
    distances_of: int
    """Questions whose distances to all others were counted."""
    cases: tuple[ShownCase, ...]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class AnalysisData(Brief):
    """Everything that the page and the files of an analysis say."""

    title: str
    runs: tuple[RunAnalysis, ...]
    overall: Mapping[str, Interval]
    """Means over the runs, each with the same weight; empty for a single run."""
    between: tuple[tuple[float | None, ...], ...] = ()
    """Mean distance of a question of one run to one of another, rows and columns in the
    order of the runs; `None` where their models or neuron settings differ."""
    num_resamples: int
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    data_hashes: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of what each run's pool asks, by the run's name."""
    atlases: Mapping[str, str] = field(default_factory=dict)
    """Pages about single neurons in the folder `atlas`, by the run's name, as links
    spell them."""
