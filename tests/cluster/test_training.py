"""Trainings by the workers of a Ray cluster, under its `TorchTrainer`."""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest
from safetensors.torch import load_file

from neuron_opsd.cluster import session
from neuron_opsd.cluster.session import Share
from neuron_opsd.cluster.training import Team
from neuron_opsd.config import ClusterConfig, Config
from neuron_opsd.config.tables import load_config
from neuron_opsd.errors import TryAgainError
from neuron_opsd.methods.distillation import NeuronOPSD
from neuron_opsd.progress import Silent
from neuron_opsd.runs import teams
from neuron_opsd.runs.adapters import Training
from neuron_opsd.runs.context import RunContext
from neuron_opsd.runs.courses import HERE, Course, Job
from neuron_opsd.runs.elsewhere import machines_for
from neuron_opsd.runs.metrics import read_metrics
from neuron_opsd.runs.teams import team_course
from neuron_opsd.runs.training import train_adapter
from neuron_opsd.stages.looking import guard_questions
from neuron_opsd.stages.training import Earlier
from neuron_opsd.storage.run_directory import RunDirectory
from resolved import sampled_among_choices
from tiny_runs import SETTINGS, tiny_examples

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")
"""Ray's own, where it is imported."""

STEPS = 5
EXACT = 1e-5
"""How far a weight may be from that of a single process, in float32."""
EXAMPLES = tiny_examples(6)


@pytest.fixture
def config(tiny_llama_plain: Path) -> Config:
    more = [f"model.name={tiny_llama_plain}", "prompts.form=plain"]
    more += [f"distill.steps={STEPS}", "distill.learning_rate=0.001"]
    more += ["guard.every=2", "guard.num_questions=4"]
    return sampled_among_choices(load_config(None, [*SETTINGS, *more]))


class StopAt(Silent):
    """Progress that is interrupted when a step is told."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def log_metrics(
        self,
        stage: str,
        step: int,
        metrics: Mapping[str, float],
        events: Sequence[str] = (),
    ) -> None:
        """Stop as an interrupt does."""
        del stage, metrics, events
        if step == self.step:
            raise KeyboardInterrupt


def trained(
    folder: Path, config: Config, workers: ClusterConfig | None, stop_at: int = STEPS
) -> list[str]:
    """Train, or go on, by workers or here; maybe stop in between."""
    if workers is not None:
        config = config.model_copy(update={"cluster": workers})
    progress = StopAt(stop_at)
    with (
        warnings.catch_warnings(),
        machines_for(config, progress) as machines,
        RunDirectory.open(folder, {}, {}, warn=progress.warn) as run,
    ):
        warnings.simplefilter("ignore", FutureWarning)
        context = RunContext(run, config, progress, machines)
        model, method = machines.load(config), NeuronOPSD(config)
        pool = {one.question_id: one.question for one in EXAMPLES}
        guarded = guard_questions(pool, set(pool), config)
        train_adapter(context, model, Training("main"), EXAMPLES, method, guarded)
    return progress.warnings


def distance(one: Path, other: Path) -> float:
    """Return how far two adapters are apart at most."""
    weights = "adapter/adapter_model.safetensors"
    first, second = load_file(one / weights), load_file(other / weights)
    assert first.keys() == second.keys()
    return max(float((first[key] - second[key]).abs().max()) for key in first)


def test_workers_train_what_one_process_trains_and_go_on_with_it(
    tmp_path: Path,
    config: Config,
    cluster: ClusterConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(teams, "PART", 20_000)  # smaller than the state
    alone, two, one = (tmp_path / name for name in ("alone", "two", "one"))
    assert not trained(alone, config, None)
    # Two workers begin, this process goes on.
    with pytest.raises(KeyboardInterrupt):
        trained(two, config, cluster, stop_at=3)
    assert len(read_metrics(two / "train")) == 4
    (said,) = trained(two, config, None)
    assert "processes that train main 2 -> 1" in said
    assert distance(two, alone) <= EXACT
    # This process begins, and two workers go on.
    with pytest.raises(KeyboardInterrupt):
        trained(one, config, None, stop_at=3)
    (said,) = trained(one, config, cluster)
    assert "processes that train main 1 -> 2" in said
    assert distance(one, alone) <= EXACT
    found, wanted = (read_metrics(f / "train") for f in (one, alone))
    for entry, expected in zip(found, wanted, strict=True):
        assert entry.num_tokens == expected.num_tokens
        assert entry.loss == pytest.approx(expected.loss, rel=1e-4)
    looks = [[entry.look for entry in steps if entry.look] for steps in (found, wanted)]
    assert len(looks[0]) == len(looks[1]) == 3
    for look, expected_look in zip(*looks, strict=True):
        near = pytest.approx(asdict(expected_look.student), rel=1e-4, abs=1e-7)
        assert asdict(look.student) == near


@contextmanager
def team_at_work(config: Config, marker: str) -> Iterator[Course]:
    """Give a training by two workers that are told a marker."""
    settings = ClusterConfig(timeout=240)
    team = Team(2, Share(0.0, 1), {"NEURON_OPSD_MARKER": marker}, settings)
    job = Job(config, EXAMPLES, NeuronOPSD(config))
    with team_course(team, job, config.model.tokens_per_batch) as course:
        yield course


def processes_with(marker: str) -> list[int]:
    """Return the processes that were told a marker, oldest first."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and int(folder.name) != os.getpid():
            try:
                told = (folder / "environ").read_bytes()
            except OSError:
                continue
            if f"NEURON_OPSD_MARKER={marker}\0".encode() in told:
                found.append(int(folder.name))
    return sorted(found)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="there is no /proc")
@pytest.mark.usefixtures("cluster")
def test_a_lost_worker_ends_the_training_with_a_line(config: Config) -> None:
    marker = f"lost-{os.getpid()}"
    with team_at_work(config, marker) as course:
        steps = course.take(Earlier())
        next(steps)
        workers = processes_with(marker)
        assert len(workers) == 2
        os.kill(workers[-1], signal.SIGKILL)
        start = time.monotonic()
        with pytest.raises(TryAgainError, match="the same command resumes"):
            list(steps)
        assert time.monotonic() - start < 120
    assert not processes_with(marker)


@pytest.mark.usefixtures("cluster")
def test_workers_that_do_not_come_are_not_waited_for_long(config: Config) -> None:
    team = Team(2, Share(0.0, 1000), {}, ClusterConfig(timeout=3))
    job = Job(config, EXAMPLES, NeuronOPSD(config))
    start = time.monotonic()
    with (
        pytest.raises(TryAgainError, match="2 workers with 1000 processors each did"),
        team_course(team, job, 4096),
    ):
        pass
    assert time.monotonic() - start < 60


def stood_in(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Have trainings here be noted, and not begun."""
    noted: list[Job] = []

    @contextmanager
    def course(job: Job, model: object) -> Iterator[Course]:
        del model
        noted.append(job)
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(HERE, "course", course)
    return noted


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"engine": {"rollouts": "vllm"}}, "vLLM does not run in processes that"),
        ({"cluster": {"address": "ray://head:1"}}, "Ray Train needs a process on a"),
    ],
)
def test_what_workers_cannot_train_is_trained_here_and_said(
    config: Config,
    change: Mapping[str, Mapping[str, str]],
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from neuron_opsd.runs.elsewhere import ClusterMachines

    monkeypatch.setattr(session, "find_spec", lambda _: True)
    noted, said = stood_in(monkeypatch), Silent()
    config = config.changed(cluster={"address": "local"}).changed(**change)
    machines = ClusterMachines(config, said.warn)
    job = Job(config, EXAMPLES, NeuronOPSD(config))
    model: Callable[[], None] = lambda: None  # noqa: E731 - it is not looked at
    with pytest.raises(KeyboardInterrupt), machines.course(job, model):  # type: ignore[arg-type]
        pass
    assert noted == [job]
    assert reason in said.warnings[0]
