"""All that the report says, as frozen records of plain values.

The pipeline builds one `ReportData` from what the run directory holds; nothing here
needs a model or a file. What it holds does not grow with questions, rollouts or steps:
`report.condense` has made numbers of those, and the tables of the run keep the rest.
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
"""The method of the paper; names of its variants begin with it."""
POOL = "pool"
"""Name of the questions that are trained on, beside those of the test sets."""
REPORT_FORMAT = 2
"""Form of `report.json`; the first had a row for every question, and no number."""


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """What the model is; the fields are those of `models.roles.ModelFacts`."""

    name: str
    family: str
    num_parameters: int
    num_layers: int
    num_neurons: int
    """Neurons of one layer."""
    device: str
    compute: str


@dataclass(frozen=True, slots=True)
class Least:
    """The least differences that matter, as `evaluation` sets them."""

    accuracy: float
    """Of shares, in [0, 1]."""
    calibration: float
    """Of calibration errors."""


def least_of(config: EvaluationConfig) -> Least:
    """Return the least differences that matter."""
    return Least(config.min_difference, config.min_calibration_difference)


@dataclass(frozen=True, slots=True)
class Measured:
    """What one model scored on one test set, over all its questions."""

    metrics: Mapping[str, float]
    """By the names in `method.calibration.METRICS`."""
    top_answer_share: float = 0.0
    """Share of all rollouts that the model's most frequent answer takes."""
    agreement: tuple[float, ...] = ()
    """Share of the questions at each level of agreement, from none to all rollouts."""
    bins: tuple[Bin, ...] = ()
    num_unsettled: int = 0
    """As of `TestResult`."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """The most frequent gold answer of a test set."""

    answer: str
    share: float
    """Of how many questions it is true: the accuracy of giving it to all."""


@dataclass(frozen=True, slots=True)
class TestComparison:
    """One test set before and after training, and the controls beside it."""

    __test__ = False  # pytest would take the name for a test class

    name: str
    in_domain: bool
    num_questions: int
    before: Measured
    after: Measured
    delta: Mapping[str, Interval]
    """After minus before, by metric name."""
    controls: Mapping[str, Measured] = field(default_factory=dict)
    """By `PROMPTED` and `config.FORM_ONLY`, as far as the controls were run."""
    net_of_form: Mapping[str, Interval] | None = None
    """After minus the form-only control, by metric name."""
    above_baseline: Mapping[str, Interval] = field(default_factory=dict)
    """By `before` and `after`: accuracy less that of the most frequent gold answer;
    empty where answers do not repeat."""
    baseline: Baseline | None = None
    """`None` where answers do not repeat."""

    def both(self, metric: str) -> tuple[float | None, float | None]:
        """Return one measure before and after; `None` where it was not taken."""
        return self.before.metrics.get(metric), self.after.metrics.get(metric)


@dataclass(frozen=True, slots=True)
class PoolShare:
    """What is common to the questions that were selected, or to those that were not."""

    kept: bool
    num_questions: int
    neurons: tuple[int, int, int] | None
    """Least, median and most neurons counted; `None` where nobody read any."""
    agreement: float | None
    """Mean share of rollouts that agree; `None` where none voted."""


@dataclass(frozen=True, slots=True)
class Bubble:
    """Questions of the pool with about one neuron count and one vote share."""

    kept: bool
    neurons: float
    agreement: float
    num_questions: int


@dataclass(frozen=True, slots=True)
class PoolSummary:
    """What the report says of the pool's questions."""

    num_left_out: int
    """Questions that were not to be selected, whatever their place."""
    shares: tuple[PoolShare, ...]
    """Selected first; one that is empty is left out."""
    neurons: tuple[int, int] | None = None
    """Least and most neurons counted; `None` where nothing can be drawn."""
    correlation: float | None = None
    """Spearman's, of neuron count and vote share; `None` where one never varies."""
    bubbles: tuple[Bubble, ...] = ()
    tenths: tuple[Point, ...] = ()
    """Mean neuron count and vote share of each tenth of the pool by neuron count."""


@dataclass(frozen=True, slots=True)
class TrainingSummary:
    """What the report says of the steps of a training."""

    num_steps: int
    num_tokens: int
    """That were trained on."""
    first: StepMetrics
    last: StepMetrics
    losses: tuple[Point, ...]
    """By step, averaged in groups where there are very many; as are the entropies."""
    entropies: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class GuardSummary:
    """What the guard saw on its questions."""

    num_looks: int
    base: Reading
    last: Reading
    """Of the student at the last look."""
    curves: Mapping[str, tuple[Point, ...]]
    """By the name of a share of `Reading`: its values along the steps."""
    kept: Kept | None = None
    """The best step, `None` where the last one was kept."""


@dataclass(frozen=True, slots=True)
class CaseDemonstration:
    """One demonstration that the teacher saw, in words."""

    question: str
    answer: str
    """The model's own; right or wrong, nobody checked."""
    distance: float | None
    """Jaccard distance of the neuron sets, in [0, 1]."""
    reason: str


@dataclass(frozen=True, slots=True)
class AnswerCount:
    """How many rollouts of a question gave one answer."""

    answer: str | None
    """`None` where no answer could be read."""
    count: int
    text: str = ""
    """One of these completions in full, where it says more than the answer."""


@dataclass(frozen=True, slots=True)
class Case:
    """One question of the pool, shown in full."""

    question_id: str
    question: str
    choices: tuple[str, ...]
    student_prompt: str
    teacher_prompt: str
    reason: str
    """Why it was selected, or was not."""
    demonstrations: tuple[CaseDemonstration, ...]
    """In the order in which the teacher saw them."""
    rollouts_before: tuple[AnswerCount, ...]
    rollouts_after: tuple[AnswerCount, ...]


@dataclass(frozen=True, slots=True)
class StageCost:
    """What one stage took."""

    name: str
    seconds: float
    tokens: int
    """Tokens read and written by the model; 0 where it was not asked."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ReportData(Brief):
    """Everything that the page, the table and the card say."""

    title: str
    model: ModelSummary
    config: Config
    pool_size: int
    num_selected: int
    tests: tuple[TestComparison, ...]
    cross_domain: Mapping[str, Interval] = field(default_factory=dict)
    """Mean differences over the cross-domain sets, for `avg_at_k` and `ece`."""
    training: TrainingSummary | None = None
    teacher_check: TeacherCheck | None = None
    collapses: tuple[Collapse, ...] = ()
    guard: GuardSummary | None = None
    """`None` where it had no questions."""
    pool: PoolSummary | None = None
    cases: tuple[Case, ...] = ()
    stage_costs: tuple[StageCost, ...] = ()
    warnings: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    method_summary: str = ""
    """What the method of `config.method` does, in a line."""
    reads_contexts: bool = True
    """Whether it shows demonstrations, where the settings name any."""
    neurons_per_layer: int = 0
    """`neurons.per_layer` as scaled to the model; 0 where unknown."""
    neurons_kept: int = 0
    """`neurons.keep` as scaled to the model; 0 where unknown."""
    data_hashes: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of each question file, by the name of the pool or test set."""
    datasets: Mapping[str, str] = field(default_factory=dict)
    """Ids of the hub's datasets that questions came from, by the same names."""
    format: int = REPORT_FORMAT
