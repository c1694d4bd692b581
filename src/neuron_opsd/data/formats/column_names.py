"""The names under which columns are read, squashed: without case and punctuation."""

from __future__ import annotations

import re
from typing import Final

IDS: Final = ("id", "questionid", "uniqueid", "qid", "recordid")
QUESTIONS: Final = ("question", "query", "problem", "questiontext", "questionstem")
PROMPTS: Final = ("prompt", "messages")
CHOICES: Final = (
    *("choices", "choice", "options", "option", "answerchoices", "answeroptions"),
    *("candidates", "alternatives"),
)
ANSWERS: Final = (
    *("answer", "answerkey", "correctanswer", "correctoption", "correctchoice"),
    *("correct", "gold", "goldanswer", "goldlabel", "target", "label", "groundtruth"),
    *("finalanswer", "expectedanswer", "answerletter", "correctletter"),
    *("answertext", "answernumber", "answervalue", "numericanswer"),
    *("shortanswer", "exactanswer"),
)
INDICES: Final = ("answerindex", "answeridx", "correctindex", "correctidx", "goldindex")
"""Answers by their place among the choices."""
LABELS: Final = ("questionlabel", "answerlabel")

GROUP: Final = re.compile(
    r"(|options?|opt|choices?|op|answer)([a-z])|"
    r"(options?|opt|choices?|op)(\d{1,2})"
)
"""Columns that hold one choice each, as ``A``, ``opa``, ``Option 1``."""

NOT_ANSWERS: Final = (
    *("distractor", "candidate", "wrong", "incorrect", "alternative", "possible"),
)
"""Words that mark a column of choices although it may be called an answer."""
LIKE_CHOICES: Final = (*NOT_ANSWERS, "choice", "option", "ending")
LIKE_ANSWERS: Final = (
    *("answer", "correct", "gold", "label", "target", "solution", "truth", "output"),
    *("response", "completion", "chosen", "decision"),
)
MEDIA: Final = frozenset({"image", "figure", "audio", "video", "picture", "diagram"})
NEEDED: Final = frozenset(
    {
        *("passage", "context", "article", "support", "paragraph", "premise", "story"),
        *("document", "background", "hypothesis", "table", "ctx", "input", "hint"),
        *("dialogue", "dialog", "conversation", "history", "scenario"),
        *("vignette", "excerpt", "abstract", "evidence", "snippet", "sentence"),
        *("statement", "description", "narrative", "transcript", "instruction"),
        *("contract", "clause", "statute", "policy", "chart", "graph", "exhibit"),
        *("stem", "preamble", "introduction", "material", "schema", "poem", "review"),
        *("patient", "clinical", "situation"),
        *MEDIA,
    }
)
"""Words in the names of columns without which a question may ask nothing."""
NEEDED_ALONE: Final = frozenset(
    {
        *("text", "texts", "body", "code", "case", "content", "facts", "report"),
        *("system", "systemprompt", "systemmessage", "pretext", "posttext"),
    }
)
"""Squashed names of such columns; as one word of several they mean nothing."""
ABOUT: Final = frozenset(
    {
        *("id", "ids", "type", "source", "title", "length", "count", "number", "index"),
        *("language", "date", "level", "topic", "category", "name", "tokens"),
    }
)
"""Last words of columns that hold nothing of a question, such as `passage_id`."""
