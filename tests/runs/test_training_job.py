"""Training in a run directory: checkpoints, metrics, and what survives a stop."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from neuron_opsd.comparison.grid import Prefixed
from neuron_opsd.config import Config
from neuron_opsd.config.tables import load_config
from neuron_opsd.errors import DataError
from neuron_opsd.method.contexts.search import Known
from neuron_opsd.methods.distillation import NeuronOPSD
from neuron_opsd.methods.imitation import FormOnly
from neuron_opsd.models.hf import HFModel
from neuron_opsd.models.load import load_model
from neuron_opsd.pipeline import Prepared
from neuron_opsd.progress import Silent
from neuron_opsd.records import Completion, Rollout, StepMetrics
from neuron_opsd.runs.adapters import Training
from neuron_opsd.runs.checkpoints import end_checkpoints
from neuron_opsd.runs.context import RunContext
from neuron_opsd.runs.metrics import (
    MetricsHash,
    append_metrics,
    hash_metrics,
    read_metrics,
)
from neuron_opsd.runs.training import examples_for, train_adapter, trained_model
from neuron_opsd.stages.teaching import DemonstrationPool
from neuron_opsd.storage.integrity import CARD, proof_of
from neuron_opsd.storage.run_directory import RunDirectory
from resolved import sampled_among_choices
from tiny_runs import SETTINGS, files_of, read_sealed, tiny_examples, write_sealed

EXAMPLES = tiny_examples(4)


@pytest.fixture
def config(tiny_llama_plain: Path) -> Config:
    more = [f"model.name={tiny_llama_plain}", "prompts.form=plain"]
    return load_config(None, [*SETTINGS, *more, "distill.steps=7"])


@contextmanager
def opened(folder: Path, config: Config) -> Iterator[RunContext]:
    progress = Silent()
    with (
        RunDirectory.open(folder, {}, {}, warn=progress.warn) as run,
        warnings.catch_warnings(),
    ):
        # PEFT asks transformers for what it calls by a new name now.
        warnings.simplefilter("ignore", FutureWarning)
        yield RunContext(run, sampled_among_choices(config), progress)


def base(config: Config) -> HFModel:
    return load_model(config.model)


def trained(folder: Path, config: Config) -> tuple[StepMetrics, ...]:
    with opened(folder, config) as run:
        return train_adapter(
            run, base(config), Training("main"), EXAMPLES, NeuronOPSD(config)
        )


def steps_taken(folder: Path, config: Config) -> int:
    """Train and count the steps that were taken anew."""
    taken: list[int] = []

    class Watching(Silent):
        @contextmanager
        def stage(
            self, name: str, total: int, unit: str
        ) -> Iterator[Callable[[int], None]]:
            del name, total, unit
            yield taken.append

    with opened(folder, config) as run:
        watched = replace(run, progress=Watching())
        train_adapter(
            watched, base(config), Training("main"), EXAMPLES, NeuronOPSD(config)
        )
    assert not taken or sum(taken) == config.distill.steps
    return max(len(taken) - 1, 0)


def checkpoint_names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "train/checkpoints").iterdir())


def test_a_training_leaves_metrics_two_checkpoints_and_an_adapter(
    tmp_path: Path, config: Config
) -> None:
    metrics = trained(tmp_path, config)
    assert [entry.step for entry in metrics] == list(range(7))
    assert read_metrics(tmp_path / "train") == metrics
    assert checkpoint_names(tmp_path) == ["step-000004", "step-000006"]
    assert "adapter_model.safetensors" in files_of(tmp_path / "adapter")


def test_progress_is_given_the_numbers_of_every_step(
    tmp_path: Path, config: Config
) -> None:
    logged: list[tuple[str, int, Mapping[str, float]]] = []

    class Tracking(Silent):
        def log_metrics(
            self,
            stage: str,
            step: int,
            metrics: Mapping[str, float],
            events: Sequence[str] = (),
        ) -> None:
            del events
            logged.append((stage, step, metrics))

    with opened(tmp_path, config) as run:
        grouped = replace(run, progress=Prefixed(Tracking(), "seed 0"))
        metrics = train_adapter(
            grouped, base(config), Training("main"), EXAMPLES, NeuronOPSD(config)
        )
    assert [(stage, step) for stage, step, _ in logged] == [
        ("seed 0, main", entry.step) for entry in metrics
    ]
    for entry, (_, _, numbers) in zip(metrics, logged, strict=True):
        assert numbers["loss"] == entry.loss
        assert numbers["grad_norm"] == entry.grad_norm
        assert not {"step", "skipped", "reward"} & numbers.keys()


def test_only_checkpoints_that_training_names_are_dropped(
    tmp_path: Path, config: Config
) -> None:
    with opened(tmp_path, config):
        pass
    others = ["step-000002-mine", "step-1"]
    for name in others:
        folder = tmp_path / "train/checkpoints" / name
        folder.mkdir(parents=True)
        (folder / "notes.txt").write_text("mine")
    trained(tmp_path, config)
    assert checkpoint_names(tmp_path) == sorted(["step-000004", "step-000006", *others])


def test_what_is_not_of_training_stays_among_checkpoints(
    tmp_path: Path, config: Config
) -> None:
    """Nothing but what training wrote goes, also when a comparison has no more use."""
    trained(tmp_path, config)
    home = tmp_path / "train/checkpoints"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "state.safetensors").write_text("mine")
    (home / "step-000009").symlink_to(elsewhere)
    for name in ("notes.txt", "step-000006/notes.txt", "my-folder/notes.txt"):
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_text("mine")
    with opened(tmp_path, config) as run:
        end_checkpoints(run, "train")
        assert not any("checkpoints" in name for name in run.directory.manifest.outputs)
    left = sorted(path.relative_to(home).as_posix() for path in home.rglob("*.*"))
    assert left == ["my-folder/notes.txt", "notes.txt", "step-000006/notes.txt"]
    assert not (home / "step-000009").is_symlink()
    assert (elsewhere / "state.safetensors").read_text() == "mine"


def test_checkpoints_that_are_all_go_with_their_folder(
    tmp_path: Path, config: Config
) -> None:
    trained(tmp_path, config)
    with opened(tmp_path, config) as run:
        end_checkpoints(run, "train")
        end_checkpoints(run, "train")
    assert not (tmp_path / "train/checkpoints").exists()


def test_a_manifest_cannot_name_what_is_deleted(tmp_path: Path, config: Config) -> None:
    trained(tmp_path, config)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "state.safetensors").write_text("mine")
    with opened(tmp_path, config) as run:
        output = run.directory.manifest.outputs["train/checkpoints/step-000006"]
        for name in ("../../mine", "step-000006/../../../mine", ".."):
            run.directory.manifest.outputs[f"train/checkpoints/{name}"] = output
        end_checkpoints(run, "train")
    assert (mine / "state.safetensors").exists()


def test_metrics_are_hashed_as_they_grow(tmp_path: Path) -> None:
    """Read on, the hash is that of the whole; nothing is read twice."""
    hashed = MetricsHash(tmp_path)
    assert hashed.now() == hash_metrics(tmp_path, 0)
    for count, entry in enumerate(collapsing(5), start=1):
        append_metrics(tmp_path, entry)
        if count != 2:
            assert hashed.now() == hash_metrics(tmp_path, count)
    (tmp_path / "metrics.jsonl").write_bytes(b"x" * 10_000)
    assert hashed.now() != hash_metrics(tmp_path, 1)


def test_a_checkpoint_holds_student_teacher_and_optimiser(
    tmp_path: Path, config: Config
) -> None:
    trained(tmp_path, config)
    folder = tmp_path / "train/checkpoints/step-000006"
    kinds = {name.partition(".")[0] for name in load_file(folder / "state.safetensors")}
    assert kinds == {"student", "teacher", "optimizer"}
    assert json.loads((folder / "checkpoint.json").read_text())["step"] == 6


def test_a_finished_training_is_not_done_again(tmp_path: Path, config: Config) -> None:
    first = trained(tmp_path, config)
    before = files_of(tmp_path)
    assert trained(tmp_path, config) == first
    assert files_of(tmp_path) == before


def test_a_card_does_not_make_an_adapter_another(
    tmp_path: Path, config: Config
) -> None:
    trained(tmp_path, config)
    (tmp_path / "adapter" / CARD).write_text("results")
    assert steps_taken(tmp_path, config) == 0
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    assert steps_taken(tmp_path, config) == 1


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def forget_adapter(folder: Path) -> None:
    """Take away what a training ends with, as if it had been killed before."""
    manifest = read_sealed(folder / "manifest.json")
    del manifest["outputs"]["adapter"]
    write_sealed(folder / "manifest.json", manifest)


def test_a_training_goes_on_from_its_last_whole_checkpoint(
    tmp_path: Path, config: Config
) -> None:
    metrics = trained(tmp_path, config)
    adapter = files_of(tmp_path / "adapter")
    state = tmp_path / "train/checkpoints"
    for harm, steps in {
        "nothing": 1,
        "a torn line": 1,
        "a damaged checkpoint": 3,
        "lost metrics": 3,
        "no checkpoint": 7,
        "no metrics": 7,
    }.items():
        forget_adapter(tmp_path)
        lines = tmp_path / "train/metrics.jsonl"
        if harm == "a torn line":
            lines.write_text(lines.read_text()[:-9])
        elif harm == "a damaged checkpoint":
            spoil(state / "step-000006/state.safetensors")
        elif harm == "lost metrics":
            kept = lines.read_text().splitlines(keepends=True)[:5]
            lines.write_text("".join(kept))
        elif harm == "no checkpoint":
            spoil(state / "step-000006/state.safetensors")
            (state / "step-000004/checkpoint.json").write_text("?")
        elif harm == "no metrics":
            lines.unlink()
        assert steps_taken(tmp_path, config) == steps, harm
        assert read_metrics(tmp_path / "train") == metrics
        assert files_of(tmp_path / "adapter") == adapter


def test_another_way_to_write_the_models_place_changes_no_training(
    tmp_path: Path, config: Config
) -> None:
    trained(tmp_path / "run", config)
    forget_adapter(tmp_path / "run")
    (tmp_path / "model").symlink_to(config.model.name)
    model = config.model.model_copy(update={"name": str(tmp_path / "model")})
    again = config.model_copy(update={"model": model})
    assert steps_taken(tmp_path / "run", again) == 1


def test_time_and_tokens_of_a_training_are_noted(
    tmp_path: Path, config: Config
) -> None:
    metrics = trained(tmp_path, config)
    with opened(tmp_path, config) as run:
        facts = run.directory.manifest.facts
        assert facts["tokens"] == {"main": sum(m.num_tokens for m in metrics)}
        seconds = facts["seconds"]["main"]
    assert seconds > 0
    forget_adapter(tmp_path)
    trained(tmp_path, config)
    with opened(tmp_path, config) as run:
        assert run.directory.manifest.facts["seconds"]["main"] > seconds


def test_the_adapter_is_kept_after_the_steps_asked_for(
    tmp_path: Path, config: Config
) -> None:
    training = Training("main", keep_after=(3, 5))
    with opened(tmp_path / "long", config) as run:
        train_adapter(run, base(config), training, EXAMPLES, NeuronOPSD(config))
    names = {path.name for path in (tmp_path / "long").glob("adapter*")}
    assert names == {"adapter", "adapter-000003", "adapter-000005"}
    # It is what a training of as many steps ends with.
    distill = config.distill.model_copy(update={"steps": 3})
    trained(tmp_path / "short", config.model_copy(update={"distill": distill}))
    one = tmp_path / "short/adapter/adapter_model.safetensors"
    other = tmp_path / "long/adapter-000003/adapter_model.safetensors"
    assert one.read_bytes() == other.read_bytes()
    # One that is lost is made again, from before the step after which it was kept.
    before = files_of(tmp_path / "long/adapter")
    other.unlink()
    with opened(tmp_path / "long", config) as run:
        train_adapter(run, base(config), training, EXAMPLES, NeuronOPSD(config))
        assert "adapter-000003 was changed or damaged" in run.directory.warnings[0]
    assert one.read_bytes() == other.read_bytes()
    assert files_of(tmp_path / "long/adapter") == before


def test_two_trainings_lie_side_by_side(tmp_path: Path, config: Config) -> None:
    with opened(tmp_path, config) as run:
        train_adapter(run, base(config), Training("main"), EXAMPLES, NeuronOPSD(config))
        train_adapter(
            run,
            base(config),
            Training("other", "deep/er"),
            EXAMPLES[:2],
            NeuronOPSD(config),
        )
        assert {"adapter", "deep/er/adapter"} < set(run.directory.manifest.outputs)
    weights = "adapter/adapter_model.safetensors"
    one, other = tmp_path / weights, tmp_path / "deep/er" / weights
    assert one.read_bytes() != other.read_bytes()


def test_what_was_trained_can_be_loaded(tmp_path: Path, config: Config) -> None:
    with opened(tmp_path, config) as run:
        start = base(config)
        train_adapter(run, start, Training("main"), EXAMPLES, NeuronOPSD(config))
        model = trained_model(run, start, "adapter")
    assert model.facts.name == config.model.name


def collapsing(count: int) -> list[StepMetrics]:
    """Return metrics of a student whose rollouts grow long after ten steps."""
    entry = StepMetrics(0, 0.1, 1.0, 1e-3, 10, 5.0, 0.0, 1.0, 0.1)
    return [
        replace(entry, step=n, mean_length=5.0 if n < 10 else 40.0)
        for n in range(count)
    ]


def test_signs_of_collapse_are_told_the_same_whatever_stopped_a_run(
    tmp_path: Path, config: Config
) -> None:
    trained(tmp_path, config)
    lines = [json.dumps(asdict(entry)) + "\n" for entry in collapsing(25)]
    written = tmp_path / "train/metrics.jsonl"
    written.write_text("".join(lines))
    manifest = read_sealed(tmp_path / "manifest.json")
    manifest["outputs"]["train/metrics.jsonl"]["sha256"] = proof_of(written)[0]
    write_sealed(tmp_path / "manifest.json", manifest)
    told = []
    for _ in range(2):
        with opened(tmp_path, config) as run:
            train_adapter(
                run, base(config), Training("main"), EXAMPLES, NeuronOPSD(config)
            )
            told.append(run.directory.warnings)
    assert told[0] == told[1]
    assert told[0] == [
        "step 19: rollouts grow long in the last steps (40, limit 15); fewer steps or "
        "a lower distill.learning_rate may help, and guard.keep=best ends with the "
        "best step"
    ]


def written_for(question: str, text: str, answer: str | None = "a") -> Rollout:
    completion = Completion((1,), text, finished=True, logprob=0.0, entropy=0.0)
    return Rollout(question, 0, 0.6, completion, answer)


def prepared_free(*rollouts: Rollout) -> Prepared:
    free = replace(EXAMPLES[1], choices=())
    library = DemonstrationPool({}, {}, Known(()), {"q1": frozenset({"q4"})})
    return Prepared(rollouts, {}, {}, Known(()), (), library, (), (EXAMPLES[0], free))


def test_questions_without_choices_imitate_whole_answers_to_others(
    config: Config,
) -> None:
    prepared = prepared_free(
        written_for("q0", "so it is</think>a"),
        written_for("q1", "b"),
        written_for("q2", "c"),
        written_for("q3", "nothing to read", answer=None),
        written_for("q4", "of the same text as q1"),
    )
    assert examples_for(NeuronOPSD(config), prepared) == prepared.examples
    with_choices, without = examples_for(FormOnly(config), prepared)
    assert with_choices == EXAMPLES[0]
    assert sorted(without.choices) == ["c", "so it is</think>a"]


@pytest.mark.parametrize("many_same", [0, 1000])
def test_a_question_imitates_some_of_very_many_others(
    many_same: int, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neuron_opsd.methods.imitation.MANY_SAME", many_same)
    monkeypatch.setattr("neuron_opsd.methods.imitation.NUM_OTHERS", 3)
    names = [f"q{n}" for n in range(20)]
    prepared = prepared_free(*(written_for(name, name) for name in names))
    _, example = examples_for(FormOnly(config), prepared)
    assert len(set(example.choices)) == 3
    assert not {"q1", "q4"} & set(example.choices)
    again = examples_for(FormOnly(config), prepared)[1]
    other = config.model_copy(update={"seed": 7})
    assert again == example
    assert examples_for(FormOnly(other), prepared)[1] != example


def test_a_pool_with_nothing_to_imitate_is_refused(config: Config) -> None:
    with pytest.raises(DataError, match="no answer to imitate for question q1"):
        examples_for(FormOnly(config), prepared_free(written_for("q1", "b")))
