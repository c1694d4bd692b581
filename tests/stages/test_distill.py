"""The training loop and its objectives, against formulas written out by hand."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor

from neuron_opsd.config import Config, DistillConfig
from neuron_opsd.config.tables import load_config
from neuron_opsd.errors import TrainingError
from neuron_opsd.method.fused_loss import HiddenStates
from neuron_opsd.methods.distillation import NeuronOPSD
from neuron_opsd.methods.imitation import FormOnly
from neuron_opsd.models.decoding.choices import choice_logprobs
from neuron_opsd.models.learner import HFLearner
from neuron_opsd.models.load import learner_of, load_model
from neuron_opsd.models.roles import Learner
from neuron_opsd.records import (
    Completion,
    Message,
    Prompt,
    Question,
    StepMetrics,
    TrainingExample,
)
from neuron_opsd.stages.rollouts import scored_choices
from neuron_opsd.stages.sequences import student_pairs, teacher_pairs
from neuron_opsd.stages.training import (
    Batch,
    Earlier,
    Examples,
    RolloutGroup,
    TrainingSequence,
    gather_gradients,
    move_teacher,
    train,
)
from neuron_opsd.stages.training_rollouts import asked, on_policy
from objectives import Imitating, TwoFunctions
from scripted import ScriptedModel

TEACHERS = ("ema", "frozen", "live", "periodic")
DIVERGENCES = ("reverse-kl", "forward-kl", "jsd")

EXAMPLES = tuple(
    TrainingExample(
        question=Question(f"q{n}", (Message("user", f"Is {n} odd?"),)),
        student_prompt=Prompt(text=f"Question: Is {n} odd?\nAnswer:"),
        teacher_prompt=Prompt(
            text=f"Question: the cat?\nAnswer: yes\n\nQuestion: Is {n} odd?\nAnswer:"
        ),
        choices=("yes", "no", "the other"),
    )
    for n in range(5)
)


def completion(*token_ids: int) -> Completion:
    return Completion(token_ids, "", finished=True, logprob=0.0, entropy=0.0)


# Of unequal lengths; 1 ends a text, 0 begins one, and both may be trained on.
COMPLETIONS = (
    completion(50),
    completion(60, 61, 62, 1),
    completion(1, 1),
    completion(70, 0, 71),
    completion(80, 81, 82, 83, 84, 1),
)


SEQUENCES = tuple(
    TrainingSequence(example, written)
    for example, written in zip(EXAMPLES, COMPLETIONS, strict=True)
)


@pytest.fixture
def config(tiny_llama_plain: Path) -> Config:
    return load_config(
        None,
        [
            f"model.name={tiny_llama_plain}",
            "model.compute=float32",
            "prompts.form=plain",
            "rollouts.max_new_tokens=6",
            "distill.batch_size=5",
            "distill.warmup_steps=0",
            "distill.learning_rate=0.01",
            "distill.lora_rank=4",
        ],
    )


def changed(config: Config, **fields: object) -> Config:
    """Return the settings with other ones for distillation."""
    distill = DistillConfig.model_validate(config.distill.model_dump() | fields)
    return config.model_copy(update={"distill": distill})


def learner_for(config: Config, *, moved: bool = False) -> HFLearner:
    """Load a learner; one that has `moved` is no longer its teacher."""
    with warnings.catch_warnings():
        # PEFT asks transformers for what it calls by a new name now.
        warnings.simplefilter("ignore", FutureWarning)
        learner = learner_of(load_model(config.model), config.distill, config.seed)
    if moved:
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for weight in learner.weights.values():
                weight.add_(torch.randn(weight.shape, generator=generator) * 0.05)
    return learner


def logits_of(
    learner: HFLearner, prompt: Prompt, tokens: Sequence[int], *, teacher: bool = False
) -> Tensor:
    """Return the logits ``(T, V)`` that predict a completion, by a whole forward."""
    ids = learner.encode(prompt)
    inputs = {"input_ids": torch.tensor([[*ids, *tokens]])}
    weights = learner.teacher_weights if teacher else learner.weights
    values: dict[str, Tensor] = {**weights}
    output = torch.func.functional_call(learner.network, values, kwargs=inputs)
    logits: Tensor = output.logits
    return logits[0, len(ids) - 1 : -1]


def kl(p: Tensor, q: Tensor) -> float:
    """Return KL(p || q) of two rows of logits, as a sum over the vocabulary."""
    p, q = p.double().log_softmax(-1), q.double().log_softmax(-1)
    pairs = zip(p.tolist(), q.tolist(), strict=True)
    return math.fsum(math.exp(a) * (a - b) for a, b in pairs)


def by_hand(learner: HFLearner, divergence: str) -> float:
    """Return the mean over all tokens of all completions, one token at a time."""
    terms = []
    for example, written in zip(EXAMPLES, COMPLETIONS, strict=True):
        with torch.no_grad():
            ids = written.token_ids
            student = logits_of(learner, example.student_prompt, ids)
            teacher = logits_of(learner, example.teacher_prompt, ids, teacher=True)
        for s, t in zip(student, teacher, strict=True):
            if divergence == "reverse-kl":
                terms.append(kl(s, t))
            elif divergence == "forward-kl":
                terms.append(kl(t, s))
            else:
                mixture = ((s.softmax(-1) + t.softmax(-1)) / 2).log()
                terms.append(kl(t, mixture) / 2 + kl(s, mixture) / 2)
    return sum(terms) / len(terms)


def written(learner: Learner, batch: Batch) -> list[RolloutGroup]:
    """Return what is fixed for every question."""
    del learner
    return [
        RolloutGroup((SEQUENCES[EXAMPLES.index(example)],))
        for example in batch.examples
    ]


def drawn(groups: Sequence[RolloutGroup]) -> list[Completion]:
    """Return all that was drawn for some questions."""
    return [completion for group in groups for completion in group.drawn]


def taught(groups: Sequence[RolloutGroup]) -> list[Completion]:
    """Return all that some questions are trained on."""
    return [s.completion for group in groups for s in group.sequences]


def gradients(learner: HFLearner) -> Tensor:
    """Return all gradients as one row, and forget them."""
    rows = [
        torch.zeros(w.numel()) if w.grad is None else w.grad.flatten()
        for w in learner.weights.values()
    ]
    learner.optimizer.zero_grad()
    return torch.cat(rows).clone()


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_the_loss_is_the_mean_over_all_tokens_of_a_batch(
    config: Config, divergence: str, tuning: str
) -> None:
    config = changed(config, divergence=divergence, tuning=tuning)
    learner = learner_for(config, moved=True)
    objective = NeuronOPSD(config)
    expected = by_hand(learner, divergence)
    assert expected > 1e-3
    found, grads = [], []
    for micro, chunk in ((1, 256), (2, 3), (5, 1), (4, 256)):
        tuned = changed(config, micro_batch_size=micro, chunk_positions=chunk).distill
        loss = gather_gradients(learner, SEQUENCES, objective, tuned)
        found.append(loss)
        grads.append(gradients(learner))
    assert found == pytest.approx([expected] * 4, rel=1e-4)
    assert grads[0].norm() > 1e-4
    for grad in grads[1:]:
        torch.testing.assert_close(grad, grads[0], rtol=1e-3, atol=1e-6)


def test_the_gradient_of_a_step_is_that_of_the_dense_formula(config: Config) -> None:
    learner = learner_for(config, moved=True)
    num_tokens = sum(len(c.token_ids) for c in COMPLETIONS)
    for example, one in zip(EXAMPLES, COMPLETIONS, strict=True):
        student = logits_of(learner, example.student_prompt, one.token_ids)
        with torch.no_grad():
            teacher = logits_of(
                learner, example.teacher_prompt, one.token_ids, teacher=True
            )
        p, q = student.log_softmax(-1), teacher.log_softmax(-1)
        ((p.exp() * (p - q)).sum() / num_tokens).backward()
    dense = gradients(learner)
    gather_gradients(learner, SEQUENCES, NeuronOPSD(config), config.distill)
    torch.testing.assert_close(gradients(learner), dense, rtol=1e-4, atol=1e-6)


def test_the_end_token_is_trained_like_any_other(config: Config) -> None:
    learner = learner_for(config, moved=True)
    objective = NeuronOPSD(config)
    ends = (completion(50), completion(50, 1))
    losses = [
        gather_gradients(
            learner, [TrainingSequence(EXAMPLES[0], one)], objective, config.distill
        )
        for one in ends
    ]
    with torch.no_grad():
        prompts = EXAMPLES[0].student_prompt, EXAMPLES[0].teacher_prompt
        student = logits_of(learner, prompts[0], (50, 1))[1]
        teacher = logits_of(learner, prompts[1], (50, 1), teacher=True)[1]
    assert 2 * losses[1] - losses[0] == pytest.approx(kl(student, teacher), rel=1e-3)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_a_fixed_teacher_is_come_closer_to(config: Config, divergence: str) -> None:
    config = changed(config, divergence=divergence, teacher="frozen", steps=20)
    learner = learner_for(config)
    start = {name: value.clone() for name, value in learner.teacher_weights.items()}
    metrics = list(train(learner, EXAMPLES, NeuronOPSD(config), config))
    losses = [entry.loss for entry in metrics]
    assert fmean(losses[-5:]) < 0.5 * fmean(losses[:5])
    for name, value in start.items():
        assert torch.equal(learner.teacher_weights[name], value)


def test_imitation_is_the_cross_entropy_of_what_is_written(config: Config) -> None:
    learner = learner_for(config, moved=True)
    objective = Imitating(config, written)
    found = gather_gradients(learner, SEQUENCES, objective, changed(config).distill)
    terms = []
    for example, one in zip(EXAMPLES, COMPLETIONS, strict=True):
        with torch.no_grad():
            logits = logits_of(learner, example.student_prompt, one.token_ids)
        logs = logits.double().log_softmax(-1)
        terms += [-float(row[i]) for row, i in zip(logs, one.token_ids, strict=True)]
    assert found == pytest.approx(sum(terms) / len(terms), rel=1e-5)
    metrics = list(train(learner, EXAMPLES, objective, changed(config, steps=12)))
    assert metrics[-1].loss < 0.8 * found


class Moved:
    """Notes how far its teacher is moved."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def update_teacher(self, rate: float) -> None:
        """Take a note."""
        self.rates.append(rate)


@pytest.mark.parametrize(
    ("teacher", "rates"),
    [
        ("ema", [0.25] * 6),
        ("frozen", []),
        ("live", [1.0] * 6),
        ("periodic", [1.0, 1.0]),
    ],
)
def test_every_kind_of_teacher_moves_in_its_way(
    teacher: str, rates: list[float]
) -> None:
    config = DistillConfig.model_validate(
        {"teacher": teacher, "ema_rate": 0.25, "teacher_period": 3}
    )
    learner = Moved()
    moves = []
    for step in range(6):
        move_teacher(cast("Learner", learner), step, config)
        moves.append(len(learner.rates))
    assert learner.rates == rates
    if teacher == "periodic":
        assert moves == [0, 0, 1, 1, 1, 2]


@pytest.mark.parametrize("teacher", TEACHERS)
def test_the_teacher_follows_its_recurrence(config: Config, teacher: str) -> None:
    config = changed(config, teacher=teacher, ema_rate=0.2, teacher_period=2, steps=3)
    learner = learner_for(config)
    expected = {name: value.clone() for name, value in learner.teacher_weights.items()}
    for entry in train(learner, EXAMPLES, NeuronOPSD(config), config):
        for name, weight in learner.weights.items():
            now = weight.detach().clone()
            if teacher == "ema":
                expected[name] = 0.8 * expected[name] + 0.2 * now
            elif teacher == "live" or (teacher == "periodic" and entry.step == 1):
                expected[name] = now
            torch.testing.assert_close(learner.teacher_weights[name], expected[name])


def test_a_step_says_what_it_did(config: Config) -> None:
    config = changed(config, steps=2, warmup_steps=2)
    learner = learner_for(config)
    objective = TwoFunctions(written, NeuronOPSD(config).loss)
    first, second = train(learner, EXAMPLES, objective, config)
    assert (first.step, second.step) == (0, 1)
    assert first.num_tokens == 16
    assert first.mean_length == pytest.approx(16 / 5)
    assert first.truncated == 0.0
    assert first.top_answer_share == 1.0
    assert first.learning_rate == pytest.approx(0.005)
    assert second.learning_rate == pytest.approx(0.01)
    assert first.grad_norm > 0


def test_cut_rollouts_and_repeated_ones_are_counted(config: Config) -> None:
    def roll_out(learner: Learner, batch: Batch) -> list[RolloutGroup]:
        del learner
        texts = ["a", "b", "b", "b", "c"]
        completions = [
            Completion((50,), text, finished=text != "b", logprob=0.0, entropy=n / 10)
            for n, text in enumerate(texts)
        ]
        return [
            RolloutGroup((TrainingSequence(example, one),), (one,))
            for example, one in zip(batch.examples, completions, strict=True)
        ]

    config = changed(config, steps=1)
    objective = TwoFunctions(roll_out, NeuronOPSD(config).loss)
    (entry,) = train(learner_for(config), EXAMPLES, objective, config)
    assert entry.truncated == pytest.approx(3 / 5)
    assert entry.top_answer_share == pytest.approx(3 / 5)
    assert entry.entropy == pytest.approx(0.2)
    assert entry.num_generated == 5


def content(metrics: Sequence[StepMetrics]) -> list[tuple[float, ...]]:
    return [(m.loss, m.grad_norm, float(m.num_tokens)) for m in metrics]


def test_training_goes_on_from_a_state_as_if_it_had_not_stopped(
    config: Config,
) -> None:
    config = changed(config, steps=4, batch_size=3, ema_rate=0.3)
    whole = learner_for(config)
    objective = NeuronOPSD(config)
    metrics = list(train(whole, EXAMPLES, objective, config))
    stopped = learner_for(config)
    half = list(train(stopped, EXAMPLES, objective, changed(config, steps=2)))
    resumed = learner_for(config)
    resumed.load_state(stopped.state())
    rest = list(train(resumed, EXAMPLES, objective, config, Earlier(2)))
    assert content([*half, *rest]) == content(metrics)
    for name, value in whole.state().items():
        assert torch.equal(resumed.state()[name], value)


def test_a_loss_that_is_no_number_names_step_and_questions(config: Config) -> None:
    def broken(learner: Learner, sequences: Sequence[TrainingSequence]) -> Tensor:
        states = learner.student(
            [
                (learner.encode(s.example.student_prompt), s.completion.token_ids)
                for s in sequences
            ]
        )
        return states.hidden.sum() * float("nan")

    learner = learner_for(config)
    before = learner.state()
    with pytest.raises(TrainingError) as caught:
        list(train(learner, EXAMPLES, TwoFunctions(written, broken), config))
    text = str(caught.value)
    assert text.startswith("step 0: the loss is nan (questions ")
    named = text.partition("questions ")[2].partition(")")[0].split(", ")
    # Those of the micro-batch, the first four.
    assert len(named) == config.distill.micro_batch_size
    assert set(named) < {example.question_id for example in EXAMPLES}
    assert "distill.on_nonfinite=skip" in text
    assert all(torch.equal(learner.state()[name], w) for name, w in before.items())


def test_a_student_writes_its_own_free_answers(config: Config) -> None:
    learner = learner_for(config)
    free = [
        TrainingExample(e.question, e.student_prompt, e.teacher_prompt)
        for e in EXAMPLES
    ]
    first, again, later = (
        drawn(on_policy(learner, Batch(free, step), config)) for step in (0, 0, 1)
    )
    assert first == again
    assert [c.token_ids for c in first] != [c.token_ids for c in later]
    assert all(1 <= len(c.token_ids) <= 6 for c in first)


def test_a_question_twice_in_a_batch_is_answered_twice(config: Config) -> None:
    free = replace(EXAMPLES[0], choices=())
    groups = on_policy(learner_for(config), Batch([free] * 6, 0), config)
    assert len({c.token_ids for c in drawn(groups)}) > 1


SEVERAL = replace(
    EXAMPLES[0],
    choices=(),
    other_prompts=(
        Prompt(text="Question: the dog?\nAnswer: no\n\nQuestion: Is 0 odd?\nAnswer:"),
        EXAMPLES[0].student_prompt,
    ),
)
"""A question with three contexts, the last an empty one."""


def test_rollouts_take_turns_with_the_contexts_of_their_question(
    config: Config,
) -> None:
    learner = learner_for(config)
    firsts = Counter[Prompt]()
    for step in range(30):
        several = changed(config, num_samples=7)
        (group,) = on_policy(learner, Batch([SEVERAL], step), several)
        shown = Counter[Prompt]()
        for one in group.sequences:
            shown[one.example.teacher_prompt] += one.count
            assert one.example.other_prompts == ()
        # Every rollout is trained on once, and none of seven is two ahead of another.
        assert sorted(shown.values()) == [2, 2, 3]
        assert set(shown) == set(SEVERAL.teacher_prompts)
        (alone,) = on_policy(learner, Batch([SEVERAL], step), config)
        (only,) = alone.sequences
        firsts[only.example.teacher_prompt] += 1
    # A false alarm, one context never first in 30 draws, has a chance of 2e-5.
    assert set(firsts) == set(SEVERAL.teacher_prompts)


def odds(read: HiddenStates) -> Tensor:
    """Return log-probabilities of the next token."""
    return (read.hidden @ read.weight.T).log_softmax(-1)


def test_contexts_in_turn_teach_the_mean_of_their_log_probabilities(
    config: Config,
) -> None:
    learner = learner_for(config, moved=True)
    written = COMPLETIONS[1]
    sequences = [
        TrainingSequence(replace(SEVERAL, teacher_prompt=prompt), written)
        for prompt in SEVERAL.teacher_prompts
    ]
    gather_gradients(learner, sequences, NeuronOPSD(config), config.distill)
    taught = {name: w.grad for name, w in learner.weights.items() if w.grad is not None}
    taught = {name: gradient.clone() for name, gradient in taught.items()}
    learner.drop_gradients()
    pairs = teacher_pairs(learner, sequences)
    every = torch.stack([odds(learner.teacher([pair])) for pair in pairs])
    mean = every.mean(0).log_softmax(-1)
    own = odds(learner.student(student_pairs(learner, sequences[:1])))
    divergence = (own.exp() * (own - mean)).sum(-1).mean()
    divergence.backward()
    for name, gradient in taught.items():
        expected = learner.weights[name].grad
        assert expected is not None
        torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-6)
    # One context alone teaches something else.
    learner.drop_gradients()
    gather_gradients(learner, sequences[:1], NeuronOPSD(config), config.distill)
    name, gradient = next(iter(taught.items()))
    alone = learner.weights[name].grad
    assert alone is not None
    assert (alone - gradient).norm() > 0.05 * gradient.norm()


def test_rollouts_among_choices_follow_the_students_odds(config: Config) -> None:
    learner = learner_for(config)
    count = 500
    batch = [EXAMPLES[0]] * count
    groups = on_policy(learner, Batch(batch, 3), changed(config, temperature=0.7))
    (scores,) = scored_choices(learner, [asked(EXAMPLES[0])])
    odds = np.exp(choice_logprobs(scores, 0.7))
    counted = Counter(c.text for c in drawn(groups))
    assert set(counted) <= set(EXAMPLES[0].choices)
    for choice, share in zip(EXAMPLES[0].choices, odds, strict=True):
        # 6.4 standard deviations, three choices: a false alarm below 1e-9.
        spread = (count * share * (1 - share)) ** 0.5
        assert abs(counted[choice] - count * share) < 6.4 * spread


def test_the_form_only_control_draws_every_choice_alike(config: Config) -> None:
    scripted = cast("Learner", ScriptedModel({}))
    method = FormOnly(config)
    steps, batch = 400, EXAMPLES
    places = np.zeros((len(batch), 3))
    for step in range(steps):
        for n, one in enumerate(taught(method.roll_out(scripted, Batch(batch, step)))):
            places[n, batch[n].choices.index(one.text)] += 1
            assert one.token_ids == tuple(f" {one.text}\n".encode())
    # Chi-square with two degrees of freedom is above x with the chance exp(-x / 2):
    # for 46 that is 1e-10, and below 1e-9 for the five questions and their sum.
    expected = steps / 3
    for row in places:
        assert ((row - expected) ** 2 / expected).sum() < 46
    total, mean = places.sum(axis=0), steps * len(batch) / 3
    assert ((total - mean) ** 2 / mean).sum() < 46


def test_the_form_only_control_looks_at_nothing_but_seed_step_and_id(
    config: Config,
) -> None:
    scripted = cast("Learner", ScriptedModel({}))
    turned = [
        TrainingExample(e.question, Prompt(text="Hm"), Prompt(text="Ha"), e.choices)
        for e in EXAMPLES
    ]
    other = config.model_copy(update={"seed": 1})

    def texts(config: Config, batch: Examples) -> list[str]:
        method = FormOnly(config)
        return [
            c.text
            for step in range(9)
            for c in taught(method.roll_out(scripted, Batch(batch, step)))
        ]

    assert texts(config, EXAMPLES) == texts(config, turned)
    assert texts(config, EXAMPLES) != texts(other, EXAMPLES)
