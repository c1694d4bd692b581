"""The names under which columns are read, squashed: without case and punctuation."""

from __future__ import annotations

import re
from typing import Final

IDS: Final = ("id", "questionid", "uniqueid", "qid", "recordid")
QUESTIONS: Final = ("question", "query", "problem", "questiontext", "questionstem")
PROMPTS: Final = ("prompt", "messages")
CHOICES: Final = (
    *("choices", "choice", "options", "option", "answerchoices", "answeroptions"),
    *("possibleanswers", "candidates", "alternatives"),
)
ANSWERS: Final = (
    *("answer", "answerkey", "correctanswer", "correctoption", "correctchoice"),
    *("correct", "gold", "goldanswer", "goldlabel", "target", "label", "groundtruth"),
    *("finalanswer", "expectedanswer", "answerletter", "correctletter"),
)
INDICES: Final = ("answerindex", "answeridx", "correctindex", "correctidx", "goldindex")
"""Answers by their place among the choices."""
LABELS: Final = ("questionlabel", "answerlabel")

GROUP: Final = re.compile(
    r"(|options?|opt|choices?|op|answer)([a-z])|"
    r"(options?|opt|choices?|op)(\d{1,2})"
)
"""Columns that hold one choice each, as ``A``, ``opa``, ``Option 1``."""

LIKE_CHOICES: Final = (
    *("choice", "option", "distractor", "candidate", "wrong", "incorrect"),
    *("alternative", "ending"),
)
LIKE_ANSWERS: Final = (
    *("answer", "correct", "gold", "label", "target", "solution", "truth", "output"),
    *("response", "completion", "chosen", "decision"),
)
NEEDED: Final = frozenset(
    {
        *("passage", "context", "article", "support", "paragraph", "premise", "story"),
        *("document", "background", "hypothesis", "image", "images", "figure", "table"),
        *("ctx", "input", "audio", "hint"),
    }
)
"""Columns without which a question may ask nothing."""
