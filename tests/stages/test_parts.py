"""A step holds the graph of one part at a time, and makes none of what is idle."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakSet

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from neuron_opsd.comparison.variants import Variant, config_of
from neuron_opsd.config import Config
from neuron_opsd.config.tables import load_config
from neuron_opsd.methods import METHODS, Method, Oracle, Target
from neuron_opsd.models.learner import HFLearner
from neuron_opsd.models.load import learner_of, load_model
from neuron_opsd.records import Message, Pair, Prompt, Question
from neuron_opsd.records import TrainingExample as Example
from neuron_opsd.stages.policy_gradient import certainties
from neuron_opsd.stages.sequences import student_pairs
from neuron_opsd.stages.splitting import consecutive
from neuron_opsd.stages.training import (
    Batch,
    RolloutGroup,
    TrainingSequence,
    all_sequences,
    gather_gradients,
    parts_of,
    train,
)
from neuron_opsd.stages.training_rollouts import draw, voted
from objectives import Rewarding, TwoFunctions

CHOICES = ("yes", "no", "the other")
EXAMPLES = tuple(
    Example(
        question=Question(f"q{n}", (Message("user", f"Is {n} odd?"),), choices=CHOICES),
        student_prompt=Prompt(text=f"Question: Is {n} odd?\nAnswer:"),
        teacher_prompt=Prompt(text=f"A: yes\n\nQuestion: Is {n} odd?\nAnswer:"),
        choices=CHOICES,
    )
    for n in range(6)
)
FREE = tuple(
    replace(e, question=replace(e.question, choices=()), choices=()) for e in EXAMPLES
)
TOLD = {example.question_id: Target("yes", "yes") for example in EXAMPLES}


@pytest.fixture
def shared(tiny_llama_plain: Path) -> Config:
    return load_config(
        None,
        [
            f"model.name={tiny_llama_plain}",
            "model.compute=float32",
            "prompts.form=plain",
            "rollouts.max_new_tokens=6",
            "distill.batch_size=6",
            "distill.micro_batch_size=4",
            "distill.warmup_steps=0",
            "distill.learning_rate=0.01",
            "distill.lora_rank=4",
            "distill.num_samples=4",
        ],
    )


def learner_for(config: Config) -> HFLearner:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        learner = learner_of(load_model(config.model), config.distill, config.seed)
    draws = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in learner.weights.values():
            weight.add_(torch.randn(weight.shape, generator=draws) * 0.05)
    return learner


def method_for(name: str, config: Config) -> Method:
    method = METHODS[name]
    return method(config, TOLD) if issubclass(method, Oracle) else method(config)


def tuned(config: Config, **settings: Any) -> Config:
    distill = config.distill.model_copy(update=settings)
    return config.model_copy(update={"distill": distill})


def gradients(learner: HFLearner) -> dict[str, Tensor]:
    """Return the gradients gathered so far, and forget them."""
    found = {n: w.grad for n, w in learner.weights.items() if w.grad is not None}
    learner.drop_gradients()
    return found


# --- how a batch is cut ---


@pytest.mark.parametrize(
    ("lengths", "rows", "tokens", "ends"),
    [
        ([(5, 5)] * 5, 2, 100, [2, 4, 5]),
        ([(5, 5)] * 5, 100, 30, [3, 5]),
        ([(5, 5)] * 5, 2, 30, [2, 4, 5]),
        ([(5, 5), (50, 50), (5, 5), (5, 5)], 4, 30, [1, 2, 4]),
        ([(5, 5)] * 3, 4, 30, [3]),
        ([], 4, 30, []),
    ],
)
def test_parts_hold_so_many_rows_and_tokens(
    lengths: list[tuple[int, int]], rows: int, tokens: int, ends: list[int]
) -> None:
    pairs: list[Pair] = [
        ((place,) * prompt, (7,) * rest) for place, (prompt, rest) in enumerate(lengths)
    ]
    parts = list(consecutive(pairs, rows, tokens))
    assert [part.stop for part in parts] == ends
    assert [part.start for part in parts] == [0, *ends][:-1] if ends else not parts


def test_a_prompt_counts_once_for_the_completions_behind_it() -> None:
    same: list[Pair] = [((1,) * 20, (7,) * 5)] * 5
    assert [part.stop for part in consecutive(same, 100, 35)] == [3, 5]
    assert [part.stop for part in consecutive(same, 100, 45)] == [5]


# --- what is held ---


class Kept:
    """A tensor that a graph keeps."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


@contextmanager
def counting_graphs(learner: HFLearner) -> Iterator[list[int]]:
    """Note how many tensors graphs keep whenever a student's pass begins."""
    alive: WeakSet[Kept] = WeakSet()
    found: list[int] = []
    student = learner.student

    def keep(tensor: Tensor) -> Kept:
        kept = Kept(tensor)
        alive.add(kept)
        return kept

    def noted(pairs: Sequence[Pair]) -> Any:
        found.append(len(alive))
        return student(pairs)

    learner.student = noted  # type: ignore[method-assign]
    with saved_tensors_hooks(keep, lambda kept: kept.tensor):
        yield found
    found.append(len(alive))


@pytest.mark.parametrize("setting", ["off", "on"])
@pytest.mark.parametrize("name", METHODS)
def test_the_graph_of_a_part_is_gone_before_the_next_is_made(
    shared: Config, name: str, setting: str
) -> None:
    config = tuned(config_of(Variant(name, name), shared), micro_batch_tokens=40)
    config = tuned(config, gradient_checkpointing=setting)
    learner, method = learner_for(config), method_for(name, config)
    sequences = all_sequences(method.roll_out(learner, Batch(EXAMPLES, 0)))
    parts = parts_of(learner, sequences, config.distill)
    assert len(parts) > 1
    with counting_graphs(learner) as found:
        gather_gradients(learner, sequences, method, config.distill)
    assert found == [0] * (len(parts) + 1)
    assert all(float(g.abs().sum()) < 1e9 for g in gradients(learner).values())


def test_a_graph_that_is_held_would_be_noticed(shared: Config) -> None:
    config = config_of(Variant("neuron-opsd", "neuron-opsd"), shared)
    learner, method = learner_for(config), method_for("neuron-opsd", config)
    sequences = all_sequences(method.roll_out(learner, Batch(EXAMPLES, 0)))
    held: list[Tensor] = []

    def loss(learner: Any, part: Sequence[TrainingSequence]) -> Tensor:
        held.append(method.loss(learner, part))
        return held[-1].detach().requires_grad_()

    with counting_graphs(learner) as found:
        objective = TwoFunctions(method.roll_out, loss)
        gather_gradients(learner, sequences, objective, config.distill)
    assert found[1] > 0


@pytest.mark.parametrize("name", METHODS)
def test_parts_of_fewer_tokens_give_the_same_gradient(
    shared: Config, name: str
) -> None:
    config = config_of(Variant(name, name), shared)
    learner, method = learner_for(config), method_for(name, config)
    sequences = all_sequences(method.roll_out(learner, Batch(EXAMPLES, 0)))
    losses, grads, counts = [], [], []
    for tokens in (8192, 40, 1):
        some = tuned(config, micro_batch_tokens=tokens, micro_batch_size=64).distill
        counts.append(len(parts_of(learner, sequences, some)))
        losses.append(gather_gradients(learner, sequences, method, some))
        grads.append(gradients(learner))
    taught = [one for one in sequences if not one.idle]
    assert counts[0] == 1 < counts[1] < counts[2] == len(taught)
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5, abs=1e-7)
    assert grads[0]
    for weight, grad in grads[0].items():
        for other in grads[1:]:
            assert (other[weight] - grad).norm() <= 1e-4 * grad.norm()


def test_certainties_hold_the_states_of_one_pass(shared: Config) -> None:
    config = config_of(Variant("rent", "rent"), shared)
    learner = learner_for(config)
    groups = voted(FREE, draw(learner, Batch(FREE, 0), 4, config), config)
    wanted = certainties(learner, groups, config.distill)
    passes: list[int] = []
    student = learner.student

    def noted(pairs: Sequence[Pair]) -> Any:
        passes.append(sum(len(completion) for _, completion in pairs))
        return student(pairs)

    learner.student = noted  # type: ignore[method-assign]
    learner.room.tokens = 60
    found = certainties(learner, groups, config.distill)
    assert len(passes) > 3
    assert max(passes) < 60
    for one, other in zip(found, wanted, strict=True):
        for values, expected in zip(one, other, strict=True):
            assert values == pytest.approx(expected, rel=1e-4)


def test_a_prompt_of_many_completions_is_written_out_once(shared: Config) -> None:
    config = config_of(Variant("neuron-opsd", "neuron-opsd"), shared)
    learner, method = learner_for(config), method_for("neuron-opsd", config)
    sequences = all_sequences(method.roll_out(learner, Batch(FREE, 0)))
    assert len(sequences) > len(FREE)
    wanted = [
        (learner.encode(s.example.student_prompt), s.completion.token_ids)
        for s in sequences
    ]
    written: list[Prompt] = []
    encode_all = learner.encode_all

    def noted(prompts: Sequence[Prompt]) -> Any:
        written.extend(prompts)
        return encode_all(prompts)

    setattr(learner, "encode_all", noted)  # noqa: B010 - a method
    assert student_pairs(learner, sequences) == wanted
    assert written == [example.student_prompt for example in FREE]


# --- what is idle ---


def rewarding(config: Config, kl_weight: float = 0.0) -> Rewarding:
    """Reward the first question's rollouts unlike, and all others' alike."""

    def reward(_: Any, groups: Sequence[Any]) -> list[Sequence[float]]:
        unlike = [float(n == 0) for n in range(len(groups[0].completions))]
        return [unlike, *([1.0] * len(g.completions) for g in groups[1:])]

    return Rewarding(config, reward, kl_weight)


def awake(groups: Sequence[RolloutGroup]) -> list[RolloutGroup]:
    """Return groups of which every rollout gets its passes, as before."""
    return [
        replace(g, sequences=tuple(replace(s, idle=False) for s in g.sequences))
        for g in groups
    ]


@pytest.mark.parametrize("kl_weight", [0.0, 0.1])
def test_rollouts_without_advantage_cost_nothing_and_count_in_the_mean(
    shared: Config, kl_weight: float
) -> None:
    config = config_of(Variant("ttrl", "ttrl"), shared)
    learner, method = learner_for(config), rewarding(config, kl_weight)
    groups = method.roll_out(learner, Batch(FREE, 0))
    sequences = all_sequences(groups)
    passes: list[int] = []
    student, reference = learner.student, learner.reference

    def noted(read: Any) -> Any:
        def counted(pairs: Sequence[Pair]) -> Any:
            passes.append(len(pairs))
            return read(pairs)

        return counted

    learner.student = noted(student)  # type: ignore[method-assign]
    learner.reference = noted(reference)  # type: ignore[method-assign]
    loss = gather_gradients(learner, sequences, method, config.distill)
    rewarded = [s for s in sequences if s.advantage != 0.0]
    assert 0 < len(rewarded) < len(sequences)
    assert sum(passes) == (2 * len(sequences) if kl_weight else len(rewarded))
    found = gradients(learner)
    before = all_sequences(awake(groups))
    assert gather_gradients(learner, before, method, config.distill) == pytest.approx(
        loss, rel=1e-5, abs=1e-9
    )
    for name, grad in gradients(learner).items():
        torch.testing.assert_close(found[name], grad, rtol=1e-4, atol=1e-7)
    assert sum(float(grad.abs().sum()) for grad in found.values()) > 0.0


def test_a_batch_of_idle_rollouts_steps_as_one_of_zero_gradients(
    shared: Config,
) -> None:
    """Momentum moves the weights on, moments decay, and the metrics are told."""
    config = config_of(Variant("ttrl", "ttrl"), shared)
    config = tuned(config, steps=3, weight_decay=0.1)

    def taken(*, idle: bool) -> tuple[dict[str, Tensor], list[Any]]:
        learner, method = learner_for(config), rewarding(config)

        def roll_out(learner: Any, batch: Batch) -> list[RolloutGroup]:
            groups = method.roll_out(learner, batch)
            if batch.step:  # nothing is rewarded any more
                groups = [
                    replace(g, sequences=tuple(map(unrewarded, g.sequences)))
                    for g in groups
                ]
            return groups if idle else awake(groups)

        steps = list(train(learner, FREE, TwoFunctions(roll_out, method.loss), config))
        return learner.state(), steps

    (state, metrics), (wanted, before) = taken(idle=True), taken(idle=False)
    assert metrics[1:] == before[1:]
    assert metrics[1].loss == metrics[1].grad_norm == 0.0
    assert metrics[1].num_tokens > 0
    for name, value in wanted.items():
        torch.testing.assert_close(state[name], value, rtol=1e-4, atol=1e-7)
    assert any(float(v) == 3.0 for n, v in state.items() if n.startswith("optimizer.s"))


def unrewarded(sequence: TrainingSequence) -> TrainingSequence:
    return replace(sequence, advantage=0.0, idle=True)
