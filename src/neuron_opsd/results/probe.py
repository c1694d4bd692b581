"""Results of probing a pool, as frozen records of plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from neuron_opsd.records import Brief
from neuron_opsd.records.scores import Interval

AGREEMENT, ENTROPY, ACCURACY = "agreement", "entropy", "accuracy"
"""Of student and teacher; accuracy needs gold answers."""
SHIFT, FIX, BREAK = "shift", "fix", "break"
STABILITY, DIVERGENCE, SUPPORT, SCORE = "stability", "divergence", "support", "score"
LEAD: Final = "accuracy over the student"
"""Teacher minus student accuracy on the same questions."""

Measures: TypeAlias = Mapping[str, Interval]
"""By name; unmeasured ones are absent."""

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
    SUPPORT: "probability that the teacher gives the answer that the student and all "
    "other teachers give most, taken together",
    ACCURACY: "probability that the teacher gives the right answer",
    LEAD: "the teacher's accuracy minus the student's, in points",
}
"""What is measured of each teacher."""


@dataclass(frozen=True, slots=True)
class Validity:
    """How well the label-free score predicted training gains."""

    correlation: Interval | None = None
    """Rank correlation of score and gain over arms; `None` if unmeasured."""
    num_arms: int = 0
    num_sources: int = 0
    model: str = ""
    command: str = ""
    """What measured it."""

    @property
    def predicts(self) -> bool:
        """Whether the interval is above zero, so that the score may recommend."""
        return self.correlation is not None and self.correlation.low > 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextResult:
    """The teacher that one context rule gives."""

    rule: str
    help: str
    num_draws: int
    """1 if the rule is not random."""
    measures: Measures
    over_student: Measures
    """Differences paired over questions, for measures the student has."""
    over_random: Measures
    """Differences from random demonstrations; empty for these or if not tried."""
    settings: tuple[str, ...]
    """Arguments for `--set`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionResult:
    """The teacher on the questions that one selection rule keeps."""

    rule: str
    help: str
    num_kept: int
    """Of the questions rules chose from; mean over draws."""
    num_draws: int
    top_answer_share: float
    """Share of kept questions with the most frequent vote."""
    measures: Measures
    over_random: Measures
    settings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairResult:
    """A selection rule combined with a context rule."""

    selection: str
    contexts: str
    num_questions: float
    """Of those context rules were tried on; mean over draws."""
    score: Interval


@dataclass(frozen=True, slots=True)
class Skipped:
    """A rule that was not tried."""

    section: str
    rule: str
    why: str


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Advice, and settings to paste; empty without evidence."""

    text: str
    settings: tuple[str, ...] = ()
    by: Literal["accuracy", "score", ""] = ""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ProbeData(Brief):
    """Contents of a probe's page and files."""

    title: str
    model: str
    run: str = ""
    """Run that supplied the answers; empty if the probe asked the pool itself."""
    num_pool: int
    num_library: int
    """Answered questions that may be demonstrations."""
    num_ranked: int
    """Questions that selection rules chose from."""
    num_questions: int
    """Questions that context rules were tried on."""
    num_demonstrations: int
    heard: Literal["choices", "scored", "written", "mixed"]
    labelled: bool
    taught: Mapping[str, str | int | float | bool]
    """Settings by dotted name, shared by all teachers or selections."""
    base_rule: str
    """The context rule used for selections."""
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
