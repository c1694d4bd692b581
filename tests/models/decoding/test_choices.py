"""Choices: tries by hand, and probabilities against every path that tokens can take."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from loaded import loaded, plain_logits, plain_network
from neuron_opsd.errors import DataError
from neuron_opsd.models.decoding.choices import (
    Branch,
    ChoiceScores,
    check_choices,
    choice_logprobs,
    draw_choices,
    entropy,
    find_branches,
    score_choices,
    tempered_log_softmax,
)
from neuron_opsd.records import Prompt, TokenIds
from neuron_opsd.seeds import uniforms

END = 99

TREE = [(1, 2, END), (1, 3, 4, END), (1, 3, 5, END), (6, END)]
"""Two branches share prefixes: 1 or 6, then 2 or 3, then 4 or 5."""

TEMPERATURES = [0.0, 0.3, 0.6, 1.0, 2.5]


@pytest.mark.parametrize(
    ("completions", "branches"),
    [
        pytest.param([(5, END)], [], id="one-choice-is-certain"),
        pytest.param([(5, END), (7, END)], [Branch((), (5, 7))], id="first-token"),
        pytest.param(
            [(1, 2, END), (1, 2, 3, END)],
            [Branch((1, 2), (END, 3))],
            id="one-choice-begins-with-another",
        ),
        pytest.param(
            TREE,
            [Branch((), (1, 6)), Branch((1,), (2, 3)), Branch((1, 3), (4, 5))],
            id="shared-prefixes",
        ),
        pytest.param(
            [(1, 2, END), (3, 2, END), (1, 4, END), (3, 4, END)],
            [Branch((), (1, 3)), Branch((1,), (2, 4)), Branch((3,), (2, 4))],
            id="two-branches-at-one-depth",
        ),
    ],
)
def test_branches_by_hand(completions: list[TokenIds], branches: list[Branch]) -> None:
    assert find_branches(completions) == tuple(branches)


@pytest.mark.parametrize(
    "completions", [[(1, 2), (1, 2)], [(1, 2), (1, 2, 3)], [(1, 2, 3), (1,)]]
)
def test_completions_that_cannot_be_told_apart_make_no_trie(
    completions: list[TokenIds],
) -> None:
    with pytest.raises(ValueError, match="must differ and none begin another"):
        find_branches(completions)


def test_choices_with_the_same_tokens_are_refused_with_both_names() -> None:
    with pytest.raises(DataError) as error:
        check_choices("q-7", ["red", "blue", " red"], [(1, 9), (2, 9), (1, 9)])
    assert str(error.value) == (
        "question q-7: the choices 'red' and ' red' tokenise to the same ids, so the "
        "model cannot choose between them; reword one of them"
    )
    check_choices("q-8", ["red", "blue"], [(1, 9), (2, 9)])


def test_probabilities_of_a_trie_by_hand() -> None:
    # 3/4 for token 1, then 1/3 for token 3, then 1/2 for each of 4 and 5.
    scores = ChoiceScores(
        tuple(TREE),
        find_branches(TREE),
        tuple(
            np.log(np.array(odds, dtype=np.float32))
            for odds in ([3.0, 1.0], [2.0, 1.0], [7.0, 7.0])
        ),
    )
    found = np.exp(choice_logprobs(scores, 1.0))
    assert found == pytest.approx([3 / 4 * 2 / 3, 1 / 8, 1 / 8, 1 / 4])
    assert np.exp(choice_logprobs(scores, 0.0)).tolist() == [1.0, 0.0, 0.0, 0.0]
    # At temperature 1/2 odds are squared: 9/10, 4/5, 1/2.
    sharp = np.exp(choice_logprobs(scores, 0.5))
    assert sharp == pytest.approx([9 / 10 * 4 / 5, 9 / 100, 9 / 100, 1 / 10])
    assert entropy(choice_logprobs(scores, 0.0)) == 0.0
    assert entropy(choice_logprobs(scores, 1.0)) == pytest.approx(
        0.5 * math.log(2) + 0.25 * math.log(8) + 0.25 * math.log(4)
    )


@given(
    st.lists(st.floats(-80, 80, width=32), min_size=1, max_size=6),
    st.sampled_from(TEMPERATURES),
)
def test_tempered_log_softmax_sums_to_one(
    logits: list[float], temperature: float
) -> None:
    found = tempered_log_softmax(np.array(logits), temperature)
    assert np.exp(found).sum() == pytest.approx(1.0)
    assert found[int(np.argmax(logits))] == found.max()


# --- against enumeration: every path of tokens, from full logits ---

QUESTIONS = {
    "Which gas do plants take in from the air?": [
        "carbon dioxide",
        "carbon",
        "oxygen",
        "the air",
        "the air of the north",
    ],
    "yes or no?": ["yes", "no"],
    "Which way?": ["north", "north east", "north west", "south", "no way", "not east"],
    "only one": ["one"],
}


def slow_probabilities(
    network: object, prompt: TokenIds, completions: list[TokenIds], temperature: float
) -> list[float]:
    """Multiply, along each path, probabilities renormalised over the tokens allowed."""
    found = []
    for path in completions:
        product = 1.0
        for t, token in enumerate(path):
            allowed = sorted({c[t] for c in completions if c[:t] == path[:t]})
            logits: Tensor = plain_logits(network, prompt + path[:t])[-1].double()
            if temperature == 0.0:
                best = max(allowed, key=lambda token: logits[token].item())
                product *= float(token == best)
                continue
            weights = {i: math.exp(logits[i].item() / temperature) for i in allowed}
            product *= weights[token] / sum(weights.values())
        found.append(product)
    return found


@pytest.mark.parametrize("name", ["llama", "llama_plain"])
def test_choices_have_the_probability_of_their_path(
    name: str, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(f"tiny_{name}")
    model, network = loaded(folder, tokens_per_batch=64), plain_network(folder)
    asked = [Prompt(text=f"Question: {text}\nAnswer:") for text in QUESTIONS]
    prompts = [model.encode(prompt) for prompt in asked]
    completions = [
        [model.encode_answer(prompt, choice) for choice in choices]
        for prompt, choices in zip(asked, QUESTIONS.values(), strict=True)
    ]
    scores = score_choices(model, prompts, completions)
    for prompt, group, score in zip(prompts, completions, scores, strict=True):
        for temperature in TEMPERATURES:
            exact = slow_probabilities(network, prompt, group, temperature)
            found = np.exp(choice_logprobs(score, temperature))
            assert sum(exact) == pytest.approx(1.0)
            assert found == pytest.approx(exact, abs=1e-5, rel=1e-4)
    assert scores[3].branches == ()
    assert choice_logprobs(scores[3], 0.6).tolist() == [0.0]


def test_no_questions_have_no_scores(tiny_llama: Path) -> None:
    assert score_choices(loaded(tiny_llama), [], []) == []


# --- drawing ---

distributions = st.lists(st.integers(0, 5), min_size=1, max_size=6).filter(any)


@given(distributions)
def test_each_choice_owns_a_stretch_of_uniform_numbers_as_long_as_its_probability(
    weights: list[int],
) -> None:
    total = sum(weights)
    with np.errstate(divide="ignore"):
        logprobs = np.log(np.array(weights) / total)
    edges = np.cumsum([0, *weights]) / total
    for choice, (low, high) in enumerate(pairwise(edges)):
        inside = np.linspace(low, high, 9)[1:-1] if high > low else np.empty(0)
        assert (draw_choices(logprobs, inside) == choice).all()
    ends = draw_choices(logprobs, np.array([0.0, 1.0 - 2**-53]))
    possible = np.flatnonzero(weights)
    assert ends.tolist() == [possible[0], possible[-1]]


def test_draws_follow_the_distribution() -> None:
    probabilities = np.array([0.5, 0.3, 0.15, 0.05])
    drawn = draw_choices(np.log(probabilities), uniforms(7, 20_000))
    expected = 20_000 * probabilities
    counts = np.bincount(drawn, minlength=4)
    # 99.9 % of the chi-square distribution with 3 degrees of freedom lie below 16.3.
    assert ((counts - expected) ** 2 / expected).sum() < 16.3
