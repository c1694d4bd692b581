"""Reading the final answer from a completion, and telling when two answers are one.

Each reader is one function and one line in `READERS`. An answer is normalised when it
is read, so that most pairs can be compared by spelling alone.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from neuron_opsd import latex, numerals
from neuron_opsd.choice_answers import read_choice_letter, read_choice_text
from neuron_opsd.config import AnswersConfig
from neuron_opsd.errors import ConfigError
from neuron_opsd.passages import OUTER, answer_passage, collapse, final_part
from neuron_opsd.records import Question

Read: TypeAlias = Callable[[str, Question], str | None]
Same: TypeAlias = Callable[[str, str], bool]

MAX_TEXT_LENGTH: Final = 1000
"""Longest first line that still counts as a short answer."""


@dataclass(frozen=True, slots=True)
class Reader:
    """How the answers to one question are read and compared."""

    read: Read
    """Returns the normalised answer of a completion, `None` where it has none."""
    same: Same = operator.eq
    """Says whether two normalised answers mean the same."""
    fallback: Read | None = None
    """Reads a bare answer, such as a gold one, in which `read` finds nothing."""

    def normalise(self, answer: str, question: Question) -> str | None:
        """Return the normalised form of an answer that stands without a completion."""
        found = self.read(answer, question)
        if found is None and self.fallback is not None:
            return self.fallback(answer, question)
        return found


def reader_for(
    question: Question, config: AnswersConfig, list_choices: str = "no"
) -> Reader:
    """Return the reader of a question's answers, `auto` resolved.

    Args:
        question: Whose choices, if any, decide what `auto` means.
        config: Names the reader.
        list_choices: The setting of that name of the prompts: with `letters`, `auto`
            reads the letters of choices.

    Raises:
        ConfigError: If the reader needs choices that the question lacks, or needs a
            pattern and that is missing or no regular expression.
    """
    name = config.reader
    if name == "auto" and not question.choices:
        name = "text"
    elif name == "auto":
        name = "choice-letter" if list_choices == "letters" else "choice-text"
    if name.startswith("choice-") and not question.choices:
        raise ConfigError(
            f"answers.reader is {name}, but question {question.id!r} has no choices; "
            "give it some, or let answers.reader be auto"
        )
    return READERS[name](config)


def readers_for(
    questions: Sequence[Question], config: AnswersConfig, list_choices: str = "no"
) -> dict[str, Reader]:
    """Return question id to reader, for the votes and for scoring.

    Raises:
        ConfigError: As `reader_for` does.
    """
    return {
        question.id: reader_for(question, config, list_choices)
        for question in questions
    }


def read_number(text: str, question: Question) -> str | None:
    r"""Return the last number of a completion as a canonical numeral.

    Where there is a ``\boxed{...}``, the number in it goes first, then the first one
    after the last ``the answer is`` or ``####``, past an equals sign in that line.
    """
    del question
    final = final_part(text)
    if final is None:
        return None
    boxed = latex.last_boxed(final)
    passage = answer_passage(final)
    return (
        (boxed and numerals.last_numeral(boxed))
        or (passage and numerals.first_numeral(passage.rpartition("=")[2]))
        or numerals.last_numeral(final)
    )


def read_text(text: str, question: Question) -> str | None:
    """Return the first line in lower case, without lead-in, article and punctuation.

    A line without a letter or digit, or longer than `MAX_TEXT_LENGTH`, is no answer.
    """
    del question
    final = final_part(text)
    if final is None:
        return None
    lines = final.strip().splitlines()
    line = collapse(lines[0]).casefold() if lines else ""
    if len(line) > MAX_TEXT_LENGTH:
        return None
    line = LEAD_IN.sub("", line.strip(OUTER)).strip(OUTER)
    line = ARTICLE.sub("", line)
    return line if any(char.isalnum() for char in line) else None


LEAD_IN: Final = re.compile(
    r"^(?:so,? |therefore,? |thus,? )?(?:the )?(?:final |correct )?answer(?: is\b|:)"
)
ARTICLE: Final = re.compile(r"^(?:the|an?) (?=\S)")


def read_latex(text: str, question: Question) -> str | None:
    r"""Return the last ``\boxed{...}``, else the last math, of a completion.

    Without either, what follows the last ``the answer is``; nothing else is guessed.
    """
    del question
    final = final_part(text)
    if final is None:
        return None
    found = latex.last_boxed(final) or latex.last_math(final) or answer_passage(final)
    return latex.tidy(collapse(found or "")) or None


def read_bare_latex(text: str, question: Question) -> str | None:
    """Return the whole text as an expression."""
    del question
    return latex.tidy(collapse(text)) or None


def read_bare_text(text: str, question: Question) -> str | None:
    """Return the whole text, white space collapsed."""
    del question
    return collapse(text) or None


def regex_reader(config: AnswersConfig) -> Reader:
    """Return a reader of the last match of the user's pattern, its first group.

    Without a group the whole match is the answer. Case makes no difference between
    answers. The pattern is the user's own and runs without a limit of time.

    Raises:
        ConfigError: If the pattern is missing or no regular expression.
    """
    if not config.pattern:
        raise ConfigError(
            "answers.reader is regex, but answers.pattern is empty; give a regular "
            r"expression, for example answers.pattern='Answer: (\w+)'"
        )
    try:
        pattern = re.compile(config.pattern)
    except re.error as error:
        raise ConfigError(
            f"answers.pattern is {config.pattern!r}, but that is no regular "
            f"expression: {error}"
        ) from None
    group = min(1, pattern.groups)

    def read(text: str, question: Question) -> str | None:
        del question
        last = None
        for match in pattern.finditer(final_part(text) or ""):
            last = match
        return None if last is None else collapse(last[group] or "") or None

    return Reader(read, same_apart_from_case, read_bare_text)


def same_apart_from_case(one: str, other: str) -> bool:
    """Say whether two answers differ in nothing but case."""
    return one.casefold() == other.casefold()


READERS: Final[Mapping[str, Callable[[AnswersConfig], Reader]]] = {
    "choice-text": lambda _: Reader(read_choice_text),
    "choice-letter": lambda _: Reader(read_choice_letter),
    "number": lambda _: Reader(read_number, numerals.same_number),
    "text": lambda _: Reader(read_text),
    "latex": lambda _: Reader(read_latex, latex.same_latex, read_bare_latex),
    "regex": regex_reader,
}
"""By the names that `answers.reader` takes; `auto` becomes one of these."""
