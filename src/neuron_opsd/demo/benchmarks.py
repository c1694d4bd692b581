"""Read public benchmarks from a wheel and split them into pool and test set.

Formats are gzipped JSON lines with one line per choice, so that questions repeat, and
Arrow streams with one row per question.

A question's side depends only on its own text, so one in two benchmarks is never in a
pool and another's test.
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
"""Chosen for SST-2's sizes, the smallest set. A new one would move questions between
pools and tests already in use."""
POOL_SHARE = 0.46
"""Of all texts; below half, as the claims rest on the tests."""
GRAM_LENGTH = 5
"""Words per n-gram, as in a run's comparison of pool and tests."""
NEAR_SHARE = 0.7
"""Share of a test question's n-grams in one pool question that makes them near
duplicates; stricter than a run's check, so no run stops over these sets."""


EMPTY_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a about all an are be best both can correct correctly describes except false "
        "following here in incorrect is it least most not of one or select statement "
        "statements that the these this true untrue what which wrong",
    )
)
"""A question of only these, like `Which of the following is true?`, asks nothing
without its choices and nearly equals any question ending in it."""


@dataclass(frozen=True, slots=True)
class Item:
    """A benchmark question with its answer and choices in original order."""

    key: str
    """Unique within its set."""
    text: str
    choices: tuple[str, ...]
    gold: int
    """Index of the true answer."""
    group: str = ""
    """Shared by several questions, such as a passage; they stay together."""


@dataclass(frozen=True, slots=True)
class SplitSizes:
    """Maximum questions per side."""

    pool: int
    """0 leaves every question to the test."""
    test: int


@dataclass(frozen=True, slots=True)
class Split:
    """Both sides of a benchmark, and what was dropped."""

    pool: tuple[Question, ...]
    test: tuple[Question, ...]
    gold: GoldAnswers
    """Of both sides."""
    dropped: Mapping[str, int]
    """Questions by reason."""


def read_items(name: str, data: bytes, place: str) -> list[Item]:
    """Read one member of the wheel."""
    rows, item_of = READERS[name]
    return [item_of(row, f"{place}{index}") for index, row in enumerate(rows(data))]


def request_rows(data: bytes) -> Iterator[Record]:
    """Yield each question of gzipped requests once, in file order."""
    seen: set[str] = set()
    for line in gzip.decompress(data).splitlines():
        request = json.loads(line)
        # Each question appears under two numbers, with and without its text.
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
    """Read a row whose question is between `Question:` and `Answer:`."""
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
    """Read a MedMCQA row, which has a field per choice."""
    del key
    choices = lines(row[name] for name in ("opa", "opb", "opc", "opd"))
    return Item(row["id"], line(row["question"]), choices, row["cop"])


def sst2_item(row: Record, key: str) -> Item:
    """Read a film review sentence; 0 is negative, 1 positive."""
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
    """Read a passage with a yes/no question."""
    passage = line(row["passage"])
    text = f"{passage}\nQuestion: {line(row['question'])}?"
    return Item(key, text, ("no", "yes"), int(row["answer"]), passage)


def mmlu_item(row: Record, key: str) -> Item:
    """Read an exam question with four choices."""
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
"""By `QuestionSet.reader`."""


def line(text: str) -> str:
    """Put a text on one line, with single spaces."""
    return " ".join(text.split())


def lines(texts: Iterable[str]) -> tuple[str, ...]:
    """Put each text on its own line."""
    return tuple(line(text) for text in texts)


def split_items(name: str, items: Sequence[Item], sizes: SplitSizes) -> Split:
    """Drop unusable items and split the rest into pool and test.

    Order is independent of the set's own, so a prefix of either side is a fair sample.
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
    """Yield usable items once each, counting dropped ones by reason."""
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
    """Say whether there are two or more distinct one-line choices."""
    choices = {choice.casefold() for choice in item.choices}
    told_apart = len(choices) == len(item.choices) >= 2
    return told_apart and all(one and "\n" not in one for one in choices)


def in_pool(item: Item) -> bool:
    """Say whether a question's group, or else its text, goes to the pool."""
    digest = text_digest(item.group or item.text)
    return int.from_bytes(digest[:8], "big") < POOL_SHARE * 2**64


def order(item: Item) -> tuple[bytes, tuple[str, ...]]:
    """Return a sort key that is fixed but as good as random."""
    return text_digest(f"order {item.text}"), item.choices


def text_digest(text: str) -> bytes:
    """Hash a text, ignoring punctuation and case."""
    return hashlib.sha256(f"{SALT}\n{normalised(text)}".encode()).digest()


def normalised(text: str) -> str:
    """Return a text's lower-case words, or the text if it has none."""
    return " ".join(words(text)) or text


def words(text: str) -> list[str]:
    """Return a text's words in lower case."""
    return re.findall(r"\w+", text.casefold())


def near_duplicates(pool: Sequence[Item], tests: Sequence[Item]) -> set[str]:
    """Return keys of test items whose n-grams are nearly all in one pool item."""
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
    """Return an item as a question, its choices shuffled per item."""
    key = question_id(name, item)
    places = generator("choices", key).permutation(len(item.choices))
    choices = tuple(item.choices[place] for place in places)
    return Question(key, (Message("user", item.text),), choices)


def question_id(name: str, item: Item) -> str:
    """Return an item's question id."""
    return f"{name}-{item.key}"
