"""Public benchmarks: read as they are packed in a wheel, split into pool and test set.

Two formats occur: gzipped JSON lines with one line per choice, so that each question
comes many times, and Arrow streams with one row per question.

Which side a question falls on depends on its own text and on nothing else. So one that
two benchmarks share is never in the pool of one and the test of the other.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from neuron_opsd.records import GoldAnswers, Message, Question
from neuron_opsd.seeds import generator

Record: TypeAlias = Mapping[str, Any]

SALT = "neuron-opsd split 4"
"""Taken for the sizes it gives SST-2, the smallest set. A new one would move questions
between pools and tests that people have used."""
POOL_SHARE = 0.46
"""Of all texts; a little under half, as the tests carry the claims."""
GRAM_LENGTH = 5
"""Words of one n-gram, as where a run compares its pool with its tests."""
NEAR_SHARE = 0.7
"""Share of a test question's n-grams in one pool question that makes them nearly
equal; stricter than what a run asks for, so that a run never stops for these sets."""


EMPTY_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a about all an are be best both can correct correctly describes except false "
        "following here in incorrect is it least most not of one or select statement "
        "statements that the these this true untrue what which wrong",
    )
)
"""A question of these alone, such as `Which of the following is true?`, asks nothing
without its choices, and nearly equals every question that ends in it."""


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


@dataclass(frozen=True, slots=True)
class SplitSizes:
    """How many questions each side takes at most."""

    pool: int
    """0 leaves every question to the test."""
    test: int


@dataclass(frozen=True, slots=True)
class Split:
    """The two sides of a benchmark, and what was left out."""

    pool: tuple[Question, ...]
    test: tuple[Question, ...]
    gold: GoldAnswers
    """Of both sides."""
    dropped: Mapping[str, int]
    """Reason to number of questions."""


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


def split_items(name: str, items: Sequence[Item], sizes: SplitSizes) -> Split:
    """Sort out what cannot be used and share the rest between pool and test.

    Both sides are in an order that does not depend on the set's own, so the first few
    questions of either are as good a sample as any.
    """
    dropped: Counter[str] = Counter()
    kept = list(distinct(items, dropped))
    sides: dict[bool, list[Item]] = {True: [], False: []}
    for item in sorted(kept, key=order):
        sides[sizes.pool > 0 and in_pool(item)].append(item)
    pool = sides[True][: sizes.pool]
    near = near_duplicates(pool, sides[False])
    dropped["nearly equal to a question of the pool"] += len(near)
    test = [item for item in sides[False] if item.key not in near][: sizes.test]
    dropped["beyond the sizes"] += len(kept) - len(near) - len(pool) - len(test)
    golds = {question_id(name, item): item.choices[item.gold] for item in pool + test}
    return Split(
        pool=tuple(to_question(name, item) for item in pool),
        test=tuple(to_question(name, item) for item in test),
        gold=GoldAnswers(golds),
        dropped={reason: count for reason, count in dropped.items() if count},
    )


def distinct(items: Iterable[Item], dropped: Counter[str]) -> Iterable[Item]:
    """Yield the items that can be asked, each once; count the others by reason."""
    seen: set[tuple[str, tuple[str, ...]]] = set()
    for item in items:
        identity = normalised(item.text), tuple(sorted(item.choices))
        if not has_usable_choices(item):
            dropped["empty, equal or many-line choices"] += 1
        elif EMPTY_WORDS.issuperset(words(item.text)):
            dropped["asks nothing without its choices"] += 1
        elif identity in seen:
            dropped["repeated"] += 1
        else:
            seen.add(identity)
            yield item


def has_usable_choices(item: Item) -> bool:
    """Say whether there are two one-line choices or more that can be told apart."""
    choices = {choice.casefold() for choice in item.choices}
    told_apart = len(choices) == len(item.choices) >= 2
    return told_apart and all(one and "\n" not in one for one in choices)


def in_pool(item: Item) -> bool:
    """Say on which side of every split a question's group, or else its text, falls."""
    digest = text_digest(item.group or item.text)
    return int.from_bytes(digest[:8], "big") < POOL_SHARE * 2**64


def order(item: Item) -> tuple[bytes, tuple[str, ...]]:
    """Return what questions are sorted by: as good as random, and always the same."""
    return text_digest(f"order {item.text}"), item.choices


def text_digest(text: str) -> bytes:
    """Return a hash that equal questions share, however they are punctuated."""
    return hashlib.sha256(f"{SALT}\n{normalised(text)}".encode()).digest()


def normalised(text: str) -> str:
    """Return the words of a text in lower case; the text itself if it has none."""
    return " ".join(words(text)) or text


def words(text: str) -> list[str]:
    """Return the words of a text in lower case."""
    return re.findall(r"\w+", text.casefold())


def near_duplicates(pool: Sequence[Item], tests: Sequence[Item]) -> set[str]:
    """Return the keys of test items nearly all of whose n-grams one pool item has."""
    places: dict[str, set[int]] = {}
    for index, item in enumerate(pool):
        for gram in grams(item.text):
            places.setdefault(gram, set()).add(index)
    near: set[str] = set()
    for item in tests:
        own = grams(item.text)
        shared = Counter(index for gram in own for index in places.get(gram, ()))
        if max(shared.values(), default=0) >= NEAR_SHARE * len(own):
            near.add(item.key)
    return near


def grams(text: str) -> set[str]:
    """Return a text's word n-grams; a shorter text is a single one."""
    found = words(text)
    last = max(len(found) - GRAM_LENGTH, 0)
    return {" ".join(found[start:][:GRAM_LENGTH]) for start in range(last + 1)}


def to_question(name: str, item: Item) -> Question:
    """Return an item as a question, its choices in an order of its own."""
    key = question_id(name, item)
    places = generator("choices", key).permutation(len(item.choices))
    choices = tuple(item.choices[place] for place in places)
    return Question(key, (Message("user", item.text),), choices)


def question_id(name: str, item: Item) -> str:
    """Return the id of an item of a set."""
    return f"{name}-{item.key}"
