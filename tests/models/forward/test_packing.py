"""Completions read behind one prompt have the states that they have alone."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor

from neuron_opsd.config.tables import load_config
from neuron_opsd.models import load
from neuron_opsd.models.forward.packing import PADDING, layout_of, packs_of
from neuron_opsd.models.learner import HFLearner
from neuron_opsd.records import Pair

PROMPTS = ((5, 6, 7, 8, 9), (5, 6), (40, 41, 42, 43, 44, 45, 46))
PAIRS: tuple[Pair, ...] = (
    (PROMPTS[0], (50, 51)),
    (PROMPTS[1], (60,)),
    (PROMPTS[0], (50, 52, 53)),
    (PROMPTS[2], (70, 71, 72, 73)),
    (PROMPTS[0], (54,)),
    (PROMPTS[1], (61, 62)),
)


def learner_of(folder: Path, *settings: str) -> HFLearner:
    config = load_config(
        None,
        [
            f"model.name={folder}",
            "model.compute=float32",
            "distill.lora_rank=4",
            *settings,
        ],
    )
    with warnings.catch_warnings():
        # PEFT asks transformers for what it calls by a new name now.
        warnings.simplefilter("ignore", FutureWarning)
        learner = load.learner_of(load.load_model(config.model), config.distill, 0)
    draws = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in learner.weights.values():
            weight.add_(torch.randn(weight.shape, generator=draws) * 0.1)
    return learner


def alone(learner: HFLearner, *, teacher: bool) -> Tensor:
    """Return the states of each pair in a pass of its own."""
    read = learner.teacher if teacher else learner.student
    return torch.cat([read([pair]).hidden for pair in PAIRS])


@pytest.mark.parametrize(
    "family", ["llama", "llama_plain", "qwen2", "qwen3", "mistral", "gemma3"]
)
def test_states_are_those_that_each_completion_has_alone(
    family: str, request: pytest.FixtureRequest
) -> None:
    learner = learner_of(request.getfixturevalue(f"tiny_{family}"))
    assert learner.facts.shares_prompts
    with torch.no_grad():
        student = learner.student(PAIRS).hidden, alone(learner, teacher=False)
        torch.testing.assert_close(*student, rtol=1e-4, atol=1e-5)
    teacher = learner.teacher(PAIRS).hidden, alone(learner, teacher=True)
    torch.testing.assert_close(*teacher, rtol=1e-4, atol=1e-5)


def test_gradients_are_those_of_passes_of_their_own(tiny_llama: Path) -> None:
    learner = learner_of(tiny_llama)
    scale = torch.randn(13, 32, generator=torch.Generator().manual_seed(1))
    found = []
    for states in (learner.student(PAIRS).hidden, alone(learner, teacher=False)):
        (states * scale).sum().backward()
        rows = [
            w.grad.flatten() for w in learner.weights.values() if w.grad is not None
        ]
        found.append(torch.cat(rows).clone())
        learner.optimizer.zero_grad()
    assert found[0].norm() > 1e-2
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-5)


def test_pairs_of_one_prompt_share_a_row() -> None:
    packs = packs_of(PAIRS, 100)
    assert [pack.prompt for pack in packs] == [PROMPTS[0], PROMPTS[1], PROMPTS[2]]
    assert [pack.places for pack in packs] == [(0, 2, 4), (1, 5), (3,)]
    assert packs[0].row == (PROMPTS[0], (50, 51, 50, 52, 53, 54))


def test_a_pack_is_cut_where_it_would_be_too_long() -> None:
    packs = packs_of(PAIRS, 9)
    assert [pack.places for pack in packs] == [(0,), (2, 4), (1, 5), (3,)]
    # With no room at all every pair has a row of its own.
    assert [pack.places for pack in packs_of(PAIRS, 0)] == [
        (0,),
        (2,),
        (4,),
        (1,),
        (5,),
        (3,),
    ]


def test_a_layout_by_hand() -> None:
    layout = layout_of(packs_of(PAIRS, 100)[1:], torch.device("cpu"))
    assert layout.segments[0, :6].tolist() == [0, 0, 1, 2, 2, PADDING]
    assert layout.positions[0, :5].tolist() == [0, 1, 2, 2, 3]
    assert layout.ids[0, :5].tolist() == [5, 6, 60, 61, 62]
    assert layout.rows.tolist() == [0, 0, 0, 1, 1, 1, 1]
    # Token 60 and token 61 are both predicted by the end of the prompt.
    assert layout.columns.tolist() == [1, 1, 3, 6, 7, 8, 9]
