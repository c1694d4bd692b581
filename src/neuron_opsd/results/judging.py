"""Results of judging samples, as frozen records of plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from neuron_opsd.records import Brief
from neuron_opsd.records.scores import Bin, Interval

VOTE: Final = "vote share"
STATED: Final = "stated"
STATED_MEAN: Final = "stated, mean"
LIKELIHOOD: Final = "likelihood"
SOURCES: Final[Mapping[str, str]] = {
    VOTE: "share of a question's samples that give its most frequent answer; right "
    "if that answer is",
    STATED: "what each sample states; right if the sample is",
    STATED_MEAN: "mean of what the samples with a question's most frequent answer "
    "state; right if that answer is",
    LIKELIHOOD: "the chosen text's share of the likelihood of all choices; right if "
    "the choice is",
}
"""Sources of confidence, with explanations."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem in a file."""

    kind: str
    """A name in `judging.findings.KINDS`."""
    count: int
    text: str
    """Description that follows the count."""
    first: tuple[str, ...]
    """First occurrences, with file row and value."""


@dataclass(frozen=True, slots=True)
class Scaled:
    """Calibration achievable with a few labelled questions."""

    name: str
    """``temperature`` or ``platt``."""
    parameters: tuple[tuple[float, ...], tuple[float, ...]]
    """Slope, and offset if any, from each half of the questions."""
    measures: Mapping[str, Interval]
    """By the names in `method.scaling.MEASURES`."""
    change: Mapping[str, Interval]
    """Difference from no scaling, paired over questions."""


@dataclass(frozen=True, slots=True)
class Word:
    """A confidence word, the value it counts as, and what was found."""

    word: str
    share: float
    num_samples: int
    accuracy: float


@dataclass(frozen=True, slots=True)
class Confidence:
    """How well one confidence is calibrated."""

    source: str
    """One of `SOURCES`."""
    num_answers: int
    num_questions: int
    mean: float
    """Over questions."""
    measures: Mapping[str, Interval]
    bins: tuple[Bin, ...]
    scaled: tuple[Scaled, ...] = ()
    why_not_scaled: str = ""
    words: tuple[Word, ...] = ()


@dataclass(frozen=True, slots=True)
class JudgedFile:
    """Scores of one file of samples."""

    name: str
    file: str
    sha256: str
    shapes: tuple[str, ...]
    """How its rows were interpreted."""
    num_questions: int
    num_samples: int
    samples: tuple[int, int]
    """Fewest and most per question."""
    measures: Mapping[str, Interval]
    """By the names in `method.calibration.METRICS`."""
    bins: tuple[Bin, ...]
    """Of the vote share; empty without repeated samples."""
    confidences: tuple[Confidence, ...]
    findings: tuple[Finding, ...] = ()
    agreement: tuple[int, int] | None = None
    """Samples whose own score matches ours, and samples with a score."""
    num_unsettled: int = 0


@dataclass(frozen=True, slots=True)
class Paired:
    """Two files on the questions both answer."""

    first: str
    second: str
    num_questions: int
    left_out: tuple[int, int]
    """Questions that only one file answers."""
    change: Mapping[str, Interval]
    """Second minus first for each measure, paired over questions."""
    p_values: Mapping[str, float]
    """Two-sided paired bootstrap by measure; uncorrected."""
    only_first: int
    """Questions that only the first's vote gets right."""
    only_second: int
    mcnemar: float
    """Exact p-value of these two counts."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class JudgementData(Brief):
    """Contents of a judgement's page and file."""

    title: str
    test: str
    """Test set name; `samples` if the files carry their own questions."""
    num_questions: int
    files: tuple[JudgedFile, ...]
    pairs: tuple[Paired, ...] = ()
    num_bins: int
    num_resamples: int
    least_accuracy: float
    """Smallest accuracy difference that matters."""
    least_calibration: float
    reader: str
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    data_hashes: Mapping[str, str] = field(default_factory=dict)
