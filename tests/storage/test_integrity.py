"""What a run directory holds is believed only as far as it can be proven."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from neuron_opsd.analysis.analyse import analyse
from neuron_opsd.cli import main
from neuron_opsd.errors import DataError
from neuron_opsd.progress import Silent
from neuron_opsd.runs import checkpoints
from neuron_opsd.storage import integrity
from neuron_opsd.storage.caching import InChunks
from neuron_opsd.storage.codecs import json_codec, records_codec
from neuron_opsd.storage.files import sha256_file
from neuron_opsd.storage.integrity import faults, files_in
from neuron_opsd.storage.manifest import json_sha256, read_manifest
from neuron_opsd.storage.run_directory import RunDirectory
from tasks import alone
from tiny_runs import (
    FinishedRun,
    files_of,
    outcome_of,
    read_json,
    read_sealed,
    tiny_run,
    write_sealed,
)

SUM, PRODUCT = json_codec("sum.json"), json_codec("product.json")
RUN_FILES = {".neuron-opsd", "manifest.json", "LOCK", "LOCK.holder"}
"""What is no output of a run, where it is there."""


@pytest.fixture
def run(finished_run: FinishedRun, tmp_path: Path) -> FinishedRun:
    """Give a copy of a finished run that a test may harm."""
    out = tmp_path / "run"
    shutil.copytree(finished_run.folder, out)
    request = replace(finished_run.request, out=out)
    return replace(finished_run, folder=out, request=request)


def resumed(run: FinishedRun) -> FinishedRun:
    return tiny_run(run.request, run.config)


def lines_of(run: FinishedRun, text: str) -> list[str]:
    return [line for line in run.warnings if text in line]


def unfinish(run: FinishedRun) -> None:
    """Take away what the main training ends with, as if it had been killed before."""
    manifest = read_sealed(run.folder / "manifest.json")
    for name in ("adapter", "adapter/README.md", "train/metrics.jsonl"):
        del manifest["outputs"][name]
    write_sealed(run.folder / "manifest.json", manifest)
    shutil.rmtree(run.folder / "adapter")


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)


# --- the store


def test_an_output_is_made_again_when_its_source_is_another(tmp_path: Path) -> None:
    def open_with(number: int) -> tuple[int, list[str]]:
        with RunDirectory.open(tmp_path, {}, {}) as run:
            total = run.once("sum", SUM, lambda: number)
            found = run.once("product", PRODUCT, lambda: 2 * total, made_from=["sum"])
            return found, run.warnings

    assert open_with(3) == (6, [])
    assert open_with(4) == (6, [])
    (tmp_path / "sum.json").unlink()
    found, told = open_with(4)
    assert found == 8
    assert (
        f"{tmp_path / 'product.json'} was made from another sum; it is made "
        in (told[-1])
    )
    assert open_with(4) == (8, [])
    manifest = read_manifest(tmp_path)
    sources = manifest.outputs["product"].made_from
    assert sources == {"sum": manifest.outputs["sum"].sha256}


def test_what_is_no_output_counts_as_a_source_too(tmp_path: Path) -> None:
    def open_with(told: str) -> int:
        with RunDirectory.open(tmp_path, {}, {}) as run:
            run.integrity.add_source("gold", told)
            return int(run.once("sum", SUM, lambda: int(told), made_from=["gold"]))

    assert [open_with(told) for told in ("1", "1", "2")] == [1, 1, 2]


def test_a_source_that_comes_to_be_while_computing_is_kept(tmp_path: Path) -> None:
    calls: list[int] = []

    def open_once() -> None:
        with RunDirectory.open(tmp_path, {}, {}) as run:

            def compute() -> int:
                calls.append(1)
                return int(run.once("sum", SUM, lambda: 3))

            run.once("product", PRODUCT, compute, made_from=["sum"])

    open_once()
    open_once()
    assert len(calls) == 1
    (tmp_path / "sum.json").write_text("4")
    open_once()
    assert len(calls) == 2


def test_blocks_of_another_source_are_not_taken_up(tmp_path: Path) -> None:
    codec = records_codec("same.json", int)

    def open_with(told: str, stop: int) -> tuple[list[int], list[str]]:
        done: list[int] = []

        def compute(block: list[int]) -> list[int]:
            if stop in block:
                raise ZeroDivisionError
            done.extend(block)
            return block

        with RunDirectory.open(tmp_path, {}, {}) as run:
            run.integrity.add_source("adapter", told)
            with suppress(ZeroDivisionError):
                run.chunks(
                    "same",
                    codec,
                    InChunks([1, 2, 3], 1),
                    alone(compute),  # type: ignore[arg-type]
                    made_from=["adapter"],
                )
            return done, run.warnings

    assert open_with("a", stop=3) == ([1, 2], [])
    done, told = open_with("b", stop=3)
    assert done == [1, 2]
    assert "was made from other inputs; it is made again" in told[0]
    (tmp_path / "parts/same/00001.json").write_text("[9]")
    done, told = open_with("b", stop=0)
    assert done == [2, 3]
    assert "00001.json was changed or damaged" in told[0]


def test_a_folder_is_proven_by_its_files_without_its_card(tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    with RunDirectory.open(tmp_path, {}, {}) as run:
        folder.mkdir()
        (folder / "weights").write_text("1")
        run.record("adapter", "adapter")
    assert set(read_manifest(tmp_path).outputs["adapter"].files) == {"weights"}
    harms: list[tuple[str, Callable[[], object]]] = [
        ("", lambda: (folder / "README.md").write_text("results")),
        ("", lambda: (folder / "converted.gguf").write_text("somebody else's")),
        (
            "was changed or damaged",
            lambda: (folder / "other.json").write_text("1"),
        ),
        ("", lambda: (folder / "other.json").unlink()),
        (
            "was changed or damaged",
            lambda: (folder / "weights").write_text("2"),
        ),
        ("was changed or damaged", lambda: (folder / "weights").unlink()),
        ("is gone", lambda: shutil.rmtree(folder)),
    ]
    for fault, harm in harms:
        harm()
        found = faults(tmp_path, read_manifest(tmp_path))
        assert found == ({"adapter": f"{folder} {fault}"} if fault else {})


def test_a_run_of_a_version_without_proofs_is_read_and_not_resumed(
    run: FinishedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = read_sealed(run.folder / "manifest.json")
    computed = {
        name: {key: output[key] for key in ("file", "sha256", "seconds")}
        for name, output in manifest["outputs"].items()
        if output["seconds"] is not None and not output["files"]
    }
    write_sealed(run.folder / "manifest.json", manifest | {"outputs": computed})
    assert main(["status", str(run.folder)]) == 0
    assert "state: finished" in capsys.readouterr().out
    assert main(["report", str(run.folder)]) == 0
    assert "kept no hash of it, so it cannot be verified" in (
        " ".join(capsys.readouterr().err.split())
    )
    before = files_of(run.folder)
    with pytest.raises(DataError, match=r"can be read .* but not resumed"):
        resumed(run)
    assert files_of(run.folder) == before


# --- state without its step


def test_the_state_of_a_checkpoint_says_its_step(
    run: FinishedRun, finished_run: FinishedRun
) -> None:
    unfinish(run)
    facts = run.folder / "train/checkpoints/step-000004/checkpoint.json"
    table = read_json(facts)
    assert table["step"] == 4
    facts.write_text(json.dumps(table | {"step": 3}))
    again = resumed(run)
    assert outcome_of(run.folder) == outcome_of(finished_run.folder)
    (line,) = lines_of(again, "is skipped")
    assert "checkpoint.json says step 3, but its state is of 4" in line


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        ("state", "its state.safetensors was changed or damaged"),
        ("facts", "its checkpoint.json or state.safetensors cannot be read"),
        ("bare", "its checkpoint.json or state.safetensors cannot be read"),
        ("forged", "is skipped: was changed or damaged"),
        ("settings", "it was trained from another settings of adapter"),
        ("metrics", "metrics.jsonl does not hold the 4 steps before it"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_passed_over(
    run: FinishedRun, finished_run: FinishedRun, harm: str, why: str
) -> None:
    unfinish(run)
    folder = run.folder / "train/checkpoints/step-000004"
    inputs = read_manifest(run.folder).inputs
    state = folder / "state.safetensors"
    if harm == "state":
        spoil(state)
    elif harm == "facts":
        (folder / "checkpoint.json").write_text("?")
    elif harm == "metrics":
        path = run.folder / "train/metrics.jsonl"
        first, *rest = path.read_text().splitlines(keepends=True)
        changed = json.dumps(json.loads(first) | {"loss": 7.0}) + "\n"
        path.write_text(changed + "".join(rest))
    elif harm == "forged":
        rebind(folder, {"inputs": json_sha256(inputs)}, factor=1.5)
    else:
        rebind(folder, {} if harm == "bare" else {"settings of adapter": "0"})
    again = resumed(run)
    assert outcome_of(run.folder) == outcome_of(finished_run.folder)
    assert read_json(run.folder / "evaluation.json") == finished_run.evaluation()
    assert why in lines_of(again, "is skipped")[0]
    assert again.data.training == finished_run.data.training


def files_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what fills with the names of files whose hash is taken."""
    read: list[str] = []

    def counted(path: Path) -> str:
        read.append(path.name)
        return sha256_file(path)

    for module in (checkpoints, integrity):
        monkeypatch.setattr(module, "sha256_file", counted)
    return read


def test_a_state_is_read_once_where_it_is_kept_and_where_it_is_taken(
    run: FinishedRun, finished_run: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of a model that is trained in full it has four times the size of the weights.
    monkeypatch.setattr(integrity, "MAX_HASHED_BYTES", 10)
    unfinish(run)
    read = files_read(monkeypatch)
    resumed(run)
    # None of them is of the control, which has ended and resumes from none.
    assert read.count("state.safetensors") == 1
    unfinish(run)
    shutil.rmtree(run.folder / "train")
    read.clear()
    resumed(run)
    assert read.count("state.safetensors") == 2  # after steps 2 and 4
    assert outcome_of(run.folder) == outcome_of(finished_run.folder)
    assert faults(run.folder, read_manifest(run.folder)) == {}


def test_a_page_is_made_again_without_reading_what_is_large(
    run: FinishedRun,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(integrity, "MAX_HASHED_BYTES", 10)
    read = files_read(monkeypatch)
    assert main(["report", str(run.folder)]) == 0
    assert "adapter_model.safetensors" not in read
    assert capsys.readouterr().err == ""
    # What the page is made from is read whatever its size.
    spoil(run.folder / "report.json")
    assert main(["report", str(run.folder)]) == 2
    assert "report.json was changed or damaged" in capsys.readouterr().err


def rebind(folder: Path, changes: dict[str, str], factor: float = 1.0) -> None:
    """Give a checkpoint's state other weights or words about its sources, or none."""
    state = folder / "state.safetensors"
    with state.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        bound = json.loads(json.loads(file.read(size))["__metadata__"]["neuron-opsd"])
    bound["made_from"] |= changes
    kept = {"neuron-opsd": json.dumps(bound)} if changes else None
    tensors = {name: factor * value for name, value in load_file(state).items()}
    save_file(tensors, state, metadata=kept)
    sha256 = files_in(folder)[state.name]
    (folder / "checkpoint.json").write_text(json.dumps({"step": 4, "sha256": sha256}))


def test_a_checkpoint_put_in_anothers_place_is_passed_over(
    run: FinishedRun, finished_run: FinishedRun
) -> None:
    unfinish(run)
    name = "train/checkpoints/step-000004"
    shutil.rmtree(run.folder / name)
    shutil.copytree(run.folder / "controls/form-only" / name, run.folder / name)
    again = resumed(run)
    assert outcome_of(run.folder) == outcome_of(finished_run.folder)
    assert "it was trained from another" in lines_of(again, "is skipped")[0]


def test_what_another_adapter_answered_is_asked_again(
    run: FinishedRun, finished_run: FinishedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    other = run.folder / "controls/form-only/adapter/adapter_model.safetensors"
    shutil.copy(other, run.folder / "adapter/adapter_model.safetensors")
    manifest = read_sealed(run.folder / "manifest.json")
    output = manifest["outputs"]["adapter"]
    files = files_in(run.folder / "adapter")
    with RunDirectory.open(run.folder.parent / "scratch", {}, {}) as scratch:
        shutil.copytree(run.folder / "adapter", scratch.path("adapter"))
        scratch.record("adapter", "adapter")
        output |= {
            "files": files,
            "sha256": scratch.manifest.outputs["adapter"].sha256,
        }
    write_sealed(run.folder / "manifest.json", manifest)
    assert main(["report", str(run.folder)]) == 2
    assert "was made from another adapter" in " ".join(capsys.readouterr().err.split())
    again = resumed(run)
    for name in ("tests/parity/after", "tests/sums/after", "cases"):
        assert lines_of(again, f"{name}.parquet was made from another adapter; it is")
    assert not lines_of(again, "before.parquet")
    assert (
        again.evaluation()["parity"]["after"]
        != (finished_run.evaluation()["parity"]["after"])
        or again.evaluation() != finished_run.evaluation()
    )


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("rollouts", set()),
        ("neurons", {"rollouts"}),
        ("selection", {"rollouts", "neurons"}),
        ("contexts", {"rollouts", "neurons", "selection"}),
        ("teacher_check", {"rollouts", "neurons", "selection", "contexts"}),
        ("tests/sums/after", {"adapter"}),
        ("tests/sums/form-only", {"controls/form-only/adapter"}),
        ("tests/parity/neurons", {"tests/parity/before"}),
        ("report.html", {"report.json"}),
    ],
)
def test_every_output_names_what_it_was_made_from(
    finished_run: FinishedRun, name: str, source: set[str]
) -> None:
    manifest = read_manifest(finished_run.folder)
    made_from = manifest.outputs[name].made_from
    assert made_from == {one: manifest.outputs[one].sha256 for one in source}


# --- files outside the manifest


def test_every_file_of_a_run_is_in_its_manifest(finished_run: FinishedRun) -> None:
    listed = set()
    manifest = read_manifest(finished_run.folder)
    for output in manifest.outputs.values():
        inner = [f"{output.file}/{name}" for name in output.files]
        listed |= set(inner or [output.file])
    assert listed == set(files_of(finished_run.folder)) - RUN_FILES
    assert faults(finished_run.folder, manifest) == {}


@pytest.mark.parametrize("gone", [True, False])
def test_lost_metrics_are_told_and_never_called_no_steps(
    run: FinishedRun, capsys: pytest.CaptureFixture[str], gone: bool
) -> None:
    card = (run.folder / "adapter/README.md").read_bytes()
    metrics = run.folder / "train/metrics.jsonl"
    whole = metrics.read_bytes()
    metrics.unlink() if gone else metrics.write_bytes(whole[:-40])
    fault = "is gone" if gone else "was changed or damaged"
    with pytest.raises(DataError, match=f"metrics.jsonl {fault}, and only training"):
        resumed(run)
    assert (run.folder / "adapter/README.md").read_bytes() == card
    assert main(["status", str(run.folder)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert f"metrics.jsonl {fault}" in out
    assert "state: damaged" in out
    assert main(["report", str(run.folder)]) == 0
    assert f"metrics.jsonl {fault}" in " ".join(capsys.readouterr().err.split())
    shutil.rmtree(run.folder / "adapter")
    resumed(run)
    assert metrics.read_bytes() == whole
    assert faults(run.folder, read_manifest(run.folder)) == {}


WRITTEN = (
    "adapter/README.md",
    "config.toml",
    "evaluation.json",
    "report.html",
    "report.json",
    "summary.json",
)


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("gone", [True, False])
def test_what_is_gone_or_changed_is_told_and_made_again(
    run: FinishedRun, capsys: pytest.CaptureFixture[str], name: str, gone: bool
) -> None:
    path = run.folder / name
    whole = path.read_bytes()
    path.unlink() if gone else spoil(path)
    fault = f"{Path(name).name} {'is gone' if gone else 'was changed or damaged'}"
    assert main(["status", str(run.folder)]) == 0
    assert fault in " ".join(capsys.readouterr().out.split())
    again = resumed(run)
    assert lines_of(again, f"{fault}; it is computed again")
    assert faults(run.folder, read_manifest(run.folder)) == {}
    if "report" not in name and "README" not in name:
        assert path.read_bytes() == whole


def test_an_edited_report_is_not_reported(
    run: FinishedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run.folder / "report.json"
    path.write_text(path.read_text().replace("Neuron-OPSD", "Better-OPSD", 1))
    page = (run.folder / "report.html").read_bytes()
    assert main(["report", str(run.folder)]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "report.json was changed or damaged; the `neuron-opsd run` comm" in told
    assert (run.folder / "report.html").read_bytes() == page


def test_a_lost_checkpoint_of_a_finished_training_is_told_once(
    run: FinishedRun,
) -> None:
    shutil.rmtree(run.folder / "train/checkpoints/step-000002")
    spoil(run.folder / "train/checkpoints/step-000004/state.safetensors")
    assert len(lines_of(resumed(run), "the finished training does not need it")) == 2
    assert not lines_of(resumed(run), "the finished training does not need it")
    assert faults(run.folder, read_manifest(run.folder)) == {}


def test_an_analysis_says_what_is_gone_and_refuses_what_does_not_fit(
    run: FinishedRun, tmp_path: Path
) -> None:
    (run.folder / "evaluation.json").unlink()
    progress = Silent()
    analyse((run.folder,), tmp_path / "analysis", progress)
    assert progress.warnings == [f"{run.folder / 'evaluation.json'} is gone"]
    manifest = read_sealed(run.folder / "manifest.json")
    manifest["outputs"]["selection"]["made_from"]["neurons"] = "0"
    write_sealed(run.folder / "manifest.json", manifest)
    with pytest.raises(DataError, match=r"selection\.json was made from another neur"):
        analyse((run.folder,), tmp_path / "analysis", Silent())


def test_a_run_that_nothing_harmed_says_nothing_new(run: FinishedRun) -> None:
    before = files_of(run.folder)
    again = resumed(run)
    assert set(again.warnings) == set(run.warnings)
    assert files_of(run.folder) == before
