"""The settings of how answers are read; a section of `config.Config`."""

from __future__ import annotations

from typing import Literal

from neuron_opsd.section import Section


class AnswersConfig(Section):
    """How the final answer is read from a completion."""

    reader: Literal[
        "auto", "choice-text", "choice-letter", "number", "text", "latex", "regex"
    ] = "auto"
    """`auto` reads the choice's text where a question has choices (its letter where
    the prompt lists letters), else the text."""
    decimal_mark: Literal["point", "comma"] = "point"
    """What the `number` reader takes a single mark before three digits for, as in 1,234
    or 1.234: with `point` they are 1234 and 1.234, with `comma` the other way round."""
    pattern: str = ""
    """Regular expression of the `regex` reader; its first group is the answer."""
