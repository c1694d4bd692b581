"""Neuron sets as bits, and how many neurons two sets share.

Settings import this, so PyTorch is imported late. Axes: Q query rows, P pool rows, N
neurons with a column, W = N / 8 bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from timeit import repeat
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from neuron_opsd.records import NeuronIds

if TYPE_CHECKING:
    from torch import Tensor

NeuronSets: TypeAlias = Sequence[NeuronIds]
Counted: TypeAlias = tuple[NeuronIds, NDArray[np.int64]]
"""Sorted neurons, and how many sets hold each."""
Product: TypeAlias = "Callable[[Tensor, Tensor, Tensor], None]"

CHUNK_BYTES = 2**25
"""Size of an unpacked chunk: fast products, little memory."""

SETS_PER_CHUNK = 4096

TABLE_SIZE = 2**24
"""Largest neuron id, far above any model's, for a lookup table."""

TRIALS = 3


@dataclass(frozen=True, slots=True)
class Columns:
    """The neurons that have a column."""

    names: NeuronIds
    """Sorted; a neuron's place is its column."""
    table: NDArray[np.int32]
    """Column of each id up to the largest plus one, or -1; may be empty."""


def make_columns(names: NeuronIds) -> Columns:
    """Give each of the sorted neurons a column."""
    if not names.size or names[-1] > TABLE_SIZE:
        return Columns(names, np.empty(0, np.int32))
    table = np.full(int(names[-1]) + 2, -1, np.int32)
    table[names] = np.arange(names.size)
    return Columns(names, table)


def chunks(num_rows: int, size: int) -> Iterator[slice]:
    """Yield slices of at most `size` rows (at least 1), covering all in order."""
    step = max(1, size)
    for start in range(0, num_rows, step):
        yield slice(start, min(start + step, num_rows))


def flatten(sets: NeuronSets) -> tuple[NeuronIds, NDArray[np.int64]]:
    """Return the ids of all sets in one array, and the sets' sizes."""
    sizes = np.fromiter((ids.size for ids in sets), np.int64, len(sets))
    return np.concatenate([np.empty(0, np.uint32), *sets]), sizes


def count_sets(sets: NeuronSets) -> Counted:
    """Return the neurons that occur, sorted, and how many sets hold each."""
    none = np.empty(0, np.uint32), np.empty(0, np.int64)
    counted, pending = none, [none]
    for chunk in chunks(len(sets), SETS_PER_CHUNK):
        flat, _ = flatten(sets[chunk])
        pending.append(np.unique(flat, return_counts=True))
        # Merging only now sorts each neuron just a few times.
        if sum(names.size for names, _ in pending) >= counted[0].size:
            counted, pending = merged([counted, *pending]), []
    return merged([counted, *pending])


def merged(parts: Sequence[Counted]) -> Counted:
    """Add up counts, with the neurons sorted."""
    names, places = np.unique(
        np.concatenate([names for names, _ in parts]), return_inverse=True
    )
    total = np.zeros(names.size, np.int64)
    np.add.at(total, places, np.concatenate([counts for _, counts in parts]))
    return names, total


def columns_of(
    flat: NeuronIds, columns: Columns
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return which ids have a column, and those columns."""
    names, table = columns.names, columns.table
    if table.size:
        found = table[np.minimum(flat, table.size - 1)]
        known = found >= 0
        return known, found[known].astype(np.int64)
    if not names.size:
        return np.zeros(flat.size, np.bool_), np.empty(0, np.int64)
    places = np.minimum(np.searchsorted(names, flat), names.size - 1)
    known = names[places] == flat
    return known, places[known]


def pack(sets: NeuronSets, columns: Columns) -> NDArray[np.uint8]:
    """Return a row of bits per set, ``(len(sets), W)``.

    Neurons without a column are left out.
    """
    num_bytes = max(1, -(-columns.names.size // 8))
    packed = np.empty((len(sets), num_bytes), np.uint8)
    for chunk in chunks(len(sets), min(SETS_PER_CHUNK, CHUNK_BYTES // (8 * num_bytes))):
        flat, sizes = flatten(sets[chunk])
        known, places = columns_of(flat, columns)
        starts = np.repeat(np.arange(sizes.size) * 8 * num_bytes, sizes)[known]
        table = np.zeros(sizes.size * 8 * num_bytes, np.bool_)
        table[starts + places] = True
        packed[chunk] = np.packbits(table.reshape(sizes.size, -1), axis=1)
    return packed


def share_of(
    shared: NDArray[np.int32], sizes: NDArray[np.int64] | int, others: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return shared over united neurons; 1 for empty sets."""
    used = sizes + others - shared
    shares = np.ones(used.shape)
    np.divide(shared, used, out=shares, where=used > 0)
    return shares


def unpack(packed: NDArray[np.uint8]) -> Tensor:
    """Unpack bits ``(B, W)`` into zeros and ones ``(B, 8 W)`` of int8."""
    import torch

    return torch.from_numpy(np.unpackbits(packed, axis=1).view(np.int8))


def integer_product(a: Tensor, b: Tensor, out: Tensor) -> None:
    """Write ``a @ b.T`` of zeros and ones to `out`, in 8-bit integers.

    Rows must be longer than 1: torch 2.13 writes nothing otherwise.
    """
    import torch

    torch._int_mm(a, b.T, out=out)  # noqa: SLF001 - there is no other integer product


def float_product(a: Tensor, b: Tensor, out: Tensor) -> None:
    """Write ``a @ b.T`` of zeros and ones to `out`, in 32-bit floats.

    Exact for counts below 2**24.
    """
    out.copy_(a.float() @ b.float().T)


@cache
def fastest_product() -> Product:
    """Return the faster exact product on this machine.

    It is `float_product` if integer products are missing or miscount.
    """
    import torch

    bits = np.arange(512 * 128, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    table = unpack((bits >> np.uint64(56)).astype(np.uint8).reshape(512, 128))
    expected, counts = torch.zeros((2, 512, 512), dtype=torch.int32)
    float_product(table, table, expected)
    try:
        integer_product(table, table, counts)
    except RuntimeError:
        return float_product
    if not torch.equal(counts, expected):
        return float_product
    times = {p: seconds_of(p, table, counts) for p in (integer_product, float_product)}
    return min(times, key=times.__getitem__)


def seconds_of(product: Product, table: Tensor, out: Tensor) -> float:
    """Return the shortest of a few timings of a table times itself."""
    return min(repeat(lambda: product(table, table, out), number=1, repeat=TRIALS))


def shared_bits(
    rows: NDArray[np.uint8], pool: NDArray[np.uint8]
) -> Iterator[tuple[slice, NDArray[np.int32]]]:
    """Yield chunks of the pool with counts ``(Q, B)`` of bits shared with each row.

    Rows are ``(Q, W)``, the pool is ``(P, W)``. The next chunk overwrites the counts:
    fresh memory takes longer than the product.
    """
    import torch

    product = fastest_product()
    left = unpack(rows)
    step = max(1, min(SETS_PER_CHUNK, CHUNK_BYTES // (8 * pool.shape[1])))
    memory = torch.empty(len(rows) * step, dtype=torch.int32)
    for chunk in chunks(len(pool), step):
        num_columns = chunk.stop - chunk.start
        counts = memory[: len(rows) * num_columns].view(len(rows), num_columns)
        product(left, unpack(pool[chunk]), counts)
        yield chunk, counts.numpy()
