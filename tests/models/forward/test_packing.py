"""Completions read behind one prompt have the states that they have alone."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from neuron_opsd.config.tables import load_config
from neuron_opsd.models import load
from neuron_opsd.models.forward import attention
from neuron_opsd.models.forward.attention import Whole
from neuron_opsd.models.forward.packing import PADDING, Apart, layout_of, packs_of
from neuron_opsd.models.learner import HFLearner
from neuron_opsd.records import Pair
from tiny import tiny_model

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
    assert (found[0] - found[1]).norm() < 1e-4 * found[0].norm()


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


# --- rows too long for one mask ---

LONG: tuple[Pair, ...] = (
    (tuple(range(5, 85)), tuple(range(100, 130))),
    (tuple(range(5, 85)), tuple(range(60, 100))),
    (tuple(range(7, 50)), tuple(range(60, 90))),
)
WINDOWED = ("mistral", "gemma3")


@pytest.fixture
def short_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let masks be of blocks in rows of more than 64 positions."""
    monkeypatch.setattr(attention, "WHOLE_MASK", 64)
    monkeypatch.setattr(attention, "BLOCK", 32)


def states_and_gradient(learner: HFLearner) -> tuple[Tensor, Tensor]:
    """Return the student's states of long pairs, and what comes back of them."""
    states = learner.student(LONG).hidden
    scale = torch.randn(states.shape, generator=torch.Generator().manual_seed(1))
    (states * scale).sum().backward()
    grads = [w.grad.flatten() for w in learner.weights.values() if w.grad is not None]
    found = torch.cat(grads)
    learner.optimizer.zero_grad()
    return states.detach(), found


@pytest.mark.parametrize("family", ["llama", *WINDOWED])
def test_blocks_see_what_whole_rows_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    window: dict[str, Any] = {"sliding_window": 24} if family in WINDOWED else {}
    learner = learner_of(tiny_model(tmp_path, family, **window))
    wanted = states_and_gradient(learner), learner.teacher(LONG).hidden
    monkeypatch.setattr(attention, "WHOLE_MASK", 64)
    monkeypatch.setattr(attention, "BLOCK", 32)
    assert [len(pack.places) for pack in packs_of(LONG, 1000)] == [2, 1]
    found = states_and_gradient(learner), learner.teacher(LONG).hidden
    for one, other in zip((*found[0], found[1]), (*wanted[0], wanted[1]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    assert float(wanted[0][1].norm()) > 1e-2


@pytest.mark.usefixtures("short_masks")
def test_long_answers_to_a_short_question_are_read_one_by_one() -> None:
    pairs = [((1,) * 10, (2,) * 40), ((1,) * 10, (3,) * 40), ((1,) * 10, (4,) * 10)]
    assert [pack.places for pack in packs_of(pairs, 1000)] == [(0,), (1, 2)]
    behind_a_long_prompt = [((1,) * 100, completion) for _, completion in pairs]
    assert [p.places for p in packs_of(behind_a_long_prompt, 1000)] == [(0, 1, 2)]


class Counting(TorchDispatchMode):
    """Counts the bytes of what is made, and of the largest part of it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.largest = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Note the size of what an operation gives."""
        del types
        made = func(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else (made,):
            if isinstance(one, Tensor):
                self.largest = max(self.largest, one.untyped_storage().nbytes())
        return made


def attention_bytes(kind: str, length: int) -> tuple[int, int]:
    """Return the largest tensor of an attention's passes, and what its graph keeps."""
    draws = torch.Generator().manual_seed(0)
    shape = (1, 2, length, 4)
    query, key, value = (
        torch.randn(shape, generator=draws).requires_grad_() for _ in range(3)
    )
    module = torch.nn.Module().eval()
    window = 16 if kind == "window" else None
    heads = attention.Heads(module, query, key, value, 0.5, window)
    pair = ((1,) * (length // 2), (2,) * (length // 4))
    packs = packs_of([pair, pair], length)
    attending = Whole() if kind == "window" else Apart(layout_of(packs, query.device))
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with Counting() as counting:
        with saved_tensors_hooks(keep, lambda tensor: tensor):
            made = attending.attend(heads)
        made.square().sum().backward()
    assert query.grad is not None
    return counting.largest, sum(kept.values())


@pytest.mark.parametrize("kind", ["packs", "window"])
def test_memory_grows_with_the_length_of_a_row(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    whole = [attention_bytes(kind, length)[0] for length in (512, 1024)]
    assert whole[1] > 3.5 * whole[0]  # up to a length, as its square
    monkeypatch.setattr(attention, "WHOLE_MASK", 64)
    monkeypatch.setattr(attention, "BLOCK", 32)
    shorter, longer = (attention_bytes(kind, length) for length in (512, 1024))
    for one, other in zip(shorter, longer, strict=True):
        assert other < 2.2 * one
    assert longer[0] < whole[1] / 5
