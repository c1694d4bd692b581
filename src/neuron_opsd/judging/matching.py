"""Match samples to the questions of a test set by id or text."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from neuron_opsd.answers.choice_texts import equal_choice
from neuron_opsd.config import PromptsConfig
from neuron_opsd.data.rows import BadRowError, shorten
from neuron_opsd.judging.logs import texts_of
from neuron_opsd.judging.samples import Alternative, Sample
from neuron_opsd.prompts import asked_lines, with_choices
from neuron_opsd.records import Question


def squeezed(text: str) -> str:
    """Normalise white space."""
    return " ".join(text.split())


@dataclass
class Matcher:
    """Finds questions, and says how the last one was found."""

    questions: Mapping[str, Question]
    prompts: PromptsConfig
    by_text: dict[str, str | None] = field(init=False)
    """Every form of a question's text to its id; `None` if ambiguous."""

    def __post_init__(self) -> None:
        self.by_text = {}
        for question in self.questions.values():
            for form in self.forms(question):
                known = self.by_text.setdefault(form, question.id)
                if known != question.id:
                    self.by_text[form] = None

    def forms(self, question: Question) -> set[str]:
        """Return the texts by which a file may give a question."""
        last = question.messages[-1].content
        texts = (question.text, last, with_choices(last, question, self.prompts))
        return {*map(squeezed, texts), squeezed(asked_lines(question, self.prompts))}

    def find(self, sample: Sample) -> tuple[Question | None, str]:
        """Return the question of a sample, and whether ``id`` or ``text`` found it.

        `None` if neither is known.

        Raises:
            BadRowError: If the id's question has another text, or several questions
                have the sample's text.
        """
        asks = squeezed(sample.asks)
        named = self.questions.get(sample.key) if sample.key else None
        if named is not None and self.agree(named, asks):
            return named, "id"
        if asks and asks in self.by_text:
            found = self.by_text[asks]
            if found is None:
                raise BadRowError(
                    f"asks {shorten(asks)}, as several questions do; give it the id of "
                    "one of them"
                )
            return self.questions[found], "text"
        if named is not None:
            raise BadRowError(
                f"has the id {shorten(sample.key)}, but asks {shorten(asks)}, not "
                f"{shorten(squeezed(named.text))}; is this the right test set?"
            )
        return None, ""

    def agree(self, question: Question, asks: str) -> bool:
        """Say whether a file's question, if given, is the test set's."""
        if not asks:
            return True
        forms, own = self.forms(question), squeezed(question.messages[-1].content)
        return asks in forms or own in asks or asks in own


def most_likely(found: Sequence[Alternative], question: Question) -> tuple[str, float]:
    """Return the most likely choice and its share of the likelihood.

    Ties go to the first, as in lm-eval.
    """
    if not question.choices:
        raise BadRowError(
            f"holds likelihoods, but {question.id!r} has no choices to compare them by"
        )
    choices = chosen(texts_of(found), found[0].context, question)
    numbers = np.array([one.logprob for one in found])
    if not np.isfinite(numbers).all():
        raise BadRowError("holds a log-likelihood that is not finite")
    shares = np.exp(numbers - numbers.max())
    best = int(numbers.argmax())
    return choices[best], float(shares[best] / shares.sum())


def chosen(texts: Sequence[str], context: str, question: Question) -> list[str]:
    """Return the choice that each text names.

    A letter counts only if the prompt lists its choice after it: the test set may order
    choices differently.
    """
    named = [equal_choice(text, question.choices) for text in texts]
    found = [one for one in named if one is not None]
    if sorted(found) == sorted(question.choices) and len(found) == len(texts):
        return found
    listed = [text.strip("(). ") for text in texts]
    if listed == list(string.ascii_uppercase[: len(question.choices)]):
        if lists(context, question.choices):
            return list(question.choices)
        raise BadRowError(
            "its choices are letters, but its prompt does not list the choices of "
            f"{question.id!r} in the order of the test set, so it is unclear which are "
            "meant"
        )
    raise BadRowError(
        f"its {len(texts)} texts, such as {shorten(texts[0])}, are not the "
        f"{len(question.choices)} choices of {question.id!r}"
    )


def lists(prompt: str, choices: Sequence[str]) -> bool:
    """Say whether a prompt lists each choice after its letter."""
    asked = squeezed(prompt)
    return all(
        re.search(rf"\(?{letter}[).:]? ?{re.escape(squeezed(choice))}", asked)
        for letter, choice in zip(string.ascii_uppercase, choices, strict=False)
    )
