"""The trackers themselves: told by us, stopped, gone on with, and read back."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import neuron_opsd as no
from neuron_opsd.cli import main
from neuron_opsd.progress import Silent
from neuron_opsd.tracking.subject import LEDGER
from neuron_opsd.tracking.tracked import TRACKERS
from tiny_runs import command_line, outcome_of, read_json, tiny_request

# What a tracker's own packages warn of is no fault of ours.
pytestmark = pytest.mark.filterwarnings("ignore")

STEPS = 5
SETTINGS = {"distill.steps": STEPS, "method": "neuron-opsd"}
RESULTS = {"my exam, 1/after/avg_at_k": 0.75}


def missing(package: str) -> pytest.MarkDecorator:
    """Skip where a tracker is not installed."""
    reason = f"{package} is not installed; make test-trackers installs it"
    return pytest.mark.skipif(find_spec(package) is None, reason=reason)


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what trackers write out of the user's own folders."""
    monkeypatch.chdir(tmp_path)
    for name, place in {
        "WANDB_DIR": tmp_path,
        "WANDB_CACHE_DIR": tmp_path / "cache",
        "WANDB_CONFIG_DIR": tmp_path / "config",
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "NO_PROXY": "*",
    }.items():
        monkeypatch.setenv(name, str(place))
    monkeypatch.delenv("WANDB_MODE", raising=False)


@pytest.fixture(scope="module", autouse=True)
def trackio_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Name trackio's folder, which it asks for when it is imported."""
    os.environ["TRACKIO_DIR"] = str(tmp_path_factory.mktemp("trackio"))


def of_tensorboard(out: Path, name: str) -> list[tuple[int, float]]:
    """Return the steps and values of a metric in event files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (folder,) = (out / "tensorboard").iterdir()
    found = EventAccumulator(str(folder)).Reload()
    assert "events/text_summary" in found.Tags()["tensors"]
    assert "settings/text_summary" in found.Tags()["tensors"]
    return [(one.step, one.value) for one in found.Scalars(name)]


def of_trackio(out: Path, name: str) -> list[tuple[int, float]]:
    """Return the same of the project's database."""
    import trackio
    from trackio.sqlite_storage import SQLiteStorage

    (run,) = [one for one in SQLiteStorage.get_runs("neuron-opsd") if out.name in one]
    alerts = trackio.Api().alerts("neuron-opsd", run=run)
    assert [alert["text"] for alert in alerts] == ["step 1: odd"]
    logs = SQLiteStorage.get_logs("neuron-opsd", run)
    return [(one["step"], one[name]) for one in logs if name in one]


def of_wandb(out: Path, name: str) -> list[tuple[int, float]]:
    """Return the same of all files that wait to be synced, which are of one run."""
    from wandb.proto.wandb_internal_pb2 import Record

    del out
    files = sorted(Path.cwd().glob("wandb/offline-run-*/run-*.wandb"))
    assert len({path.name for path in files}) == 1
    found, said = [], []
    for path in files:
        for data in records(path.read_bytes()):
            record = Record()
            record.ParseFromString(data)
            said += [record.alert.text] if record.HasField("alert") else []
            row = {
                item.key or "/".join(item.nested_key): json.loads(item.value_json)
                for item in record.history.item
            }
            found += [(row["_step"], row[name])] if name in row else []
    assert said == ["step 1: odd"]
    return found


def records(data: bytes) -> Iterator[bytes]:
    """Yield the records of a log as LevelDB writes them, after a header of its own."""
    place, found, block, head = 7, b"", 1 << 15, 7
    while place + head <= len(data):
        if block - place % block < head:
            place += block - place % block
            continue
        length = int.from_bytes(data[place + 4 : place + 6], "little")
        found += data[place + head : place + head + length]
        if data[place + 6] in (1, 4):  # a whole record, or the last part of one
            yield found
            found = b""
        place += head + length


def of_mlflow(out: Path, name: str) -> list[tuple[int, float]]:
    """Return the same of the one run in the database."""
    from mlflow import MlflowClient

    client = MlflowClient()
    (experiment,) = [e for e in client.search_experiments() if e.name == "neuron-opsd"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["distill.steps"] == str(STEPS)
    assert run.data.tags["event.1.0"] == "step 1: odd"
    assert out.name in run.info.run_name
    history = client.get_metric_history(run.info.run_id, name.replace(",", "_"))
    return [(one.step, one.value) for one in history]


READERS: Mapping[str, Callable[[Path, str], list[tuple[int, float]]]] = {
    "tensorboard": of_tensorboard,
    "trackio": of_trackio,
    "wandb": of_wandb,
    "mlflow": of_mlflow,
}


def tell(name: str, out: Path, stop_after: int = STEPS) -> list[str]:
    """Tell a tracker of a training from its first step on, as a run does."""
    progress = Silent()
    try:
        with no.tracked(name, out, progress) as told:
            told.log_settings("distillation", SETTINGS)
            for step in range(STEPS):
                if step == stop_after:
                    raise KeyboardInterrupt
                events = ["step 1: odd"] if step == 1 else []
                told.log_metrics("distillation", step, {"loss": step / 2}, events)
            told.log_metrics("distillation", STEPS, RESULTS)
    except KeyboardInterrupt:
        pass
    return progress.warnings


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=missing(name)) for name in TRACKERS]
)
def test_a_training_that_resumes_is_told_once(name: str, tmp_path: Path) -> None:
    out = tmp_path / f"run-{name}"
    out.mkdir()
    for stop_after in (2, 3, STEPS, STEPS):
        assert tell(name, out, stop_after) == []
    read = READERS[name]
    assert read(out, "loss") == [(step, step / 2) for step in range(STEPS)]
    ((key, value),) = RESULTS.items()
    assert read(out, key) == [(STEPS, value)]


@missing("tensorboard")
def test_a_run_tells_what_its_files_say(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    request = tiny_request(tmp_path)
    argv = command_line(request, tiny_llama, ())
    assert main([*argv, "--track", "tensorboard"]) == 0
    folder = request.out / "tensorboard" / "distillation"
    found = EventAccumulator(str(folder)).Reload()
    losses = [(one.step, one.value) for one in found.Scalars("loss")]
    lines: list[Any] = [
        json.loads(line)
        for line in (request.out / "train" / "metrics.jsonl").read_text().splitlines()
    ]
    assert losses == [(one["step"], pytest.approx(one["loss"])) for one in lines]
    (result,) = found.Scalars("parity/after/avg_at_k")
    evaluation = read_json(request.out / "evaluation.json")
    assert result.value == pytest.approx(evaluation["parity"]["after"]["avg_at_k"])
    # All else is as without it.
    monkeypatch.chdir(tmp_path)
    plain = tiny_request(tmp_path, "plain")
    assert main(command_line(plain, tiny_llama, ())) == 0
    assert outcome_of(plain.out) == outcome_of(request.out)
    names = {path.name for path in request.out.iterdir()}
    assert names - {path.name for path in plain.out.iterdir()} == {
        LEDGER,
        "tensorboard",
    }
    command = read_json(request.out / "report.json")["command"]
    assert "track" not in command
