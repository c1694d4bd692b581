"""Which tokens are a question's own, and what a model makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neuron_opsd.config import Config
from neuron_opsd.config.tables import load_config
from neuron_opsd.errors import ModelError, NotFiniteError
from neuron_opsd.models.hf import HFModel
from neuron_opsd.models.load import load_model
from neuron_opsd.records import Message, Pair, Question
from neuron_opsd.stages.capture import capture_pairs
from neuron_opsd.stages.question_tokens import (
    capture_questions,
    middle_layer,
    own_tokens,
    question_pairs,
    read_states,
)
from neuron_opsd.stages.rollouts import ask
from scripted import FACTS, ScriptedModel

TEXTS = (
    "Which gas do plants take in from the air?",
    "a",
    "Zz.",
    "the cat sat on the mat and the dog ran after the other cat, and then some more",
    "Answer:",
    "Is 4 odd or even",
)


def question(text: str, *choices: str) -> Question:
    return Question(f"q {text[:9]}", (Message("user", text),), choices)


def config_of(form: str, *assignments: str) -> Config:
    given = [f"prompts.form={form}", "prompts.list_choices=no", "neurons.per_layer=3"]
    return load_config(None, [*given, "rollouts.mode=free", *assignments])


def decoded(pair: Pair) -> tuple[str, str]:
    before, own = (bytes(part).decode() for part in pair)
    return before, own


def pairs_for(questions: Sequence[Question], config: Config) -> list[Pair]:
    return question_pairs(ScriptedModel({}), ask(questions, config), config)


@given(st.text(min_size=1).map(lambda text: " ".join(text.split())).filter(bool))
def test_the_tokens_of_a_question_are_those_of_its_text(text: str) -> None:
    text = text.encode("utf-8", "ignore").decode() or "b"
    (pair,) = pairs_for([question(text)], config_of("plain"))
    assert decoded(pair) == ("Question: ", text)


def test_labels_instructions_and_the_system_message_are_none_of_them() -> None:
    told = config_of(
        "plain",
        "prompts.system='Be brief.'",
        "prompts.instruction='Think first.'",
        "prompts.list_choices=letters",
    )
    labelled = replace(question("Who sings?", "a bee", "an ant"), question_label="Ask")
    found = pairs_for([labelled, question("Who?")], told)
    assert [decoded(pair) for pair in found] == [
        ("Be brief.\n\nAsk: ", "Who sings?\nA. a bee\nB. an ant"),
        ("Be brief.\n\nQuestion: ", "Who?"),
    ]


def test_a_conversation_is_its_question_from_the_first_turn_to_the_last() -> None:
    turns = (
        Message("user", "Hi."),
        Message("assistant", "Yes?"),
        Message("user", "Go"),
    )
    (pair,) = pairs_for([Question("q", turns)], config_of("chat"))
    assert decoded(pair) == ("user: ", "Hi.\nassistant: Yes?\nuser: Go")


@pytest.mark.parametrize(
    ("prompt", "others", "pair"),
    [
        ((1, 2, 3, 9), [(1, 5, 9), (1, 6, 9)], ((1,), (2, 3))),
        ((1, 2, 3, 9), [(1, 2, 9), (1, 6, 9)], ((1,), (2, 3))),
        ((1, 2, 9), [(1, 2, 9), (1, 2, 9)], ((1, 2), (9,))),
        ((1, 9), [(1, 5, 9), (1, 6, 9)], ((1,), (9,))),
        ((4, 2), [(5,), (6, 2, 2)], ((), (4, 2))),
    ],
)
def test_a_prompt_is_cut_where_all_others_leave_it(
    prompt: tuple[int, ...], others: list[tuple[int, ...]], pair: Pair
) -> None:
    assert own_tokens(prompt, others) == pair


@pytest.mark.parametrize("form", ["plain", "chat"])
@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3", "gpt2"])
def test_real_tokenizers_find_the_text(
    family: str, form: str, request: pytest.FixtureRequest
) -> None:
    if (family, form) == ("gpt2", "chat"):
        pytest.skip("the tiny GPT-2 has no chat template")
    folder: Path = request.getfixturevalue(f"tiny_{family}")
    config = config_of(form, f"model.name={folder}", "prompts.instruction=Think.")
    model = load_model(config.model)
    asked = ask([question(text) for text in TEXTS], config)
    for a, (before, own) in zip(
        asked, question_pairs(model, asked, config), strict=True
    ):
        assert model.encode(a.prompt)[: len(before) + len(own)] == before + own
        assert model.decode(own) == a.question.text
        assert a.question.text not in model.decode(before)


class Watched(ScriptedModel):
    """Keeps what it is given to read."""

    def __init__(self) -> None:
        super().__init__({})
        self.captured: list[Pair] = []
        self.averaged: list[tuple[Pair, int]] = []

    def capture(self, pairs: Sequence[Pair], *rest: Any, **more: Any) -> None:
        """Keep pairs."""
        self.captured += pairs
        super().capture(pairs, *rest, **more)

    def mean_states(self, pairs: Sequence[Pair], layer: int) -> Any:
        """Keep pairs and the layer."""
        self.averaged += [(pair, layer) for pair in pairs]
        return super().mean_states(pairs, layer)


def test_every_token_but_the_first_is_scored_after_one_of_the_question() -> None:
    model, config = Watched(), config_of("plain")
    questions = [question("Who?"), question("b")]
    found = capture_questions(model, ask(questions, config), config)
    assert sorted(map(decoded, model.captured)) == [
        ("Question: ", "b"),  # of a single token there is no other
        ("Question: W", "ho?"),
    ]
    assert [entry.question_id for entry in found] == ["q Who?", "q b"]
    assert [entry.num_tokens for entry in found] == [3, 1]
    alone = capture_questions(model, ask(questions[:1], config), config)
    assert np.array_equal(alone[0].neuron_ids, found[0].neuron_ids)
    (expected,) = capture_pairs(
        model, [("q Who?", (tuple(b"Question: W"), tuple(b"ho?")))], config
    )
    assert np.array_equal(expected.neuron_ids, found[0].neuron_ids)
    assert expected.neuron_ids.size


def test_states_are_of_the_whole_text_and_of_a_middle_layer() -> None:
    model, config = Watched(), config_of("plain")
    model.facts = replace(FACTS, num_layers=9)
    (state,) = read_states(model, ask([question("Who?")], config), config)
    ((pair, layer),) = model.averaged
    assert (decoded(pair), layer) == (("Question: ", "Who?"), 5)
    assert state.question_id == "q Who?"
    assert np.array_equal(state.values, model.mean_states([pair], 5)[0])
    assert [middle_layer(n) for n in (1, 2, 3, 30, 36)] == [1, 1, 2, 15, 18]


@pytest.mark.parametrize("layer", [1, 2])
@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3", "gpt2"])
def test_mean_states_are_those_that_transformers_gives(
    family: str, layer: int, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(f"tiny_{family}")
    told = [f"model.name={folder}", "model.compute=float32"]
    model = load_model(load_config(None, told).model)
    pairs: list[Pair] = [((5, 6), (7, 8, 9)), ((5,), (11,)), ((5, 9, 8, 7), (12, 13))]
    found = model.mean_states(pairs, layer)
    layers = next(
        module
        for module in model.network.get_decoder().modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == 2
    )
    for (before, own), mean in zip(pairs, found, strict=True):
        given: list[torch.Tensor] = []
        handle = layers[layer - 1].register_forward_hook(
            lambda _m, _i, out, given=given: given.append(
                out[0] if isinstance(out, tuple) else out
            )
        )
        with torch.inference_mode():
            model.network(input_ids=torch.tensor([before + own]))
        handle.remove()
        expected = given[0][0, len(before) :].mean(dim=0).numpy()
        assert mean.dtype == np.float32
        assert mean.shape == (model.facts.width,)
        np.testing.assert_allclose(mean, expected, rtol=2e-4, atol=1e-5)
        assert np.abs(mean).max() > 1e-3
    # Nothing watches any more.
    assert not layers[layer - 1]._forward_hooks  # noqa: SLF001


def test_a_state_that_is_no_number_names_its_question(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of("plain", f"model.name={tiny_llama}")
    model = load_model(config.model)
    asked = ask([question("Who?"), question("Which one?")], config)
    usual = HFModel.forward

    def broken(self: HFModel, pairs: Sequence[Pair]) -> Any:
        weight = self.network.get_decoder().layers[0].mlp.down_proj.weight
        with torch.no_grad():
            weight[0, 0] = torch.nan
        return usual(self, pairs)

    monkeypatch.setattr(HFModel, "forward", broken)
    with pytest.raises(NotFiniteError, match=r"q Who.*hidden states of layer 1"):
        read_states(model, asked, config)


def test_a_network_without_a_list_of_layers_is_refused(tiny_llama: Path) -> None:
    model = load_model(load_config(None, [f"model.name={tiny_llama}"]).model)
    model.network.config.num_hidden_layers = 7
    with pytest.raises(ModelError, match=r"llama .*choose another contexts\.rule"):
        model.mean_states([((5,), (6,))], 1)
