"""Read final answers from completions, and tell whether two are the same.

Each reader is a function and an entry of `READERS`. It gets what follows any reasoning,
and returns the answer and where it stood. Answers are normalised when read, so most
compare by spelling.
"""

from __future__ import annotations

import operator
import re
import string
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal, Protocol, TypeAlias

from neuron_opsd.answers import choice_texts
from neuron_opsd.answers.choice_letters import read_choice_letter
from neuron_opsd.answers.latex import plain_number, read_latex, tidy
from neuron_opsd.answers.number_reader import read_number
from neuron_opsd.answers.numbers import same_number
from neuron_opsd.answers.spans import (
    OUTER,
    Reading,
    announcements,
    collapse,
    hashed,
    last_boxed,
    own_part,
    plain,
    whole_words,
)
from neuron_opsd.answers.verifier import same_within
from neuron_opsd.errors import ConfigError
from neuron_opsd.records import Question
from neuron_opsd.section import OneOf, Positive, Section

MAX_TEXT_LENGTH: Final = 1000
"""Longest line that counts as a short answer."""
LEAD_IN: Final = re.compile(
    r"^(?:so,? |therefore,? |thus,? )?(?:the )?(?:final |correct )?answer(?: is\b|:)"
)
END_OF_SENTENCE: Final = re.compile(
    r"(?:(?<=[^\W\d_]{4})|(?<=[0-9)%\"']))[.!?]\s+(?=[A-Z])"
)

Same: TypeAlias = Callable[[str, str], bool]
Bare: TypeAlias = Callable[[str, Question], str | None]


class Find(Protocol):
    """Reads the final part of a completion, which may be truncated."""

    def __call__(self, text: str, question: Question, /, *, cut: bool) -> Reading:
        """Return the normalised answer and where it stood."""


@dataclass(frozen=True, slots=True)
class Reader:
    """How the answers to one question are read and compared."""

    find: Find
    same: Same = operator.eq
    """Whether two normalised answers mean the same."""
    bare: Bare | None = None
    """Reads a bare answer, such as a gold one, if `find` might misread it."""

    def read(
        self, final: str | None, question: Question, *, finished: bool = True
    ) -> Reading:
        """Read the answer of a completion.

        Args:
            final: What follows its reasoning; `None` if that is still open.
            question: The question answered.
            finished: Whether the completion ended by itself. If truncated, choices,
                numbers and expressions count only if boxed, announced or leading, and
                the last word is ignored.
        """
        if final is None:
            return Reading(None, "reasoning is not closed")
        text = unicodedata.normalize("NFC", final)
        if not text.strip():
            return Reading(None, "nothing is written")
        return self.find(text, question, cut=not finished)

    def normalise(self, answer: str, question: Question) -> str | None:
        """Normalise an answer given without a completion.

        In GSM8K's worked solutions, what follows the last `####` counts.
        """
        marked = hashed(answer) if "\n" in answer.strip() else []
        answer = marked[0] if marked else answer
        if self.bare is not None:
            return self.bare(answer, question)
        return self.read(answer, question).answer


def reader_for(
    question: Question, config: AnswersConfig, list_choices: str = "no"
) -> Reader:
    """Return the reader of a question's answers, with `auto` resolved.

    `auto` depends on the question's choices and `prompts.list_choices`: with `letters`
    they are read by letter.

    Raises:
        ConfigError: If the reader lacks choices or a valid pattern.
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
    return READERS[name].make(config)


def readers_for(
    questions: Sequence[Question], config: AnswersConfig, list_choices: str = "no"
) -> dict[str, Reader]:
    """Return question id to reader, for votes and scoring."""
    return {one.id: reader_for(one, config, list_choices) for one in questions}


class ReadChoice(Protocol):
    """Reads the choice that a text gives, by letter or by text."""

    def __call__(self, text: str, choices: Sequence[str], *, cut: bool) -> Reading:
        """Return the choice and where it stood."""


def reader_of_choices(read: ReadChoice) -> Reader:
    """Return a reader of questions with choices.

    A gold choice is read by text first, so that it stays itself, then by letter, then
    as a completion.
    """

    def find(text: str, question: Question, *, cut: bool) -> Reading:
        return read(whole_words(text) if cut else text, question.choices, cut=cut)

    def bare(text: str, question: Question) -> str | None:
        if (choice := choice_texts.equal_choice(text, question.choices)) is not None:
            return choice
        name = text.strip()
        letters = string.ascii_uppercase[: len(question.choices)]
        if len(name) == 1 and name in letters:
            return question.choices[letters.index(name)]
        return find(text, question, cut=False).answer

    return Reader(find, bare=bare)


def number_reader(config: AnswersConfig) -> Reader:
    """Return a reader of numbers; gold answers follow the same rule."""

    def find(text: str, _: Question, *, cut: bool) -> Reading:
        text = whole_words(text) if cut else text
        return read_number(text, config.decimal_mark, cut=cut)

    return Reader(find, same_number)


def latex_reader(config: AnswersConfig) -> Reader:
    """Return a reader of expressions, compared by math-verify."""

    def find(text: str, _: Question, *, cut: bool) -> Reading:
        return read_latex(whole_words(text) if cut else text, cut=cut)

    return Reader(find, same_within(config.max_minutes), bare_latex)


def bare_latex(text: str, _: Question) -> str | None:
    """Return what a text announces or holds as math, else all of it."""
    return read_latex(text).answer or tidy(collapse(text)) or None


def read_text(text: str, _: Question, *, cut: bool) -> Reading:
    r"""Read a short text in lower case, without lead-in, article and punctuation.

    In order: the last ``\boxed{...}``, the last announcement, the first line. Lines
    without letters and digits, or above `MAX_TEXT_LENGTH`, are no answer; truncated
    ones are read as they stand.
    """
    del cut
    text = own_part(text, bool)
    if (boxed := last_boxed(text)) is not None:
        return short(boxed, "boxed")
    for announced in announcements(text)[:1]:
        span = END_OF_SENTENCE.split(announced.after or announced.span)[0]
        return short(span, "announced")
    for span in hashed(text)[:1]:
        return short(span, "after ####")
    line, *rest = text.strip().split("\n", 1)
    return short(line, "first line" if rest else "only answer")


def short(line: str, why: str) -> Reading:
    """Return a line as a normalised answer, if it is one."""
    line = plain(choice_texts.unwrapped(line) if "\\text" in line else line)
    if len(line) > MAX_TEXT_LENGTH:
        return Reading(None, f"{why}, but longer than {MAX_TEXT_LENGTH} characters")
    line = LEAD_IN.sub("", line.strip(OUTER)).strip(OUTER)
    line = choice_texts.ARTICLE.sub("", line)
    if not any(char.isalnum() for char in line):
        return Reading(None, f"{why}, but without a letter or digit")
    return Reading(line, why)


def bare_text(text: str, question: Question) -> str | None:
    """Return a gold answer as the text reader spells it.

    Several lines without a boxed or announced answer give none: no completion could
    match.
    """
    if "\n" not in text.strip():
        return short(text, "gold").answer
    if last_boxed(text) is None and not announcements(text):
        return None
    return read_text(text, question, cut=False).answer


def same_text(one: str, other: str) -> bool:
    """Say whether two normalised texts are alike or the same plain number."""
    if one == other:
        return True
    number, another = plain_number(one), plain_number(other)
    return number is not None and another is not None and same_number(number, another)


def regex_reader(config: AnswersConfig) -> Reader:
    """Return a reader of the first group of the pattern's last match.

    Without a group the whole match counts. Case and the spelling of quotes and accents
    are ignored. The user's pattern runs without a time limit.
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
            f"answers.pattern is {config.pattern!r}, but that is not a regular "
            f"expression: {error}"
        ) from None
    group = min(1, pattern.groups)

    def find(text: str, _: Question, *, cut: bool) -> Reading:
        del cut
        last = None
        for match in pattern.finditer(text):
            last = match
        found = None if last is None else collapse(last[group] or "") or None
        return Reading(found, "last match" if found else "the pattern matches nothing")

    def bare(text: str, question: Question) -> str | None:
        return find(text, question, cut=False).answer or collapse(text) or None

    return Reader(find, lambda one, other: plain(one) == plain(other), bare)


@dataclass(frozen=True, slots=True)
class ReaderEntry:
    """A named reader: a function and an entry below."""

    make: Callable[[AnswersConfig], Reader]
    help: str
    may_leave_open: bool = False
    """Whether some comparisons may stay undecided within its limits."""


READERS: Final[dict[str, ReaderEntry]] = {
    "choice-text": ReaderEntry(
        lambda _: reader_of_choices(choice_texts.read_choice_text),
        "which choice, by its text",
    ),
    "choice-letter": ReaderEntry(
        lambda _: reader_of_choices(read_choice_letter), "which choice, by its letter"
    ),
    "number": ReaderEntry(number_reader, "the number that is boxed, announced or last"),
    "text": ReaderEntry(
        lambda _: Reader(read_text, same_text, bare_text),
        "the text that is boxed or announced, else the first line",
    ),
    "latex": ReaderEntry(
        latex_reader, "an expression, compared by math-verify", may_leave_open=True
    ),
    "regex": ReaderEntry(regex_reader, "what `pattern` matches last"),
}
"""`auto` becomes one of these."""


class AnswersConfig(Section):
    """How the final answer is read from a completion."""

    reader: Annotated[str, OneOf(READERS, ("auto",))] = "auto"
    """`auto` reads the choice's text where a question has choices (its letter where
    the prompt lists letters), else the text."""
    decimal_mark: Literal["point", "comma"] = "point"
    """How the `number` reader reads a single mark before three digits, as in 1,234 or
    1.234: with `point` they are 1234 and 1.234, with `comma` the other way round."""
    pattern: str = ""
    """Regular expression of the `regex` reader; its first group is the answer."""
    max_minutes: Positive = 120
    """Minutes of processor time that comparing expressions (reader `latex`) may take in
    one command. After that it stops with status 75; results so far are kept, and the
    same command resumes with as many minutes again."""

    @property
    def may_leave_open(self) -> bool:
        """Whether some comparisons of answers may end undecided."""
        return self.reader != "auto" and READERS[self.reader].may_leave_open
