"""The scripted model says what it was told to, in the form that a real one does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neuron_opsd.models.roles import LanguageModel, Sampling
from neuron_opsd.records import Message, Prompt
from scripted import ScriptedModel

SAMPLING = Sampling(temperature=0.6)


def scripted() -> ScriptedModel:
    return ScriptedModel({"sky": ["blue", "grey"], "grass": ["green"]})


def test_it_is_a_language_model() -> None:
    model: LanguageModel = scripted()
    assert model.facts.num_layers == 2


def test_draws_go_round_the_script_and_greedy_takes_its_first_answer() -> None:
    model = scripted()
    prompt = model.encode(Prompt(text="What colour is the sky?"))
    (drawn,) = model.sample([prompt], [(1, 2, 3)], SAMPLING)
    assert [completion.text for completion in drawn] == ["blue", "grey", "blue"]
    (greedy,) = model.sample([prompt], [(1, 2)], Sampling(temperature=0.0))
    assert [completion.text for completion in greedy] == ["blue", "blue"]
    assert model.asked[0][:2] == ("What colour is the sky?", (1, 2, 3))


def test_the_part_that_ends_last_counts() -> None:
    model = scripted()
    demonstration = Message("user", "sky?"), Message("assistant", "blue")
    prompt = model.encode(Prompt(messages=(*demonstration, Message("user", "grass?"))))
    assert model.answers_to(prompt) == ("green",)
    with pytest.raises(KeyError, match="no reply is written for 'sea'"):
        model.answers_to(model.encode(Prompt(text="sea")))


def test_a_completion_that_is_too_long_is_cut_and_not_finished() -> None:
    model = scripted()
    prompt = model.encode(Prompt(text="sky"))
    ((whole,), (cut,)) = (
        model.sample([prompt], [(1,)], Sampling(0.6, max_new_tokens=n))[0]
        for n in (6, 5)
    )
    assert whole.finished
    assert whole.token_ids == model.encode_answer(Prompt(text="sky"), "blue")
    assert not cut.finished
    assert len(cut.token_ids) == 5


def test_logits_follow_how_many_answers_go_on_with_a_token() -> None:
    model = scripted()
    pair = (model.encode(Prompt(text="sky")), (ord(" "),))
    ((first, second),) = model.logits_at([pair], [[(ord(" "),), tuple(b"bgx")]])
    assert first == pytest.approx([np.log(2)])
    assert second == pytest.approx([0.0, 0.0, -6.0])


def test_capture_gives_every_pair_its_own_scores_in_every_batch() -> None:
    model = scripted()
    pairs = [((1, 2), (3,)), ((4,), (5, 6))]
    together: list[torch.Tensor] = []
    alone: list[torch.Tensor] = []
    model.capture(pairs, "gate", lambda _, scores: together.append(scores))
    model.capture(pairs[1:], "gate", lambda _, scores: alone.append(scores))
    assert [tuple(scores.shape) for scores in together] == [(3, 8), (3, 8)]
    assert torch.equal(together[1][1:], alone[1])
