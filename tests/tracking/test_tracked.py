"""Progress that tells a tracker: what it is told, once, and what its failing does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import neuron_opsd as no
from neuron_opsd.cli import main
from neuron_opsd.cli.app import making
from neuron_opsd.comparison.spreading import Letter, Telling, deliver
from neuron_opsd.errors import ConfigError
from neuron_opsd.progress import Silent
from neuron_opsd.runs.metrics import append_metrics
from neuron_opsd.storage.mirror import Original
from neuron_opsd.tracking import TrackerName
from neuron_opsd.tracking import tracked as tracking
from neuron_opsd.tracking.subject import LEDGER, Subject
from tiny_runs import (
    FinishedRun,
    command_line,
    files_of,
    outcome_of,
    read_json,
    tiny_config,
    tiny_request,
)

STEPS = 4
FORM = "evaluation.form_only=true"


class Store:
    """A tracker that keeps all that it was told, in memory."""

    def __init__(self, fails_at: int | None = None, *, closes: bool = True) -> None:
        self.settings: dict[str, Mapping[str, Any]] = {}
        self.steps: dict[str, list[int]] = {}
        self.values: dict[tuple[str, int], Mapping[str, float]] = {}
        self.events: list[str] = []
        self.ends: list[bool] = []
        self.fails_at, self.closes = fails_at, closes

    def open(self, subject: Subject) -> StoreLog:
        """Open a training."""
        self.settings[subject.key] = subject.settings
        self.steps.setdefault(subject.key, [])
        return StoreLog(self, subject.key)


class StoreLog:
    """One training of it."""

    def __init__(self, store: Store, key: str) -> None:
        self._store, self._key = store, key
        self.taken = max(store.steps[key], default=-1) + 1

    def write(
        self, step: int, values: Mapping[str, float], events: Sequence[str]
    ) -> None:
        """Keep a step."""
        if step == self._store.fails_at:
            raise OSError("the network is away\nwith more")
        self._store.steps[self._key].append(step)
        self._store.values[self._key, step] = values
        self._store.events += events

    def close(self, *, finished: bool) -> None:
        """Keep how it ended."""
        if not self._store.closes:
            raise OSError("cannot be closed")
        self._store.ends.append(finished)


def run(request: Any, config: Any, store: Store, progress: Silent) -> None:
    """Run with a tracker."""
    with no.tracked(store.open, request.out, progress) as told:
        no.run(request.pool, request.out, config, request.tests, told)


def test_a_tracker_is_told_settings_steps_and_results_once(
    finished_run: FinishedRun, tiny_llama: Path, tmp_path: Path
) -> None:
    request, config = tiny_request(tmp_path), tiny_config(tiny_llama, FORM)
    store, progress = Store(), Silent()
    run(request, config, store, progress)
    assert list(store.steps.values()) == [[*range(STEPS + 1)]] * 2
    (main_key, form_key) = store.steps
    assert store.settings[main_key]["distill.steps"] == STEPS
    evaluation = read_json(request.out / "evaluation.json")
    results = store.values[main_key, STEPS]
    assert (
        results["parity/before/avg_at_k"] == evaluation["parity"]["before"]["avg_at_k"]
    )
    assert results["sums/after/ece"] == evaluation["sums"]["after"]["ece"]
    form = evaluation["parity"]["controls"]["form-only"]["avg_at_k"]
    assert store.values[form_key, STEPS]["parity/after/avg_at_k"] == form
    lines = (request.out / "train" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == STEPS
    assert store.values[main_key, 0]["loss"] > 0.0
    # What the run warned of at a step is an event of it, and of nothing else.
    assert store.events
    assert all(text in progress.warnings for text in store.events)
    assert all(text.startswith("step ") for text in store.events)
    assert store.ends == [True, True]
    # The run ends with the bytes of one that nobody tracked, and again told it is not.
    assert outcome_of(request.out) == outcome_of(finished_run.folder)
    before = dict(store.steps)
    run(request, config, store, progress)
    assert store.steps == before
    assert list(store.steps.values()) == [[*range(STEPS + 1)]] * 2


def test_a_finished_run_can_be_told_afterwards(
    tiny_llama: Path, tmp_path: Path
) -> None:
    request, config = tiny_request(tmp_path), tiny_config(tiny_llama)
    no.run(request.pool, request.out, config, request.tests, Silent())
    whole = files_of(request.out)
    store = Store()
    run(request, config, store, Silent())
    assert list(store.steps.values()) == [[*range(STEPS + 1)]]
    again = files_of(request.out)
    assert again.pop(LEDGER)
    assert again.keys() == whole.keys()
    assert {n for n in whole if again[n] != whole[n]} <= {"manifest.json"}


def test_a_run_that_resumes_goes_on_with_the_same_run(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request, config = tiny_request(tmp_path), tiny_config(tiny_llama)
    store = Store()

    def stopped(work: Path, entry: Any) -> None:
        append_metrics(work, entry)
        if entry.step == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("neuron_opsd.runs.training.append_metrics", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(request, config, store, Silent())
    assert store.ends == [False]
    assert list(store.steps.values()) == [[0, 1]]
    monkeypatch.undo()
    run(request, config, store, Silent())
    assert list(store.steps.values()) == [[*range(STEPS + 1)]]


def test_each_training_of_a_comparison_is_told_once(
    tiny_llama: Path, tmp_path: Path
) -> None:
    request, out = tiny_request(tmp_path), tmp_path / "compared"
    config = tiny_config(tiny_llama, "evaluation.num_resamples=10")
    sources = {"parity": request.pool}
    tests = {"parity": request.tests["parity"]}
    again = None
    for store in (first := Store(), first, again := Store()):
        with no.tracked(store.open, out, Silent()) as told:
            no.compare(sources, tests, out, config, told, methods=["lmsi"], seeds=1)
    # Of what has ended the files tell another tracker everything.
    assert first.steps == again.steps
    assert first.values == again.values
    assert list(first.steps.values()) == [[*range(STEPS + 1)]] * 2
    named = [one["method"] for one in first.settings.values()]
    assert named == ["form-only", "lmsi"]
    assert all("parity/after/avg_at_k" in first.values[k, STEPS] for k in first.steps)


def test_another_run_of_the_same_name_is_another_run(tmp_path: Path) -> None:
    keys = set()
    for name in ("one", "two"):
        folder = tmp_path / name / "run"
        folder.mkdir(parents=True)
        store = Store()
        with no.tracked(store.open, folder) as told:
            told.log_settings("distillation", {})
            told.log_settings("form-only", {})
        keys |= set(store.steps)
    assert len(keys) == 4


@pytest.mark.parametrize("fails_at", [0, 2, STEPS])
def test_a_tracker_that_fails_is_said_once_and_ends_nothing(
    fails_at: int, finished_run: FinishedRun, tiny_llama: Path, tmp_path: Path
) -> None:
    request, config = tiny_request(tmp_path), tiny_config(tiny_llama, FORM)
    progress = Silent()
    run(request, config, Store(fails_at), progress)
    said = [text for text in progress.warnings if "tracker" in text]
    assert len(said) == 1
    assert "failed (OSError: the network is away) and gets no more" in said[0]
    assert outcome_of(request.out) == outcome_of(finished_run.folder)


def test_a_tracker_that_cannot_be_opened_or_closed_ends_nothing(tmp_path: Path) -> None:
    def broken(subject: Subject) -> StoreLog:
        raise RuntimeError(f"no room for {subject.training}")

    progress = Silent()
    with no.tracked(broken, tmp_path, progress) as told:
        told.log_settings("a", {})
        told.log_metrics("a", 0, {"loss": 1.0})
        told.log_settings("b", {})
    assert len(progress.warnings) == 1
    store = Store(closes=False)
    progress = Silent()
    with no.tracked(store.open, tmp_path, progress) as told:
        told.log_settings("a", {})
        told.log_settings("b", {})
    assert len(progress.warnings) == 1


def test_no_number_is_told_that_is_none(tmp_path: Path) -> None:
    store = Store()
    with no.tracked(store.open, tmp_path) as told:
        told.log_settings("a", {})
        told.log_metrics("a", 0, {"loss": 1.0, "auroc": float("nan")})
    assert list(store.values.values()) == [{"loss": 1.0}]


@pytest.mark.parametrize("name", tracking.TRACKERS)
def test_a_tracker_that_is_not_installed_is_refused_before_any_work(
    name: TrackerName,
    tiny_llama: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda _: None)
    request = tiny_request(tmp_path)
    argv = [*command_line(request, tiny_llama, ()), "--track", name]
    assert main(argv) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"neuron-opsd: the tracker {name} needs the package {name}, which is not "
        f"installed; pip install {name}"
    ]
    assert not request.out.exists()


def test_an_unknown_tracker_is_refused_with_the_names() -> None:
    with (
        pytest.raises(ConfigError, match="one of trackio, tensorboard, wandb, mlflow"),
        no.tracked("excel", "runs/first"),
    ):
        pass


def test_what_a_worker_of_a_cluster_tells_arrives_as_it_was_said(
    tmp_path: Path,
) -> None:
    letters: list[Letter] = []
    told = Telling((0, "law", "base"), Original(tmp_path), letters.append)
    told.log_settings("lmsi", {"seed": 0})
    told.log_metrics("lmsi", 0, {"loss": 1.0}, ["step 0: odd"])
    store = Store()
    with no.tracked(store.open, tmp_path) as progress:
        context: Any = SimpleNamespace(progress=progress)
        deliver(context, lambda: letters)
    assert list(store.settings.values()) == [{"seed": 0}]
    assert list(store.values.values()) == [{"loss": 1.0}]
    assert store.events == ["step 0: odd"]


def test_no_report_names_the_tracker() -> None:
    argv = ["run", "--track", "wandb", "--out", "x", "--track=mlflow", "--json"]
    assert list(making(argv)) == ["run", "--out", "x"]
