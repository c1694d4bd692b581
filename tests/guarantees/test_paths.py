"""Paths of every kind, as input and as place: they work, or end in one line (R17)."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import places
from neuron_opsd.config import QuestionsConfig
from neuron_opsd.config.tables import load_config
from neuron_opsd.data.question_files import open_table
from neuron_opsd.data.questions import read_questions
from neuron_opsd.data.rows import BadRowError
from neuron_opsd.errors import ConfigError, DataError
from neuron_opsd.runs.completions import read_completions
from neuron_opsd.runs.reading import read_answers
from neuron_opsd.storage.output_paths import check_file_place, check_folder_place
from tiny_runs import command_line, outcome_of, read_json, run_command, tiny_request

ROW = '{"question": "Why?"}\n'
WRITTEN = '{"id": "a", "prompt": "x", "completion": "y"}\n'
SHORT = ("distill.steps=2", "evaluation.num_samples=1")
NAMES = (
    *("with space.jsonl", "with\nline.jsonl", "\U0001f600.jsonl", "caf\u00e9.jsonl"),
    *("cafe\u0301.jsonl", "~.jsonl", "..jsonl", "-.jsonl", "x" * 249 + ".jsonl"),
    *("%s.jsonl", "{x}.jsonl", "$HOME.jsonl", "a;b.jsonl", "a:b.jsonl", "a\\b.jsonl"),
)

Make = Callable[[Path], Path]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_any_name_is_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(ROW)
    (question,) = read_questions(path).questions
    assert question.text == "Why?"
    path.write_text(WRITTEN)
    assert [one.id for one in read_completions(path, QuestionsConfig())] == ["a"]


def test_names_that_differ_in_their_form_alone_are_two_files(tmp_path: Path) -> None:
    for n, name in enumerate(("caf\u00e9", "cafe\u0301", "CAF\u00c9")):
        (tmp_path / f"{name}.jsonl").write_text(ROW.replace("Why", f"Why {n}"))
    texts = {read_questions(path).questions[0].text for path in tmp_path.iterdir()}
    assert texts == {"Why 0?", "Why 1?", "Why 2?"}


def test_a_name_that_is_not_utf8_is_read(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff.jsonl")
    path.write_text(ROW)
    assert len(read_questions(path).questions) == 1


def dangling(folder: Path) -> Path:
    path = folder / "link.jsonl"
    path.symlink_to(folder / "nothing.jsonl")
    return path


def loop(folder: Path) -> Path:
    (folder / "a.jsonl").symlink_to(folder / "b.jsonl")
    (folder / "b.jsonl").symlink_to(folder / "a.jsonl")
    return folder / "a.jsonl"


def link_to_folder(folder: Path) -> Path:
    path = folder / "link.jsonl"
    path.symlink_to(folder)
    return path


def pipe(folder: Path) -> Path:
    path = folder / "pipe.jsonl"
    os.mkfifo(path)
    return path


def device(folder: Path) -> Path:
    path = folder / "zero.jsonl"
    path.symlink_to("/dev/zero")
    return path


def below_a_file(folder: Path) -> Path:
    (folder / "file").touch()
    return folder / "file" / "pool.jsonl"


NO_FILES: list[tuple[Make, str]] = [
    (dangling, "is a link to nothing; name a file"),
    (loop, "cannot read|is a link to nothing"),
    (link_to_folder, "is a folder; name a file in it"),
    (pipe, "is a named pipe, which cannot be read again when a run resumes"),
    (device, "is a device, which cannot be read again"),
    (below_a_file, "does not exist; nor does the folder"),
    (lambda folder: folder / "no.jsonl", "does not exist"),
    (lambda folder: folder / "a\0b.jsonl", "cannot read"),
    (lambda folder: folder / ("x" * 300 + ".jsonl"), "cannot read"),
    (lambda _: Path("/dev/stdin"), "/dev/stdin"),
]


@pytest.mark.parametrize(("make", "said"), NO_FILES)
def test_what_is_no_file_is_one_line(tmp_path: Path, make: Make, said: str) -> None:
    path = make(tmp_path)
    readers: list[Callable[[], object]] = [
        lambda: read_questions(path),
        lambda: read_completions(path, QuestionsConfig()),
        lambda: read_answers(path, load_config(None, [])),
    ]
    for read in readers:
        with pytest.raises(DataError, match=said) as caught:
            read()
        assert len(str(caught.value).splitlines()) == 1


def test_a_file_that_is_replaced_while_it_is_read_is_read_as_it_was(
    tmp_path: Path,
) -> None:
    path, other = tmp_path / "pool.jsonl", tmp_path / "other.jsonl"
    path.write_text("".join(ROW.replace("Why", f"Why {n}") for n in range(100_000)))
    whole = hashlib.sha256(path.read_bytes()).hexdigest()
    other.write_text("not JSON\n" * 10)
    table = open_table(path, QuestionsConfig())
    rows = iter(table.rows)
    assert next(rows).place == "line 1"
    other.replace(path)
    assert sum(not isinstance(row.values, BadRowError) for row in rows) == 99_999
    assert table.hash() == whole


def test_a_process_substitution_is_one_line() -> None:
    reading, writing = os.pipe()
    try:
        with pytest.raises(DataError, match="is a named pipe, which cannot be read ag"):
            read_questions(Path(f"/dev/fd/{reading}"))
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("check", [check_file_place, check_folder_place])
@pytest.mark.parametrize("name", [b"\xff", b"a\0b", b"deep/\xfe/run"])
def test_a_place_that_libraries_cannot_write_is_one_line(
    tmp_path: Path, check: Callable[[Path], None], name: bytes
) -> None:
    with pytest.raises(ConfigError, match=r"is not UTF-8|holds NUL") as caught:
        check(tmp_path / os.fsdecode(name))
    assert len(str(caught.value).splitlines()) == 1
    assert not any(tmp_path.iterdir())


def test_a_place_below_a_file_is_one_line(
    tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    request = tiny_request(tmp_path, "file/run")
    assert run_command(request, tiny_llama, SHORT) == 2
    assert "not a folder; choose another place" in capsys.readouterr().err


def test_a_folder_that_was_deleted_under_the_command_is_one_line(
    tmp_path: Path,
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    script = 'cd "$0" && rmdir "$0" && exec "$@"'
    found = subprocess.run(
        ["sh", "-c", script, gone, sys.executable, "-m", "neuron_opsd", "methods"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(places.SOURCES)},
        timeout=120,
        check=False,
    )
    assert found.returncode == 2
    (line,) = found.stderr.splitlines()
    assert "the current folder cannot be found" in line


def test_a_run_needs_no_home_no_scratch_and_no_cache_and_may_move(
    tiny_llama: Path, tmp_path: Path
) -> None:
    request = tiny_request(tmp_path, "odd \U0001f600\nrun")
    nowhere = dict.fromkeys(
        ("HOME", "TMPDIR", "NEURON_OPSD_CACHE", "XDG_CACHE_HOME"), "/dev/null/none"
    )
    found = subprocess.run(
        [
            sys.executable,
            "-m",
            "neuron_opsd",
            *command_line(request, tiny_llama, SHORT),
        ],
        capture_output=True,
        text=True,
        env=os.environ | nowhere | {"PYTHONPATH": str(places.SOURCES)},
        timeout=240,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    before = outcome_of(request.out)
    # Half of it is taken back, as if it had been stopped there, and the folder moved.
    manifest = read_json(request.out / "manifest.json")
    assert str(tmp_path) not in str(manifest["outputs"])
    (request.out / "tests" / "parity" / "after.parquet").unlink()
    moved = tiny_request(tmp_path, "moved")
    request.out.rename(moved.out)
    assert run_command(moved, tiny_llama, SHORT) == 0
    assert outcome_of(moved.out) == before
