"""What vLLM writes is what our own decoder could have written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from neuron_opsd.config import Config
from neuron_opsd.config.tables import load_config
from neuron_opsd.methods import METHODS
from neuron_opsd.models.hf import HFModel
from neuron_opsd.models.learner import HFLearner
from neuron_opsd.models.load import learner_of, load_answering
from neuron_opsd.models.roles import Sampling
from neuron_opsd.models.vllm.engine import SHARED
from neuron_opsd.records import (
    Completion,
    Message,
    Prompt,
    Question,
    TokenIds,
    TrainingExample,
)
from neuron_opsd.stages.engine_gap import summed_gap
from neuron_opsd.stages.sequences import TrainingSequence
from neuron_opsd.stages.training import train

pytestmark = [
    pytest.mark.usefixtures("engine"),
    pytest.mark.filterwarnings("default"),  # vLLM's own
]

TEXTS = ("Which gas do plants take in?", "What is two and three?")
SEEDS = ((1, 2, 3), (4, 5))


def settings(folder: Path, *more: str) -> Config:
    return load_config(
        None,
        [
            f"model.name={folder}",
            "model.device=cpu",
            "model.compute=float32",
            "engine.rollouts=vllm",
            "prompts.form=plain",
            "rollouts.mode=free",
            "rollouts.max_new_tokens=12",
            "distill.lora_rank=4",
            "distill.batch_size=2",
            "distill.steps=2",
            "distill.learning_rate=0.01",
            *more,
        ],
    )


def prompts_of(model: HFModel) -> list[TokenIds]:
    return [model.encode(Prompt(text)) for text in TEXTS]


def scored(model: HFModel, prompt: TokenIds, completion: Completion) -> Tensor:
    """Return transformers' log-probabilities of a completion's tokens."""
    ids = completion.token_ids
    whole = tuple(range(model.facts.vocab_size))
    (rows,) = model.logits_at([(prompt, ids)], [[whole] * len(ids) + [()]])
    logits = torch.tensor(np.stack(rows[: len(ids)]))
    return logits.log_softmax(-1).gather(-1, torch.tensor(ids)[:, None])[:, 0]


def move(learner: HFLearner, size: float) -> None:
    """Perturb what is trained, as steps do."""
    with torch.no_grad():
        for number, weight in enumerate(learner.weights.values()):
            source = torch.Generator().manual_seed(number)
            weight.add_(size * torch.randn(weight.shape, generator=source))
    learner.load_state(learner.state())


def test_completions_are_drawn_from_the_model_and_end_as_ours(folder: Path) -> None:
    model = load_answering(settings(folder))
    prompts, sampling = prompts_of(model), Sampling(1.0, 1.0, 12, stop_at_newline=True)
    groups = model.sample(prompts, SEEDS, sampling)
    assert [len(group) for group in groups] == [3, 2]
    ends = model.tokens.end_ids | model.tokens.newline_ids
    for prompt, group in zip(prompts, groups, strict=True):
        for completion in group:
            ids = completion.token_ids
            assert not ends & set(ids[:-1])
            assert completion.finished == (ids[-1] in ends)
            assert completion.finished or len(ids) == 12
            own = scored(model, prompt, completion)
            assert completion.logprob == pytest.approx(float(own.sum()), abs=1e-3)
            assert completion.entropy == pytest.approx(-completion.logprob / len(ids))
            assert completion.logprobs == ()  # nobody compares a frozen model's
    assert model.sample(prompts, SEEDS, sampling) == groups
    assert len({c.token_ids for group in groups for c in group}) > 1


def test_a_seed_draws_alike_whatever_stands_beside_it(folder: Path) -> None:
    model = load_answering(settings(folder))
    prompts, sampling = prompts_of(model), Sampling(1.0, 1.0, 12)
    together = model.sample(prompts, SEEDS, sampling)
    alone = model.sample(prompts[1:], [SEEDS[1][1:]], sampling)
    assert alone[0][0].token_ids == together[1][1].token_ids
    assert model.sample(prompts, [(), ()], sampling) == [[], []]


def test_more_is_asked_than_a_pass_holds(folder: Path) -> None:
    model = load_answering(settings(folder))
    long = prompts_of(model)[0] * 40
    prompts = [long[: 500 - n] for n in range(10)]
    sampling = Sampling(1.0, 1.0, 3)
    groups = model.sample(prompts, [[n] for n in range(10)], sampling)
    for prompt, (completion,) in zip(prompts, groups, strict=True):
        own = scored(model, prompt, completion)
        assert completion.logprob == pytest.approx(float(own.sum()), abs=1e-3)


def test_the_most_probable_tokens_are_ours(folder: Path) -> None:
    model = load_answering(settings(folder))
    prompts, greedy = prompts_of(model), Sampling(0.0, 1.0, 12)
    theirs = model.sample(prompts, [[0], [0]], greedy)
    model.sampler = None
    ours = model.sample(prompts, [[0], [0]], greedy)
    assert theirs == ours  # with no log-probability and no entropy either


@pytest.mark.parametrize("size", [1, 2])
def test_a_stop_text_ends_a_completion_and_is_not_in_its_text(
    folder: Path, size: int
) -> None:
    model = load_answering(settings(folder))
    prompts = prompts_of(model)
    free = model.sample(prompts, SEEDS, Sampling(1.0, 1.0, 12))
    text = model.tokens.tokenizer.decode(free[0][0].token_ids)
    stop = text[4 : 4 + size]
    found = model.sample(prompts, SEEDS, Sampling(1.0, 1.0, 12, stop=(stop,)))[0][0]
    assert found.finished
    assert stop in model.tokens.tokenizer.decode(found.token_ids)
    assert stop not in model.tokens.tokenizer.decode(found.token_ids[:-1])
    assert stop not in found.text
    assert found.token_ids == free[0][0].token_ids[: len(found.token_ids)]


def test_an_adapter_changes_the_numbers_and_they_follow_it(folder: Path) -> None:
    config = settings(folder)
    model = load_answering(config)
    learner = learner_of(model, config.distill, 0)
    prompts, sampling = prompts_of(model), Sampling(1.0, 1.0, 12)
    base = model.sample(prompts, SEEDS, sampling)
    as_begun = learner.sample(prompts, SEEDS, sampling)
    assert tokens_in(as_begun) == tokens_in(base)
    found = []
    for size in (0.05, 0.1):
        move(learner, size)
        groups = learner.sample(prompts, SEEDS, sampling)
        found.append(tokens_in(groups))
        for prompt, group in zip(prompts, groups, strict=True):
            for completion in group:
                own = scored(learner, prompt, completion)
                told = torch.tensor(completion.logprobs)
                assert told == pytest.approx(own, abs=1e-3)
                # Of the base it would be another number: the adapter is in it.
                unadapted = scored(model, prompt, completion)
                assert float((told - unadapted).abs().mean()) > 0.05
    assert found[0] != found[1]
    assert tokens_in(model.sample(prompts, SEEDS, sampling)) == tokens_in(base)


def tokens_in(groups: list[list[Completion]]) -> list[list[TokenIds]]:
    return [[completion.token_ids for completion in group] for group in groups]


def test_a_trained_model_answers_as_the_learner_did(
    folder: Path, tmp_path: Path
) -> None:
    config = settings(folder)
    learner = learner_of(load_answering(config), config.distill, 0)
    move(learner, 0.1)
    prompts, sampling = prompts_of(learner), Sampling(1.0, 1.0, 12)
    before = tokens_in(learner.sample(prompts, SEEDS, sampling))
    learner.save_adapter(tmp_path / "first")
    trained = load_answering(config, tmp_path / "first")
    assert tokens_in(trained.sample(prompts, SEEDS, sampling)) == before
    # And one that was trained on top of it answers with both.
    second = learner_of(trained, config.distill, 1)
    assert tokens_in(second.sample(prompts, SEEDS, sampling)) == before
    move(second, 0.1)
    on_top = tokens_in(second.sample(prompts, SEEDS, sampling))
    assert on_top != before
    second.save_adapter(tmp_path / "second")
    both = load_answering(config, tmp_path / "first", tmp_path / "second")
    assert tokens_in(both.sample(prompts, SEEDS, sampling)) == on_top


def test_the_gap_is_nought_and_grows_with_what_the_engine_does_not_know(
    folder: Path,
) -> None:
    config = settings(folder)
    learner = learner_of(load_answering(config), config.distill, 0)
    move(learner, 0.1)
    prompts = prompts_of(learner)
    groups = learner.sample(prompts, SEEDS, Sampling(1.0, 1.0, 12))
    drawn = [
        TrainingSequence(example_of(text), completion)
        for text, group in zip(TEXTS, groups, strict=True)
        for completion in group
    ]
    total, count = summed_gap(learner, drawn, config.distill)
    assert count == sum(len(one.completion.token_ids) for one in drawn)
    assert total / count < 1e-3
    move(learner, 0.1)
    assert summed_gap(learner, drawn, config.distill)[0] / count > 0.05


def example_of(text: str) -> TrainingExample:
    question = Question(text, (Message("user", text),))
    return TrainingExample(question, Prompt(text), Prompt(f"1 {text}"))


def test_steps_are_those_of_our_own_decoder_on_the_same_tokens(folder: Path) -> None:
    config = settings(folder, "engine.check_every=1")
    examples = [example_of(text) for text in TEXTS]
    learner = learner_of(load_answering(config), config.distill, 0)
    metrics = list(train(learner, examples, METHODS["neuron-opsd"](config), config))
    assert [entry.step for entry in metrics] == [0, 1]
    for entry in metrics:
        assert entry.engine_gap is not None
        assert entry.engine_gap < 1e-3


def test_long_texts_start_the_engine_again(folder: Path) -> None:
    model = load_answering(settings(folder))
    sampling = Sampling(1.0, 1.0, 4)
    short = prompts_of(model)
    before = model.sample(short, SEEDS, sampling)
    engine: Any = SHARED.engine
    first = engine.length
    model.sample([short[0] * (first // len(short[0]) + 1)], [[1]], sampling)
    assert engine.length > first
    assert model.sample(short, SEEDS, sampling) == before


def test_what_transformers_computes_is_not_touched(folder: Path) -> None:
    model = load_answering(settings(folder))
    prompts = prompts_of(model)
    pairs = [(prompt, prompt) for prompt in prompts]
    whole = tuple(range(model.facts.vocab_size))
    columns = [[whole] * (len(prompt) + 1) for prompt in prompts]

    def logits() -> list[bytes]:
        return [
            row.tobytes() for rows in model.logits_at(pairs, columns) for row in rows
        ]

    before, threads = logits(), torch.get_num_threads()
    kind = torch.get_default_dtype()
    model.sample(prompts, SEEDS, Sampling(1.0, 1.0, 4))
    assert logits() == before
    assert torch.get_num_threads() == threads
    assert torch.get_default_dtype() == kind
