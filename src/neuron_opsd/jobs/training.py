"""Training in a run directory: checkpoints, metrics, and going on after a stop."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter

from safetensors.torch import load_file, save_file

from neuron_opsd.config import Config
from neuron_opsd.errors import DataError
from neuron_opsd.jobs.identity import load_again
from neuron_opsd.jobs.prepare import Prepared
from neuron_opsd.jobs.setting import CARD, Job
from neuron_opsd.method.collapse import collapse_signs
from neuron_opsd.models.hf import HFModel
from neuron_opsd.models.load import learner_of
from neuron_opsd.models.protocol import Learner
from neuron_opsd.records import Collapse, StepMetrics, TrainingExample
from neuron_opsd.report.data import FORM_ONLY
from neuron_opsd.seeds import generator
from neuron_opsd.stages.teaching import shown_rollouts
from neuron_opsd.stages.training import Objective, train
from neuron_opsd.world.files import discard, disk_errors
from neuron_opsd.world.store import sha256_file, write_atomic, write_folder

METRICS = "metrics.jsonl"
STATE = "state.safetensors"
FACTS = "checkpoint.json"
CHECKPOINT = re.compile(r"step-\d{6,}")
KEPT_CHECKPOINTS = 2

NUM_OTHERS = 64
"""Answers to other questions from which the form-only control draws for a question."""


@dataclass(frozen=True, slots=True)
class Training:
    """What a training is called, and where its files lie."""

    name: str
    """In the manifest and in progress."""
    folder: str = ""
    """Where below the run directory metrics, checkpoints and adapter go; empty for the
    run directory itself, whose `train/` then holds the first two."""
    keep_after: tuple[int, ...] = ()
    """Numbers of steps after which the adapter is kept as well."""


def train_adapter(
    job: Job,
    model: HFModel,
    training: Training,
    examples: Sequence[TrainingExample],
    objective: Objective,
) -> tuple[StepMetrics, ...]:
    """Train an adapter into the run directory, or return the metrics of one that is.

    Args:
        job: Where, and with which settings.
        model: Where training begins; it stays as it is.
        training: Its name and place.
        examples: What student and teacher see.
        objective: What is trained on, and towards what.

    Raises:
        TrainingError: If the loss is no longer finite.
        TryAgainError: If the disk is full or ails.
    """
    name = training.name
    home = job.run.path(training.folder) if training.folder else job.run.folder
    work, adapter = home / "train", home / "adapter"
    if is_finished(job, name, adapter):
        metrics = read_metrics(work)
        warn_of_collapse(job, metrics)
        return metrics
    learner = learner_of(model, job.config.distill, job.config.seed)
    first_step = go_back(learner, work)
    with job.progress.stage(name, job.config.distill.steps, "steps") as done:
        done(first_step)
        steps = train(learner, examples, objective, job.config, first_step)
        steps = keeping(learner, steps, home, training.keep_after)
        metrics = run_steps(job, learner, name, work, steps, done)
    job.count_tokens(name, sum(m.num_tokens for m in metrics))
    write_folder(adapter, learner.save_adapter)
    job.run.note("adapters", {name: fingerprint(adapter)})
    return metrics


def keeping(
    learner: Learner,
    steps: Iterator[StepMetrics],
    home: Path,
    keep_after: Sequence[int],
) -> Iterator[StepMetrics]:
    """Take steps, and write the adapter after some of them."""
    for entry in steps:
        if entry.step + 1 in keep_after:
            write_folder(home / kept_adapter(entry.step + 1), learner.save_adapter)
        yield entry


def kept_adapter(step: int) -> str:
    """Return the folder of the adapter as it was after a number of steps."""
    return f"adapter-{step:06d}"


def run_steps(
    job: Job,
    learner: Learner,
    name: str,
    work: Path,
    steps: Iterator[StepMetrics],
    done: Callable[[int], None],
) -> tuple[StepMetrics, ...]:
    """Take the steps that are left, keeping metrics and checkpoints."""
    start = perf_counter()
    metrics = list(read_metrics(work))
    warned = warn_of_collapse(job, metrics)
    for entry in steps:
        metrics.append(entry)
        append_metrics(work, entry)
        if (entry.step + 1) % job.config.distill.checkpoint_every == 0:
            keep_checkpoint(learner, work, entry.step + 1)
            start = add_seconds(job, name, start)
        warn_of_new_signs(job, metrics, warned)
        done(1)
    add_seconds(job, name, start)
    return tuple(metrics)


def add_seconds(job: Job, name: str, start: float) -> float:
    """Count the time since `start` towards a training; return what time it is now."""
    now = perf_counter()
    before = job.run.manifest.facts.get("seconds", {}).get(name, 0.0)
    job.run.note("seconds", {name: round(before + now - start, 3)})
    return now


def warn_of_collapse(job: Job, metrics: Sequence[StepMetrics]) -> set[str]:
    """Warn as if the steps were taken now, so that no stop loses a warning.

    Returns:
        The signs that were warned of.
    """
    warned: set[str] = set()
    for count in range(1, len(metrics) + 1):
        warn_of_new_signs(job, metrics[:count], warned)
    return warned


def warn_of_new_signs(
    job: Job, metrics: Sequence[StepMetrics], warned: set[str]
) -> None:
    """Warn of the signs that the last steps show for the first time."""
    for sign in collapse_signs(metrics):
        if sign.sign not in warned:
            warned.add(sign.sign)
            job.run.warn(collapse_text(sign))


def collapse_text(sign: Collapse) -> str:
    """Say in one line what a sign of collapse is and what to do."""
    return (
        f"step {sign.step}: {sign.sign} ({sign.value:.2f}, limit {sign.limit:.2f}); "
        "fewer steps or a lower distill.learning_rate may help"
    )


def trained_model(job: Job, folder: str) -> HFModel:
    """Load the base model with the adapter in a folder of the run directory."""
    return load_again(job.run, job.config.model, job.run.path(folder))


def examples_for(
    method: str, prepared: Prepared, config: Config
) -> tuple[TrainingExample, ...]:
    """Return what a method trains on.

    The form-only control draws from the examples' `choices`. Where a question has none,
    they are the model's own whole answers to `NUM_OTHERS` other questions of the pool,
    drawn at random.

    Raises:
        DataError: If a question has neither choices nor an answer to another question.
    """
    if method != FORM_ONLY:
        return prepared.examples
    shown = shown_rollouts(prepared.rollouts, prepared.votes, config.contexts)
    answers = {name: rollout.completion.text for name, rollout in shown.items()}

    def with_choices(example: TrainingExample) -> TrainingExample:
        if example.choices:
            return example
        others = others_answers(example, answers, prepared.library.excluded, config)
        return replace(example, choices=others)

    return tuple(map(with_choices, prepared.examples))


def others_answers(
    example: TrainingExample,
    answers: Mapping[str, str],
    excluded: Mapping[str, frozenset[str]],
    config: Config,
) -> tuple[str, ...]:
    """Draw some of the answers to other questions than an example's.

    Raises:
        DataError: If there is none.
    """
    name = example.question_id
    barred = excluded.get(name, frozenset()) | {name}
    names = list(answers)
    count = min(len(names), NUM_OTHERS + len(barred))
    drawn = generator(config.seed, "others", name).choice(
        len(names), count, replace=False
    )
    allowed = [names[i] for i in drawn.tolist() if names[i] not in barred]
    found = tuple(answers[other] for other in allowed[:NUM_OTHERS])
    if not found:
        raise DataError(
            f"the form-only control has no answer to imitate for question {name}: no "
            "other question of the pool has a readable answer; set answers.reader or "
            "rollouts.max_new_tokens so that answers can be read"
        )
    return found


def is_finished(job: Job, name: str, adapter: Path) -> bool:
    """Whether an adapter was trained to its end and is as it was written."""
    known = job.run.manifest.facts.get("adapters", {}).get(name)
    return known is not None and known == fingerprint(adapter)


def fingerprint(adapter: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of an adapter; its card comes later."""
    if not adapter.is_dir():
        return {}
    files = sorted(path for path in adapter.iterdir() if path.name != CARD)
    return {path.name: sha256_file(path) for path in files}


def checkpoint_folder(work: Path, step: int) -> Path:
    """Return where the checkpoint after a number of steps lies."""
    return work / "checkpoints" / f"step-{step:06d}"


def keep_checkpoint(learner: Learner, work: Path, step: int) -> None:
    """Write student, teacher and optimiser, whole or not at all; drop old ones."""

    def fill(folder: Path) -> None:
        save_file(learner.state(), folder / STATE)
        facts = {"step": step, "sha256": sha256_file(folder / STATE)}
        write_atomic(folder / FACTS, json.dumps(facts).encode())

    write_folder(checkpoint_folder(work, step), fill)
    for old in checkpoints(work)[:-KEPT_CHECKPOINTS]:
        discard(old)


def checkpoints(work: Path) -> list[Path]:
    """Return the folders of all checkpoints, oldest first."""
    found = (work / "checkpoints").glob("step-*")
    return sorted(path for path in found if CHECKPOINT.fullmatch(path.name))


def go_back(learner: Learner, work: Path) -> int:
    """Put a learner where its last whole checkpoint is; return the next step.

    Metrics of steps after it are dropped: these steps will be taken again.
    """
    num_known = len(read_metrics(work))
    for folder in reversed(checkpoints(work)):
        step = whole_checkpoint(folder)
        # A power cut can leave a checkpoint whole whose metrics never reached the disk.
        if step is not None and step <= num_known:
            learner.load_state(load_file(folder / STATE))
            cut_metrics(work, step)
            return step
    cut_metrics(work, 0)
    return 0


def whole_checkpoint(folder: Path) -> int | None:
    """Return the step of a checkpoint, `None` when it is not as it was written."""
    try:
        facts = json.loads((folder / FACTS).read_bytes())
        whole = facts["sha256"] == sha256_file(folder / STATE)
        return int(facts["step"]) if whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def append_metrics(work: Path, entry: StepMetrics) -> None:
    """Add a line to the metrics; a torn one is dropped when a run goes on."""
    work.mkdir(parents=True, exist_ok=True)
    with disk_errors(work / METRICS, 0), (work / METRICS).open("a") as file:
        file.write(json.dumps(asdict(entry)) + "\n")


def cut_metrics(work: Path, num_steps: int) -> None:
    """Keep the metrics of the first steps alone."""
    kept = read_metrics(work)[:num_steps]
    if (work / METRICS).exists():
        lines = "".join(json.dumps(asdict(entry)) + "\n" for entry in kept)
        write_atomic(work / METRICS, lines.encode())


def read_metrics(work: Path) -> tuple[StepMetrics, ...]:
    """Read the metrics of all steps, up to the first line that is torn."""
    path = work / METRICS
    if not path.exists():
        return ()
    metrics = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            metrics.append(StepMetrics(**json.loads(line)))
        except (ValueError, TypeError):
            break
    return tuple(metrics)
