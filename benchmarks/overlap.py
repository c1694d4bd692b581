"""Time the search for the nearest neuron sets, exactly and by sketches.

    python benchmarks/overlap.py                 # 10 nearest of up to 10,000, exact
    python benchmarks/overlap.py --million       # 10 nearest of 1,000,000
    python benchmarks/overlap.py --million --pool 100000

Sets are made up: each neuron's weight falls as a power of its rank, twenty domains are
draws of the likeliest neurons, a topic is a domain with four tenths of its neurons
drawn anew, and a question is one of forty of its topic with 20 to 90 % drawn anew. At
30 layers of 1,536 neurons the share of sets that hold a neuron, the overlap of any two
sets and of the tenth nearest are then like those of a real run with a small model, or
harder: sets lie closer to their tenth nearest there.

The bound is the time that the products alone take at the rate measured in this run.
Memory is the highest that the process held, with the sets (but not the scores of
their neurons, which this search does not read), the answers and PyTorch.
"""

from __future__ import annotations

import argparse
import platform
import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src")]

from neuron_opsd.method.contexts.overlap import ids_of  # noqa: E402
from neuron_opsd.method.contexts.search import (  # noqa: E402
    Neighbour,
    neighbours,
    rows_barred,
)
from neuron_opsd.method.retrieval.approximate import (  # noqa: E402
    NUM_SAMPLED,
    approximate_nearest,
    measure_width,
    recall_of,
    true_nearest,
)
from neuron_opsd.method.retrieval.bitsets import fastest_product  # noqa: E402
from neuron_opsd.method.retrieval.exact import make_index, nearest_rows  # noqa: E402
from neuron_opsd.records import NeuronIds, NeuronSet  # noqa: E402

COUNT = 10
SIZES = (1000, 2000, 4000, 8000, 10_000)
NUM_CHECKED = 200
"""Questions whose recall is measured, drawn apart from those that set the width."""
NO_SCORES = np.empty(0, np.float32)


@dataclass(frozen=True)
class Shape:
    """How many neurons a model has and how many are drawn for a set."""

    name: str
    num_neurons: int
    num_drawn: int
    """More than a set holds, since the same neuron may be drawn twice."""


SMALL = Shape("650 of 46,080", 46_080, 800)
LARGE = Shape("5,000 of 350,208", 350_208, 6_150)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a table, and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--million", action="store_true", help="search by sketches")
    parser.add_argument("--pool", type=int, default=1_000_000, help="with --million")
    parser.add_argument("--asked", type=float, default=0.2, help="share of the pool")
    parser.add_argument("--largest", type=int, default=SIZES[-1], help="exact up to")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0, help="of the sets")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    rate = product_rate()
    print(
        f"{processor()}, {options.threads} threads, torch {torch.__version__}, numpy "
        f"{np.__version__}; {fastest_product().__name__} at {rate / 1e9:.0f} G "
        "multiplications and additions a second\n"
    )
    if options.million:
        num_asked = max(1, round(options.asked * options.pool))
        return sketch_table(options.pool, num_asked, options.seed, rate)
    return exact_table(options.largest, options.seed, rate)


def exact_table(largest: int, seed: int, rate: float) -> int:
    """Print how long the exact search takes; return the exit status."""
    print("| sets | of each of | seconds | million pairs/s | of the bound | peak GB |")
    print("|---|---|---|---|---|---|")
    slowest = 0.0
    for shape in (SMALL, LARGE):
        sets = make_sets(shape, largest, seed)
        for size in (size for size in SIZES if size <= largest):
            seconds, bound = time_exact(sets[:size], rate)
            slowest = max(slowest, seconds)
            print(
                f"| {shape.name}, {mean_size(sets):.0f} on average | {size:,} | "
                f"{seconds:.2f} | {size**2 / seconds / 1e6:.1f} | "
                f"{bound / seconds:.0%} | {peak():.2f} |"
            )
    return 0 if slowest <= 30.0 else 1


def time_exact(sets: Sequence[NeuronIds], rate: float) -> tuple[float, float]:
    """Return the seconds to find the nearest of all, and of the products alone."""
    barred = [np.array([i]) for i in range(len(sets))]
    start = perf_counter()
    index = make_index(sets)
    for _ in nearest_rows(index, sets, COUNT, barred):
        pass
    seconds = perf_counter() - start
    return seconds, 2.0 * len(sets) ** 2 * 8 * index.packed.shape[1] / rate


def sketch_table(num_pool: int, num_asked: int, seed: int, rate: float) -> int:
    """Print how the search by sketches does; return the exit status."""
    pool = [as_record(i, ids) for i, ids in enumerate(make_sets(SMALL, num_pool, seed))]
    order = np.random.default_rng(seed + 1).permutation(num_pool)
    asked = [pool[i] for i in np.sort(order[:num_asked]).tolist()]
    library = [entry.neuron_ids for entry in pool]
    sets = [entry.neuron_ids for entry in asked]
    held = peak()
    start = perf_counter()
    barred = rows_barred(ids_of(asked), ids_of(pool), {})
    width, sketches = measure_width(library, sets, barred, COUNT)
    resolved = perf_counter()
    found: list[tuple[Neighbour, ...]] = [
        neighbours(ranking, pool, "nearest", f"of {num_pool - 1}")
        for ranking in approximate_nearest(
            sketches, library, sets, barred, COUNT, width.num_candidates
        )
    ]
    end = perf_counter()
    most = peak()
    recall = checked_recall(found, library, sets, barred)
    num_columns = sketches.columns.names.size
    bound = 2.0 * num_asked * num_pool * num_columns / rate
    print("| | |\n|---|---|")
    print(f"| pool, asked | {num_pool:,}, {num_asked:,} |")
    print(f"| columns, candidates | {num_columns}, {width.num_candidates} |")
    print(f"| settling the width | {resolved - start:.0f} s |")
    print(
        f"| search | {end - resolved:.0f} s, {bound / (end - resolved):.0%} of bound |"
    )
    print(f"| all | {end - start:.0f} s |")
    num_sampled = min(NUM_SAMPLED, num_asked)
    print(f"| recall of its own sample of {num_sampled} | {width.recall:.4f} |")
    print(f"| recall of {min(NUM_CHECKED, num_asked)} others | {recall:.4f} |")
    print(f"| peak memory, of that the sets | {most:.2f} GB, {held:.2f} GB |")
    return 0 if end - start <= 1800 and most <= 4.0 and recall >= 0.95 else 1


def checked_recall(
    found: Sequence[tuple[Neighbour, ...]],
    library: Sequence[NeuronIds],
    sets: Sequence[NeuronIds],
    barred: Sequence[NDArray[np.int64]],
) -> float:
    """Return the recall of some of the questions asked about."""
    order = np.random.default_rng(2).permutation(len(sets))[:NUM_CHECKED].tolist()
    out = [barred[i] for i in order]
    true = true_nearest(library, [sets[i] for i in order], out, COUNT)
    none = np.empty(0, np.int64)
    mine = [(none, np.array([n.distance for n in found[i]])) for i in order]
    return recall_of(mine, true)


def as_record(number: int, ids: NeuronIds) -> NeuronSet:
    """Return a set as the search reads it."""
    return NeuronSet(f"q{number}", ids.size, ids, NO_SCORES, 1)


def make_sets(shape: Shape, count: int, seed: int) -> list[NeuronIds]:
    """Make up sets; see the head of this file."""
    rng = np.random.default_rng(seed)
    drawn = draw_whole(shape, rng, 1000)
    pile = drawn.ravel()
    topics = drawn[rng.integers(20, size=max(1, count // 40))]
    redraw(topics, 0.4, pile, rng)
    sets: list[NeuronIds] = []
    while len(sets) < count:
        num = min(2000, count - len(sets))
        rows = topics[rng.integers(len(topics), size=num)]
        redraw(rows, rng.uniform(0.2, 0.9, (num, 1)).astype(np.float32), pile, rng)
        rows.sort(axis=1)
        kept = np.ones(rows.shape, np.bool_)
        kept[:, 1:] = rows[:, 1:] != rows[:, :-1]
        sets += [row[keep] for row, keep in zip(rows, kept, strict=True)]
    return sets


def draw_whole(
    shape: Shape, rng: np.random.Generator, count: int
) -> NDArray[np.uint32]:
    """Draw sets of likely neurons that have nothing else in common."""
    shift = shape.num_neurons / 460
    weights = -1.8 * np.log(np.arange(shape.num_neurons) + shift)
    rng.shuffle(weights)
    drawn = np.empty((count, shape.num_drawn), np.uint32)
    for row in drawn:
        # The largest of weights with Gumbel noise are a draw without replacement.
        keys = weights + rng.gumbel(size=shape.num_neurons)
        row[:] = np.argpartition(-keys, shape.num_drawn)[: shape.num_drawn]
    return drawn


def redraw(
    rows: NDArray[np.uint32],
    share: float | NDArray[np.float32],
    pile: NDArray[np.uint32],
    rng: np.random.Generator,
) -> None:
    """Replace a share of the neurons of each row in place."""
    new = rng.random(rows.shape, dtype=np.float32) < share
    rows[new] = pile[rng.integers(pile.size, size=int(new.sum()))]


def product_rate() -> float:
    """Return the multiplications and additions a second of the fastest product."""
    rng = np.random.default_rng(0)
    left = torch.from_numpy(rng.integers(0, 2, (2048, 2048), dtype=np.int8))
    right = torch.from_numpy(rng.integers(0, 2, (4096, 2048), dtype=np.int8))
    out = torch.empty((2048, 4096), dtype=torch.int32)
    times = []
    for _ in range(5):
        start = perf_counter()
        fastest_product()(left, right, out)
        times.append(perf_counter() - start)
    return 2.0 * 2048 * 4096 * 2048 / min(times)


def mean_size(sets: Sequence[NeuronIds]) -> float:
    """Return how many neurons a set holds on average."""
    return sum(ids.size for ids in sets) / len(sets)


def peak() -> float:
    """Return the most memory in GB that this process has held so far."""
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return held * (1 if sys.platform == "darwin" else 1024) / 1e9


def processor() -> str:
    """Return what the processor calls itself."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main())
