"""What the files of a run tell about it, also while it is running or was killed."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import places
from neuron_opsd.cli import main
from neuron_opsd.storage import integrity
from neuron_opsd.storage.caching import InChunks
from neuron_opsd.storage.codecs import json_codec, text_codec
from neuron_opsd.storage.files import write_folder
from neuron_opsd.storage.lock import alive
from neuron_opsd.storage.run_directory import RunDirectory
from neuron_opsd.storage.status import (
    RunGroupStatus,
    comparison_status,
    read_status,
    run_status,
)
from tasks import alone

SOURCE = str(places.SOURCES)
SETTINGS = {"seed": 0, "distill.steps": 150}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Give a run with one output done, another begun, and two steps taken."""
    folder = tmp_path / "run"
    items = list(range(10))

    def compute(block: list[int]) -> list[int]:
        if 4 in block:
            raise KeyboardInterrupt
        return block

    with RunDirectory.open(folder, SETTINGS, {}) as directory:
        directory.once("selection", json_codec("selection.json"), lambda: [1])
        directory.note("adapters", {"distillation": {}})
        with pytest.raises(KeyboardInterrupt):
            directory.chunks(
                "tests/exam/before",
                json_codec("tests/exam/before.json"),
                InChunks(items, 2),
                alone(compute),  # type: ignore[arg-type]
            )
    metrics = folder / "train" / "metrics.jsonl"
    metrics.parent.mkdir()
    lines = [json.dumps({"step": step, "loss": 1 / (step + 1)}) for step in range(2)]
    metrics.write_text("\n".join([*lines, '{"step": 2, "lo']))
    return folder


def test_stages_and_steps_are_counted(run: Path) -> None:
    found = run_status(run)
    stages = {stage.name: (stage.done, stage.progress) for stage in found.stages}
    assert stages == {
        "selection": (True, "selection.json"),
        "distillation": (True, "adapter"),
        "tests/exam/before": (False, "4/10"),
    }
    assert (found.steps_done, found.steps_total) == (2, 150)
    assert found.last_step == {"step": 1, "loss": 0.5}
    assert (found.holder, found.finished) == (None, False)


def test_whoever_holds_the_run_is_named(run: Path) -> None:
    with RunDirectory.open(run, SETTINGS, {}):
        holder = run_status(run).holder
    assert holder is not None
    assert holder.startswith(f"process {os.getpid()} on {socket.gethostname()} since")
    assert run_status(run).holder is None


@pytest.mark.parametrize(
    ("pid", "host", "held"),
    [(2**22 + 1, socket.gethostname(), False), (2**22 + 1, "elsewhere", True)],
)
def test_a_holder_that_was_killed_holds_nothing(
    run: Path, pid: int, host: str, held: bool
) -> None:
    holder = {"pid": pid, "host": host, "start": "2026-01-01T00:00:00+00:00"}
    (run / "LOCK.holder").write_text(json.dumps(holder))
    assert (run_status(run).holder is not None) == held


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pid": "x"}', "{"])
def test_a_holder_that_says_nothing_holds_nothing(run: Path, text: str) -> None:
    (run / "LOCK.holder").write_text(text)
    assert run_status(run).holder is None


def test_processes_live_or_not() -> None:
    assert alive(os.getpid())
    assert alive(1)
    assert not alive(0)
    assert not alive(2**22 + 1)


def test_steps_that_are_taken_again_count_once(run: Path) -> None:
    lines = [json.dumps({"step": step}) for step in (0, 1, 2, 3, 2)]
    (run / "train" / "metrics.jsonl").write_text("\n".join(lines))
    assert run_status(run).steps_done == 3


def test_the_command_says_what_to_do(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", str(run)]) == 0
    out = capsys.readouterr().out
    assert "tests/exam/before" in out
    assert "training steps: 2/150" in out
    assert "state: stopped; the command that started it resumes it" in out
    (run / "report.html").write_text("")
    assert main(["status", str(run)]) == 0
    assert "state: finished" in capsys.readouterr().out
    with RunDirectory.open(run, SETTINGS, {}):
        assert main(["status", str(run)]) == 0
    assert f"state: running, process {os.getpid()}" in capsys.readouterr().out


def test_it_can_be_read_by_machines(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", str(run), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["run"] == str(run)
    assert document["steps_done"] == 2
    assert document["stages"][0]["name"] == "selection"


# --- comparisons ---


@pytest.fixture
def comparison(tmp_path: Path) -> Path:
    """Give a comparison with one model done, and two steps taken by another."""
    folder = tmp_path / "compared"
    with RunDirectory.open(block_of(folder), SETTINGS, {}) as directory:
        for name in ("rollouts", "methods/base"):
            directory.once(name, json_codec(f"{name}.json"), lambda: [1])
    for model in ("base", "lmsi"):
        metrics = block_of(folder) / "methods" / model / "train" / "metrics.jsonl"
        metrics.parent.mkdir(parents=True)
        metrics.write_text("".join(f'{{"step": {step}}}\n' for step in range(2)))
    return folder


def block_of(comparison: Path) -> Path:
    return comparison / "blocks" / "sst2" / "seed-0" / "base"


def test_models_that_are_done_and_begun_are_told_apart(comparison: Path) -> None:
    found = comparison_status(comparison)
    assert found.blocks == (
        RunGroupStatus("sst2 seed-0 base", ("base",), "lmsi 2/150", None),
    )
    assert not found.finished


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"settings": 1}'])
def test_a_block_that_says_nothing_of_itself_hides_no_other(
    comparison: Path, text: str
) -> None:
    before = comparison_status(comparison).blocks
    spoilt = comparison / "blocks/spoilt/seed-0/base"
    spoilt.mkdir(parents=True)
    (spoilt / "manifest.json").write_text(text)
    (comparison / "hashes.json").write_text(text)
    found = comparison_status(comparison)
    assert [one for one in found.blocks if one.name != "spoilt seed-0 base"] == [
        *before
    ]
    assert not found.finished
    said = "\n".join(found.amiss)
    assert f"{spoilt / 'manifest.json'} " in said
    assert f"{comparison / 'hashes.json'} is damaged" in said


def test_a_comparison_has_ended_when_its_page_is_there_and_nobody_works(
    comparison: Path,
) -> None:
    (comparison / "comparison.html").write_text("")
    assert comparison_status(comparison).finished
    with RunDirectory.open(block_of(comparison), SETTINGS, {}):
        found = comparison_status(comparison)
    assert not found.finished
    assert (found.blocks[0].holder or "").startswith(f"process {os.getpid()}")


def test_the_command_shows_the_blocks_of_a_comparison(
    comparison: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", str(comparison)]) == 0
    out = capsys.readouterr().out
    assert "sst2 seed-0 base" in out
    assert "lmsi 2/150" in out
    assert "state: stopped; the command that started it resumes it" in out
    with RunDirectory.open(block_of(comparison), SETTINGS, {}):
        assert main(["status", str(comparison)]) == 0
    assert "state: running" in capsys.readouterr().out
    assert main(["status", str(comparison), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["blocks"][0]["models_done"] == ["base"]


# --- neither ---


@pytest.mark.parametrize("content", [None, "{", '{"schema_version": 999}'])
def test_what_is_no_run_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    assert main(["status", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_nothing_heavy_is_imported(run: Path) -> None:
    script = (
        "import sys\nfrom neuron_opsd.cli import main\n"
        f"assert main(['status', {str(run)!r}]) == 0\n"
        "assert not {'torch', 'numpy', 'pyarrow'} & set(sys.modules)\n"
    )
    subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        timeout=60,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": SOURCE},
    )


def test_large_files_are_read_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is told without reading is named; what is small is always read."""
    monkeypatch.setattr(integrity, "MAX_HASHED_BYTES", 1000)
    with RunDirectory.open(tmp_path, {}, {}) as run:
        run.once("large", text_codec("large.txt"), lambda: "a" * 2000)
        run.once("small", text_codec("small.txt"), lambda: "a")
        write_folder(tmp_path / "model", lambda folder: filled(folder, b"a" * 2000))
        run.record("model", "model")
    assert read_status(tmp_path).unread == ("large.txt", "model")
    assert read_status(tmp_path, verify=True).unread == ()
    assert main(["status", str(tmp_path)]) == 0
    assert "(of large.txt, model, which are large, only the" in capsys.readouterr().out
    filled(tmp_path / "model", b"b" * 2000)
    assert read_status(tmp_path).amiss == ()
    assert "model was changed or damaged" in str(read_status(tmp_path, verify=True))
    assert main(["status", str(tmp_path), "--verify"]) == 0
    assert "model was changed or damaged" in capsys.readouterr().out
    filled(tmp_path / "model", b"b" * 1999)
    (tmp_path / "small.txt").write_text("b")
    told = read_status(tmp_path).amiss
    assert [line.split("/")[-1] for line in told] == [
        "small.txt was changed or damaged",
        "model was changed or damaged",
    ]


def filled(folder: Path, data: bytes) -> None:
    """Put a file into a folder."""
    (folder / "weights").write_bytes(data)
