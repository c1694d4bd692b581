"""What a user is told of how a file was read, where that is not as the docs begin."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

from neuron_opsd.world.formats.choice_gold import Evidence
from neuron_opsd.world.formats.items import Item, tidy, whole
from neuron_opsd.world.formats.public_sets import PublicSet

ENTITY: Final = re.compile(r"&(?:amp|lt|gt|quot|apos|nbsp|#\d{2,5});")
MAX_PLACES: Final = 5


def notes_of(
    name: str,
    items: Sequence[Item],
    public: PublicSet | None,
    evidence: Evidence,
    dropped: Sequence[str],
) -> tuple[str, ...]:
    """Return what is worth a line about how a file was read.

    Args:
        name: Of the file.
        items: Its good rows, one at least.
        public: The set that it was taken for, if any.
        evidence: What its answers tell.
        dropped: Where rows were left out because a choice appears twice.
    """
    found = [
        set_note(public),
        renamed_note(items),
        *dict.fromkeys(told for item in items for told in item.told),
        base_note(items, evidence),
        letters_note(items),
        point_note(items),
        entity_note(items),
        dropped_note(dropped),
    ]
    return tuple(f"{name}: {note}" for note in found if note)


def set_note(public: PublicSet | None) -> str:
    """Say that a file was taken for a public set."""
    return "" if public is None else f"read as {public.title}{public.told}"


def renamed_note(items: Sequence[Item]) -> str:
    """Say which columns stand for others."""
    names = dict.fromkeys(pair for item in items for pair in item.renamed)
    pairs = [f"{column!r} as {role}" for column, role in names]
    return f"read {', '.join(pairs)}" if pairs else ""


def base_note(items: Sequence[Item], evidence: Evidence) -> str:
    """Say from what the answers count, where no 0 among them shows it."""
    counted = any(
        answer.how in ("auto", "index")
        and not isinstance(answer.value, str)
        and whole(tidy(answer.value)) is not None
        for item in items
        if item.choices
        for answer in item.answers
    )
    if evidence.base == 1:
        return (
            "its answers count from 1, as one is as high as its number of choices and "
            "none is 0"
        )
    if counted and evidence.base is None:
        return (
            "its answers are taken to count from 0, though none is 0; if they count "
            "from 1, set questions.answers=index-from-1"
        )
    return ""


def letters_note(items: Sequence[Item]) -> str:
    """Say that answers look like letters of choices that are not there."""
    answers = [a.value for i in items if not i.choices for a in i.answers]
    if len(answers) < len(items) or len(answers) < 2:
        return ""
    if all(isinstance(a, str) and re.fullmatch("[A-J]", a.strip()) for a in answers):
        return (
            "every answer is a single letter, but there are no choices; if they stand "
            "within the questions, answers will be compared as letters"
        )
    return ""


def point_note(items: Sequence[Item]) -> str:
    """Say that whole numbers come as texts with a point, as pandas writes them."""
    answers = [a.value for i in items if not i.choices for a in i.answers]
    if answers and all(
        isinstance(a, str) and re.fullmatch(r"-?\d+\.0", a.strip()) for a in answers
    ):
        return (
            "every answer is a whole number that ends in .0, as pandas writes them "
            "beside missing ones; answers.reader=number takes 42 for 42.0, text does "
            "not"
        )
    return ""


def entity_note(items: Sequence[Item]) -> str:
    """Say that texts hold marks of HTML, which the model sees as they are."""
    found: Counter[str] = Counter()
    for item in items:
        text = " ".join([item.messages[-1].content, *item.choices])
        found.update(set(ENTITY.findall(text)))
    if not found:
        return ""
    mark, count = found.most_common(1)[0]
    rows = "row holds" if count == 1 else "rows hold"
    return f"{count} {rows} {mark!r}, which the model sees as it stands"


def dropped_note(dropped: Sequence[str]) -> str:
    """Say which rows were left out."""
    if not dropped:
        return ""
    more = f" and {len(dropped) - MAX_PLACES} more" if dropped[MAX_PLACES:] else ""
    rows = "1 row was" if len(dropped) == 1 else f"{len(dropped)} rows were"
    return (
        f"{rows} left out, as a choice appears twice: "
        f"{', '.join(dropped[:MAX_PLACES])}{more}"
    )
