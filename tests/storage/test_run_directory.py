"""Tests of the run directory: nothing half written, nothing done twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from neuron_opsd.errors import ConfigError, DataError, TryAgainError
from neuron_opsd.storage.caching import InChunks
from neuron_opsd.storage.codecs import json_codec, records_codec
from neuron_opsd.storage.disk import readable_bytes
from neuron_opsd.storage.files import sha256_file, write_atomic, write_folder
from neuron_opsd.storage.manifest import read_manifest
from neuron_opsd.storage.run_directory import RunDirectory, known_changes
from tasks import alone

INPUTS = {"pool.jsonl": "ab"}
SUM = json_codec("sum.json")
SQUARES = records_codec("squares.json", int)
WRITING = ("fsync", "open", "mkdir", "rename", "replace", "rmdir", "unlink")


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def no_work() -> int:
    raise AssertionError("computed although it was done")


def fill_with(data: bytes) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        write_atomic(folder / "a", data)
        write_atomic(folder / "b", data)

    return fill


# --- Single files


def test_a_file_is_written_and_its_folder_made(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "a.txt"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(path.parent) == ["a.txt"]  # noqa: PTH208


def test_a_hash_is_the_known_one(tmp_path: Path) -> None:
    write_atomic(tmp_path / "abc", b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_file(tmp_path / "abc") == expected


def test_a_place_that_is_no_folder_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="of that name is in the way"):
        write_atomic(tmp_path / "file" / "a.txt", b"x")


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1 kB"),
        (12_345_678, "12.3 MB"),
        (5 * 10**15, "5e+03 TB"),
    ],
)
def test_bytes_are_written_for_people(count: int, text: str) -> None:
    assert readable_bytes(count) == text


def inode(path: Path) -> int:
    return path.stat().st_ino


@contextmanager
def recorded() -> Iterator[list[tuple[str, int]]]:
    """Record what is synced and renamed, by inode, in order."""
    calls: list[tuple[str, int]] = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("fsync", "rename", "replace"):
            real = os.__dict__[name]

            def call(
                target: Any, *rest: Any, name: str = name, real: Any = real
            ) -> None:
                calls.append((name, os.stat(target).st_ino))  # noqa: PTH116
                real(target, *rest)

            patch.setattr(os, name, call)
        yield calls


def test_a_file_is_synced_before_its_name_and_its_folder_after(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with recorded() as calls:
        write_atomic(path, b"x")
    file, folder = inode(path), inode(tmp_path)
    assert calls == [("fsync", file), ("replace", file), ("fsync", folder)]


def test_all_of_a_folder_is_synced_before_its_name(tmp_path: Path) -> None:
    path = tmp_path / "adapter"

    def fill(folder: Path) -> None:
        (folder / "deep").mkdir()
        (folder / "deep" / "a").write_bytes(b"x")
        (folder / "b").write_bytes(b"x")

    with recorded() as calls:
        write_folder(path, fill)
    inner = [path / "b", path / "deep" / "a", path / "deep", path]
    assert calls == [
        *(("fsync", inode(entry)) for entry in inner),
        ("rename", inode(path)),
        ("fsync", inode(tmp_path)),
    ]


# --- Folders


def test_a_folder_replaces_an_older_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "adapter"
    write_folder(path, lambda folder: write_atomic(folder / "old", b"1"))
    write_folder(path, lambda folder: write_atomic(folder / "new", b"2"))
    assert contents(tmp_path) == {"adapter/new": b"2"}


def test_a_folder_whose_filling_fails_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "adapter"
    write_folder(path, fill_with(b"old"))

    def fail(folder: Path) -> None:
        write_atomic(folder / "a", b"new")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_folder(path, fail)
    assert contents(tmp_path) == {"adapter/a": b"old", "adapter/b": b"old"}


# --- The run directory


def test_an_output_is_computed_once(tmp_path: Path) -> None:
    with RunDirectory.open(tmp_path, {}, {}) as run:
        assert run.once("sum", SUM, lambda: 3) == 3
        assert run.once("sum", SUM, no_work) == 3
    with RunDirectory.open(tmp_path, {}, {}) as run:
        assert run.once("sum", SUM, no_work) == 3
        assert run.path("a", "b") == tmp_path / "a" / "b"
        assert not run.warnings
    output = read_manifest(tmp_path).outputs["sum"]
    assert output.file == "sum.json"
    assert output.sha256 == sha256_file(tmp_path / "sum.json")
    assert output.seconds is not None
    assert output.seconds >= 0


def test_a_value_comes_back_through_its_file(tmp_path: Path) -> None:
    with RunDirectory.open(tmp_path, {}, {}) as run:
        assert run.once("pair", json_codec("pair.json"), lambda: (1, 2)) == [1, 2]


def test_a_changed_output_is_computed_again_with_a_warning(tmp_path: Path) -> None:
    heard: list[str] = []
    with RunDirectory.open(tmp_path, {}, {}) as run:
        run.once("sum", SUM, lambda: 3)
    (tmp_path / "sum.json").write_text("4\n")
    with RunDirectory.open(tmp_path, {}, {}, warn=heard.append) as run:
        assert run.once("sum", SUM, lambda: 5) == 5
        assert run.warnings == heard
    assert heard == [
        f"{tmp_path / 'sum.json'} was changed or damaged; it is computed again"
    ]
    (tmp_path / "sum.json").unlink()
    with RunDirectory.open(tmp_path, {}, {}) as run:
        assert run.once("sum", SUM, lambda: 6) == 6
        assert run.warnings == [
            f"{tmp_path / 'sum.json'} is gone; it is computed again"
        ]


def test_two_outputs_cannot_share_a_file(tmp_path: Path) -> None:
    with RunDirectory.open(tmp_path, {}, {}) as run:
        run.once("sum", SUM, lambda: 3)
        with pytest.raises(ValueError, match="file of sum already"):
            run.once("other", SUM, lambda: 4)
        assert run.once("other", SUM.named("deep/other"), lambda: 4) == 4
        assert run.once("sum", SUM, no_work) == 3


def test_blocks_are_cut_at_fixed_places_and_joined(tmp_path: Path) -> None:
    blocks: list[Sequence[int]] = []
    done: list[int] = []

    def squares(block: Sequence[int]) -> Sequence[int]:
        blocks.append(block)
        return [n * n for n in block]

    with RunDirectory.open(tmp_path, {}, {}) as run:
        items = range(1, 6)
        whole = run.chunks(
            "squares", SQUARES, InChunks(items, 2, done.append), alone(squares)
        )
        assert list(whole) == [1, 4, 9, 16, 25]
        assert [list(block) for block in blocks] == [[1, 2], [3, 4], [5]]
        assert done == [2, 2, 1]
        again = run.chunks(
            "squares", SQUARES, InChunks(items, 2, done.append), alone(squares)
        )
        assert again == whole
    assert len(blocks) == 3
    assert done == [2, 2, 1, 5]
    assert not (tmp_path / "parts" / "squares").exists()


def test_no_items_make_an_empty_output(tmp_path: Path) -> None:
    with RunDirectory.open(tmp_path, {}, {}) as run:
        nothing: list[int] = []
        assert not run.chunks(
            "none", SQUARES, InChunks(nothing, 2, nothing.append), alone(list)
        )
    assert (tmp_path / "squares.json").exists()


def test_blocks_go_on_after_the_last_whole_one(tmp_path: Path) -> None:
    blocks: list[Sequence[int]] = []
    done: list[int] = []

    def fail_at_five(block: Sequence[int]) -> Sequence[int]:
        blocks.append(block)
        if 5 in block and blocks.count(block) == 1:
            raise ZeroDivisionError
        return block

    items = InChunks([1, 2, 3, 4, 5], 2, done.append)
    with RunDirectory.open(tmp_path, {}, {}) as run, pytest.raises(ZeroDivisionError):
        run.chunks("same", SQUARES, items, alone(fail_at_five))
    (tmp_path / "parts/same/00001.json").write_text("[9, 9]")
    with RunDirectory.open(tmp_path, {}, {}) as run:
        whole = run.chunks("same", SQUARES, items, alone(fail_at_five))
        assert whole == (1, 2, 3, 4, 5)
    assert blocks == [[1, 2], [3, 4], [5], [3, 4], [5]]
    assert done == [2, 2, 2, 2, 1]


def test_blocks_of_another_size_are_not_taken_up(tmp_path: Path) -> None:
    def fail_at_five(block: Sequence[int]) -> Sequence[int]:
        if 5 in block:
            raise ZeroDivisionError
        return block

    items = [1, 2, 3, 4, 5]
    with RunDirectory.open(tmp_path, {}, {}) as run:
        with pytest.raises(ZeroDivisionError):
            run.chunks("same", SQUARES, InChunks(items, 2), alone(fail_at_five))
        whole = run.chunks("same", SQUARES, InChunks(items, 3), alone(list))
    assert list(whole) == items


def test_facts_are_merged(tmp_path: Path) -> None:
    with RunDirectory.open(tmp_path, {}, {}) as run:
        run.note("tokens", {"pool": 1, "test": 2})
        run.note("tokens", {"pool": 3})
        run.note("device", "cpu")
        run.note("device", "cuda")
    assert read_manifest(tmp_path).facts == {
        "tokens": {"pool": 3, "test": 2},
        "device": "cuda",
    }


def test_the_manifest_says_what_made_the_run(tmp_path: Path) -> None:
    threads = {"threads": "2"}
    with RunDirectory.open(tmp_path, {"a.b": (1, None)}, INPUTS, environment=threads):
        manifest = read_manifest(tmp_path)
    assert manifest.schema_version == 1
    assert manifest.settings == {"a.b": [1, None]}
    assert manifest.inputs == INPUTS
    assert manifest.environment == threads
    assert set(manifest.versions) == {
        "python", "neuron_opsd", "torch", "transformers", "peft", "numpy",
        "math-verify", "sympy",
    }  # fmt: skip


def test_the_store_does_not_import_torch() -> None:
    module = "neuron_opsd.storage.run_directory"
    script = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_other_settings_are_refused_and_five_named(tmp_path: Path) -> None:
    old: Mapping[str, Any] = {f"s.{n}": n for n in range(7)} | {"same": 1.0}
    new: Mapping[str, Any] = {f"s.{n}": n + 1 for n in range(7)} | {"same": 1.0}
    with RunDirectory.open(tmp_path, old, {}):
        pass
    with pytest.raises(ConfigError) as caught, RunDirectory.open(tmp_path, new, {}):
        pass
    assert str(caught.value) == (
        f"{tmp_path} was started with other settings: s.0 was 0, now 1; s.1 was 1, now "
        "2; s.2 was 2, now 3; s.3 was 3, now 4; s.4 was 4, now 5; and 2 more; resume "
        "with the old ones, or choose another --out"
    )


def test_a_setting_that_was_added_or_left_out_is_another_one(tmp_path: Path) -> None:
    with RunDirectory.open(tmp_path, {"a": None}, {}):
        pass
    with (
        pytest.raises(ConfigError, match=r"a was null, now \(unset\); b was \(unset\)"),
        RunDirectory.open(tmp_path, {"b": 1}, {}),
    ):
        pass


def test_a_run_of_an_older_version_is_told_from_one_with_other_values(
    tmp_path: Path,
) -> None:
    with RunDirectory.open(tmp_path, {"a": 1}, {}):
        pass
    with (
        pytest.raises(
            ConfigError, match=r"now 2; resume with the version it was started"
        ),
        RunDirectory.open(tmp_path, {"a": 1, "b": 2}, {}),
    ):
        pass


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        ({"pool.jsonl": "ac"}, "pool.jsonl was changed"),
        ({}, "pool.jsonl is left out"),
        (INPUTS | {"test.csv": "b"}, "test.csv is new"),
    ],
)
def test_other_inputs_are_refused_by_name(
    tmp_path: Path, inputs: Mapping[str, str], problem: str
) -> None:
    with RunDirectory.open(tmp_path, {}, INPUTS):
        pass
    with (
        pytest.raises(DataError, match=problem),
        RunDirectory.open(tmp_path, {}, inputs),
    ):
        pass


def test_another_machine_is_told_and_kept_where_it_computes(tmp_path: Path) -> None:
    """The line is said at once; the manifest has it from when something is computed."""

    def open_with(threads: int, name: str = "") -> list[str]:
        told: list[str] = []
        with RunDirectory.open(
            tmp_path, {}, {}, environment={"threads": str(threads)}, warn=told.append
        ) as run:
            run.write("notes", json_codec("notes.json"), threads)
            if name:
                run.once(name, SUM.named(name), lambda: 3)
            assert run.warnings == []
        return told

    def kept() -> list[str]:
        return known_changes(read_manifest(tmp_path))

    assert open_with(1, "first") == []
    (told,) = open_with(2)
    assert told.startswith("not bit-exact: threads 1 -> 2; what is still to do may dif")
    assert kept() == []
    assert len(open_with(2, "second")) == 1
    assert kept() == ["threads 1 -> 2"]
    # Back where it was started, a part of it is still from elsewhere.
    (told,) = open_with(1, "third")
    said = "a part was computed elsewhere than where the run was started (threads"
    assert said in told
    assert len(open_with(3, "second")) == 2
    assert kept() == ["threads 1 -> 2"]
    open_with(3, "fourth")
    assert kept() == ["threads 1 -> 2", "threads 1 -> 3"]


def test_a_block_computed_elsewhere_is_kept_in_mind(tmp_path: Path) -> None:
    """Also when the process that computed it was stopped before the last one."""

    def open_with(threads: int, stop: int) -> None:
        def compute(block: Sequence[int]) -> Sequence[int]:
            if block[0] == stop:
                raise ZeroDivisionError
            return block

        with RunDirectory.open(
            tmp_path, {}, {}, environment={"threads": str(threads)}
        ) as run:
            run.chunks("all", SQUARES, InChunks([1, 2, 3], 1), alone(compute))

    for threads, stop in ((1, 2), (2, 3)):
        with pytest.raises(ZeroDivisionError):
            open_with(threads, stop)
    open_with(1, 0)
    assert known_changes(read_manifest(tmp_path)) == ["threads 1 -> 2"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ('{"schema_version": 1}', "is damaged"),
        ('{"schema_version": 99}', "has schema version 99, this program reads 1"),
    ],
)
def test_a_manifest_that_cannot_be_understood_is_refused(
    tmp_path: Path, text: str, problem: str
) -> None:
    with RunDirectory.open(tmp_path, {}, {}):
        pass
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=problem), RunDirectory.open(tmp_path, {}, {}):
        pass


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("x")
    (tmp_path / "zebra.txt").write_text("x")
    with (
        pytest.raises(ConfigError, match=r"but it holds thesis\.txt"),
        RunDirectory.open(tmp_path, {}, {}),
    ):
        pass
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(DataError, match="is not a run directory"):
        read_manifest(tmp_path)


# --- Second processes


def test_a_second_opening_is_told_who_holds_the_directory(tmp_path: Path) -> None:
    with RunDirectory.open(tmp_path, {}, {}):
        with (
            pytest.raises(TryAgainError, match=f"in use by process {os.getpid()} on "),
            RunDirectory.open(tmp_path, {}, {}),
        ):
            pass
        holder = tmp_path / "LOCK.holder"
        named = holder.read_text()
        killed = json.loads(named) | {"pid": 2**22 + 1}  # above all that Linux gives
        for text in ("", json.dumps(killed)):
            holder.write_text(text)
            with (
                pytest.raises(TryAgainError, match="has not said who it is"),
                RunDirectory.open(tmp_path, {}, {}),
            ):
                pass
        late = threading.Timer(0.1, lambda: holder.write_text(named))
        late.start()
        with (
            pytest.raises(TryAgainError, match=f"in use by process {os.getpid()} on "),
            RunDirectory.open(tmp_path, {}, {}),
        ):
            pass
        late.join()
    with RunDirectory.open(tmp_path, {}, {}):
        pass


def test_a_killed_process_frees_the_directory(tmp_path: Path) -> None:
    script = (
        "import sys, time\nfrom pathlib import Path\n"
        "from neuron_opsd.storage.run_directory import RunDirectory\n"
        "with RunDirectory.open(Path(sys.argv[1]), {}, {}):\n"
        "    print('open', flush=True)\n    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        with (
            pytest.raises(TryAgainError, match=f"process {process.pid} on .* since 2"),
            RunDirectory.open(tmp_path, {}, {}),
        ):
            pass
        process.kill()
    with RunDirectory.open(tmp_path, {}, {}) as run:
        assert run.once("sum", SUM, lambda: 3) == 3


def test_what_should_say_something_else_takes_along_what_is_made_from_it(
    tmp_path: Path,
) -> None:
    page = json_codec("page.json")
    said: list[str] = []
    for value in (3, 4):
        with RunDirectory.open(tmp_path / "run", {}, INPUTS, warn=said.append) as run:
            run.write("sum", SUM, value)
            run.write("page", page, f"it is {value}", ["sum"])
    assert page.load(tmp_path / "run" / "page.json") == "it is 4"
    assert said == []


def test_what_is_made_from_a_changed_file_is_told(tmp_path: Path) -> None:
    page = json_codec("page.json")
    said: list[str] = []
    for value in (3, 4):
        with RunDirectory.open(tmp_path / "run", {}, INPUTS, warn=said.append) as run:
            run.once("sum", SUM, partial(int, value))
            run.write("page", page, "it is", ["sum"])
        (tmp_path / "run" / "sum.json").write_text("7")
    assert any("page.json was made from another sum" in line for line in said)


def test_a_file_of_somebody_else_stays_among_the_blocks(tmp_path: Path) -> None:
    mine = tmp_path / "run" / "parts" / "squares" / "mine.json"
    with RunDirectory.open(tmp_path / "run", {}, INPUTS) as run:
        mine.parent.mkdir(parents=True)
        mine.write_text("mine")
        (mine.parent / "plan.json").write_text("of other things")
        squares = run.chunks("squares", SQUARES, InChunks([1, 2, 3], 2), alone(list))
        assert list(squares) == [1, 2, 3]
    assert [path.name for path in mine.parent.iterdir()] == ["mine.json"]
    assert mine.read_text() == "mine"
