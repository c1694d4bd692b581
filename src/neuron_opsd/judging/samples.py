"""Parse one row of samples: plain columns, OpenAI's or vLLM's.

A row holds samples of one question. A table of shapes defines columns; more are in
`logs`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from neuron_opsd.data.formats.cells import IDS, PROMPTS, QUESTIONS, is_missing, squash
from neuron_opsd.data.rows import BadRowError, Values, kind_of, shorten

KEYS: Final = (*("questionid", "customid", "requestid", "docid"), *IDS)
"""Squashed names of the question's id, in order of preference."""
COMPLETIONS: Final = (
    *("completion", "completions", "response", "responses", "generation"),
    *("generations", "generatedtext", "output", "outputs", "prediction"),
    *("predictions", "modeloutput", "modelresponse", "samples", "text"),
)
NUMBERS: Final = ("index", "sampleindex", "sampleid", "sample", "rollout", "epoch")
"""Names of a sample's number."""
CONFIDENCES: Final = (
    *("confidence", "confidences", "statedconfidence", "verbalizedconfidence"),
    *("verbalisedconfidence", "certainty"),
)
ENDS: Final = ("finishreason", "stopreason", "finished")
TOKENS: Final = ("numtokens", "completiontokens", "outputtokens", "tokenids")
VERDICTS: Final = ("iscorrect", "exactmatch", "acc")
OF_SAMPLES: Final = frozenset((*NUMBERS, *CONFIDENCES, *ENDS, *TOKENS, *VERDICTS))
"""Columns about the sample, besides the completion."""
CUT: Final = frozenset({"length", "maxtokens", "modellength", "maxlength", "false"})
"""Squashed reasons for truncation."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """One of several texts whose likelihood a model gave."""

    context: str
    continuation: str
    logprob: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One completion of one question."""

    key: str = ""
    """The question's id; empty if none."""
    asks: str = ""
    """The question's text; empty if none."""
    number: int | None = None
    """Among its question's samples."""
    text: str | None = None
    """`None` if the request failed or gave likelihoods."""
    finished: bool | None = None
    """Whether it ended by itself; `None` if unknown."""
    num_tokens: int | None = None
    confidence: Any = None
    alternatives: tuple[Alternative, ...] = ()
    """Texts scored by likelihood; empty if the model wrote."""
    verdict: float | None = None
    """The file's own score, in [0, 1]."""
    failed: str = ""
    """Why there is no completion."""


def columns_of(values: Values) -> Values:
    """Return a row's filled columns by squashed name."""
    columns = {squash(name): value for name, value in values.items()}
    return {key: value for key, value in columns.items() if not is_missing(value)}


def first(columns: Values, keys: Sequence[str]) -> Any:
    """Return the first existing column, or `None`."""
    return next((columns[key] for key in keys if key in columns), None)


Read: TypeAlias = Callable[[Values], list[Sample]]


@dataclass(frozen=True, slots=True)
class Shape:
    """How rows of one kind of file are read."""

    name: str
    fits: Callable[[Values], bool]
    read: Read
    asked: Callable[[Values], Values]
    """A row's question and right answer, as columns of a question file."""
    exact: bool = False
    """Whether these are the product's own columns, with a choice's text as answer."""
    asked_otherwise: Callable[[Values], Values] | None = None
    """Fallback in the product's own columns, if `asked` finds no question."""


def read_plain(values: Values) -> list[Sample]:
    """Return the samples of a row with plain columns."""
    columns = columns_of(values)
    found = first(columns, COMPLETIONS)
    if found is None:
        names = ", ".join(map(repr, list(values)[:8]))
        raise BadRowError(
            f"has no completion; its columns are {names}: name the one that the model "
            "wrote completion"
        )
    whole = replace(
        identity(columns),
        number=number_of(first(columns, NUMBERS)),
        finished=ended(first(columns, ENDS)),
        num_tokens=count_of(first(columns, TOKENS)),
        confidence=first(columns, CONFIDENCES),
        verdict=verdict_of(first(columns, VERDICTS)),
    )
    if not isinstance(found, list) or all(
        isinstance(one, Mapping) and "role" in one for one in found
    ):  # one completion, or one conversation
        return [replace(whole, text=text_of(found, "completion"))]
    stated = whole.confidence
    spread = isinstance(stated, list) and len(stated) == len(found)
    return [
        replace(
            merged(whole, one),
            number=place,
            confidence=stated[place] if spread else stated,
        )
        for place, one in enumerate(found)
    ]


def merged(whole: Sample, one: Any) -> Sample:
    """Return one of a row's completions, a text or vLLM's object."""
    if not isinstance(one, Mapping):
        return replace(whole, text=text_of(one, "completion"))
    columns = columns_of(one)
    said = first(columns, ("message", "text", "content", *COMPLETIONS))
    return replace(
        whole,
        text=text_of(said, "completion"),
        finished=ended(first(columns, ENDS)),
        num_tokens=count_of(first(columns, TOKENS)),
    )


def identity(columns: Values) -> Sample:
    """Return which question a row is about."""
    key, asks = first(columns, KEYS), first(columns, (*QUESTIONS, *PROMPTS))
    return Sample(key="" if key is None else plain_key(key), asks=asked_text(asks))


def plain_key(key: Any) -> str:
    """Return an id as text; whole numbers become their digits."""
    if isinstance(key, float) and key.is_integer():
        key = int(key)
    if isinstance(key, bool) or not isinstance(key, str | int):
        raise BadRowError(f"its id is {kind_of(key)}, but it must be text or a number")
    return str(key)


def asked_text(found: Any) -> str:
    """Return what a question, prompt or conversation asks; else empty."""
    if isinstance(found, str):
        return found
    if isinstance(found, list):
        turns = [one for one in found if isinstance(one, Mapping)]
        asked = [one for one in turns if one.get("role") == "user"]
        return text_of(asked[-1], "prompt") if asked else ""
    return ""


def text_of(found: Any, what: str) -> str:
    """Return the text of a completion, message, or conversation's last message.

    Only text parts count, which omits reasoning that a server separated.
    """
    if isinstance(found, str):
        return found
    if isinstance(found, Mapping) and "content" in found:
        return "" if found["content"] is None else text_of(found["content"], what)
    if isinstance(found, list) and all(isinstance(one, Mapping) for one in found):
        if not found:
            return ""
        if all("role" in one for one in found):
            return text_of(found[-1], what)
        if all("type" in one for one in found):
            texts = [one.get("text") for one in found if one["type"] == "text"]
            return "\n".join(one for one in texts if isinstance(one, str))
    raise BadRowError(f"{what} must be text, not {shorten(found)}")


def number_of(value: Any) -> int | None:
    """Return a sample's number, if the column holds one."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    return value if isinstance(value, int) else None


def count_of(value: Any) -> int | None:
    """Return a number of tokens, given as such or as the tokens."""
    if isinstance(value, list):
        return len(value)
    found = number_of(value)
    return found if found is not None and found >= 0 else None


def ended(value: Any) -> bool | None:
    """Say whether a completion came to its end; `None` if unknown."""
    if isinstance(value, bool):
        return value
    return squash(value) not in CUT if isinstance(value, str) else None


def verdict_of(value: Any) -> float | None:
    """Return the file's score of a sample, if it is in [0, 1]."""
    if isinstance(value, str):
        value = {"c": 1.0, "i": 0.0, "p": 0.5, "n": 0.0}.get(value.strip().lower())
    if isinstance(value, bool | int | float) and 0.0 <= float(value) <= 1.0:
        return float(value)
    return None


def without_samples(values: Values) -> Values:
    """Return a row's columns that may say what is asked."""
    columns = columns_of(values)
    written = next((key for key in COMPLETIONS if key in columns), "")
    passed = {*OF_SAMPLES, written}
    return {name: value for name, value in values.items() if squash(name) not in passed}


def is_server_reply(values: Values) -> bool:
    """Say whether a row is or holds an OpenAI-compatible reply."""
    found = body_of(values)
    choices = found.get("choices") if isinstance(found, Mapping) else None
    is_batch = "custom_id" in values and {"response", "error"} & values.keys()
    return bool(is_batch) or (
        isinstance(choices, list) and bool(choices) and all(map(is_reply, choices))
    )


def is_reply(choice: Any) -> bool:
    """Say whether an item is a server's completion, not a set's choice."""
    if not isinstance(choice, Mapping):
        return False
    return "message" in choice or {"text", "finish_reason"} <= choice.keys()


def body_of(values: Values) -> Any:
    """Return the reply inside a batch row, or the row."""
    response = values.get("response")
    if isinstance(response, Mapping):
        return response.get("body", response)
    return values


def read_server_reply(values: Values) -> list[Sample]:
    """Return the samples of a server's reply; failed requests have none."""
    whole = identity(columns_of(values))
    body = body_of(values)
    choices = body.get("choices") if isinstance(body, Mapping) else None
    if not isinstance(choices, list) or not choices:
        error = values.get("error") or body
        return [replace(whole, failed=f"the server replied {shorten(error)}")]
    several = len(choices) > 1
    usage = body.get("usage") or {}
    tokens = count_of(usage.get("completion_tokens")) if not several else None
    return [
        replace(
            merged(whole, choice),
            number=place if several else number_of(values.get("sample")),
            num_tokens=tokens,
        )
        for place, choice in enumerate(choices)
    ]


PLAIN: Final = Shape("plain", lambda _: True, read_plain, without_samples)
SERVER: Final = Shape("OpenAI", is_server_reply, read_server_reply, without_samples)
