"""What a user should know about how a file was read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

from neuron_opsd.data.formats.cells import Item, tidy, whole
from neuron_opsd.data.formats.choice_gold import Evidence
from neuron_opsd.data.formats.public_sets import PublicSet
from neuron_opsd.errors import listing

ENTITY: Final = re.compile(r"&(?:amp|lt|gt|quot|apos|nbsp|#\d{2,5});")
LETTER: Final = re.compile("[A-J]")
POINT: Final = re.compile(r"-?\d+\.0")


class FileNotes:
    """What a file's good rows show, added one by one."""

    def __init__(self) -> None:
        self.renamed: dict[tuple[str, str], None] = {}
        self.found: dict[str, None] = {}
        self.entities: Counter[str] = Counter()
        self.num_rows = 0
        self.num_free_answers = 0
        self.all_letters = True
        self.all_points = True
        """Whether every free answer is a whole number in .0."""
        self.any_index = False
        """Whether any choice's answer is a number."""

    def add(self, item: Item) -> None:
        """Take one more row."""
        self.num_rows += 1
        self.renamed.update(dict.fromkeys(item.renamed))
        self.found.update(dict.fromkeys(item.notes))
        for text in (item.messages[-1].content, *item.choices):
            if "&" in text:
                self.entities.update(set(ENTITY.findall(text)))
        for answer in item.answers:
            value = answer.value
            text = value.strip() if isinstance(value, str) else ""
            if item.choices and not isinstance(value, str):
                number = whole(tidy(value)) if answer.how in ("auto", "index") else None
                self.any_index |= number is not None
            elif not item.choices:
                self.num_free_answers += 1
                self.all_letters &= bool(LETTER.fullmatch(text))
                self.all_points &= bool(POINT.fullmatch(text))

    def lines(
        self,
        name: str,
        public: PublicSet | None,
        evidence: Evidence,
        dropped: Sequence[str],
    ) -> tuple[str, ...]:
        """Return notes about how a file was read, one per line."""
        renamed = [f"{column!r} as {role}" for column, role in self.renamed]
        found = [
            f"read as {public.title}{public.note}" if public is not None else "",
            f"read {', '.join(renamed)}" if renamed else "",
            *self.found,
            self.base_note(evidence),
            self.letters_note(),
            self.point_note(),
            self.entity_note(),
        ]
        if dropped:
            rows = "1 row was" if len(dropped) == 1 else f"{len(dropped)} rows were"
            found.append(
                f"{rows} left out, as a choice appears twice: {listing(dropped)}"
            )
        return tuple(f"{name}: {note}" for note in found if note)

    def base_note(self, evidence: Evidence) -> str:
        """Say where the numbering starts, if no 0 shows it."""
        if evidence.base == 1:
            return (
                "its answers count from 1, as one is as high as its number of choices "
                "and none is 0"
            )
        if self.any_index and evidence.base is None:
            return (
                "its answers are taken to count from 0, though none is 0; if they "
                "count from 1, set questions.answers=index-from-1"
            )
        return ""

    def letters_note(self) -> str:
        """Say that answers look like letters of missing choices."""
        enough = self.num_free_answers >= max(2, self.num_rows)
        if not enough or not self.all_letters:
            return ""
        return (
            "every answer is a single letter, but there are no choices; if they are "
            "in the questions, answers will be compared as letters"
        )

    def point_note(self) -> str:
        """Say that pandas wrote whole numbers with a point."""
        if not self.num_free_answers or not self.all_points:
            return ""
        return (
            "every answer is a whole number that ends in .0, as pandas writes them "
            "beside missing ones; answers.reader=number treats 42 and 42.0 as equal, "
            "text does not"
        )

    def entity_note(self) -> str:
        """Say that texts contain HTML entities, which models see."""
        if not self.entities:
            return ""
        mark, count = self.entities.most_common(1)[0]
        rows = "row holds" if count == 1 else "rows hold"
        return f"{count} {rows} {mark!r}, which the model sees as is"
