"""All that a comparison of methods says, as frozen rows of plain values.

The rows are long: one number each, with what it is the number of. So tables, files and
figures are choices of rows. Nothing here needs a model or a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from neuron_opsd.config import FORM_ONLY, EvaluationConfig
from neuron_opsd.records import Brief
from neuron_opsd.records.scores import Interval
from neuron_opsd.results.run import Least, ModelSummary, least_of

BASE = "base"
"""The model before any training: a method of the tables, and where training begins."""
FORM = FORM_ONLY
"""The model trained on random choices: a method, and where training may begin."""
BASELINE = "baseline"
"""Reference: the most frequent gold answer to every question, where answers repeat."""
IN_DOMAIN = "in-domain"
"""Target: the test set of the source itself."""
CROSS_DOMAIN = "cross-domain"
"""Target: the mean over all other test sets, each with the same weight."""
SPECIFICITY = "specificity"
"""Target: in-domain gain less the mean gain, on the same test set, of the models that
the method trained on other sources."""
SUMMARIES = (IN_DOMAIN, CROSS_DOMAIN, SPECIFICITY)
"""Targets that sum test sets up, and of which there is also a mean over sources."""
ALL_SOURCES = "all sources"
"""Source: the mean over all sources, each with the same weight."""


@dataclass(frozen=True, slots=True)
class MethodLine:
    """A method of the comparison."""

    name: str
    """What tables call it; no two are alike."""
    summary: str
    """What it does, in a line."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """What it sets that others do not, dotted name to value as TOML has it."""
    oracle: bool = False
    """Whether it was shown gold answers; marked wherever it stands."""
    trained: bool = True
    """False for the base model and for prompts with demonstrations."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a number belongs to."""

    start: str
    """`BASE` or `FORM`: the model that training began from."""
    source: str
    """Name of the pool, or `ALL_SOURCES`."""
    method: str
    step: int
    """Optimiser steps after which the model was tested; 0 for an untrained one."""
    target: str
    """Name of a test set, or `IN_DOMAIN`, `CROSS_DOMAIN`, `SPECIFICITY`."""
    metric: str
    """A name of `method.calibration.METRICS`."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """A measure of a model, as the mean over seeds."""

    place: Place
    value: float
    by_seed: tuple[float, ...]
    """In the order of the seeds that are there."""


@dataclass(frozen=True, slots=True)
class Contrast:
    """How a measure differs from that of another model on the same questions."""

    place: Place
    reference: str
    """Name of the method it is compared with, of the same source, and the step."""
    difference: Interval
    """With its 95 % bootstrap interval over questions and seeds."""
    p_value: float
    """Two-sided, of no difference; NaN where there is no interval."""
    p_adjusted: float
    """After Holm's correction over all contrasts of the same metric, target kind and
    reference; NaN where there is no p-value."""


@dataclass(frozen=True, slots=True)
class BudgetLine:
    """What training a method took, as the mean over seeds."""

    start: str
    source: str
    method: str
    prompts: float
    """Questions asked in training, repeats counted."""
    generated_tokens: float
    """Completion tokens drawn in training, whether or not trained on."""
    trained_tokens: float
    """Completion tokens that the loss was taken over."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Failure:
    """A cell of the comparison that has no result, and why."""

    start: str
    source: str
    method: str
    seed: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ComparisonData(Brief):
    """Everything that a comparison's page and files say."""

    title: str
    model: ModelSummary
    sources: tuple[str, ...]
    """Each is also the name of its own test set."""
    targets: tuple[str, ...]
    """Names of all test sets, the sources' first and in their order."""
    methods: tuple[MethodLine, ...]
    starts: tuple[str, ...]
    seeds: tuple[int, ...]
    steps: tuple[int, ...]
    """After how many steps models were tested, ascending; the last is the result."""
    num_samples: int
    """k: answers to each test question."""
    num_questions: Mapping[str, int]
    """Of every test set."""
    measurements: tuple[Measurement, ...]
    contrasts: tuple[Contrast, ...]
    budgets: tuple[BudgetLine, ...]
    failures: tuple[Failure, ...] = ()
    missing: int = 0
    """Cells that are still to be run."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Of all methods, where they differ from the defaults; as TOML has them."""
    warnings: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    data_hashes: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    least: Least = field(default_factory=lambda: least_of(EvaluationConfig()))
    """The least differences that matter."""
