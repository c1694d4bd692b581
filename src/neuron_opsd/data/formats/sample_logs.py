"""Read the questions from lm-eval's `--log_samples` and inspect's samples.

A question is logged once per sample or filter, and read once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from neuron_opsd.data.formats.cells import ANSWERS, IDS, INDICES, squash
from neuron_opsd.data.rows import BadRowError, FileRow, Values, digest_of, shorten

RESPONSES: Final = ("resps", "filtered_resps")
"""One of these accompanies lm-eval's `doc`."""
INSPECT: Final = frozenset({"id", "epoch", "input", "target"})
KEPT: Final = ("role", "content")
"""The parts of inspect's messages that are asked."""
ATTACHED: Final = "attachment://"
"""Prefix of references to long texts that inspect stores apart."""


@dataclass(slots=True)
class SampleLogs:
    """Turns logged samples into their questions; other rows stay as they are."""

    found: dict[str, None] = field(default_factory=dict)
    num_repeated: int = 0
    """Rows whose question was already read."""
    seen: dict[str, bytes] = field(default_factory=dict)
    """Question's number in its log to a hash of it."""

    def rows(self, rows: Iterable[FileRow]) -> Iterator[FileRow]:
        """Yield rows of questions."""
        for row in rows:
            values = row.values
            if isinstance(values, BadRowError):
                yield row
            elif is_lm_eval(values):
                number = values.get("doc_id")
                yield from self.fresh(row, "lm-eval", number, lm_eval(values))
            elif values.keys() >= INSPECT:
                try:
                    question = inspect(values)
                except BadRowError as error:
                    yield replace(row, values=error)
                    continue
                yield from self.fresh(row, "inspect", values["id"], question)
            else:
                yield row

    def fresh(
        self, row: FileRow, tool: str, number: Any, question: Values
    ) -> Iterator[FileRow]:
        """Yield a row's question, unless already read.

        Another question with the same number is yielded, and refused later for its id.
        """
        self.found[tool] = None
        name = json.dumps(number, default=str)
        text = json.dumps(question, sort_keys=True, default=str)
        digest = digest_of(text)
        if number is not None and self.seen.get(name) == digest:
            self.num_repeated += 1
            return
        self.seen.setdefault(name, digest)
        yield replace(row, values=question)

    def lines(self, name: str) -> tuple[str, ...]:
        """Return notes about how a file was read, one per line."""
        if not self.found:
            return ()
        repeated = f"; {self.num_repeated:,} rows repeat one" * bool(self.num_repeated)
        tools = " and ".join(self.found)
        return (f"{name}: read the questions of a log of {tools}{repeated}",)


def is_lm_eval(values: Values) -> bool:
    """Say whether a row is a sample logged by lm-eval."""
    answered = any(name in values for name in RESPONSES)
    return answered and isinstance(values.get("doc"), Mapping)


def lm_eval(values: Values) -> Values:
    """Return the data set row that lm-eval asked.

    If it has no answer, the target is used; if it has no id, its number.
    """
    doc = dict(values["doc"])
    names = {squash(name) for name in doc}
    if names.isdisjoint(IDS) and values.get("doc_id") is not None:
        doc["id"] = values["doc_id"]
    if names.isdisjoint({*ANSWERS, *INDICES}) and "target" in values:
        doc["target"] = values["target"]
    return doc


def inspect(values: Values) -> Values:
    """Return the question of a sample logged by inspect."""
    asked, target = (
        with_attached(values[name], values) for name in ("input", "target")
    )
    if isinstance(asked, list):
        asked = [
            {key: message[key] for key in message if key in KEPT}
            if isinstance(message, Mapping)
            else message
            for message in asked
        ]
    if isinstance(target, list) and len(target) == 1:
        (target,) = target
    question = {"id": values["id"], "prompt": asked}
    if values.get("choices"):
        question["choices"] = values["choices"]
    if target:
        question["answer"] = target
    return question


def with_attached(value: Any, sample: Values) -> Any:
    """Return a value of inspect's log with its long texts put back.

    Raises:
        BadRowError: If the sample lacks one of them.
    """
    if isinstance(value, str) and value.startswith(ATTACHED):
        kept = sample.get("attachments") or {}
        try:
            return kept[value.removeprefix(ATTACHED)]
        except KeyError:
            raise BadRowError(
                f"names {shorten(value)}, which is not among its attachments"
            ) from None
    if isinstance(value, list):
        return [with_attached(one, sample) for one in value]
    if isinstance(value, Mapping):
        return {name: with_attached(one, sample) for name, one in value.items()}
    return value
