"""Folders of others: refused in a line, and not one byte of them is changed."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from neuron_opsd.cli import main
from neuron_opsd.comparison.comparison import is_comparison
from neuron_opsd.demo.demonstration import are_questions
from neuron_opsd.demo.fetch import fetch_demo
from neuron_opsd.errors import ConfigError, NeuronOpsdError
from neuron_opsd.progress import Silent
from neuron_opsd.storage.codecs import json_codec
from neuron_opsd.storage.download_cache import claim_cache
from neuron_opsd.storage.files import write_atomic
from neuron_opsd.storage.folders import (
    MARKER,
    check_folder,
    claim,
    is_run,
    marker_of,
    require_folder,
)
from neuron_opsd.storage.run_directory import RunDirectory

SUM = json_codec("sum.json")


def state(folder: Path) -> dict[str, str]:
    """Return all that can be told of what a folder holds, its own times included."""
    found = {}
    for path in (folder, *sorted(folder.rglob("*"))):
        status = path.lstat()
        marks = f"{status.st_mode} {status.st_ino} {status.st_mtime_ns}"
        if path.is_file() and not path.is_symlink():
            marks += hashlib.sha256(path.read_bytes()).hexdigest()
        found[str(path)] = marks
    return found


def begin(folder: Path) -> None:
    """Open a folder as a run directory, and compute something there."""
    with RunDirectory.open(folder, {"seed": 0}, {}) as run:
        run.once("sum", SUM, lambda: 3)


def web_project(folder: Path) -> None:
    """Make what a build of a web page leaves: names much like ours, and a manifest."""
    (folder / "src" / ".config.old").mkdir(parents=True)
    (folder / "src" / "config").mkdir()
    (folder / "src" / ".config.old" / "keep").write_text("mine")
    (folder / ".env.old").write_text("SECRET=1")
    (folder / ".page.0123abcd.tmp").write_text("mine")
    (folder / "manifest.json").write_text('{"name": "shop", "start_url": "/"}')


def manifest_alone(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"schema_version": 1, "name": "of another"}')


def broken_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"schema_version": 1, ')


def deep_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("[" * 100_000)


def leftovers_alone(folder: Path) -> None:
    (folder / ".thesis.0123abcd.tmp").write_text("mine")
    (folder / ".thesis.0123abcd.neuron-opsd.tmp").write_text("of another folder")


def lock_of_another(folder: Path) -> None:
    (folder / "LOCK").write_text("held by a database")


def foreign_marker(folder: Path) -> None:
    (folder / MARKER).write_text("not ours")


def linked_marker(folder: Path) -> None:
    claim(folder.parent / "ours", "run")
    (folder / MARKER).symlink_to(folder.parent / "ours" / MARKER)


FOREIGN = (
    web_project,
    manifest_alone,
    broken_manifest,
    deep_manifest,
    leftovers_alone,
    lock_of_another,
    foreign_marker,
    linked_marker,
)


@pytest.fixture(params=FOREIGN, ids=lambda one: one.__name__)
def foreign(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Give the folder of somebody else."""
    folder = tmp_path / "foreign"
    folder.mkdir()
    make: Callable[[Path], None] = request.param
    make(folder)
    return folder


# --- foreign folders ---


def test_a_foreign_folder_is_no_run_directory(foreign: Path) -> None:
    before = state(foreign)
    with pytest.raises(ConfigError) as caught:
        begin(foreign)
    assert "\n" not in str(caught.value)
    assert state(foreign) == before


def test_a_foreign_folder_is_no_cache(foreign: Path) -> None:
    before = state(foreign)
    with pytest.raises(ConfigError, match="NEURON_OPSD_CACHE"):
        fetch_demo(foreign, Silent(), ("sst2",), foreign / "no-wheels")
    assert state(foreign) == before


@pytest.mark.parametrize(
    "command",
    [
        "run --model none --pool none.jsonl --out {}",
        "compare --model none --source a=none --test a=none --out {}",
        "demo --quick --out {}",
        "report {}",
    ],
)
def test_no_command_touches_a_foreign_folder(
    command: str,
    foreign: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NEURON_OPSD_CACHE", str(tmp_path / "cache"))
    before = state(foreign)
    assert main(command.format(foreign).split()) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert str(foreign) in said
    assert state(foreign) == before
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", ["report.json", "comparison.json"])
def test_a_report_of_others_is_not_rebuilt(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("{}")
    if name == "comparison.json":
        (tmp_path / "blocks").mkdir()
    before = state(tmp_path)
    assert main(["report", str(tmp_path)]) == 2
    assert state(tmp_path) == before


def test_names_like_ours_stay_in_a_run_directory(tmp_path: Path) -> None:
    begin(tmp_path)
    web_project(tmp_path / "notes")
    before = state(tmp_path / "notes")
    begin(tmp_path)
    assert state(tmp_path / "notes") == before


def test_what_a_killed_write_left_is_cleared_away(tmp_path: Path) -> None:
    begin(tmp_path)
    (tmp_path / ".sum.json.0123abcd.neuron-opsd.tmp").write_text("half")
    (tmp_path / ".adapter.neuron-opsd.old").mkdir()
    begin(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        MARKER,
        "LOCK",
        "adapter",
        "manifest.json",
        "sum.json",
    }


@pytest.mark.parametrize("kind", ["comparison", "cache", "questions"])
def test_a_folder_of_ours_is_no_other_of_ours(kind: str, tmp_path: Path) -> None:
    claim(tmp_path, kind)  # type: ignore[arg-type]
    before = state(tmp_path)
    with pytest.raises(ConfigError, match="not a run directory"):
        begin(tmp_path)
    with pytest.raises(ConfigError, match="is not a run directory"):
        require_folder(tmp_path, "run")
    assert state(tmp_path) == before


# --- folders of earlier versions, and of killed processes ---


def test_a_run_of_an_earlier_version_resumes_and_is_marked(tmp_path: Path) -> None:
    begin(tmp_path)
    (tmp_path / MARKER).unlink()
    require_folder(tmp_path, "run")
    with RunDirectory.open(tmp_path, {"seed": 0}, {}) as run:
        assert run.once("sum", SUM, lambda: 4) == 3
    assert (tmp_path / MARKER).read_bytes() == b'{"neuron-opsd": "run", "format": 1}\n'


def test_a_run_of_an_earlier_version_that_only_took_its_lock_begins(
    tmp_path: Path,
) -> None:
    (tmp_path / "LOCK").touch()
    begin(tmp_path)
    assert (tmp_path / MARKER).is_file()


def test_a_process_killed_while_it_made_the_folder_leaves_it_usable(
    tmp_path: Path,
) -> None:
    (tmp_path / f".{MARKER}.0123abcd.neuron-opsd.tmp").write_text("{")
    begin(tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".tmp"]


def test_a_comparison_of_an_earlier_version_is_known_by_its_blocks(
    tmp_path: Path,
) -> None:
    begin(tmp_path / "blocks" / "science" / "seed-0" / "base")
    check_folder(tmp_path, "comparison", is_comparison)
    (tmp_path / "blocks/science/seed-0/base/manifest.json").write_text("{}")
    with pytest.raises(ConfigError, match="is not a folder of a comparison"):
        check_folder(tmp_path, "comparison", is_comparison)


def test_a_cache_of_an_earlier_version_is_known_by_its_names(tmp_path: Path) -> None:
    for name in ("gguf", "model"):
        (tmp_path / name).mkdir()
    with pytest.raises(ConfigError, match="is not a cache of neuron-opsd"):
        claim_cache(tmp_path)
    (tmp_path / "sources.json").write_text('{"parts": {"model": {"recipe": "1"}}}')
    claim_cache(tmp_path)
    assert (tmp_path / MARKER).is_file()


def test_questions_of_an_earlier_demo_are_known_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "pool.jsonl").write_text("")
    assert are_questions(tmp_path)
    (tmp_path / "mine.jsonl").write_text("")
    assert not are_questions(tmp_path)


def test_settings_are_compared_before_anything_is_locked(tmp_path: Path) -> None:
    begin(tmp_path)
    (tmp_path / "LOCK").unlink()
    before = state(tmp_path)
    with (
        pytest.raises(ConfigError, match="started with other settings"),
        RunDirectory.open(tmp_path, {"seed": 1}, {}),
    ):
        pass
    assert state(tmp_path) == before


def test_a_lock_alone_is_a_run_only_when_it_is_empty(tmp_path: Path) -> None:
    (tmp_path / "LOCK").touch()
    assert is_run(tmp_path)
    (tmp_path / "LOCK.holder").write_text("{}")
    assert is_run(tmp_path)
    (tmp_path / "data").touch()
    assert not is_run(tmp_path)


# --- places where nothing can be written ---

TO_FILE = (
    "evaluate --model none --test none.jsonl --out",
    "neurons --model none --completions none.jsonl --out",
)
TO_FOLDER = (
    "run --model none --pool none.jsonl --out",
    "compare --model none --source a=none --test a=none --out",
    "demo --out",
    "analyse {run} --out",
)


@pytest.fixture
def no_file(tmp_path: Path) -> Iterator[dict[str, Path]]:
    """Give what stands at a path and is no file, by what it is called."""
    places = {
        "a named pipe": tmp_path / "pipe",
        "a socket": tmp_path / "socket",
        "a link": tmp_path / "link",
        "a folder": tmp_path / "folder",
    }
    os.mkfifo(places["a named pipe"])
    places["a folder"].mkdir()
    (tmp_path / "file").write_text("mine")
    places["a link"].symlink_to(tmp_path / "file")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(places["a socket"]))
        yield places


def command_line(text: str, out: Path, run: Path) -> list[str]:
    return [*text.format(run=run).split(), str(out)]


def run_for(folder: Path) -> Path:
    """Make a run that an analysis may name."""
    begin(folder / "run")
    return folder / "run"


@pytest.mark.parametrize("command", TO_FILE)
def test_a_place_that_holds_no_file_is_told_before_the_work(
    command: str, no_file: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    before = state(no_file["a folder"].parent)
    for kind, place in no_file.items():
        assert main(command_line(command, place, place)) == 2
        assert f"--out is {place}, which is {kind};" in capsys.readouterr().err
    assert state(no_file["a folder"].parent) == before


@pytest.mark.parametrize("command", TO_FOLDER)
def test_a_place_that_holds_no_folder_is_told_before_the_work(
    command: str,
    no_file: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = run_for(tmp_path / "made")
    before = state(tmp_path)
    for kind in ("a named pipe", "a socket"):
        assert main(command_line(command, no_file[kind], run)) == 2
        assert f"which is {kind};" in capsys.readouterr().err
    assert main(command_line(command, tmp_path / "file", run)) == 2
    assert "which is a file;" in capsys.readouterr().err
    assert state(tmp_path) == before


@pytest.mark.parametrize("command", [*TO_FILE, *TO_FOLDER])
def test_a_device_is_still_there(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_for(tmp_path / "made")
    before = Path("/dev/null").stat()
    assert main(command_line(command, Path("/dev/null"), run)) == 2
    assert "is /dev/null, which is a device;" in capsys.readouterr().err
    assert Path("/dev/null").stat().st_rdev == before.st_rdev


@pytest.mark.parametrize("command", [*TO_FILE, *TO_FOLDER])
def test_a_path_below_a_file_is_told_before_the_work(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_for(tmp_path / "made")
    (tmp_path / "file").write_text("mine")
    before = state(tmp_path)
    assert main(command_line(command, tmp_path / "file" / "new" / "out", run)) == 2
    assert "file is a file, not a folder; choose another" in capsys.readouterr().err
    assert state(tmp_path) == before


@pytest.mark.parametrize("command", [*TO_FILE, *TO_FOLDER])
def test_a_folder_that_takes_nothing_is_told_before_the_work(
    command: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = run_for(tmp_path / "made")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    assert main(command_line(command, tmp_path / "new" / "out", run)) == 2
    assert "permission is denied; choose another place" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_file_of_an_analysis_is_not_put_in_the_place_of_a_link(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_for(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "analysis.csv").symlink_to(run / "manifest.json")
    assert main(["analyse", str(run), "--out", str(tmp_path / "out")]) == 2
    assert "analysis.csv, which is a link;" in capsys.readouterr().err


def test_no_write_takes_the_place_of_a_device_or_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NeuronOpsdError, match="it is a device, a named pipe or"):
        write_atomic(tmp_path / "pipe", b"x")
    with pytest.raises(NeuronOpsdError, match="it is a device, a named pipe or"):
        write_atomic(Path("/dev/null"), b"x")
    assert Path("/dev/null").is_char_device()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


# --- what a command reads, and what other commands keep ---


def test_a_result_takes_the_place_of_nothing_that_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model").mkdir()
    read = {
        "exam": tmp_path / "exam.jsonl",
        "model": tmp_path / "model/config.json",
        "settings": tmp_path / "mine.toml",
    }
    for path in read.values():
        path.write_text("mine")
    link = tmp_path / "link"
    link.symlink_to(tmp_path, target_is_directory=True)
    model = ["--model", str(tmp_path / "model")]
    evaluate = ["evaluate", *model, "--test", f"exam={read['exam']}", "--out"]
    neurons = ["neurons", *model, "--completions", str(read["exam"]), "--out"]
    more = ["--config", str(read["settings"]), "--out"]
    for command in (evaluate, neurons):
        assert main([*command[:-1], *more, str(read["settings"])]) == 2
        assert "this command reads that" in capsys.readouterr().err
    for command in (evaluate, neurons):
        for out in (read["exam"], read["model"], link / "exam.jsonl"):
            assert main([*command, str(out)]) == 2
            assert "this command reads that" in capsys.readouterr().err
    assert {path.read_text() for path in read.values()} == {"mine"}


def test_a_result_changes_no_file_of_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_for(tmp_path)
    before = state(run)
    for text in TO_FILE:
        for name in ("manifest.json", "train/new.json"):
            assert main(command_line(text, run / name, run)) == 2
            assert "a run directory; nothing else" in capsys.readouterr().err
    assert state(run) == before


@pytest.mark.parametrize("kind", ["others", "comparison"])
def test_an_analysis_goes_where_nothing_of_others_is(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = run_for(tmp_path), tmp_path / "out"
    out.mkdir()
    if kind == "others":
        (out / "analysis.html").write_text("mine")
    else:
        (out / MARKER).write_bytes(marker_of("comparison"))
    before = state(out)
    assert main(["analyse", str(run), "--out", str(out)]) == 2
    assert "analysis.html and no" in (said := capsys.readouterr().err) or (
        "a folder of a comparison" in said
    )
    assert state(out) == before
