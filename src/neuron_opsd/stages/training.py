"""The training loop that every method shares.

It yields one record per optimiser step and neither prints nor writes. Methods are
`Objective`s: what to train on, and towards what.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from typing import Final, Protocol, TypeAlias

from torch import Tensor

from neuron_opsd.config import Config, DistillConfig
from neuron_opsd.errors import NotFiniteError, TrainingError, questions_text
from neuron_opsd.method.readings import repetition
from neuron_opsd.method.schedule import batch_at, learning_rate_at
from neuron_opsd.models.roles import Learner
from neuron_opsd.processes.ranks import ALONE, Ranks, share_of
from neuron_opsd.records import Completion, StepMetrics, TrainingExample
from neuron_opsd.seeds import derive_seed
from neuron_opsd.stages.engine_gap import checked_gap
from neuron_opsd.stages.sequences import Sequences as Sequences
from neuron_opsd.stages.sequences import TrainingSequence as TrainingSequence
from neuron_opsd.stages.sequences import student_pairs
from neuron_opsd.stages.splitting import Splits, StepSplit, consecutive
from neuron_opsd.stages.step_metrics import GroupFacts, metrics_of
from neuron_opsd.stages.together import check_alike, done_by_all, sum_gradients, told

Examples: TypeAlias = Sequence[TrainingExample]


@dataclass(frozen=True, slots=True)
class Batch:
    """The questions of a step, or a share of them."""

    examples: Examples
    step: int
    first: int = 0
    """Place of the first one in the whole step."""

    @property
    def placed(self) -> Iterator[tuple[int, TrainingExample]]:
        """The questions, each with its place among all of the step."""
        return enumerate(self.examples, self.first)

    def share(self, rank: int, size: int) -> Batch:
        """Return one of `size` shares, whose sizes differ by at most one."""
        own = share_of(len(self.examples), rank, size)
        return Batch(self.examples[own], self.step, self.first + own.start)


MAX_SKIPPED: Final = 3
"""Steps in a row that may be skipped; more are not the questions' fault."""


@dataclass(frozen=True, slots=True)
class RolloutGroup:
    """What one step makes of one question."""

    sequences: tuple[TrainingSequence, ...]
    drawn: tuple[Completion, ...] = ()
    """All that was sampled, trained on or not; empty if nothing was."""
    reward: float | None = None
    agreement: float | None = None
    """Share of the sampled that agree with their vote."""

    @property
    def shown(self) -> tuple[Completion, ...]:
        """What was sampled, or else what is trained on."""
        return self.drawn or tuple(s.completion for s in self.sequences)


RolloutGroups: TypeAlias = list[RolloutGroup]


class Objective(Protocol):
    """What is trained on, and towards what."""

    def roll_out(self, learner: Learner, batch: Batch) -> RolloutGroups:
        """Return a group for each example of a batch."""
        ...

    def loss(self, learner: Learner, sequences: Sequences) -> Tensor:
        """Return the loss, summed over all completion tokens, repeats counted."""
        ...


@dataclass(frozen=True, slots=True)
class Earlier:
    """What a resumed training knows about the steps before."""

    num_steps: int = 0
    num_skipped: int = 0
    """In a row at the end."""
    splits: Splits = field(default_factory=Splits)


def train(
    learner: Learner,
    examples: Examples,
    objective: Objective,
    config: Config,
    earlier: Earlier | None = None,
    ranks: Ranks = ALONE,
) -> Iterator[StepMetrics]:
    """Train the student and yield one record per optimiser step.

    The loss is the mean over all completion tokens of a batch, whatever the micro-batch
    size. Questions and samples depend only on the step, so a resumed run takes the same
    path.

    All ranks call this alike. Each works on its share of the questions and applies the
    sum of all gradients, so every rank yields what a single process would.

    Raises:
        TrainingError: If something in a step is not finite, and settings say to stop or
            too many steps were skipped (no weight has then moved), or if the result of
            a step is not finite.
    """
    tuning = config.distill
    seed = derive_seed(config.seed, "train")
    earlier = earlier or Earlier()
    num_skipped = earlier.num_skipped
    for step in range(earlier.num_steps, tuning.steps):
        places = batch_at(step, len(examples), tuning.batch_size, seed)
        batch = Batch([examples[i] for i in places], step)
        try:
            usual = tuning.micro_batch_size
            split = StepSplit(learner, step, usual, earlier.splits, ranks)
            entry = take_step(split, batch, objective, config)
        except NotFiniteError as error:
            learner.drop_gradients()
            num_skipped += 1
            reason = reason_of(error, batch.examples)
            refuse_step(step, reason, num_skipped, tuning)
            nothing = metrics_of(step, (), 0.0, 0.0, learning_rate_at(step, tuning))
            entry = replace(nothing, skipped=reason)
        else:
            num_skipped = 0
            move_teacher(learner, step, tuning)
            check_state(learner, step)
        if (step + 1) % tuning.checkpoint_every == 0 or step + 1 == tuning.steps:
            check_alike(ranks, learner, f"after step {step}")
        yield entry


def take_step(
    split: StepSplit, batch: Batch, objective: Objective, config: Config
) -> StepMetrics:
    """Roll out, compare and learn."""
    learner, ranks = split.learner, split.ranks
    share = batch.share(ranks.rank, ranks.size)

    def rolled_out() -> RolloutGroups:
        return objective.roll_out(learner, share) if share.examples else []

    groups = done_by_all(ranks, rolled_out)
    while split.shrank():  # a whole step uses one split
        groups = done_by_all(ranks, rolled_out)
    sequences = all_sequences(groups)
    facts = facts_of_all(ranks, groups)
    gap = checked_gap(ranks, learner, sequences, config, batch.step)
    num_tokens = sum(group.num_tokens for group in facts)

    def tuned(size: int) -> DistillConfig:
        return config.distill.model_copy(update={"micro_batch_size": size})

    def gather(size: int) -> float:
        tuning = tuned(size)
        return gather_gradients(learner, sequences, objective, tuning, num_tokens)

    def largest(size: int) -> int:
        return max(map(len, parts_of(learner, sequences, tuned(size))), default=0)

    loss = sum(told(ranks, "loss", split.gather(gather, largest)))
    sum_gradients(ranks, learner)
    if num_tokens and all(one.grad is None for one in learner.weights.values()):
        learner.zero_gradients()  # every rollout was idle
    rate = learning_rate_at(batch.step, config.distill)
    grad_norm = learner.step(rate)
    entry = metrics_of(batch.step, facts, loss, grad_norm, rate)
    return replace(entry, engine_gap=gap)


def facts_of_all(ranks: Ranks, groups: RolloutGroups) -> list[GroupFacts]:
    """Return the facts of all groups of a step, over all ranks."""
    shares = told(ranks, "groups", [asdict(facts_of(group)) for group in groups])
    return [GroupFacts(**row) for rows in shares for row in rows]


def facts_of(group: RolloutGroup) -> GroupFacts:
    """Return what a step's metrics need from a question."""
    return GroupFacts(
        num_tokens=sum(sequence.num_tokens for sequence in group.sequences),
        num_generated=sum(len(c.token_ids) for c in group.drawn),
        lengths=[len(c.token_ids) for c in group.shown],
        cut=[not c.finished for c in group.shown],
        entropies=[c.entropy for c in group.shown],
        repetitions=[repetition(c.token_ids) for c in group.shown],
        texts=[
            sha256(c.text.encode("utf-8", "surrogatepass")).hexdigest()
            for c in group.shown
        ],
        reward=group.reward,
        agreement=group.agreement,
    )


def reason_of(error: NotFiniteError, examples: Examples) -> str:
    """Say what is not finite, and for which questions of a batch."""
    names = dict.fromkeys(error.questions or [one.question_id for one in examples])
    return f"{error.what} ({questions_text(list(names))})"


def refuse_step(
    step: int, reason: str, num_skipped: int, config: DistillConfig
) -> None:
    """Raise TrainingError for a step that is not finite, unless it may be skipped."""
    if config.on_nonfinite == "stop":
        advice = (
            "resume with --set distill.on_nonfinite=skip to leave such steps out, or "
            "start again with a lower distill.learning_rate, model.compute=float32, or "
            "without these questions"
        )
    elif num_skipped > MAX_SKIPPED:
        advice = (
            f"{MAX_SKIPPED} steps before it were skipped, so it is not the questions; "
            "start again with a lower distill.learning_rate or model.compute=float32"
        )
    else:
        return
    raise TrainingError(
        f"step {step}: {reason}; no weight has changed and the last checkpoint is "
        f"intact; {advice}"
    )


def check_state(learner: Learner, step: int) -> None:
    """Raise TrainingError if the state after a step is not finite."""
    try:
        learner.check()
    except NotFiniteError as error:
        raise TrainingError(
            f"step {step}: {error.what} after it; this step is not kept and the last "
            "checkpoint is intact; start again with a lower distill.learning_rate or "
            "distill.max_grad_norm"
        ) from error


def all_sequences(groups: Sequence[RolloutGroup]) -> list[TrainingSequence]:
    """Return all that a step trains on."""
    return [sequence for group in groups for sequence in group.sequences]


def gather_gradients(
    learner: Learner,
    sequences: Sequences,
    objective: Objective,
    config: DistillConfig,
    num_tokens: int = 0,
) -> float:
    """Add up a batch's gradient, part by part; return the loss.

    For a share of a batch, `num_tokens` counts the whole batch.
    """
    num_tokens = num_tokens or sum(sequence.num_tokens for sequence in sequences)
    total = 0.0
    for part in parts_of(learner, sequences, config):
        total += add_gradient(learner, part, objective, num_tokens)
    return total


def parts_of(
    learner: Learner, sequences: Sequences, config: DistillConfig
) -> list[Sequences]:
    """Cut a batch into parts, whose graphs are in memory one at a time."""
    taught = [sequence for sequence in sequences if not sequence.idle]
    pairs = student_pairs(learner, taught)
    rows, tokens = config.micro_batch_size, config.micro_batch_tokens
    return [taught[part] for part in consecutive(pairs, rows, tokens)]


def add_gradient(
    learner: Learner, part: Sequences, objective: Objective, num_tokens: int
) -> float:
    """Add the gradient of a part of a batch; return its part of the loss.

    Frees its graph.
    """
    term = objective.loss(learner, part) / num_tokens
    term.backward()
    value = term.item()
    if not math.isfinite(value):
        names = [sequence.example.question_id for sequence in part]
        raise NotFiniteError(f"the loss is {value}", (), names)
    return value


def move_teacher(learner: Learner, step: int, config: DistillConfig) -> None:
    """Update the teacher's weights after a step.

    Source: Algorithm 1 of arXiv:2607.02460 for `ema`.
    """
    if config.teacher == "ema":
        learner.update_teacher(config.ema_rate)
    elif config.teacher == "live" or (
        config.teacher == "periodic" and (step + 1) % config.teacher_period == 0
    ):
        learner.update_teacher(1.0)
