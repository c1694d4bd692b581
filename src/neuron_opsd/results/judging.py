"""What a judgement of samples says, as frozen records of plain values."""

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
    "where that answer is",
    STATED: "what each sample states; right where the sample is",
    STATED_MEAN: "mean of what the samples with a question's most frequent answer "
    "state; right where that answer is",
    LIKELIHOOD: "share that the chosen text has in the likelihood of all choices; "
    "right where the choice is",
}
"""Where confidences come from, and what each is."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in a file that is not as it should be."""

    kind: str
    """By the names of `judging.findings.KINDS`."""
    count: int
    text: str
    """What it is, to be put after the count."""
    first: tuple[str, ...]
    """Where the first are, with file row and value."""


@dataclass(frozen=True, slots=True)
class Scaled:
    """What calibration comes to that costs nothing but some labelled questions."""

    name: str
    """``temperature`` or ``platt``."""
    parameters: tuple[tuple[float, ...], tuple[float, ...]]
    """Slope, and offset where there is one, as each half of the questions gave them."""
    measures: Mapping[str, Interval]
    """By the names in `method.scaling.MEASURES`."""
    change: Mapping[str, Interval]
    """Less the same without scaling, paired over questions."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word for confidence, what it counts as, and what was found."""

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
    """Each question counted once."""
    measures: Mapping[str, Interval]
    bins: tuple[Bin, ...]
    scaled: tuple[Scaled, ...] = ()
    why_not_scaled: str = ""
    words: tuple[Word, ...] = ()


@dataclass(frozen=True, slots=True)
class JudgedFile:
    """What one file of samples scored."""

    name: str
    file: str
    sha256: str
    shapes: tuple[str, ...]
    """As what its rows were read."""
    num_questions: int
    num_samples: int
    samples: tuple[int, int]
    """Fewest and most of one question."""
    measures: Mapping[str, Interval]
    """By the names in `method.calibration.METRICS`."""
    bins: tuple[Bin, ...]
    """Of the vote share; none where no question has more than one sample."""
    confidences: tuple[Confidence, ...]
    findings: tuple[Finding, ...] = ()
    agreement: tuple[int, int] | None = None
    """Of how many samples the file's own score is ours, and how many have one."""
    num_unsettled: int = 0


@dataclass(frozen=True, slots=True)
class Paired:
    """Two files on the questions that both answer."""

    first: str
    second: str
    num_questions: int
    left_out: tuple[int, int]
    """Questions that only one of them answers."""
    change: Mapping[str, Interval]
    """Every measure of the second less that of the first, paired over questions."""
    p_values: Mapping[str, float]
    """Of the paired bootstrap, two-sided, by measure; not corrected."""
    only_first: int
    """Questions that only the vote of the first answers right."""
    only_second: int
    mcnemar: float
    """Exact p-value of these two counts."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class JudgementData(Brief):
    """Everything that the page and the file of a judgement say."""

    title: str
    test: str
    """Name of the test set; `samples` where the files carry their own questions."""
    num_questions: int
    files: tuple[JudgedFile, ...]
    pairs: tuple[Paired, ...] = ()
    num_bins: int
    num_resamples: int
    least_accuracy: float
    """Smallest difference of accuracy that matters."""
    least_calibration: float
    reader: str
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    data_hashes: Mapping[str, str] = field(default_factory=dict)
