"""Types of what commands print with `--json`; schemas are written from them.

Commands do not import this module, which brings in all their imports. A command has a
type here if it prints no record of the library.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NotRequired

# Before Python 3.12 Pydantic needs this one; it depends on the package anyway.
from typing_extensions import TypedDict

from neuron_opsd.comparison.forecast import Forecast
from neuron_opsd.config import Config
from neuron_opsd.data.splitting import SplitData
from neuron_opsd.forgetting import Forgetting
from neuron_opsd.planning.doctor import Check
from neuron_opsd.planning.foresight import Foresight
from neuron_opsd.planning.workload import Plan
from neuron_opsd.records.scores import Interval
from neuron_opsd.results.comparison import BudgetLine, Place
from neuron_opsd.results.judging import JudgementData
from neuron_opsd.results.probe import ProbeData
from neuron_opsd.runs.preview import Preview
from neuron_opsd.storage.status import ComparisonStatus, RunStatus


class SetEntry(TypedDict):
    """Scores of a run's models on one test set."""

    domain: Literal["in", "cross"]
    num_questions: int
    before: Mapping[str, float]
    after: Mapping[str, float]
    delta: Mapping[str, Interval]
    controls: Mapping[str, Mapping[str, float]]
    above_baseline: NotRequired[Mapping[str, Interval]]
    net_of_form: NotRequired[Mapping[str, Interval]]
    unsettled_comparisons: NotRequired[Mapping[str, int]]
    kept_after_steps: NotRequired[int]


class Summary(TypedDict):
    """Results over several test sets."""

    outcome: str
    in_domain: str
    cross_domain_mean_delta: Mapping[str, Interval]
    kept_after_steps: NotRequired[int]


@dataclass(frozen=True)
class RunDocument:
    """The outcome of a run."""

    run: str
    """Its folder."""
    outcome: str
    """In a sentence or two."""
    adapter: str
    report: str
    summary: Summary | None
    """As in `summary.json`; `None` if the run has none."""
    evaluation: Mapping[str, SetEntry] | None
    """As in `evaluation.json`, by test set."""


@dataclass(frozen=True)
class MeasurementRow(Place):
    """A measure of a model, averaged over seeds."""

    value: float
    by_seed: tuple[float, ...]
    oracle: bool
    """Whether the method saw gold answers."""


@dataclass(frozen=True)
class ContrastRow(Place):
    """The difference of a measure from another model's on the same questions."""

    reference: str
    difference: float
    low: float
    high: float
    p_value: float
    p_adjusted: float
    oracle: bool


@dataclass(frozen=True)
class BudgetRow(BudgetLine):
    """The training cost of a method, averaged over seeds."""

    oracle: bool


@dataclass(frozen=True)
class ComparisonDocument:
    """The outcome of a comparison."""

    comparison: str
    """Its folder."""
    report: str
    measurements: tuple[MeasurementRow, ...]
    contrasts: tuple[ContrastRow, ...]
    budgets: tuple[BudgetRow, ...]


@dataclass(frozen=True)
class MethodEntry:
    """A method that can be run and compared."""

    summary: str
    acts_on: str
    """What its loss acts on."""
    source: str
    oracle: bool
    """Whether it sees gold answers; `run` refuses such a method."""
    preset: Mapping[str, Any]
    """Its paper's rates, and the other settings of `--preset paper`."""


@dataclass(frozen=True)
class AnalysisDocument:
    """The results of an analysis of runs."""

    outcome: str
    runs: Mapping[str, Mapping[str, Interval]]
    """By run, then by measure."""
    overall: Mapping[str, Interval]
    """Means over runs; empty for a single one."""
    report: str
    json: str
    csv: str
    atlases: Mapping[str, str]
    """Page of neurons, by run."""


@dataclass(frozen=True)
class FetchDocument:
    """Where the demo's files are."""

    model: str
    questions: Mapping[str, Mapping[str, str]]
    """By set, then by side: `pool` or `test`."""


@dataclass(frozen=True, kw_only=True)
class ProbeDocument(ProbeData):
    """All results of a probe, and where its files are."""

    outcome: str
    report: str
    json: str


@dataclass(frozen=True, kw_only=True)
class PlanDocument(Plan):
    """The cost of a run or a probe."""

    seconds: float | None
    """Of all stages; `None` if one has no time."""


@dataclass(frozen=True, kw_only=True)
class JudgementDocument(JudgementData):
    """Scores of samples made elsewhere, and where its files are, if it has any."""

    outcome: str
    json: str | None
    report: str | None


class ReadRow(TypedDict):
    """What was read from one completion."""

    id: str
    answer: str | None
    why: str
    same: NotRequired[bool]


@dataclass(frozen=True)
class ReadDocument:
    """What was read from completions."""

    rows: tuple[ReadRow, ...]


@dataclass(frozen=True)
class NeuronsDocument:
    """Where neuron sets were written, and of how many completions."""

    out: str
    num_completions: int


@dataclass(frozen=True)
class ReportDocument:
    """Where the page is."""

    report: str


@dataclass(frozen=True)
class DoctorDocument:
    """What was found about this machine."""

    checks: tuple[Check, ...]


@dataclass(frozen=True)
class ExportDocument:
    """What a finished run was exported to."""

    to: str
    """The target."""
    out: str
    files: Mapping[str, int]
    """Bytes of every file, by path in the folder."""
    facts: Mapping[str, Any]
    """Notes on the target, by name."""
    next_steps: tuple[str, ...]


@dataclass(frozen=True)
class PushDocument:
    """What was, or would be, sent to the hub."""

    repo: str
    base_model: str
    files: Mapping[str, int]
    """Bytes of every file."""
    card: str
    commit: str | None
    """Its address; `None` if nothing was sent."""


DOCUMENTS: Final[Mapping[str, Any]] = {
    "run": RunDocument,
    "demo": RunDocument,
    "evaluate": Mapping[str, Mapping[str, float]] | JudgementDocument,
    "compare": ComparisonDocument | Forecast,
    "methods": Mapping[str, MethodEntry],
    "analyse": AnalysisDocument,
    "fetch": FetchDocument,
    "probe": ProbeDocument | PlanDocument,
    "split": SplitData,
    "preview": Preview,
    "read": ReadDocument,
    "plan": PlanDocument | Foresight,
    "neurons": NeuronsDocument,
    "status": RunStatus | ComparisonStatus,
    "report": ReportDocument,
    "forgetting": Forgetting,
    "export": ExportDocument | Mapping[str, str],
    "push": PushDocument,
    "config": Config,
    "doctor": DoctorDocument,
}
