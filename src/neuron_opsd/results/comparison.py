"""Results of a comparison of methods, as frozen rows of plain values.

In long format: one number per row with its keys, so that tables, files and figures are
selections of rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from neuron_opsd.config import FORM_ONLY, EvaluationConfig
from neuron_opsd.records import Brief
from neuron_opsd.records.scores import Interval
from neuron_opsd.results.run import Least, ModelSummary, least_of

BASE = "base"
"""The untrained model: a method, and a start of training."""
FORM = FORM_ONLY
"""The model trained on random choices: a method, and perhaps a start."""
BASELINE = "baseline"
"""Reference: the most frequent gold answer, if answers repeat."""
IN_DOMAIN = "in-domain"
"""Target: the source's own test set."""
CROSS_DOMAIN = "cross-domain"
"""Target: the unweighted mean over all other test sets."""
SPECIFICITY = "specificity"
"""Target: in-domain gain minus the mean gain there of the method's models from other
sources."""
SUMMARIES = (IN_DOMAIN, CROSS_DOMAIN, SPECIFICITY)
"""Targets that aggregate test sets, also averaged over sources."""
ALL_SOURCES = "all sources"
"""Source: the unweighted mean over all sources."""


@dataclass(frozen=True, slots=True)
class MethodLine:
    """A method of the comparison."""

    name: str
    """Unique."""
    summary: str
    settings: Mapping[str, str] = field(default_factory=dict)
    """Settings specific to it: dotted name to TOML value."""
    oracle: bool = False
    """Whether it saw gold answers."""
    trained: bool = True
    """False for the base model and for prompts with demonstrations."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a number belongs to."""

    start: str
    """`BASE` or `FORM`: the model training began from."""
    source: str
    """Name of the pool, or `ALL_SOURCES`."""
    method: str
    step: int
    """Optimiser steps before the test; 0 if untrained."""
    target: str
    """A test set, or `IN_DOMAIN`, `CROSS_DOMAIN`, `SPECIFICITY`."""
    metric: str
    """A name in `method.calibration.METRICS`."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """A model's measure, averaged over seeds."""

    place: Place
    value: float
    by_seed: tuple[float, ...]
    """In the order of the seeds."""


@dataclass(frozen=True, slots=True)
class Contrast:
    """Difference of a measure between two models on the same questions."""

    place: Place
    reference: str
    """Method it is compared with, on the same source and step."""
    difference: Interval
    """With its 95 % bootstrap interval over questions and seeds."""
    p_value: float
    """Two-sided, of no difference; NaN without an interval."""
    p_adjusted: float
    """Holm-corrected over all contrasts of the same metric, target kind and reference;
    NaN without a p-value."""


@dataclass(frozen=True, slots=True)
class BudgetLine:
    """What training a method used, averaged over seeds."""

    start: str
    source: str
    method: str
    prompts: float
    """Questions asked in training, with repeats."""
    generated_tokens: float
    """Completion tokens sampled in training, trained on or not."""
    trained_tokens: float
    """Completion tokens in the loss."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Failure:
    """A cell of the comparison without a result, and why."""

    start: str
    source: str
    method: str
    seed: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ComparisonData(Brief):
    """Contents of a comparison's page and files."""

    title: str
    model: ModelSummary
    sources: tuple[str, ...]
    """Each also names its own test set."""
    targets: tuple[str, ...]
    """All test sets, the sources' first in their order."""
    methods: tuple[MethodLine, ...]
    starts: tuple[str, ...]
    seeds: tuple[int, ...]
    steps: tuple[int, ...]
    """Tested steps, ascending; the last is the result."""
    num_samples: int
    """k: answers per test question."""
    num_questions: Mapping[str, int]
    """By test set."""
    measurements: tuple[Measurement, ...]
    contrasts: tuple[Contrast, ...]
    budgets: tuple[BudgetLine, ...]
    failures: tuple[Failure, ...] = ()
    missing: int = 0
    """Cells still to run."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Shared by all methods, if not the default; as TOML values."""
    warnings: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    data_hashes: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    least: Least = field(default_factory=lambda: least_of(EvaluationConfig()))
