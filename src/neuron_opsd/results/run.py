"""Contents of the report, as frozen records of plain values.

The pipeline builds one `ReportData` from the run directory. Its size does not grow with
questions, rollouts or steps: `report.condense` aggregates them, and the run's tables
keep the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from neuron_opsd.config import Config, EvaluationConfig
from neuron_opsd.records import (
    Brief,
    Collapse,
    Kept,
    Reading,
    StepMetrics,
    TeacherCheck,
)
from neuron_opsd.records.scores import Bin, Interval, Point

PROMPTED = "prompted"
"""Control: the untrained model with its own demonstrations in the prompt."""
OURS = "neuron-opsd"
"""The paper's method; names of its variants start with it."""
POOL = "pool"
"""Name of the training questions, alongside the test sets' names."""
REPORT_FORMAT = 2
"""Version of `report.json`; the first had a row per question and no version."""


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """The model; fields as in `models.roles.ModelFacts`."""

    name: str
    family: str
    num_parameters: int
    num_layers: int
    num_neurons: int
    """Per layer."""
    device: str
    compute: str


@dataclass(frozen=True, slots=True)
class Least:
    """The least differences that matter, from the `evaluation` settings."""

    accuracy: float
    """Of shares, in [0, 1]."""
    calibration: float
    """Of calibration errors."""


def least_of(config: EvaluationConfig) -> Least:
    """Return the least differences that matter."""
    return Least(config.min_difference, config.min_calibration_difference)


@dataclass(frozen=True, slots=True)
class Measured:
    """One model's scores on one test set, over all questions."""

    metrics: Mapping[str, float]
    """By the names in `method.calibration.METRICS`."""
    top_answer_share: float = 0.0
    """Share of rollouts with the most frequent answer."""
    agreement: tuple[float, ...] = ()
    """Share of questions at each agreement level, from none to all."""
    bins: tuple[Bin, ...] = ()
    num_unsettled: int = 0
    """As in `TestResult`."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """A test set's most frequent gold answer."""

    answer: str
    share: float
    """Accuracy of giving it to every question."""


@dataclass(frozen=True, slots=True)
class TestComparison:
    """One test set before and after training, with controls."""

    __test__ = False  # or pytest would collect it

    name: str
    in_domain: bool
    num_questions: int
    before: Measured
    after: Measured
    delta: Mapping[str, Interval]
    """After minus before, by metric."""
    controls: Mapping[str, Measured] = field(default_factory=dict)
    """By `PROMPTED` and `config.FORM_ONLY`, if run."""
    net_of_form: Mapping[str, Interval] | None = None
    """After minus the form-only control, by metric."""
    above_baseline: Mapping[str, Interval] = field(default_factory=dict)
    """By `before` and `after`: accuracy minus baseline; empty if answers do not
    repeat."""
    baseline: Baseline | None = None
    """`None` if answers do not repeat."""

    def both(self, metric: str) -> tuple[float | None, float | None]:
        """Return a measure before and after; `None` if missing."""
        return self.before.metrics.get(metric), self.after.metrics.get(metric)


@dataclass(frozen=True, slots=True)
class PoolShare:
    """What selected, or unselected, questions have in common."""

    kept: bool
    num_questions: int
    neurons: tuple[int, int, int] | None
    """Minimum, median and maximum count; `None` if not read."""
    agreement: float | None
    """Mean share of agreeing rollouts; `None` without votes."""


@dataclass(frozen=True, slots=True)
class Bubble:
    """Questions of similar neuron count and vote share."""

    kept: bool
    neurons: float
    agreement: float
    num_questions: int


@dataclass(frozen=True, slots=True)
class PoolSummary:
    """The report's summary of a pool."""

    num_left_out: int
    """Questions excluded from selection, whatever their rank."""
    shares: tuple[PoolShare, ...]
    """Selected first; without empty ones."""
    neurons: tuple[int, int] | None = None
    """Minimum and maximum count; `None` if nothing can be drawn."""
    correlation: float | None = None
    """Spearman's, of neuron count and vote share; `None` if one is constant."""
    bubbles: tuple[Bubble, ...] = ()
    tenths: tuple[Point, ...] = ()
    """Mean neuron count and vote share per tenth of the pool, by count."""


@dataclass(frozen=True, slots=True)
class TrainingSummary:
    """The report's summary of the training steps."""

    num_steps: int
    num_tokens: int
    """Trained on."""
    first: StepMetrics
    last: StepMetrics
    losses: tuple[Point, ...]
    """By step, like entropies averaged in groups if very many."""
    entropies: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class GuardSummary:
    """What the guard read on its questions."""

    num_looks: int
    base: Reading
    last: Reading
    """The student's last reading."""
    curves: Mapping[str, tuple[Point, ...]]
    """Values over steps, by a share's name in `Reading`."""
    kept: Kept | None = None
    """The best step; `None` if the last was kept."""


@dataclass(frozen=True, slots=True)
class CaseDemonstration:
    """A demonstration that the teacher saw, in words."""

    question: str
    answer: str
    """The model's own, not checked."""
    distance: float | None
    """Jaccard distance of the neuron sets, in [0, 1]."""
    reason: str


@dataclass(frozen=True, slots=True)
class AnswerCount:
    """How many rollouts of a question gave one answer."""

    answer: str | None
    """`None` if no answer could be read."""
    count: int
    text: str = ""
    """One such completion, if it says more than the answer."""


@dataclass(frozen=True, slots=True)
class Case:
    """One question of the pool, shown in full."""

    question_id: str
    question: str
    choices: tuple[str, ...]
    student_prompt: str
    teacher_prompt: str
    reason: str
    """Why it was or was not selected."""
    demonstrations: tuple[CaseDemonstration, ...]
    """In the teacher's order."""
    rollouts_before: tuple[AnswerCount, ...]
    rollouts_after: tuple[AnswerCount, ...]


@dataclass(frozen=True, slots=True)
class StageCost:
    """What one stage took."""

    name: str
    seconds: float
    tokens: int
    """Read and written by the model; 0 if unused."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ReportData(Brief):
    """Contents of page, table and card."""

    title: str
    model: ModelSummary
    config: Config
    pool_size: int
    num_selected: int
    tests: tuple[TestComparison, ...]
    cross_domain: Mapping[str, Interval] = field(default_factory=dict)
    """Mean differences on cross-domain sets, for `avg_at_k` and `ece`."""
    training: TrainingSummary | None = None
    teacher_check: TeacherCheck | None = None
    collapses: tuple[Collapse, ...] = ()
    guard: GuardSummary | None = None
    """`None` if it had no questions."""
    pool: PoolSummary | None = None
    cases: tuple[Case, ...] = ()
    stage_costs: tuple[StageCost, ...] = ()
    warnings: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    method_summary: str = ""
    """One-line description of `config.method`."""
    reads_contexts: bool = True
    """Whether it shows demonstrations, if the settings name any."""
    neurons_per_layer: int = 0
    """`neurons.per_layer` scaled to the model; 0 if unknown."""
    neurons_kept: int = 0
    """`neurons.keep` scaled to the model; 0 if unknown."""
    data_hashes: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of each question file, by `POOL` or test set name."""
    datasets: Mapping[str, str] = field(default_factory=dict)
    """Hub dataset ids of the questions, by the same names."""
    format: int = REPORT_FORMAT
