"""Importance weights against a reference in float64, and what they are for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from loaded import learning
from neuron_opsd.config import Config, DistillConfig
from neuron_opsd.config.tables import load_config
from neuron_opsd.errors import TrainingError
from neuron_opsd.method.fused_loss import HiddenStates
from neuron_opsd.method.importance import (
    OUTSIDE,
    drawn_logprobs,
    importance_weights,
    total_gap,
)
from neuron_opsd.method.truncation import Truncation
from neuron_opsd.methods import METHODS
from neuron_opsd.models.learner import HFLearner
from neuron_opsd.processes.ranks import ALONE
from neuron_opsd.records import Completion, Message, Prompt, Question, TrainingExample
from neuron_opsd.stages.engine_gap import (
    checked_gap,
    moved_on,
    summed_gap,
    token_weights,
    trainer_logprobs,
)
from neuron_opsd.stages.sequences import TrainingSequence, student_pairs

CUTS = [
    Truncation(1.0),
    Truncation(0.6),
    Truncation(0.6, top_k=5),
    Truncation(1.3, top_p=0.7),
    Truncation(1.0, min_p=0.2),
    Truncation(0.8, top_p=0.8, top_k=9, min_p=0.1),
]


def reference(logits: np.ndarray, cut: Truncation) -> np.ndarray:
    """Return log-probabilities after the cuts, token by token, in float64."""
    kept = np.full(logits.shape, -np.inf)
    for row, values in enumerate(logits.astype(np.float64) / cut.temperature):
        order = np.argsort(-values, kind="stable")
        order = order[: cut.top_k] if cut.top_k else order
        odds = np.exp(values[order] - values[order[0]])
        share = odds.cumsum() / odds.sum()
        order = order[: int(np.searchsorted(share, cut.top_p)) + 1]
        least = odds[0] * cut.min_p
        order = order[odds[: len(order)] >= least]
        kept[row, order] = values[order]
    logprobs: np.ndarray = kept - np.log(np.exp(kept).sum(axis=1, keepdims=True))
    return logprobs


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("chunk", [3, 100])
def test_logprobs_are_those_of_what_was_drawn_from(cut: Truncation, chunk: int) -> None:
    source = torch.Generator().manual_seed(0)
    hidden = torch.randn(20, 8, generator=source)
    weight = torch.randn(30, 8, generator=source)
    expected = reference((hidden @ weight.T).numpy(), cut)
    for token in (0, 7, 29):
        targets = torch.full((20,), token)
        found = drawn_logprobs(HiddenStates(hidden, weight), targets, cut, chunk)
        known = expected[:, token]
        assert ((found.numpy() > OUTSIDE) == np.isfinite(known)).all()
        inside = np.isfinite(known)
        assert found.numpy()[inside] == pytest.approx(known[inside], abs=1e-5)


def test_weights_are_ratios_cut_above() -> None:
    trainer = torch.tensor([-1.0, -1.0, -3.0, -1e38])
    engine = torch.tensor([-1.0, -3.0, -1.0, -2.0])
    weights = importance_weights(trainer, engine, 2.0)
    assert weights.tolist() == pytest.approx([1.0, 2.0, np.exp(-2.0), 0.0])
    # A token that the trainer would not have drawn is taken to be one nat off.
    assert total_gap(trainer, engine) == (5.0, 4)


def test_weights_undo_what_the_engine_draws_otherwise() -> None:
    """Uncut, the weighted mean over the engine's draws is the trainer's own mean."""
    source = torch.Generator().manual_seed(1)
    trainer = torch.randn(6, generator=source).log_softmax(-1)
    engine = (trainer + 0.5 * torch.randn(6, generator=source)).log_softmax(-1)
    values = torch.randn(6, generator=source)
    drawn = torch.multinomial(engine.exp(), 200_000, replacement=True, generator=source)
    weights = importance_weights(trainer[drawn], engine[drawn], 100.0)
    mean = float((trainer.exp() * values).sum())
    assert float((weights * values[drawn]).mean()) == pytest.approx(mean, abs=0.01)
    assert float(values[drawn].mean()) != pytest.approx(mean, abs=0.03)


# --- in a step ---


@pytest.fixture(scope="module")
def learner(tiny_llama_plain: Path) -> HFLearner:
    return learning(tiny_llama_plain)


def sequence(
    *ids: int, logprobs: tuple[float, ...] = (), count: int = 1
) -> TrainingSequence:
    question = Question("q", (Message("user", "Why?"),))
    example = TrainingExample(question, Prompt("Why?"), Prompt("So: why?"))
    completion = Completion(
        ids, "", finished=True, logprob=0.0, entropy=0.0, logprobs=logprobs
    )
    return TrainingSequence(example, completion, count)


def own_logprobs(learner: HFLearner, *ids: int) -> tuple[float, ...]:
    one = [sequence(*ids)]
    with torch.no_grad():
        student = learner.student(student_pairs(learner, one))
        found = trainer_logprobs(student, one, DistillConfig())
    return tuple(found.tolist())


def test_only_what_an_engine_drew_is_weighed(learner: HFLearner) -> None:
    own = own_logprobs(learner, 5, 6, 7)
    off = (own[0] - 0.3, own[1], own[2] + 0.5)
    both = [sequence(8, 9, count=3), sequence(5, 6, 7, logprobs=off, count=2)]
    student = learner.student(student_pairs(learner, both))
    cut = DistillConfig(importance_clip=1.2)
    weights = token_weights(student, both, cut, of_drawn=True)
    assert weights is not None
    expected = [3, 3, 2 * 1.2, 2 * 1.0, 2 * np.exp(-0.5)]
    assert weights.tolist() == pytest.approx(expected, rel=1e-5)
    assert not weights.requires_grad
    # What depends on the tokens before alone has the weight of the last of these.
    weights = token_weights(student, both, cut, of_drawn=False)
    assert weights is not None
    assert weights.tolist() == pytest.approx([3, 3, 2, 2 * 1.2, 2 * 1.0], rel=1e-5)
    off_config = DistillConfig(importance_clip=0.0)
    counts = token_weights(student, both, off_config, of_drawn=True)
    assert counts is not None
    assert counts.tolist() == [3, 3, 2, 2, 2]
    alone = [sequence(8, 9)]
    student = learner.student(student_pairs(learner, alone))
    assert token_weights(student, alone, DistillConfig(), of_drawn=False) is None


def test_a_divergence_is_weighed_by_the_draw_that_led_to_it() -> None:
    """Two tokens of two: the loss at the second depends on which the first is."""
    trainer, engine = torch.tensor([0.5, 0.5]), torch.tensor([0.8, 0.2])
    source = torch.Generator().manual_seed(2)
    first, second = torch.multinomial(
        engine, 400_000, replacement=True, generator=source
    ).view(2, -1)
    own = importance_weights(trainer.log(), engine.log(), 100.0)
    divergence = torch.tensor([1.0, 3.0])[first]
    rows = [sequence(a, b) for a, b in ((0, 1), (1, 1))]
    assert moved_on(own, rows[:1]).tolist() == pytest.approx([1.0, float(own[0])])

    def mean(weights: torch.Tensor) -> float:
        return float((weights * divergence).mean())

    assert mean(own[first]) == pytest.approx(2.0, abs=0.02)
    # Its own draw tells nothing of it: no better than no weight.
    assert mean(own[second]) == pytest.approx(1.4, abs=0.02)
    assert mean(torch.ones(1)) == pytest.approx(1.4, abs=0.02)


@pytest.mark.parametrize("name", ["neuron-opsd", "ttrl", "lmsi"])
def test_every_loss_on_drawn_tokens_is_weighed(learner: HFLearner, name: str) -> None:
    """A completion whose tokens all weigh a half has half the loss and gradient.

    The first of a divergence follows no draw and keeps its weight.
    """
    config = load_config(None, [f"method={name}", "distill.num_samples=2"])
    method = METHODS[name](config)
    own = own_logprobs(learner, 5, 6, 7)
    halved = tuple(value + np.log(2.0) for value in own)

    def loss_and_gradient(
        logprobs: tuple[float, ...] = (), *ids: int
    ) -> tuple[float, float]:
        learner.drop_gradients()
        given = sequence(*(ids or (5, 6, 7)), logprobs=logprobs)
        loss = method.loss(
            learner, [TrainingSequence(given.example, given.completion, 1, 1.0)]
        )
        loss.backward()
        weights = learner.weights.values()
        norms = [float(w.grad.norm()) for w in weights if w.grad is not None]
        return loss.item(), sum(norms)

    whole, half = loss_and_gradient(own), loss_and_gradient(halved)
    assert loss_and_gradient() == pytest.approx(whole, rel=1e-4)
    assert whole[1] > 0.0
    if name == "neuron-opsd":
        first, _ = loss_and_gradient((), 5)
        assert first > 0.0
        assert half[0] == pytest.approx((whole[0] + first) / 2, rel=1e-4)
        assert half[1] != pytest.approx(whole[1], rel=0.05)
    else:
        assert half == pytest.approx([value / 2 for value in whole], rel=1e-4)


def watched(*more: str) -> Config:
    return load_config(None, ["engine.rollouts=vllm", *more])


def test_the_gap_is_the_mean_distance_over_tokens(learner: HFLearner) -> None:
    own = own_logprobs(learner, 5, 6, 7)
    off = sequence(5, 6, 7, logprobs=(own[0] + 0.3, own[1], own[2] - 0.3))
    exact = sequence(5, 6, logprobs=own[:2])
    drawn = [off, exact, sequence(8, 9)]  # of the last nothing is known
    config = DistillConfig(micro_batch_size=1)
    total, count = summed_gap(learner, drawn, config)
    assert count == 5
    assert total == pytest.approx(0.6, abs=1e-4)
    gap = checked_gap(ALONE, learner, drawn, watched(), 20)
    assert gap == pytest.approx(0.12, abs=1e-4)
    assert checked_gap(ALONE, learner, drawn, watched(), 21) is None
    assert checked_gap(ALONE, learner, drawn, watched("engine.check_every=7"), 21)
    assert checked_gap(ALONE, learner, [sequence(8, 9)], watched(), 0) is None
    with pytest.raises(TrainingError, match=r"step 0: .* 0\.120 nats a token .* 0\.1"):
        checked_gap(ALONE, learner, drawn, watched("engine.max_logprob_gap=0.1"), 0)
