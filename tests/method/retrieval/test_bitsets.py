"""Bits and products: columns, packing, and two products that count alike."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neuron_opsd.method.retrieval import bitsets
from neuron_opsd.method.retrieval.bitsets import (
    chunks,
    columns_of,
    count_sets,
    fastest_product,
    flatten,
    float_product,
    integer_product,
    make_columns,
    pack,
    shared_bits,
    unpack,
)
from neuron_opsd.records import NeuronIds
from neuron_sets import any_neurons, few_neurons, ids_of, skewed_sets


@pytest.fixture(autouse=True)
def _forgetful() -> Iterator[None]:
    fastest_product.cache_clear()
    yield
    fastest_product.cache_clear()


def test_blocks_cover_all_rows_in_order() -> None:
    assert list(chunks(5, 2)) == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert list(chunks(2, 0)) == [slice(0, 1), slice(1, 2)]
    assert list(chunks(0, 3)) == []


def test_sets_are_joined_with_their_sizes() -> None:
    flat, sizes = flatten([ids_of(3, 1), ids_of(), ids_of(7)])
    assert flat.tolist() == [1, 3, 7]
    assert sizes.tolist() == [2, 0, 1]
    assert flatten([])[0].dtype == np.uint32


def test_every_neuron_is_counted_once_for_each_set_that_holds_it() -> None:
    names, counts = count_sets([ids_of(5, 2), ids_of(2), ids_of(2, 9)])
    assert names.tolist() == [2, 5, 9]
    assert counts.tolist() == [3, 1, 1]


@given(st.lists(any_neurons, max_size=6))
def test_counts_do_not_hang_on_the_block(sets: list[NeuronIds]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bitsets, "SETS_PER_CHUNK", 2)
        names, counts = count_sets(sets)
    flat = np.concatenate([*sets, ids_of()])
    expected = np.unique(flat, return_counts=True)
    assert names.tolist() == expected[0].tolist()
    assert counts.tolist() == expected[1].tolist()


@given(any_neurons, any_neurons)
def test_a_table_finds_the_columns_that_a_search_finds(
    flat: NeuronIds, names: NeuronIds
) -> None:
    flat, names = flat % np.uint32(200), np.unique(names % np.uint32(200))
    columns = make_columns(names)
    assert columns.table.size == (int(names[-1]) + 2 if names.size else 0)
    known, places = columns_of(flat, columns)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bitsets, "TABLE_SIZE", -1)
        searched = columns_of(flat, make_columns(names))
    assert known.tolist() == searched[0].tolist() == np.isin(flat, names).tolist()
    assert places.tolist() == searched[1].tolist()
    assert names[places].tolist() == flat[known].tolist()


def test_bits_stand_where_the_neurons_columns_are() -> None:
    columns = make_columns(ids_of(4, 6, 9))
    table = unpack(pack([ids_of(6, 7), ids_of(), ids_of(4, 9, 2**31)], columns))
    assert table.dtype == torch.int8
    assert table[:, :3].tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 1]]
    assert table[:, 3:].sum() == 0


def test_no_columns_are_one_byte_of_nothing() -> None:
    assert pack([ids_of(1)], make_columns(ids_of())).tolist() == [[0]]


def test_packing_does_not_hang_on_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    sets = skewed_sets(40, 30)
    columns = make_columns(count_sets(sets)[0])
    whole = pack(sets, columns)
    monkeypatch.setattr(bitsets, "SETS_PER_CHUNK", 7)
    assert np.array_equal(pack(sets, columns), whole)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(2, 80), st.integers(0, 9))
def test_both_products_count_exactly(m: int, n: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = torch.from_numpy(rng.integers(0, 2, (m, k), dtype=np.int8))
    b = torch.from_numpy(rng.integers(0, 2, (n, k), dtype=np.int8))
    expected = a.long() @ b.long().T
    for product in (integer_product, float_product):
        out = torch.full((m, n), -1, dtype=torch.int32)
        product(a, b, out)
        assert torch.equal(out.long(), expected)


def test_the_longest_rows_of_ones_do_not_overflow() -> None:
    ones = torch.ones((3, 400_000), dtype=torch.int8)
    out = torch.empty((3, 3), dtype=torch.int32)
    for product in (integer_product, float_product):
        product(ones, ones, out)
        assert out.unique().tolist() == [400_000]


def test_a_missing_integer_product_is_stepped_back_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(*_: torch.Tensor) -> None:
        raise RuntimeError("not on this machine")

    monkeypatch.setattr(bitsets, "integer_product", missing)
    assert fastest_product() is float_product


def test_an_integer_product_that_miscounts_is_stepped_back_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def wrong(_a: torch.Tensor, _b: torch.Tensor, out: torch.Tensor) -> None:
        out.zero_()

    monkeypatch.setattr(bitsets, "integer_product", wrong)
    assert fastest_product() is float_product


@pytest.mark.parametrize("slow", ["integer_product", "float_product"])
def test_the_faster_product_is_taken(
    monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    monkeypatch.setattr(
        bitsets, "seconds_of", lambda p, *_: 2.0 if p.__name__ == slow else 1.0
    )
    assert fastest_product().__name__ != slow


@given(st.lists(few_neurons, max_size=5), st.lists(few_neurons, max_size=7))
def test_blocks_of_shared_bits_make_the_whole_table(
    rows: list[NeuronIds], pool: list[NeuronIds]
) -> None:
    columns = make_columns(np.arange(21, dtype=np.uint32))
    table = np.full((len(rows), len(pool)), -1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bitsets, "SETS_PER_CHUNK", 3)
        for chunk, counts in shared_bits(pack(rows, columns), pack(pool, columns)):
            table[:, chunk] = counts
    assert table.tolist() == [[np.intersect1d(a, b).size for b in pool] for a in rows]
