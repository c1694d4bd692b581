"""How far another engine's samples are from the trainer, and weights for them.

Axes: N completion tokens of all sequences.
"""

from __future__ import annotations

from typing import Final

from torch import Tensor

from neuron_opsd.config import Config, DistillConfig
from neuron_opsd.errors import TrainingError
from neuron_opsd.method.fused_loss import HiddenStates
from neuron_opsd.method.importance import (
    drawn_logprobs,
    importance_weights,
    total_gap,
)
from neuron_opsd.method.truncation import Truncation
from neuron_opsd.models.roles import Learner
from neuron_opsd.processes.ranks import Ranks
from neuron_opsd.stages.sequences import (
    Sequences,
    completion_tokens,
    per_token,
    student_pairs,
)
from neuron_opsd.stages.splitting import in_passes
from neuron_opsd.stages.together import done_by_all, told

WARNED: Final = 0.05
"""Nats per token that cause a warning, well above rounding in other kernels."""


def token_weights(
    student: HiddenStates,
    sequences: Sequences,
    config: DistillConfig,
    *,
    of_drawn: bool,
) -> Tensor | None:
    """Return how much each completion token ``(N,)`` counts, `None` for once each.

    That is its completion's count, times an importance weight if another engine sampled
    it: of the token itself if the loss is `of_drawn` tokens, else of the one before,
    since weighting a divergence over the vocabulary by the next token would only add
    noise.
    """
    counts = None
    if any(sequence.count != 1 for sequence in sequences):
        counts = per_token([s.count for s in sequences], sequences, student.hidden)
    known = [bool(sequence.completion.logprobs) for sequence in sequences]
    if not (config.importance_clip and any(known)):
        return counts
    trainer = trainer_logprobs(student, sequences, config)
    engine = engine_logprobs(sequences, trainer)
    weights = importance_weights(trainer, engine, config.importance_clip)
    if not of_drawn:
        weights = moved_on(weights, sequences)
    return weights if counts is None else counts * weights


def moved_on(weights: Tensor, sequences: Sequences) -> Tensor:
    """Give each token the weight ``(N,)`` of the one before, and each first one 1."""
    moved, start = weights.roll(1), 0
    for sequence in sequences:
        moved[start : start + 1] = 1.0
        start += len(sequence.completion.token_ids)
    return moved


def trainer_logprobs(
    student: HiddenStates, sequences: Sequences, config: DistillConfig
) -> Tensor:
    """Return the trainer's log-probabilities ``(N,)`` of sampled tokens, in nats."""
    truncation = Truncation(
        config.temperature,
        config.sampling_top_p,
        config.sampling_top_k,
        config.sampling_min_p,
    )
    tokens = completion_tokens(sequences, student.hidden)
    return drawn_logprobs(student, tokens, truncation, config.chunk_positions)


def engine_logprobs(sequences: Sequences, trainer: Tensor) -> Tensor:
    """Return the engine's log-probabilities ``(N,)``, or else the trainer's."""
    engine, start = trainer.clone(), 0
    for sequence in sequences:
        end = start + len(sequence.completion.token_ids)
        if sequence.completion.logprobs:
            engine[start:end] = engine.new_tensor(sequence.completion.logprobs)
        start = end
    return engine


def checked_gap(
    ranks: Ranks, learner: Learner, sequences: Sequences, config: Config, step: int
) -> float | None:
    """Return the gap over all ranks if this step is checked, else `None`.

    Raises:
        TrainingError: If it exceeds the settings' limit; nothing has moved.
    """
    engine = config.engine
    if engine.rollouts == "transformers" or step % engine.check_every:
        return None
    own = done_by_all(ranks, lambda: summed_gap(learner, sequences, config.distill))
    sums, counts = zip(*told(ranks, "gaps", own), strict=True)
    if not sum(counts):
        return None
    gap: float = sum(sums) / sum(counts)
    if gap > engine.max_logprob_gap:
        raise TrainingError(gap_text(step, gap, engine.max_logprob_gap))
    return gap


def summed_gap(
    learner: Learner, sequences: Sequences, config: DistillConfig
) -> tuple[float, int]:
    """Return the summed distance of engine and trainer in nats, and its tokens.

    Only completions that another engine sampled count.
    """
    drawn = [sequence for sequence in sequences if sequence.completion.logprobs]

    def of_some(some: Sequences) -> list[tuple[float, int]]:
        student = learner.student(student_pairs(learner, some))
        trainer = trainer_logprobs(student, some, config)
        return [total_gap(trainer, engine_logprobs(some, trainer))]

    pairs, rows = student_pairs(learner, drawn), config.micro_batch_size
    total, num_tokens = 0.0, 0
    for gap, count in in_passes(
        learner, drawn, pairs, of_some, "the engine's distance", rows
    ):
        total, num_tokens = total + gap, num_tokens + count
    return total, num_tokens


def gap_text(step: int, gap: float, limit: float) -> str:
    """Say that an engine does not sample from the student, and what to do."""
    return (
        f"step {step}: the engine's log-probabilities are {gap:.3f} nats a token from "
        f"the trainer's, above engine.max_logprob_gap = {limit}, so it does not draw "
        "from the student; no weight has changed and the last checkpoint is intact; "
        "set model.compute=float32, another version of vLLM, a higher "
        "engine.max_logprob_gap, or start again with engine.rollouts=transformers"
    )
