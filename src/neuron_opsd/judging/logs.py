"""Read rows of sample logs: lm-eval's `--log_samples` and inspect's samples."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from neuron_opsd.data.formats.fields import structure
from neuron_opsd.data.formats.sample_logs import with_attached
from neuron_opsd.data.rows import BadRowError, Values, shorten
from neuron_opsd.judging.samples import (
    PLAIN,
    SERVER,
    Alternative,
    Sample,
    Shape,
    asked_text,
    columns_of,
    count_of,
    ended,
    identity,
    plain_key,
    text_of,
    verdict_of,
)

SCORES: Final = ("acc", "exact_match", "accuracy", "correct")
"""Most trusted first."""


def is_lm_eval(values: Values) -> bool:
    """Say whether a row is from lm-eval's sample log."""
    return "resps" in values and ("doc" in values or "doc_id" in values)


def read_lm_eval(values: Values) -> list[Sample]:
    """Return the samples of a row of lm-eval's log."""
    doc = values.get("doc")
    whole = identity(columns_of(doc)) if isinstance(doc, Mapping) else Sample()
    key = whole.key or plain_key(values.get("doc_id"))
    score = next((values[name] for name in SCORES if name in values), None)
    whole = replace(whole, key=key)
    requests = arguments_of(values)
    replies = values["resps"]
    if not isinstance(replies, list) or not replies:
        raise BadRowError(f"resps is {shorten(replies)}, but it must be a list")
    if is_likelihood(replies[0]):
        found = alternatives(requests, replies)
        return [replace(whole, alternatives=found, verdict=verdict_of(score))]
    texts = replies[0] if isinstance(replies[0], list) else replies
    alone = len(texts) == 1
    return [
        replace(
            whole,
            number=place,
            text=text_of(text, "resps"),
            verdict=verdict_of(score) if alone else None,
        )
        for place, text in enumerate(texts)
    ]


def is_likelihood(reply: Any) -> bool:
    """Say whether a reply is ``[[log-likelihood, greedy]]``, not text."""
    first = reply[0] if isinstance(reply, list) and reply else None
    return isinstance(first, list) and len(first) == 2


def arguments_of(values: Values) -> list[tuple[str, str]]:
    """Return the first two arguments of a row's requests, as texts."""
    found = values.get("arguments")
    rows = list(found.values()) if isinstance(found, Mapping) else found
    pairs = []
    for row in rows if isinstance(rows, list) else ():
        parts = list(row.values()) if isinstance(row, Mapping) else list(row)
        texts = [part if isinstance(part, str) else "" for part in (*parts, "", "")]
        pairs.append((texts[0], texts[1]))
    return pairs


def asks_likelihoods(values: Values) -> bool:
    """Say whether a row of lm-eval's log has only likelihoods."""
    replies = values.get("resps")
    some = replies if isinstance(replies, list) else []
    return is_lm_eval(values) and bool(some) and is_likelihood(some[0])


def alternatives(
    requests: Sequence[tuple[str, str]], replies: Sequence[Any]
) -> tuple[Alternative, ...]:
    """Return the texts whose likelihood was asked for.

    With mutual information each is asked again without a context, which is left out.
    """
    if len(requests) != len(replies):
        raise BadRowError(f"has {len(requests)} arguments, but {len(replies)} resps")
    try:
        numbers = [float(reply[0][0]) for reply in replies]
    except (TypeError, ValueError, IndexError):
        raise BadRowError(
            f"resps is {shorten(replies)}, but each must begin with a log-likelihood"
        ) from None
    asked = [
        Alternative(context, continuation, number)
        for (context, continuation), number in zip(requests, numbers, strict=True)
    ]
    half = len(asked) // 2
    contexts = [one.context for one in asked]
    if any(contexts) and not any(contexts[half:]) and len(asked) == 2 * half:
        asked = asked[:half]
    return tuple(asked)


def texts_of(found: Sequence[Alternative]) -> list[str]:
    """Return the texts that tell a row's alternatives apart.

    That is continuations, or contexts if they are equal (WinoGrande).
    """
    texts = [one.continuation.strip() for one in found]
    if len(set(texts)) == 1 and len(texts) > 1:
        return [one.context.strip() for one in found]
    return texts


def lm_eval_doc(values: Values) -> Values:
    """Return a row's document, or else its request."""
    doc = values.get("doc")
    if not isinstance(doc, Mapping):
        return lm_eval_request(values)
    return doc


def lm_eval_request(values: Values) -> Values:
    """Return a request's question and target, in our own columns."""
    sample, target = read_lm_eval(values)[0], values.get("target")
    requests = arguments_of(values)
    if not requests:
        raise BadRowError("has no arguments, so it is unknown what was asked")
    asked: dict[str, Any] = {"id": sample.key, "question": requests[0][0]}
    if not sample.alternatives:
        return asked | {"answer": target}
    choices = texts_of(sample.alternatives)
    if choices[0] == sample.alternatives[0].context.strip():
        asked["question"] = sample.alternatives[0].continuation
    return asked | {"choices": choices, "answer": chosen(target, choices)}


def chosen(target: Any, choices: Sequence[str]) -> str:
    """Return the choice that lm-eval's target names, by index or text."""
    text = str(target).strip()
    if text in choices and not text.isdigit():
        return text
    if text.isdigit() and int(text) < len(choices):
        return choices[int(text)]
    raise BadRowError(
        f"its target is {shorten(target)}, which is none of its {len(choices)} choices"
    )


def is_inspect(values: Values) -> bool:
    """Say whether a row is a sample of an inspect log."""
    return "epoch" in values and "target" in values and "input" in values


def read_inspect(values: Values) -> list[Sample]:
    """Return the sample of one inspect epoch."""
    output = values.get("output") or {}
    choices = output.get("choices") if isinstance(output, Mapping) else None
    whole = Sample(
        key=plain_key(values.get("id")),
        asks=asked_text(with_attached(values.get("input"), values)),
        number=count_of(values.get("epoch")),
        confidence=columns_of(values.get("metadata") or {}).get("confidence"),
        verdict=inspect_verdict(values.get("scores")),
    )
    if values.get("error") or not choices:
        why = shorten(values.get("error") or output.get("error") or "no output")
        return [replace(whole, failed=f"the sample ended with {why}")]
    usage = output.get("usage") or {}
    message = with_attached(choices[0].get("message"), values)
    return [
        replace(
            whole,
            text=text_of(message, "output"),
            finished=ended(choices[0].get("stop_reason")),
            num_tokens=count_of(usage.get("output_tokens")),
        )
    ]


def inspect_verdict(scores: Any) -> float | None:
    """Return the verdict of the log's only scorer on a sample."""
    if not isinstance(scores, Mapping) or len(scores) != 1:
        return None
    (score,) = scores.values()
    return verdict_of(score.get("value")) if isinstance(score, Mapping) else None


def inspect_question(values: Values) -> Values:
    """Return a sample's question and target, in our own columns."""
    asked: dict[str, Any] = {"id": plain_key(values.get("id"))}
    given = with_attached(values.get("input"), values)
    if isinstance(given, str):
        asked["question"] = given
    else:
        asked["prompt"] = [
            {"role": turn.get("role"), "content": text_of(turn, "input")}
            for turn in given or ()
        ]
    choices, target = values.get("choices"), values.get("target")
    if not choices:
        return asked | {"answer": target}
    letters = structure(target)
    named = letters if isinstance(letters, list) else [letters]
    places = [string.ascii_uppercase.find(str(one).strip()) for one in named]
    if len(places) != 1 or not 0 <= places[0] < len(choices):
        raise BadRowError(
            f"its target is {shorten(target)}, which is not the letter of one of its "
            f"{len(choices)} choices"
        )
    return asked | {"choices": choices, "answer": choices[places[0]]}


LIKELIHOODS: Final = Shape(
    "lm-eval's likelihoods",
    asks_likelihoods,
    read_lm_eval,
    lm_eval_request,
    exact=True,
)
LM_EVAL: Final = Shape(
    "lm-eval",
    is_lm_eval,
    read_lm_eval,
    lm_eval_doc,
    asked_otherwise=lm_eval_request,
)
INSPECT: Final = Shape(
    "inspect", is_inspect, read_inspect, inspect_question, exact=True
)
SHAPES: Final = (INSPECT, LIKELIHOODS, LM_EVAL, SERVER, PLAIN)
"""The first that fits a row reads it."""


def shape_of(values: Values) -> Shape:
    """Return the shape of a row."""
    return next(shape for shape in SHAPES if shape.fits(values))
