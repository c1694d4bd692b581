"""Turn a file of samples into answers, each read by its question's reader.

Rows are streamed and completions dropped, so the file's size does not matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from neuron_opsd.answers.confidences import Stated, read_confidence
from neuron_opsd.answers.readers import Reader
from neuron_opsd.answers.reasoning import all_marks, final_part
from neuron_opsd.config import Config, QuestionsConfig
from neuron_opsd.data.question_files import READERS, open_table, refuse_no_file
from neuron_opsd.data.rows import (
    BadRowError,
    FileRow,
    Problems,
    Table,
    Values,
    digest_of,
    shorten,
)
from neuron_opsd.errors import DataError
from neuron_opsd.judging.findings import Findings
from neuron_opsd.judging.logs import shape_of
from neuron_opsd.judging.matching import Matcher, most_likely
from neuron_opsd.judging.samples import Sample, Shape
from neuron_opsd.records import Question

ENOUGH_ALIKE: Final = 10
"""Questions whose samples never differ, from which a warning is given."""
LONG: Final = 200
"""Characters above which two equal completions are suspicious."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What is kept of one `Sample`."""

    place: str
    number: int | None
    answer: str | None
    finished: bool | None
    num_tokens: int | None
    stated: Stated | None
    """`None` if missing or unreadable."""
    likelihood: float | None
    """Its choice's share of the total."""
    verdict: float | None


@dataclass
class Answers:
    """What was read of a file."""

    name: str
    of: dict[str, list[Answered]] = field(default_factory=dict)
    """By question id."""
    findings: Findings = field(default_factory=Findings)
    shapes: dict[str, None] = field(default_factory=dict)
    sha256: str = ""


def open_samples(path: Path, config: QuestionsConfig) -> Table:
    """Return the rows of a file of samples, read lazily."""
    refuse_no_file(path)
    if not path.name.lower().endswith(tuple(READERS)):
        raise DataError(
            f"{path} is not a file of samples; allowed are {', '.join(READERS)}"
        )
    return open_table(path, config)


def read_answers(
    path: Path,
    matcher: Matcher,
    readers: Mapping[str, Reader],
    config: Config,
    confidence: str = "",
) -> Answers:
    """Read the answers of a file of samples to some questions.

    Numbered samples are sorted. `confidence` names the column with stated confidences,
    ``doc.sure`` if nested; empty means a usual name.

    Raises:
        DataError: For all bad rows at once, with file and line; or if the file is
            empty, or no sample belongs to any of the questions.
    """
    table = open_samples(path, config.questions)
    found = Collector(Answers(table.name), matcher, readers, config, confidence)
    problems = Problems(table.name)
    number = 0
    for number, row in enumerate(table.rows, 1):
        try:
            for sample in found.samples(row):
                found.take(sample, row.place)
        except BadRowError as error:
            problems.add(number, row.place, error)
    problems.tell()
    found.refuse_nothing(number)
    found.tell_of_one_draw()
    found.answers.sha256 = table.hash()
    for own in found.answers.of.values():
        if all(one.number is not None for one in own):
            own.sort(key=lambda one: one.number or 0)
    return found.answers


@dataclass
class Collector:
    """Collects samples one by one."""

    answers: Answers
    matcher: Matcher
    readers: Mapping[str, Reader]
    config: Config
    confidence: str = ""
    filter: str | None = None
    """The one lm-eval filter that counts."""
    seen: dict[tuple[str, int], tuple[bytes, str]] = field(default_factory=dict)
    """Question and sample number to text hash and place."""
    texts: set[tuple[str, bytes]] = field(default_factory=set)
    """Question and hash of long completions."""
    first: dict[str, bytes] = field(default_factory=dict)
    """Question to hash of its first completion."""
    again: dict[str, str] = field(default_factory=dict)
    """Question to place of a sample that equals the first."""
    differ: bool = False
    """Whether samples of a question differ."""
    strangers: list[str] = field(default_factory=list)
    """First unmatched ids or questions."""

    def samples(self, row: FileRow) -> list[Sample]:
        """Return the samples of a row."""
        values = row.good
        shape = shape_of(values)
        self.answers.shapes.setdefault(shape.name)
        if "filter" in values and shape.name.startswith("lm-eval"):
            name = str(values["filter"])
            self.filter = self.filter or name
            if name != self.filter:
                self.answers.findings.add("other filters", f"{row.place}: {name}")
                return []
        samples = shape.read(values)
        return with_confidence(samples, values, self.confidence)

    def take(self, sample: Sample, place: str) -> None:
        """Read a sample's answer, or count why there is none."""
        tell = self.answers.findings.add
        question, how = self.matcher.find(sample)
        said = shorten(sample.key or sample.asks)
        if question is None:
            tell("unmatched", f"{place}: {said}")
            self.strangers.append(said)
            del self.strangers[3:]
            return
        if how == "text" and sample.key:
            tell("by text", f"{place}: {said}")
        if sample.failed:
            tell("failed", f"{place}, {question.id}: {sample.failed}")
        elif not self.is_repeated(sample, question, place):
            own = self.answers.of.setdefault(question.id, [])
            own.append(self.answered(sample, question, place))

    def is_repeated(self, sample: Sample, question: Question, place: str) -> bool:
        """Say whether a sample is a repeat, and count suspected repeats.

        Raises:
            BadRowError: If a different sample has its number.
        """
        wrote = sample.text if sample.text is not None else repr(sample.alternatives)
        digest = digest_of(wrote, 12)
        if sample.number is not None:
            key = question.id, sample.number
            first, where = self.seen.setdefault(key, (digest, place))
            if where != place and first != digest:
                raise BadRowError(
                    f"is sample {sample.number} of {shorten(question.id)}, as {where} "
                    "is with another completion; number the samples of a question"
                )
            if where != place:
                self.answers.findings.add("repeated", f"{place}, as {where}")
                return True
        if self.first.setdefault(question.id, digest) != digest:
            self.differ = True
        elif question.id in self.answers.of:
            self.again.setdefault(question.id, place)
        if len(sample.text or "") >= LONG:
            if (question.id, digest) in self.texts:
                self.answers.findings.add("alike", f"{place}, {question.id}")
            self.texts.add((question.id, digest))
        return False

    def answered(self, sample: Sample, question: Question, place: str) -> Answered:
        """Return what is kept of a sample."""
        answer, likelihood = None, None
        if sample.alternatives:
            answer, likelihood = most_likely(sample.alternatives, question)
        else:
            marks = all_marks(
                self.config.model.reasoning_start, self.config.model.reasoning_end
            )
            final = final_part(sample.text or "", marks=marks)
            cut = sample.finished is False
            reading = self.readers[question.id].read(final, question, finished=not cut)
            answer = reading.answer
            if answer is None:
                where = f"{place}, {question.id}: {reading.why}"
                self.answers.findings.add("unread", where)
        stated = read_confidence(sample.confidence)
        if stated is None and sample.confidence is not None:
            where = f"{place}: {shorten(sample.confidence)}"
            self.answers.findings.add("unread confidence", where)
        return Answered(
            place,
            sample.number,
            answer,
            sample.finished,
            sample.num_tokens,
            stated,
            likelihood,
            sample.verdict,
        )

    def tell_of_one_draw(self) -> None:
        """Count questions with several samples, if none ever differ."""
        if self.differ or len(self.again) < ENOUGH_ALIKE:
            return
        for question, place in self.again.items():
            self.answers.findings.add("one draw", f"{place}, {question}")

    def refuse_nothing(self, num_rows: int) -> None:
        """Refuse a file with nothing to score."""
        name = self.answers.name
        if not num_rows:
            raise DataError(f"{name} holds no samples")
        if not self.answers.of and self.strangers:
            known = ", ".join(shorten(one) for one in list(self.matcher.questions)[:3])
            raise DataError(
                f"{name}: none of its samples belongs to a question of the test set; "
                f"it holds for example {', '.join(self.strangers)}, the test set "
                f"{known}; give samples the ids of the test set, or the question"
            )
        of = self.answers.of.values()
        unread = "unread confidence" in self.answers.findings.counts
        stated = any(one.stated is not None for own in of for one in own)
        if self.confidence and not stated and not unread:
            raise DataError(
                f"{name} has no column {self.confidence!r} with confidences; name "
                "another, or leave --confidence out"
            )
        if not self.answers.of:
            first = self.answers.findings.first.get("failed", ["no row"])[0]
            raise DataError(f"{name} holds no sample that could be scored: {first}")


def with_confidence(samples: list[Sample], values: Values, column: str) -> list[Sample]:
    """Add a column's confidence to a row's samples: one for all, or one each."""
    if not column:
        return samples
    found: Any = values
    for part in (column,) if column in values else column.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    each = found if isinstance(found, list) else [found] * len(samples)
    if len(each) != len(samples):
        raise BadRowError(
            f"{column} holds {len(each)} confidences for {len(samples)} samples"
        )
    pairs = zip(samples, each, strict=True)
    return [replace(sample, confidence=stated) for sample, stated in pairs]


def asked_rows(path: Path, config: Config) -> Iterator[tuple[FileRow, Shape, Sample]]:
    """Yield each readable row with its shape and first sample.

    Bad rows are skipped here and reported when answers are read.
    """
    for row in open_samples(path, config.questions).rows:
        try:
            shape = shape_of(row.good)
            yield row, shape, shape.read(row.good)[0]
        except BadRowError:
            continue
