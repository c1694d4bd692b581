"""The guard over real trainings: planted collapses, healthy ones, stops, best steps."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from neuron_opsd.config import Config
from neuron_opsd.config.tables import load_config
from neuron_opsd.errors import ConfigError, TrainingError
from neuron_opsd.method.guard import SIGNS, best_step, collapses
from neuron_opsd.methods import METHODS, Oracle
from neuron_opsd.models.load import load_model
from neuron_opsd.models.roles import Learner
from neuron_opsd.processes.stopping import STOPPING
from neuron_opsd.progress import Silent
from neuron_opsd.records import StepMetrics
from neuron_opsd.runs.adapters import CANDIDATES, Training
from neuron_opsd.runs.context import RunContext
from neuron_opsd.runs.metrics import read_metrics
from neuron_opsd.runs.training import train_adapter
from neuron_opsd.stages.looking import guard_questions
from neuron_opsd.stages.training import Batch, Objective, RolloutGroups
from neuron_opsd.storage.run_directory import RunDirectory
from objectives import Imitating, Rewarding
from taught import (
    ANSWERS,
    LONG_CHOICES,
    RIGHT_ONES,
    WRONG_ONES,
    Saying,
    Told,
    examples,
    settings,
    taught_model,
    trained,
)
from tiny_runs import files_of, read_json, tiny_config, tiny_request, tiny_run

LONG = "the cat sat on the mat and the dog ran after the other cat"
ON_LOOKS = " on the guard's questions"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a model that knows something."""
    return taught_model(tmp_path_factory.mktemp("taught"))


def saying(text: str, *, finished: bool = True) -> Callable[[Config], Objective]:
    """Return what teaches to say one thing, whatever is asked."""
    return lambda config: Imitating(config, Saying(text, finished).roll_out)


def liking_length(config: Config) -> Objective:
    """Return a reward that likes length."""
    return Rewarding(
        config,
        lambda _, groups: [
            [float(len(one.token_ids)) for one in group.completions] for group in groups
        ],
    )


def twisted(config: Config) -> Objective:
    """Return what teaches the wrong answers."""
    return Imitating(config, Told(WRONG_ONES).roll_out)


PLANTED: dict[str, tuple[Callable[[Config], Objective] | str, str, float, int]] = {
    "rollouts grow long": (liking_length, "constrained", 0.03, 20),
    "rollouts are cut at the longest length": (
        saying(LONG, finished=False),
        *("free", 0.03, 10),
    ),
    "rollouts repeat themselves": (saying("yes " * 10), "free", 0.01, 20),
    "the entropy is gone": ("ttrl", "constrained", 0.03, 40),
    "the entropy explodes": (saying(LONG), "free", 0.03, 10),
    "all rollouts of a question agree": ("intuitor", "constrained", 0.03, 10),
    "one answer is given to nearly all questions": (
        saying("yes"),
        *("constrained", 0.01, 20),
    ),
    "answers hardly depend on the question": (saying("no"), "free", 0.01, 20),
    "the student rules out what the base model says": (
        twisted,
        *("constrained", 0.01, 40),
    ),
    "the student is far from the base model": ("neuron-opsd", "free", 1.0, 5),
}
"""By the sign: what is trained, how answers are given, at what rate, how many steps."""


def test_every_kind_of_collapse_is_planted() -> None:
    assert PLANTED.keys() == SIGNS.keys()


@pytest.mark.parametrize("sign", PLANTED)
def test_a_planted_collapse_makes_the_guard_fire(model: Path, sign: str) -> None:
    objective, mode, rate, steps = PLANTED[sign]
    rates = f"distill.learning_rate={rate}", f"distill.steps={steps}"
    config = settings(model, *rates, mode=mode)
    choices = LONG_CHOICES if objective is liking_length else ANSWERS
    metrics = trained(config, objective, choices)
    assert sign + ON_LOOKS in {one.sign for one in collapses(metrics, config.guard)}
    # It is the training that collapsed, not the questions that were collapsed before.
    healthy = [
        replace(metrics[4], look=replace(look, student=look.base))
        for look in [metrics[4].look]
        if look
    ]
    assert len(healthy) == 1
    assert collapses(healthy, config.guard) == []


HEALTHY = [
    (name, mode)
    for name, method in METHODS.items()
    for mode in ("free", "constrained")
    if not issubclass(method, Oracle)
]


@pytest.mark.parametrize(("name", "mode"), HEALTHY)
def test_a_healthy_training_leaves_the_guard_silent(
    model: Path, name: str, mode: str
) -> None:
    rates = "distill.learning_rate=0.0001", "distill.steps=25"
    config = settings(model, *rates, mode=mode)
    metrics = trained(config, name)
    assert len([one for one in metrics if one.look]) == 5
    assert collapses(metrics, config.guard) == []


def test_healthy_trainings_are_of_every_method_in_both_ways() -> None:
    assert len(HEALTHY) == 22


def test_a_look_moves_nothing_in_training(model: Path) -> None:
    """Its draws are its own: steps are the same to the bit with it and without."""
    for mode in ("free", "constrained"):
        config = settings(model, "distill.steps=6", "guard.every=2", mode=mode)
        seen = trained(config, "neuron-opsd")
        unseen = trained(config.changed(guard={"num_questions": 0}), "neuron-opsd")
        assert [one.look is not None for one in seen] == [False, True] * 3
        assert [replace(one, look=None) for one in seen] == unseen


def test_the_questions_are_those_not_trained_on_first(model: Path) -> None:
    config = settings(model, mode="constrained")
    pool = {one.question_id: one.question for one in examples(config)}
    few = set(list(pool)[:10])
    found = [one.question.id for one in guard_questions(pool, few, config)]
    assert len(set(found)) == 16
    assert set(found[:6]) == pool.keys() - few
    four = config.changed(guard={"num_questions": 4})
    chosen = [one.question.id for one in guard_questions(pool, few, four)]
    assert len(chosen) == 4
    assert not few & set(chosen)
    assert chosen == [one.question.id for one in guard_questions(pool, few, four)]
    other = four.model_copy(update={"seed": 1})
    assert chosen != [one.question.id for one in guard_questions(pool, few, other)]


TURN = 12
"""Step in which a training that went well turns bad."""


def turning(stop_at: int = -1) -> Callable[[Learner, Batch], RolloutGroups]:
    """Return what teaches the right answers, then one answer; maybe asked to stop."""

    def roll_out(learner: Learner, batch: Batch) -> RolloutGroups:
        if batch.step == stop_at:
            STOPPING.number = 2
        taught = Saying("yes") if batch.step >= TURN else Told(RIGHT_ONES)
        return taught.roll_out(learner, batch)

    return roll_out


@contextmanager
def opened(folder: Path, config: Config) -> Iterator[RunContext]:
    progress = Silent()
    with (
        RunDirectory.open(folder, {}, {}, warn=progress.warn) as run,
        warnings.catch_warnings(),
    ):
        # PEFT asks transformers for what it calls by a new name now.
        warnings.simplefilter("ignore", FutureWarning)
        yield RunContext(run, config, progress)


def train_in(
    folder: Path, config: Config, *, keep_after: tuple[int, ...] = (), stop_at: int = -1
) -> tuple[tuple[StepMetrics, ...], list[str]]:
    """Train in a run directory; return what the steps measured, and the warnings."""
    shown = examples(config)
    pool = {one.question_id: one.question for one in shown}
    method = Imitating(config, turning(stop_at))
    with opened(folder, config) as run:
        try:
            metrics = train_adapter(
                run,
                load_model(config.model),
                Training("main", keep_after=keep_after),
                shown,
                method,
                guard_questions(pool, set(pool), config),
            )
        finally:
            STOPPING.number = 0
        return metrics, list(run.directory.warnings)


@pytest.fixture
def collapsing(model: Path) -> Config:
    """Give settings of a training that is good before it ends with one answer."""
    return settings(
        model,
        *("distill.learning_rate=0.003", "distill.steps=30", "guard.every=3"),
        "distill.checkpoint_every=4",
        mode="constrained",
    )


def stopped_in(folder: Path, config: Config) -> TrainingError:
    """Train in a run directory where that is stopped; return the error."""
    with pytest.raises(TrainingError) as caught:
        train_in(folder, config)
    return caught.value


def test_stop_ends_the_training_at_the_first_sign(
    tmp_path: Path, collapsing: Config
) -> None:
    metrics, told = train_in(tmp_path / "warned", collapsing)
    first = collapses(metrics, collapsing.guard)[0]
    assert TURN < first.step < 29
    assert sum(f"step {first.step}: " in one for one in told) >= 1
    wary = collapsing.changed(guard={"on_collapse": "stop"})
    errors = [stopped_in(tmp_path / "stopped", wary)]
    assert len(read_metrics(tmp_path / "stopped/train")) == first.step + 1
    assert not (tmp_path / "stopped/adapter").exists()
    # Called again it says the same, and takes no step.
    before = files_of(tmp_path / "stopped/train")
    errors.append(stopped_in(tmp_path / "stopped", wary))
    assert files_of(tmp_path / "stopped/train") == before
    for error in errors:
        assert f"the student collapses: step {first.step}: {first.sign}" in str(error)
        assert "resume with --set guard.on_collapse=warn" in str(error)
        assert error.exit_status == 2
    # With `warn` it goes on where it stopped, and ends as if it never had.
    train_in(tmp_path / "stopped", collapsing)
    adapters = [files_of(tmp_path / name / "adapter") for name in ("warned", "stopped")]
    assert adapters[0] == adapters[1]


def test_best_ends_with_that_step_s_adapter(tmp_path: Path, collapsing: Config) -> None:
    best = collapsing.changed(guard={"keep": "best"})
    every = tuple(range(3, 30, 3))
    metrics, _ = train_in(tmp_path / "all", collapsing, keep_after=every)
    kept = best_step(metrics, collapsing.guard)
    assert kept is not None
    assert 0 < kept.num_steps <= TURN
    found, _ = train_in(tmp_path / "best", best)
    assert found == metrics
    adapter = files_of(tmp_path / "best/adapter")
    assert adapter == files_of(tmp_path / f"all/adapter-{kept.num_steps:06d}")
    assert adapter != files_of(tmp_path / "all/adapter")
    assert not list((tmp_path / "best/train" / CANDIDATES).iterdir())


@pytest.mark.parametrize("stop_at", [0, 2, 5, 9, 13, 20, 29])
def test_a_training_that_resumes_comes_to_the_same_verdict(
    tmp_path: Path, collapsing: Config, stop_at: int
) -> None:
    best = collapsing.changed(guard={"keep": "best"})
    whole = train_in(tmp_path / "whole", best)
    with suppress(BaseException):
        train_in(tmp_path / "resumed", best, stop_at=stop_at)
    assert len(read_metrics(tmp_path / "resumed/train")) == stop_at + 1
    assert train_in(tmp_path / "resumed", best) == whole
    adapters = [files_of(tmp_path / name / "adapter") for name in ("whole", "resumed")]
    assert adapters[0] == adapters[1]


def test_a_best_adapter_that_is_lost_is_made_again(
    tmp_path: Path, collapsing: Config
) -> None:
    best = collapsing.changed(guard={"keep": "best"})
    train_in(tmp_path / "whole", best)
    with suppress(BaseException):
        train_in(tmp_path / "lost", best, stop_at=20)
    candidates = tmp_path / "lost/train" / CANDIDATES
    (name,) = {path.name for path in candidates.iterdir()}
    (candidates / name / "adapter_model.safetensors").write_bytes(b"spoilt")
    _, told = train_in(tmp_path / "lost", best)
    assert any("was changed or damaged" in one for one in told)
    adapters = [files_of(tmp_path / name / "adapter") for name in ("whole", "lost")]
    assert adapters[0] == adapters[1]


def test_the_untrained_adapter_is_kept_where_every_step_is_worse(
    tmp_path: Path, collapsing: Config
) -> None:
    ruined = collapsing.changed(
        guard={"keep": "best", "every": 6},
        distill={"learning_rate": 0.1, "steps": 6},
    )
    metrics, _ = train_in(tmp_path / "run", ruined)
    kept = best_step(metrics, ruined.guard)
    assert kept is not None
    assert kept.num_steps == 0
    start = load_model(collapsing.model)
    one = examples(ruined)[0].student_prompt
    pair = (start.encode(one), start.encode_answer(one, "yes"))
    columns = [(start.encode_answer(one, "yes")[0],), *[()] * len(pair[1])]
    trained_model = load_model(ruined.model, tmp_path / "run/adapter")
    before, after = (m.logits_at([pair], [columns]) for m in (start, trained_model))
    assert before[0][0] == pytest.approx(after[0][0])


def test_a_run_says_which_step_it_kept_and_why(model: Path, tmp_path: Path) -> None:
    """Evaluation, summary, report and card name it; without `best` none does."""
    more = ["guard.every=2", "guard.num_questions=8", "distill.steps=6"]
    more.append("guard.max_divergence=1e-9")  # else it is healthy, and none is kept
    last, best = (
        tiny_run(
            tiny_request(tmp_path, keep),
            tiny_config(model, "prompts.form=plain", f"guard.keep={keep}", *more),
        )
        for keep in ("last", "best")
    )
    kept = best_step(read_metrics(best.folder / "train"), best.config.guard)
    assert kept is not None
    assert best.data.guard is not None
    assert best.data.guard.kept == kept
    assert read_json(best.folder / "summary.json")["kept_after_steps"] == kept.num_steps
    for entry in best.evaluation().values():
        assert entry["kept_after_steps"] == kept.num_steps
    for file in ("report.html", "adapter/README.md"):
        text = (best.folder / file).read_text()
        assert "No label was read for this." in text
        assert "No label was read for this." not in (last.folder / file).read_text()
    assert all("kept_after_steps" not in e for e in last.evaluation().values())
    assert "What the guard saw" in (last.folder / "report.html").read_text()


def test_the_best_of_no_questions_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"guard\.keep"):
        load_config(None, ["guard.num_questions=0", "guard.keep=best"])
