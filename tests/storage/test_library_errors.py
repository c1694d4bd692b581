"""Each library has one doorway, where what it raises becomes one of our own errors."""

from __future__ import annotations

import errno
import fcntl
import io
import json
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from filelock import FileLock
from pydantic import BaseModel
from safetensors.torch import save_file
from tokenizers import Tokenizer, models

from file_damage import AS_JSON, AS_TOML, HUGE
from loaded import loaded
from neuron_opsd.cli import main
from neuron_opsd.config import Config, QuestionsConfig
from neuron_opsd.config.tables import load_config
from neuron_opsd.data import parquet_rows
from neuron_opsd.data.question_files import open_table
from neuron_opsd.documents import (
    DocumentError,
    TooDeepError,
    parse_json,
    parse_table,
    parse_toml,
)
from neuron_opsd.errors import (
    ConfigError,
    DataError,
    InUseError,
    NeuronOpsdError,
    TryAgainError,
    is_out_of_memory,
)
from neuron_opsd.models.library_errors import refusing, saving
from neuron_opsd.models.load import learner_of
from neuron_opsd.progress import QUIET
from neuron_opsd.runs.checkpoints import go_back
from neuron_opsd.runs.context import RunContext
from neuron_opsd.storage.codecs import NEURONS, ROLLOUTS, json_codec, record_codec
from neuron_opsd.storage.disk import disk_errors, read_plain, reading
from neuron_opsd.storage.files import write_folder
from neuron_opsd.storage.lock import HOLDER, LOCK, locked
from neuron_opsd.storage.manifest import json_sha256, read_manifest, seal, unseal
from neuron_opsd.storage.run_directory import RunDirectory
from tiny_runs import (
    FinishedRun,
    outcome_of,
    read_sealed,
    run_command,
    tiny_config,
    tiny_request,
    write_sealed,
)

CODES = sorted(set(errno.errorcode) - {errno.EPIPE})


def only_line(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line in which the program complained."""
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    (line,) = [x for x in shown.splitlines() if x.startswith("neuron-opsd: ")]
    return line


@contextmanager
def no_file_above(num_bytes: int) -> Iterator[None]:
    """Let the kernel refuse this process larger files, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# The operating system.


@pytest.mark.parametrize("code", CODES)
def test_every_number_of_the_system_is_a_line(code: int) -> None:
    for doorway in (lambda p: disk_errors(p, 12_345), reading):
        with pytest.raises(NeuronOpsdError) as caught, doorway(Path("a/b")):
            raise OSError(code, os.strerror(code))
        assert "a/b" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert caught.value.exit_status in (2, 75)


def test_an_error_without_a_number_is_a_line_too() -> None:
    said = "could not write a: said in words"
    with pytest.raises(TryAgainError, match=said), disk_errors(Path("a"), 0):
        raise OSError("said in words")


def test_only_plain_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("link")
    for name in ("pipe", "link", "missing", "."):
        with pytest.raises(DataError, match="cannot read"):
            read_plain(tmp_path / name)


# Full disks, at every file of a run that a library writes.


class AilingFile(io.BytesIO):
    """A file of a disk that fails after the first half."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Return all of the first half, and nothing of the second."""
        if self.tell() >= len(self.getbuffer()) // 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().read(size if size is not None and size > 0 else -1)


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".csv", ".parquet"])
def test_a_disk_that_ails_is_no_fault_of_a_question_file(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"pool{ending}"
    path.touch()
    monkeypatch.setattr(Path, "open", lambda *_: AilingFile(b'{"x": 1}\n' * 100_000))
    rows = open_table(path, QuestionsConfig()).rows
    with pytest.raises(TryAgainError, match=r"input/output error.*the same command"):
        list(rows)


def test_memory_that_runs_out_is_no_fault_of_a_parquet_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pool.parquet"
    pq.write_table(pa.table({"question": ["Why?"]}), path)

    def filled(*_: object) -> None:
        raise pa.ArrowMemoryError("malloc of size 64 failed")

    monkeypatch.setattr(parquet_rows, "batches_of", filled)
    with pytest.raises(MemoryError):
        list(open_table(path, QuestionsConfig()).rows)


@pytest.mark.parametrize(
    "file", ["rollouts.parquet", "state.safetensors", "adapter_model.safetensors"]
)
def test_a_file_that_may_not_be_written_whole_stops_a_run_that_resumes(
    file: str,
    finished_run: FinishedRun,
    tiny_llama: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (size, *_) = [p.stat().st_size for p in sorted(finished_run.folder.rglob(file))]
    request = tiny_request(tmp_path)
    with no_file_above(size - 100):
        assert run_command(request, tiny_llama) == 75
    line = only_line(capsys)
    assert "this process or this disk allows (it needs " in line
    assert "0 bytes" not in line
    assert line.endswith("run the same command again; it resumes where it stopped")
    assert run_command(request, tiny_llama) == 0
    weights = "adapter/adapter_model.safetensors"
    assert outcome_of(request.out)[weights] == outcome_of(finished_run.folder)[weights]


@pytest.mark.parametrize("writer", ["safetensors", "tokenizers"])
def test_what_rust_says_in_words_is_an_error_of_the_disk(
    writer: str, tmp_path: Path
) -> None:
    tokenizer = Tokenizer(models.BPE({f"{i:060d}": i for i in range(2000)}, []))

    def fill(folder: Path) -> None:
        with saving():
            if writer == "safetensors":
                save_file({"a": torch.zeros(40_000)}, folder / "a.safetensors")
            else:
                tokenizer.save(str(folder / "tokenizer.json"))

    with no_file_above(50_000), pytest.raises(TryAgainError) as caught:
        write_folder(tmp_path / "adapter", fill, 160_000)
    assert "this disk allows (it needs 160 kB)" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_of_our_own_is_no_error_of_the_disk() -> None:
    with pytest.raises(ValueError, match="of ours"), saving():
        raise ValueError("of ours")


def test_a_whole_model_that_cannot_be_saved_is_a_line(
    tiny_llama: Path, tmp_path: Path
) -> None:
    config = tiny_config(tiny_llama, "distill.tuning=full")
    learner = learner_of(loaded(tiny_llama), config.distill, config.seed)
    assert learner.num_bytes > 50_000
    with no_file_above(50_000), pytest.raises(TryAgainError, match="this disk allows"):
        write_folder(tmp_path / "adapter", learner.save_adapter, learner.num_bytes)


# JSON, TOML and pydantic.


@pytest.mark.parametrize("kind", AS_JSON)
def test_a_document_is_a_value_or_a_reason(kind: str) -> None:
    with suppress(DocumentError):
        parse_json(AS_JSON[kind])
    with pytest.raises(DocumentError) as caught:
        parse_table(AS_JSON[kind] if kind != "no fields" else b"[{}]")
    assert len(str(caught.value)) < 100


def test_a_field_that_comes_twice_is_refused() -> None:
    with pytest.raises(DocumentError, match="names the field 'a' twice"):
        parse_json('[{"a": 1, "b": 2, "a": 3}]')


@pytest.mark.parametrize("kind", [k for k in AS_TOML if k not in ("types", "infinite")])
def test_toml_that_cannot_be_read_is_a_reason(kind: str) -> None:
    with pytest.raises(DocumentError):
        parse_toml(AS_TOML[kind])


def test_deep_tables_are_refused_before_anything_recurses_over_them() -> None:
    with pytest.raises(TooDeepError):
        parse_table('{"a":' * 200 + "1" + "}" * 200)


@pytest.mark.parametrize("kind", AS_TOML)
def test_a_settings_file_that_cannot_be_read_is_one_line(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "settings.toml"
    file.write_bytes(AS_TOML[kind])
    assert main(["config", "--config", str(file)]) == 2
    assert len(only_line(capsys)) < 400


def test_a_settings_file_without_an_end_is_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["config", "--config", "/dev/zero"]) == 2
    assert "is larger than 1,048,576 bytes" in only_line(capsys)


def test_a_settings_file_may_begin_with_a_mark(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_bytes(b"\xef\xbb\xbfseed = 7\n")
    assert load_config(file).seed == 7


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("distill.steps=" + "[" * 50_000, "'distill.steps' cannot be read: it is nest"),
        (
            "distill=" + "{a=" * 500 + "1" + "}" * 500,
            "cannot be read: it is nested too",
        ),
        ("a." * 50_000 + "b=1", "is not a setting; write section.field=value"),
        ("distill..steps=1", "is not a setting; write section.field=value"),
        ("seed=" + HUGE, "seed is '1000"),
        ("seed=" + "9" * 4000, "must be less than or equal to 9223372036854775807"),
        ("distill.steps=" + "9" * 400, "must be less than or equal to 922337203685477"),
        (
            "prompts.instruction=a\udcffb",
            "a setting is 'a\\udcffb', which is not UTF-8",
        ),
        ("prompts.instr\udcff=a", "a setting is 'instr\\udcff', which is not UTF-8"),
        ("x" * 100_000 + "=1", "there is no section or setting xxx"),
    ],
)
def test_a_setting_that_cannot_be_is_one_short_line(
    assignment: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "--set", assignment]) == 2
    line = only_line(capsys)
    assert said in line
    assert len(line) < 400


def test_settings_of_a_comparisons_method_are_told_the_same(
    tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["compare", "--model", str(tiny_llama), "--source", "a=b", "--test", "a=b"]
    deep = "x=lmsi:distill.steps=" + "[" * 50_000
    assert main([*argv, "--methods", deep, "--out", "c"]) == 2
    assert "cannot be read: it is nested too deeply" in only_line(capsys)


def test_changed_settings_of_a_run_are_told_and_used(
    finished_run: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished_run.folder, run)
    file = run / "config.toml"
    assert main(["config", "--config", str(file), "--json"]) == 0
    assert capsys.readouterr().err == ""
    file.write_text(file.read_text("utf-8").replace("seed = 0", "seed = 1"), "utf-8")
    assert main(["config", "--config", str(file), "--json"]) == 0
    shown = capsys.readouterr()
    assert shown.err == (
        f"neuron-opsd: warning: {file} was changed or damaged; it is used as it is\n"
    )
    assert json.loads(shown.out)["seed"] == 1


@pytest.mark.parametrize("command", ["run", "evaluate"])
def test_a_place_whose_name_is_not_utf_8_is_refused_before_the_work(
    command: str, tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = tiny_request(tmp_path)
    out = str(tmp_path / "o\udcff")
    argv = [command, "--model", str(tiny_llama), "--out", out, "--test"]
    argv += [f"parity={request.tests['parity']}"]
    argv += ["--pool", request.pool] if command == "run" else []
    assert main(argv) == 2
    assert "its name is not UTF-8; choose another" in only_line(capsys)


# Our own files, read back.


class Kept(BaseModel):
    """A record with one field."""

    number: int


@pytest.mark.parametrize("kind", [k for k in AS_JSON if k not in ("no fields",)])
def test_a_file_that_holds_something_else_names_itself(
    kind: str, tmp_path: Path
) -> None:
    path = tmp_path / "kept.json"
    path.write_bytes(AS_JSON[kind])
    with pytest.raises(DataError, match=r"kept\.json does not hold what it should: "):
        record_codec("kept.json", Kept).load(path)


def other_columns(path: Path) -> None:
    pq.write_table(pa.table({"question_id": [1]}), path)


def missing_columns(path: Path) -> None:
    pq.write_table(pa.table({"question_id": ["q"]}), path)


def torn(path: Path) -> None:
    ROLLOUTS.save((), path)
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize("spoil", [other_columns, missing_columns, torn, Path.mkdir])
def test_a_table_that_is_none_names_itself(
    spoil: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "a.parquet"
    spoil(path)
    for codec in (ROLLOUTS, NEURONS):
        with pytest.raises(DataError, match=r"a\.parquet.*delete it, and the command"):
            codec.load(path)


def test_a_flipped_bit_of_a_manifest_is_no_number_of_a_report(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished_run.folder, run)
    path = run / "manifest.json"
    seconds = read_manifest(run).facts["seconds"]["distillation"]
    text = path.read_text("utf-8")
    assert text.count(f'"distillation": {seconds}') == 1
    path.write_text(text.replace(f"{seconds}", f"{seconds + 1}"), "utf-8")
    with pytest.raises(DataError, match=r"damaged \(its content was changed\)"):
        read_manifest(run)


def test_a_seal_survives_names_that_are_numbers() -> None:
    table = {"b": {2: float("nan"), 10: "\ud800"}, "a": (1, 2)}
    back = unseal(seal(table))
    assert list(back) == ["b", "a"]
    assert back["a"] == [1, 2]
    assert unseal(json.dumps({"a": 1}).encode()) == {"a": 1}
    with pytest.raises(DocumentError, match="its content was changed"):
        unseal(json.dumps({"a": 1, "seal": json_sha256({"a": 2})}).encode())


@pytest.mark.parametrize("name", ["../victim", "train/checkpoints/../../../victim"])
def test_a_manifest_cannot_name_what_lies_outside(
    name: str, finished_run: FinishedRun, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished_run.folder, run)
    table = read_sealed(run / "manifest.json")
    table["outputs"][name] = table["outputs"]["rollouts"]
    write_sealed(run / "manifest.json", table)
    with pytest.raises(DataError, match="is no path below the run directory"):
        read_manifest(run)


def test_a_state_that_is_no_state_is_passed_over(
    tmp_path: Path, config: Config
) -> None:
    class Learner:
        """Is never asked."""

    with RunDirectory.open(tmp_path / "run", {}, {}) as run:
        folder = run.path("train/checkpoints/step-000002")
        folder.mkdir(parents=True)
        (folder / "state.safetensors").write_bytes(b"abc" * 1000)
        for facts in AS_JSON.values():
            (folder / "checkpoint.json").write_bytes(facts)
            learner: Any = Learner()
            assert go_back(RunContext(run, config, QUIET), learner, "train", [], 9) == 0
            assert "cannot be read" in run.warnings[-1]


@pytest.fixture
def config(tiny_llama: Path) -> Config:
    return tiny_config(tiny_llama)


# Locks.


@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
def test_a_lock_that_is_no_file_is_refused(kind: str, tmp_path: Path) -> None:
    path, other = tmp_path / LOCK, tmp_path / "other"
    other.write_text("of somebody else")
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(other)
    with pytest.raises(ConfigError, match=r"the lock .*, not a file"), locked(tmp_path):
        pass
    assert other.read_text() == "of somebody else"


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        (errno.ENOLCK, ConfigError, "cannot lock files"),
        (errno.ENOSYS, ConfigError, "cannot lock files"),
        (errno.EOPNOTSUPP, ConfigError, "cannot lock files"),
        (errno.EIO, TryAgainError, "input/output error"),
        (errno.EWOULDBLOCK, InUseError, "is in use by another process that has not"),
    ],
)
def test_a_lock_that_cannot_be_taken_is_a_line(
    code: int,
    kind: type[NeuronOpsdError],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def flock(file: int, operation: int) -> None:
        del file
        if operation & fcntl.LOCK_EX:
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(kind, match=said), locked(tmp_path):
        pass
    assert not (tmp_path / HOLDER).exists()


def test_a_place_where_no_file_may_be_made_is_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: object) -> None:
        del self
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.raises(ConfigError, match="permission is denied"), locked(tmp_path):
        pass


@pytest.mark.parametrize("kind", AS_JSON)
def test_a_holder_who_says_nonsense_is_another_process(
    kind: str, tmp_path: Path
) -> None:
    with locked(tmp_path):
        (tmp_path / HOLDER).write_bytes(AS_JSON[kind])
        said = "by another process that has not said"
        with pytest.raises(InUseError, match=said), locked(tmp_path):
            pass


# Memory.

TOO_MUCH: dict[str, Callable[[], object]] = {
    "python": lambda: bytearray(2**62),
    "numpy": lambda: np.empty(10**15),
    "torch": lambda: torch.empty(10**14),
    "arrow": lambda: pa.allocate_buffer(10**15),
}


@pytest.mark.parametrize("library", TOO_MUCH)
def test_memory_that_runs_out_is_one_line_with_what_was_done(
    library: str,
    tiny_llama: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def sample_rollouts(*args: object, **named: object) -> object:
        del args, named
        return TOO_MUCH[library]()

    monkeypatch.setattr("neuron_opsd.runs.testing.sample_rollouts", sample_rollouts)
    request = tiny_request(tmp_path)
    argv = ["evaluate", "--model", str(tiny_llama), "--out", str(tmp_path / "o.json")]
    assert main([*argv, "--test", f"exam={request.tests['parity']}", "--quiet"]) == 75
    line = only_line(capsys)
    assert line.startswith("neuron-opsd: memory ran out (in the stage exam); lower ")


@pytest.mark.parametrize("library", TOO_MUCH)
def test_memory_is_never_the_fault_of_a_model(library: str) -> None:
    errors = (MemoryError, RuntimeError)
    with pytest.raises(errors) as caught, refusing("model m cannot be loaded"):
        TOO_MUCH[library]()
    assert is_out_of_memory(caught.value)
    assert not isinstance(caught.value, NeuronOpsdError)


def test_a_json_file_that_is_no_utf_8_names_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(DataError, match=r"a\.json does not .*byte 7 is not UTF-8"):
        json_codec("a.json").load(path)


def test_a_thread_without_room_is_no_fault_of_the_model() -> None:
    message = "model m cannot be loaded"
    with pytest.raises(RuntimeError, match="new thread"), refusing(message, "get it"):
        raise RuntimeError("can't start new thread")
