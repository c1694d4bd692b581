"""How far two beliefs are apart, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_opsd.method.beliefs import jensen_shannon, kl_divergence, reweighted

weights = st.lists(st.floats(0.01, 100.0), min_size=2, max_size=6)


def logs(*shares: float) -> tuple[float, ...]:
    return tuple(math.log(share) for share in shares)


def test_the_divergence_of_even_odds_from_nine_to_one() -> None:
    p, q = np.log([0.5, 0.5]), np.log([0.9, 0.1])
    expected = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
    assert kl_divergence(p, q) == pytest.approx(expected)


def test_the_jensen_shannon_divergence_by_hand() -> None:
    # One half of each KL to the mixture (0.6, 0.4).
    expected = 0.5 * (0.4 * math.log(0.4 / 0.6) + 0.6 * math.log(0.6 / 0.4))
    expected += 0.5 * (0.8 * math.log(0.8 / 0.6) + 0.2 * math.log(0.2 / 0.4))
    assert jensen_shannon(logs(0.4, 0.6), logs(0.8, 0.2)) == pytest.approx(expected)


def test_its_bounds_are_nothing_and_ln_2() -> None:
    assert jensen_shannon(logs(0.3, 0.7), logs(0.3, 0.7)) == 0.0
    apart = jensen_shannon((0.0, -700.0), (-700.0, 0.0))
    assert apart == pytest.approx(math.log(2.0))
    assert jensen_shannon((0.0,), (0.0,)) == 0.0


@given(weights, st.data())
def test_it_is_symmetric_and_bounded(one: list[float], data: st.DataObject) -> None:
    other = data.draw(
        st.lists(st.floats(0.01, 100.0), min_size=len(one), max_size=len(one))
    )
    p, q = (logs(*(np.array(w) / sum(w)).tolist()) for w in (one, other))
    assert jensen_shannon(p, q) == pytest.approx(jensen_shannon(q, p), abs=1e-12)
    assert 0.0 <= jensen_shannon(p, q) <= math.log(2.0) + 1e-12


def test_a_vote_is_reweighted_by_what_its_answers_gained() -> None:
    # Six of eight samples said a; with demonstrations b is four times as probable.
    found = np.exp(reweighted([6, 2], [0.0, math.log(4.0)]))
    assert found.tolist() == pytest.approx([6 / 14, 8 / 14])
    assert np.exp(reweighted([6, 2], [-3.0, -3.0])).tolist() == pytest.approx(
        [0.75, 0.25]
    )


def test_huge_gains_leave_finite_beliefs() -> None:
    found = reweighted([1, 1], [5000.0, -5000.0])
    assert np.isfinite(found).all()
    assert np.exp(found).tolist() == [1.0, 0.0]
