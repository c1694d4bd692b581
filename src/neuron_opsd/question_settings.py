"""The settings of how question files are read; `config` holds them with all others."""

from __future__ import annotations

from typing import Literal

from neuron_opsd.section import Section


class QuestionsConfig(Section):
    """How the files of questions are read."""

    format: str = "auto"
    """What the columns mean: a public set by its name (see docs/files.md), `plain` for
    columns by the product's own names and no others, or `auto`, which knows public sets
    by their columns; `pool=plain,exam=gpqa` gives files their own."""
    answers: Literal["auto", "text", "letter", "index-from-0", "index-from-1"] = "auto"
    """What a gold answer to a question with choices is, where the file cannot tell."""
    drop_repeated_choices: bool = False
    """Leave out, and count, questions that offer the same choice twice; else they are
    an error."""
