"""Public benchmarks as they are packed in a wheel, read into one kind of record.

Two formats occur: gzipped JSON lines with one line per choice, so that each question
comes many times, and Arrow streams with one row per question.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Record: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Item:
    """One question of a benchmark with its answer, choices in the order it has them."""

    key: str
    """Names the question within its set."""
    text: str
    choices: tuple[str, ...]
    gold: int
    """Place of the true answer among the choices."""
    group: str = ""
    """What several questions share, such as a passage; they stay together."""


def read_items(name: str, data: bytes, place: str) -> list[Item]:
    """Read one member of the wheel."""
    rows, item_of = READERS[name]
    return [item_of(row, f"{place}{index}") for index, row in enumerate(rows(data))]


def request_rows(data: bytes) -> Iterator[Record]:
    """Yield each question of gzipped requests once, in the order of the file."""
    seen: set[str] = set()
    for line in gzip.decompress(data).splitlines():
        request = json.loads(line)
        # Each question comes under two numbers, with and without its text.
        document = json.dumps(request["doc"], sort_keys=True)
        if document not in seen:
            seen.add(document)
            yield request["doc"]


def arrow_rows(data: bytes) -> Iterable[Record]:
    """Return the rows of an Arrow stream."""
    import pyarrow.ipc

    with pyarrow.ipc.open_stream(io.BytesIO(data)) as stream:
        rows: list[Record] = stream.read_all().to_pylist()
    return rows


def query_item(row: Record, key: str) -> Item:
    """Read a row whose question stands between `Question:` and `Answer:`."""
    del key
    text = row["query"].removeprefix("Question:").removesuffix("Answer:")
    return Item(row["id"], line(text), lines(row["choices"]), row["gold"])


def skill_item(row: Record, key: str) -> Item:
    """Read a basic-skills row: a text that the right choice continues."""
    del key
    # Some choices are code over several lines, which `line` would break.
    choices = tuple(choice.strip() for choice in row["choices"])
    return Item(row["id"], row["question"].strip(), choices, row["gold"])


def medmcqa_item(row: Record, key: str) -> Item:
    """Read a MedMCQA row, whose choices have a field each."""
    del key
    choices = lines(row[name] for name in ("opa", "opb", "opc", "opd"))
    return Item(row["id"], line(row["question"]), choices, row["cop"])


def sst2_item(row: Record, key: str) -> Item:
    """Read a sentence of a film review; 0 is negative and 1 positive."""
    return Item(key, line(row["sentence"]), ("negative", "positive"), row["label"])


def piqa_item(row: Record, key: str) -> Item:
    """Read a goal and two ways to reach it."""
    return Item(key, line(row["goal"]), lines((row["sol1"], row["sol2"])), row["label"])


def siqa_item(row: Record, key: str) -> Item:
    """Read a situation, a question about it and three answers, counted from 1."""
    choices = lines(row[name] for name in ("answerA", "answerB", "answerC"))
    text = line(f"{row['context']} {row['question']}")
    return Item(key, text, choices, int(row["label"]) - 1, line(row["context"]))


def sciq_item(row: Record, key: str) -> Item:
    """Read a science question, its answer and three distractors."""
    names = ("correct_answer", "distractor1", "distractor2", "distractor3")
    return Item(key, line(row["question"]), lines(row[name] for name in names), 0)


def boolq_item(row: Record, key: str) -> Item:
    """Read a passage and a question about it that is answered by yes or no."""
    passage = line(row["passage"])
    text = f"{passage}\nQuestion: {line(row['question'])}?"
    return Item(key, text, ("no", "yes"), int(row["answer"]), passage)


def mmlu_item(row: Record, key: str) -> Item:
    """Read a question of an examination with four choices."""
    text = row["question"].strip()
    return Item(key, text, lines(row["choices"]), row["answer"])


READERS: Mapping[
    str, tuple[Callable[[bytes], Iterable[Record]], Callable[[Record, str], Item]]
] = {
    "query": (request_rows, query_item),
    "skill": (request_rows, skill_item),
    "medmcqa": (request_rows, medmcqa_item),
    "sst2": (arrow_rows, sst2_item),
    "piqa": (arrow_rows, piqa_item),
    "siqa": (arrow_rows, siqa_item),
    "sciq": (arrow_rows, sciq_item),
    "boolq": (arrow_rows, boolq_item),
    "mmlu": (arrow_rows, mmlu_item),
}
"""By the names that `QuestionSet.reader` takes."""


def line(text: str) -> str:
    """Put a text on one line, with single spaces."""
    return " ".join(text.split())


def lines(texts: Iterable[str]) -> tuple[str, ...]:
    """Put each text on a line of its own."""
    return tuple(line(text) for text in texts)
