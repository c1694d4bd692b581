"""Checks of gold answers that need no model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from neuron_opsd.answers.latex import refusal
from neuron_opsd.answers.readers import readers_for
from neuron_opsd.config import AnswersConfig
from neuron_opsd.data.questions import QuestionFile
from neuron_opsd.errors import DataError, listing
from neuron_opsd.records import Question

TEXT_READERS = ("auto", "text")
"""Values of `answers.reader` that read one line of a free answer."""


def check_gold(
    name: str,
    source: str,
    file: QuestionFile,
    config: AnswersConfig,
    warn: Callable[[str], None],
) -> None:
    """Refuse a test set that cannot be scored; warn of a doubtful one.

    Raises:
        ConfigError: If the reader needs choices that a question lacks.
        DataError: With the number of wrong answers, and the first places.
    """
    place = f"test set {name} ({source})"
    refuse_missing(place, file)
    free = [question for question in file.questions if not question.choices]
    if free and file.reader and config.reader == "auto":
        first = file.gold.answer_of[free[0].id]
        raise DataError(
            f"{place}: its answers, such as {first!r} of {where(file, free[0])}, are "
            "taken from worked solutions, but answers.reader=auto reads the first line "
            f"of what a model writes; set answers.reader={file.reader} (or text, if "
            "the model is to write nothing else)"
        )
    if config.reader in TEXT_READERS:
        refuse_lines(place, file, free)
        warn_of_latex(name, file, free, warn)
    refuse_unreadable(place, file, config)
    if config.may_leave_open:
        warn_of_uncomputed(name, file, config, warn)


def where(file: QuestionFile, question: Question) -> str:
    """Name a question and its place."""
    return f"{question.id} ({file.place_of.get(question.id, 'no known row')})"


def refuse_missing(place: str, file: QuestionFile) -> None:
    """Refuse questions without a gold answer."""
    without = [q for q in file.questions if q.id not in file.gold.answer_of]
    if without:
        raise DataError(
            f"{place}: {len(without)} of {len(file.questions)} questions have no "
            f"answer, first {where(file, without[0])}; every test question needs the "
            "column answer"
        )


def refuse_lines(place: str, file: QuestionFile, free: Sequence[Question]) -> None:
    """Refuse multi-line answers if only one line is read."""
    answers = file.gold.answer_of
    long = [q for q in free if len(answers[q.id].strip().splitlines()) > 1]
    if long:
        raise DataError(
            f"{place}: {len(long)} of {len(file.questions)} gold answers have several "
            f"lines, first {shown(file, long[:1])}, but answers.reader=text reads one "
            "line, so they can never match; keep the final answer alone, name the set "
            "with --format, or set answers.reader=number or latex"
        )


def warn_of_latex(
    name: str, file: QuestionFile, free: Sequence[Question], warn: Callable[[str], None]
) -> None:
    r"""Warn that answers such as ``\frac12`` are compared literally."""
    found = [q for q in free if "\\" in file.gold.answer_of[q.id]]
    if found:
        warn(
            f"{name}: {len(found)} of {len(file.questions)} gold answers are LaTeX, "
            f"first {shown(file, found[:1])}, and answers.reader=text compares them "
            "letter by letter; answers.reader=latex compares what they mean"
        )


def warn_of_uncomputed(
    name: str, file: QuestionFile, config: AnswersConfig, warn: Callable[[str], None]
) -> None:
    """Warn of expressions too large to compare but by spelling."""
    readers, answers = readers_for(file.questions, config), file.gold.answer_of
    found = [
        (question, reason)
        for question in file.questions
        if (gold := readers[question.id].normalise(answers[question.id], question))
        and (reason := refusal(gold))
    ]
    if found:
        first, reason = found[0]
        warn(
            f"{name}: {len(found)} of {len(file.questions)} gold answers are not "
            "computed, so only answers spelled the same match, first "
            f"{shown(file, [first])}: {reason}"
        )


def refuse_unreadable(place: str, file: QuestionFile, config: AnswersConfig) -> None:
    """Refuse gold answers that the reader cannot read."""
    readers = readers_for(file.questions, config)
    bad = [
        question
        for question in file.questions
        if readers[question.id].normalise(file.gold.answer_of[question.id], question)
        is None
    ]
    if bad:
        raise DataError(
            f"{place}: {len(bad)} of {len(file.questions)} gold answers cannot be read "
            f"by answers.reader={config.reader}: {shown(file, bad)}; take another "
            "reader, or fix the column answer"
        )


def shown(file: QuestionFile, questions: Sequence[Question]) -> str:
    """List a few questions with places and gold answers."""
    return listing(
        [
            f"{where(file, question)} {file.gold.answer_of[question.id][:60]!r}"
            for question in questions
        ]
    )
