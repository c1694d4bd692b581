"""Trainings in a run directory by several processes: led, stopped, lost and resumed."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

import ranked_runs
from neuron_opsd.cli import main
from neuron_opsd.config import Config
from neuron_opsd.config.tables import load_config
from neuron_opsd.errors import ConfigError
from neuron_opsd.methods import METHODS, Target
from neuron_opsd.methods.distillation import NeuronOPSD, OracleOPSD
from neuron_opsd.processes.ranks import LostRankError, launched_rank
from neuron_opsd.runs.courses import Job, Order, order_text, read_order
from neuron_opsd.runs.metrics import read_metrics
from neuron_opsd.runs.ranked import led, refuse_unsupported
from neuron_opsd.stages.rollouts import ask
from neuron_opsd.storage.codecs import load_json
from ranked_runs import FAULT, STEPS
from resolved import sampled_among_choices
from script_runs import left_by
from tiny_runs import tiny_config, tiny_examples

EXACT = 1e-5
"""How far a weight may be from that of a single process, in float32."""


@pytest.fixture(scope="module")
def folder(tiny_llama_plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give what all trainings left."""
    return left_by(
        ranked_runs, tmp_path_factory.mktemp("ranked-runs"), tiny_llama_plain
    )


def ends(folder: Path, name: str) -> Any:
    """Return how the processes of a training ended."""
    return json.loads((folder / "ends.json").read_text())[name]


def told(folder: Path, name: str, rank: int, size: int = 2) -> dict[str, Any]:
    """Return what a rank raised."""
    place = folder / f"{name}.{size}.rank-{rank}.json"
    found: dict[str, Any] = json.loads(place.read_text())
    return found


def distance(folder: Path, name: str, other: str = "alone") -> float:
    """Return how far the adapters, or models, of two trainings are apart at most."""
    one, two = (
        load_file(next((folder / n / "adapter").glob("*model.safetensors")))
        for n in (name, other)
    )
    assert one.keys() == two.keys()
    return max(float((one[key] - two[key]).abs().max()) for key in one)


def test_ranks_leave_what_a_single_process_leaves(folder: Path) -> None:
    assert ends(folder, "two") == [0, 0]
    assert not any(told(folder, "two", rank)["kind"] for rank in (0, 1))
    assert distance(folder, "two") <= EXACT
    found, wanted = (read_metrics(folder / n / "train") for n in ("two", "alone"))
    assert len(found) == STEPS
    for entry, expected in zip(found, wanted, strict=True):
        as_expected = asdict(expected)
        for name in ("loss", "grad_norm", "entropy"):
            as_expected[name] = pytest.approx(as_expected[name], rel=1e-4)
        one = asdict(entry)
        seen, looked = one.pop("look"), as_expected.pop("look")
        assert one == as_expected
        assert (looked is not None) is (entry.step % 2 == 1)
        for model in looked or ():
            assert seen[model] == pytest.approx(looked[model], rel=1e-4, abs=1e-7)


def test_a_student_that_collapses_stops_all_ranks(folder: Path) -> None:
    assert ends(folder, "collapsed") == [0, 0]
    found = told(folder, "collapsed", 0)
    assert found["kind"] == "TrainingError"
    assert "step 1: the student is far from the base model" in found["error"]
    assert not told(folder, "collapsed", 1)["kind"]  # one process says it
    assert len(read_metrics(folder / "collapsed/train")) == 2


def test_a_lost_rank_ends_the_others_and_one_process_goes_on(folder: Path) -> None:
    together, resumed = ends(folder, "killed")
    assert together == [0, -signal.SIGKILL]
    found = told(folder, "killed", 0)
    assert found["kind"] == LostRankError.__name__
    assert "the same command resumes" in found["error"]
    assert resumed == [0]
    assert distance(folder, "killed") <= EXACT


def test_the_loss_of_rank_0_ends_those_that_wait_for_it(folder: Path) -> None:
    assert ends(folder, "led") == [-signal.SIGKILL, 0]
    found = told(folder, "led", 1)
    assert found["kind"] == LostRankError.__name__
    assert "has ended or cannot be reached" in found["error"]


def test_ranks_stop_after_the_step_in_which_one_was_asked_to(folder: Path) -> None:
    together, resumed = ends(folder, "asked")
    assert together == [0, 0]
    assert told(folder, "asked", 0)["kind"] == "StoppedError"
    assert not told(folder, "asked", 1)["kind"]
    assert resumed == [0, 0, 0]
    assert distance(folder, "asked") <= EXACT
    assert len(read_metrics(folder / "asked/train")) == STEPS


def test_the_checkpoint_of_a_stop_is_of_the_step_it_came_in(folder: Path) -> None:
    found = load_json(folder / "asked.stopped.json")
    assert found == [f"step-{step:06d}" for step in (2, FAULT + 1)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("other-files", "are not those of rank 0; copy the same files"),
        ("other-versions", "rank 1 has torch 1.0, unlike rank 0"),
    ],
)
def test_ranks_that_differ_do_not_begin(folder: Path, name: str, text: str) -> None:
    found = told(folder, name, 0)
    assert found["kind"] == "TrainingError"
    assert text in found["error"]
    assert not told(folder, name, 1)["kind"]  # one process says it
    assert not (folder / name / "adapter").exists()


def test_full_tuning_is_the_same_with_two_ranks(folder: Path) -> None:
    assert ends(folder, "full") == [[0], [0, 0]]
    assert distance(folder, "full-two", "full-alone") <= EXACT
    assert distance(folder, "full-two", "full-alone") < distance_moved(folder) / 100


def distance_moved(folder: Path) -> float:
    """Return how far full tuning moved a weight at most, from a checkpoint on."""
    states = sorted((folder / "full-two/train/checkpoints").glob("step-*"))
    state = load_file(states[-1] / "state.safetensors")
    return max(
        float((state[name] - state[name.replace("student.", "teacher.")]).abs().max())
        for name in state
        if name.startswith("student.")
    )


@pytest.fixture
def started_with(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Give a function that sets what torchrun tells a process."""

    def start(rank: object, size: object = 2) -> None:
        for name, value in {
            "RANK": rank,
            "WORLD_SIZE": size,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": "1",
        }.items():
            monkeypatch.setenv(name, str(value))

    return start


def test_a_process_knows_its_rank(started_with: Callable[..., None]) -> None:
    assert launched_rank() is None
    started_with(1)
    assert launched_rank() == 1
    started_with(0)
    assert launched_rank() == 0
    started_with(0, 1)
    assert launched_rank() is None


@pytest.mark.parametrize(("rank", "size"), [("one", 2), (2, 2), (0, -1)])
def test_a_rank_that_cannot_be_is_refused(
    started_with: Callable[..., None], rank: object, size: object
) -> None:
    started_with(rank, size)
    with pytest.raises(ConfigError, match="start with torchrun, or unset them"):
        launched_rank()


@pytest.mark.parametrize("command", ["compare", "demo", "plan", "config"])
def test_other_commands_than_run_are_for_one_process(
    started_with: Callable[..., None],
    command: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    started_with(1)
    assert main([command]) == 2
    said = capsys.readouterr().err
    assert f"started several processes of neuron-opsd {command}, " in said
    assert "start one process" in said


def test_the_library_says_which_rank_owns_the_folder(
    started_with: Callable[..., None], tiny_llama: Path
) -> None:
    started_with(1)
    with (
        pytest.raises(ConfigError, match="only rank 0 owns a run directory"),
        led(tiny_config(tiny_llama)),
    ):
        pass


@pytest.mark.parametrize(
    ("assignment", "text"),
    [
        ("engine.rollouts=vllm", "set it to transformers, or train with one process"),
        ("model.device=cuda:1", "takes a GPU of its own; set it to auto, cuda or cpu"),
    ],
)
def test_settings_that_ranks_cannot_have_are_refused(
    tiny_llama: Path, assignment: str, text: str
) -> None:
    config = load_config(None, [f"model.name={tiny_llama}", assignment])
    with pytest.raises(ConfigError, match=text):
        refuse_unsupported(config)


@pytest.mark.parametrize("name", ["FSDP", "DEEPSPEED"])
def test_weights_that_others_would_split_are_refused(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    with pytest.raises(ConfigError, match=f"USE_{name} asks for weights that are"):
        refuse_unsupported(tiny_config(tiny_llama))
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "false")
    refuse_unsupported(tiny_config(tiny_llama))


def order_of(config: Config, objective: Any) -> Order:
    guarded = tuple(ask([one.question for one in tiny_examples(2)], config))
    job = Job(config, tiny_examples(3), objective, guarded)
    return Order(job, 4096, "a hash", 1)


@pytest.mark.parametrize("name", ["neuron-opsd", "form-only", "ttrl"])
def test_an_order_is_read_as_it_was_written(tiny_llama: Path, name: str) -> None:
    config = sampled_among_choices(tiny_config(tiny_llama, "distill.num_samples=4"))
    written = order_of(config, METHODS[name](config))
    found = read_order(order_text(written))
    assert found.job.config == config
    assert found.job.examples == written.job.examples
    assert found.job.guarded == written.job.guarded
    assert type(found.job.objective) is METHODS[name]
    assert replace(found, job=written.job) == written


def test_methods_that_others_do_not_know_are_refused(tiny_llama: Path) -> None:
    class Own(NeuronOPSD):
        """Trains as a method of somebody's own does."""

        name = "own"

    config = sampled_among_choices(tiny_config(tiny_llama))
    with pytest.raises(
        ConfigError, match="Own is not a method that other processes know"
    ):
        order_text(order_of(config, Own(config)))
    oracle = OracleOPSD(config, {"q0": Target("yes", "yes")})
    with pytest.raises(ConfigError, match="needs gold answers"):
        order_text(order_of(config, oracle))
