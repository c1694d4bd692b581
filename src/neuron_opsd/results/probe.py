"""All that a probe of a pool says, as frozen records of plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from neuron_opsd.records import Brief
from neuron_opsd.records.scores import Interval

AGREEMENT, ENTROPY, ACCURACY = "agreement", "entropy", "accuracy"
"""Of student and teacher; the last with gold answers only."""
SHIFT, FIX, BREAK = "shift", "fix", "break"
STABILITY, DIVERGENCE, SUPPORT, SCORE = "stability", "divergence", "support", "score"
LEAD: Final = "accuracy over the student"
"""The teacher's accuracy less that of the student on the same questions."""

Measures: TypeAlias = Mapping[str, Interval]
"""By name; what could not be measured is left out."""

HELP: Final[Mapping[str, str]] = {
    AGREEMENT: "probability that the teacher gives the answer with most votes",
    ENTROPY: "of the teacher's answer to one question, in nats",
    SHIFT: "Jensen-Shannon divergence of the student's and the teacher's answer, in "
    "nats; at most 0.693",
    FIX: "share of answers that move to the vote",
    BREAK: "share of answers that move away from the vote",
    STABILITY: "share of questions whose most probable answer stays the same under "
    "another draw of the rule, or, where it draws nothing, another order",
    DIVERGENCE: "KL(student || teacher) before training, in nats: of the choice, or "
    "per token of a free answer",
    SUPPORT: "probability that the teacher gives what the student and all other "
    "teachers together answer most",
    ACCURACY: "probability that the teacher gives the right answer",
    LEAD: "points that the teacher's accuracy is above the student's",
}
"""What is measured of each teacher."""


@dataclass(frozen=True, slots=True)
class Validity:
    """How well the label-free score predicted what training gained."""

    correlation: Interval | None = None
    """Rank correlation of score and gain over arms; `None` where nobody measured it."""
    num_arms: int = 0
    num_sources: int = 0
    model: str = ""
    command: str = ""
    """What measured it."""

    @property
    def predicts(self) -> bool:
        """Whether the interval lies above zero, so that the score may recommend."""
        return self.correlation is not None and self.correlation.low > 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextResult:
    """The teacher that one context rule makes."""

    rule: str
    help: str
    num_draws: int
    """1 where the rule draws nothing."""
    measures: Measures
    over_student: Measures
    """Differences, paired over questions, where the student has the measure."""
    over_random: Measures
    """The same above demonstrations drawn at random; empty for these, and where they
    were not tried."""
    settings: tuple[str, ...]
    """To be given with `--set`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionResult:
    """What the teacher is on the questions that one selection rule keeps."""

    rule: str
    help: str
    num_kept: int
    """Of the questions that rules chose among; the mean over draws."""
    num_draws: int
    top_answer_share: float
    """Share of the kept questions whose vote is the most frequent one."""
    measures: Measures
    over_random: Measures
    settings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairResult:
    """A selection rule together with a context rule."""

    selection: str
    contexts: str
    num_questions: float
    """Of those that context rules were tried on, the mean over draws."""
    score: Interval


@dataclass(frozen=True, slots=True)
class Skipped:
    """A rule that was not tried."""

    section: str
    rule: str
    why: str


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What to do, in words, and the settings to paste; none where nothing says."""

    text: str
    settings: tuple[str, ...] = ()
    by: Literal["accuracy", "score", ""] = ""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ProbeData(Brief):
    """Everything that the page and the files of a probe say."""

    title: str
    model: str
    run: str = ""
    """Whose answers were taken; empty where the probe asked the pool itself."""
    num_pool: int
    num_library: int
    """Questions that were answered and may be demonstrations."""
    num_ranked: int
    """Questions that selection rules chose among."""
    num_questions: int
    """Questions that context rules were tried on."""
    num_demonstrations: int
    heard: Literal["choices", "scored", "written", "mixed"]
    """How teachers were asked."""
    labelled: bool
    taught: Mapping[str, str | int | float | bool]
    """Settings by dotted name that all teachers, or all selections, share."""
    base_rule: str
    """The context rule under which selections were looked at."""
    student: Measures
    contexts: tuple[ContextResult, ...]
    selections: tuple[SelectionResult, ...]
    pairs: tuple[PairResult, ...]
    skipped: tuple[Skipped, ...] = ()
    validity: Validity = Validity()
    recommendation: Recommendation = Recommendation("")
    num_resamples: int
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    data_hashes: Mapping[str, str] = field(default_factory=dict)
