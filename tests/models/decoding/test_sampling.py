"""Drawing tokens: the share of uniform numbers that give a token is its probability."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from neuron_opsd.models.decoding.sampling import Draw, draw_tokens
from neuron_opsd.models.roles import Sampling

GRID = 4000


def draws_on_a_grid(logits: Tensor, temperature: float, top_p: float) -> Draw:
    """Draw from the same logits with uniform numbers spread evenly over [0, 1)."""
    uniform = (torch.arange(GRID, dtype=torch.float64) + 0.5) / GRID
    return draw_tokens(logits.expand(GRID, -1), uniform, Sampling(temperature, top_p))


def nucleus(logits: Tensor, temperature: float, top_p: float) -> list[float]:
    """Return the probabilities by their definition: add up the largest, renormalise."""
    weights = [math.exp(x / temperature) for x in logits.tolist()]
    shares = [w / sum(weights) for w in weights]
    kept: list[int] = []
    for token in sorted(range(len(shares)), key=lambda token: -shares[token]):
        kept.append(token)
        if sum(shares[i] for i in kept) >= top_p:
            break
    total = sum(shares[i] for i in kept)
    return [p / total if i in kept else 0.0 for i, p in enumerate(shares)]


@st.composite
def some_logits(draw: st.DrawFn) -> Tensor:
    """Draw the logits of up to nine tokens, no two within rounding of each other."""
    values = draw(st.lists(st.integers(-40, 40), min_size=1, max_size=9, unique=True))
    return torch.tensor(values) / 10.0


@given(some_logits(), st.sampled_from([0.1, 0.6, 1.0, 3.0]))
def test_tokens_are_drawn_with_their_probability(
    logits: Tensor, temperature: float
) -> None:
    check_shares(logits, temperature, 1.0)


@given(some_logits(), st.sampled_from([0.05, 0.313, 0.777, 0.9501]))
def test_the_nucleus_is_renormalised(logits: Tensor, top_p: float) -> None:
    check_shares(logits, 0.6, top_p)


def check_shares(logits: Tensor, temperature: float, top_p: float) -> None:
    """Compare the shares of a grid of draws, and what is reported, with enumeration."""
    exact = nucleus(logits, temperature, top_p)
    draw = draws_on_a_grid(logits, temperature, top_p)
    shares = draw.tokens.bincount(minlength=len(exact)).double() / GRID
    # Each token has an interval of its own, whose ends fall between grid points.
    torch.testing.assert_close(
        shares, torch.tensor(exact).double(), rtol=0, atol=1.01 / GRID
    )
    expected = [math.log(exact[token]) for token in draw.tokens.tolist()]
    torch.testing.assert_close(
        draw.logprobs, torch.tensor(expected), rtol=1e-4, atol=1e-5
    )
    entropy = -sum(p * math.log(p) for p in exact if p > 0)
    torch.testing.assert_close(
        draw.entropies, torch.full((GRID,), entropy), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [
        pytest.param(0.01, {2}, id="the-first-always"),
        pytest.param(0.5, {2}, id="reached-exactly-by-the-first"),
        pytest.param(0.51, {0, 2}, id="just-over"),
        pytest.param(0.75, {0, 2}, id="reached-exactly-by-two"),
        pytest.param(0.76, {0, 1, 2, 3}, id="equals-are-kept-together"),
        pytest.param(1.0, {0, 1, 2, 3}, id="all"),
    ],
)
def test_top_p_keeps_what_is_needed_to_reach_it(top_p: float, kept: set[int]) -> None:
    # Shares of exactly 1/4, 1/8, 1/2 and 1/8.
    draw = draws_on_a_grid(torch.tensor([2.0, 1.0, 4.0, 1.0]).log(), 1.0, top_p)
    assert set(draw.tokens.tolist()) == kept


@given(some_logits(), st.floats(0.0, 1.0, exclude_max=True))
def test_temperature_zero_takes_the_most_probable_and_is_certain(
    logits: Tensor, uniform: float
) -> None:
    draw = draw_tokens(
        logits.unsqueeze(0),
        torch.tensor([uniform], dtype=torch.float64),
        Sampling(0.0, 0.9),
    )
    assert draw.tokens.item() == logits.argmax().item()
    assert draw.logprobs.item() == draw.entropies.item() == 0.0


def test_temperature_zero_is_the_limit_of_small_temperatures() -> None:
    logits = torch.tensor([0.3, 1.2, 1.1])
    assert set(draws_on_a_grid(logits, 1e-3, 1.0).tokens.tolist()) == {1}


def test_tokens_that_cannot_be_are_never_drawn() -> None:
    logits = torch.tensor([-torch.inf, 0.0, -torch.inf, 0.0])
    draw = draws_on_a_grid(logits, 1.0, 1.0)
    assert set(draw.tokens.tolist()) == {1, 3}
    assert torch.isfinite(draw.entropies).all()


@pytest.mark.parametrize("uniform", [0.0, 1.0 - 2**-53])
def test_the_ends_of_the_unit_interval_give_the_first_and_the_last(
    uniform: float,
) -> None:
    logits = torch.randn(1, 5000, generator=torch.Generator().manual_seed(0))
    logits[0, [0, 1, -1]] = -torch.inf
    draw = draw_tokens(
        logits, torch.tensor([uniform], dtype=torch.float64), Sampling(1.0)
    )
    assert draw.tokens.item() == (2 if uniform == 0.0 else 4998)


def test_a_number_on_a_border_belongs_to_the_token_above_it() -> None:
    half = torch.tensor([0.5], dtype=torch.float64)
    assert draw_tokens(torch.zeros(1, 2), half, Sampling(1.0)).tokens.item() == 1


@given(st.integers(0, 999))
def test_a_row_is_drawn_alike_alone_and_in_a_batch(seed: int) -> None:
    gen = torch.Generator().manual_seed(seed)
    logits = torch.randn(5, 40, generator=gen)
    uniform = torch.rand(5, generator=gen, dtype=torch.float64)
    together = draw_tokens(logits, uniform, Sampling(0.6, 0.95))
    for i in range(5):
        alone = draw_tokens(logits[i : i + 1], uniform[i : i + 1], Sampling(0.6, 0.95))
        assert alone.tokens.item() == together.tokens[i].item()
        assert alone.logprobs.item() == pytest.approx(together.logprobs[i].item())


def test_half_precision_logits_are_drawn_from_in_float32() -> None:
    logits = torch.randn(3, 9, generator=torch.Generator().manual_seed(0)).bfloat16()
    uniform = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    half = draw_tokens(logits, uniform, Sampling(1.0))
    full = draw_tokens(logits.float(), uniform, Sampling(1.0))
    assert torch.equal(half.tokens, full.tokens)
    assert torch.equal(half.logprobs, full.logprobs)
