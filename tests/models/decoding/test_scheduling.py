"""Pages and who grows on them: a pure structure, played through without a model."""

from __future__ import annotations

import numpy as np
import pytest

from neuron_opsd.models.decoding.layout import (
    Layouts,
    StepShape,
    ranks,
    round_up,
    rounded,
    views,
)
from neuron_opsd.models.decoding.pages import Kind, Limits, Pages
from neuron_opsd.models.decoding.scheduling import Schedule, expected_peak

PAGE = 4


def test_pages_are_taken_from_both_ends_and_given_back() -> None:
    pages = Pages(8)
    own, prompt = pages.take(2, Kind.SAMPLE), pages.take(3, Kind.PROMPT)
    assert own.tolist() == [0, 1]
    assert prompt.tolist() == [5, 6, 7]
    assert (pages.num_free, pages.extent(Kind.SAMPLE)) == (3, 2)
    assert pages.extent(Kind.PROMPT) == 3
    with pytest.raises(ValueError, match="pages wanted"):
        pages.take(4, Kind.SAMPLE)
    assert pages.num_free == 3
    pages.give([0, 6])
    assert pages.take(2, Kind.SAMPLE).tolist() == [0, 2]
    with pytest.raises(ValueError, match="given back twice"):
        pages.give([6])
    with pytest.raises(ValueError, match="given back twice"):
        pages.give([1, 1])


@pytest.mark.parametrize("kind", [Kind.SAMPLE, Kind.PROMPT])
def test_pages_that_lie_apart_are_moved_together(kind: Kind) -> None:
    pages = Pages(12)
    other = Kind.PROMPT if kind == Kind.SAMPLE else Kind.SAMPLE
    pages.take(8, kind)
    pages.take(1, other)
    kept = pages.kinds.copy()
    used = np.flatnonzero(kept == kind)
    pages.give(used[[0, 1, 2, 4, 5]] if kind == Kind.SAMPLE else used[[7, 6, 5, 3, 2]])
    before, after = pages.packed(kind)
    assert pages.extent(kind) == 3
    assert len(before) == len(after) == 3
    assert (pages.kinds == kind).sum() == 3
    assert (pages.kinds == other).sum() == 1
    assert not set(before.tolist()) & set(after.tolist())


def played(
    lengths: np.ndarray, pages: int, rows: int, prompt: int = 5
) -> tuple[Schedule, list[int]]:
    """Let samples of these lengths grow to their ends; return the rows of each step."""
    num_prompts, num_samples = lengths.shape
    limits = Limits(rows, int(lengths.max()), PAGE)
    schedule = Schedule(
        [prompt] * num_prompts, [range(num_samples)] * num_prompts, Pages(pages), limits
    )
    layouts, together = Layouts(schedule), []
    ended: list[tuple[int, int]] = []
    while not schedule.done:
        for one in schedule.admit():
            assert len(one.samples) == len(one.slots)
        schedule.grow()
        schedule.pack()
        check(schedule, layouts)
        together.append(len(schedule.places))
        for slot, place in list(schedule.places.items()):
            if schedule.written[slot] + 1 >= lengths[place]:
                schedule.end(slot)
                ended.append(place)
    assert sorted(ended) == [
        (i, k) for i in range(num_prompts) for k in range(num_samples)
    ]
    assert schedule.pages.num_free == pages
    return schedule, together


def check(schedule: Schedule, layouts: Layouts) -> None:
    """Hold pages and the arrays of a step to what they promise."""
    slots = schedule.slots
    own = [schedule.tables[s, : schedule.counts[s]].tolist() for s in slots]
    prompts = [held.pages.tolist() for held in schedule.held.values()]
    used = [page for table in (*own, *prompts) for page in table]
    assert len(set(used)) == len(used) == len(schedule.pages) - schedule.pages.num_free
    shape, numbers = layouts.of_step(slots, list(range(len(slots))))
    at = views(numbers, shape)
    first = len(schedule.pages) - shape.prompt_pages
    for row, slot in enumerate(slots.tolist()):
        held = schedule.held[schedule.places[slot][0]]
        position = int(schedule.written[slot]) - 1
        assert at.positions[row] == held.length + position
        assert at.pages[row] == own[row][position // PAGE]
        assert at.offsets[row] == position % PAGE
        assert at.own_table[row, : at.own_counts[row]].tolist() == own[row]
        assert at.owners[own[row]].tolist() == [row] * len(own[row])
        assert at.starts[own[row]].tolist() == [
            held.length + PAGE * n for n in range(len(own[row]))
        ]
        p, k = divmod(int(at.sample_of[row]), shape.samples)
        assert at.row_at[p, k] == row
        assert at.lengths[p] == held.length
        table = at.prompt_table[p, : at.prompt_counts[p]] + first
        assert table.tolist() == held.pages.tolist()
        assert (at.prompt_of[table - first] == p).all()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("pages", "rows"), [(14, 6), (20, 30), (60, 5), (400, 99)])
def test_every_sample_comes_to_its_end_in_any_memory(
    seed: int, pages: int, rows: int
) -> None:
    lengths = np.random.default_rng(seed).integers(1, 44, (7, 4))
    schedule, together = played(lengths, pages, rows)
    assert max(together) <= rows
    if pages == 400:
        assert schedule.num_redone == 0


def test_the_youngest_are_put_back_where_room_runs_out() -> None:
    limits = Limits(rows=3, longest=12, page=PAGE)
    schedule = Schedule([4], [range(3)], Pages(5), limits)
    schedule.expected_length = lambda: 1  # type: ignore[method-assign]
    (admitted,) = schedule.admit()
    assert admitted.slots == (0, 1, 2)
    schedule.end(0)
    schedule.waiting.append((0, (7,)))
    assert [schedule.grow() for _ in range(2)] == [[], []]
    (late,) = schedule.admit()
    assert not late.is_new
    put_back = [schedule.grow() for _ in range(3)]
    assert put_back == [[], [], [late.slots[0]]]
    assert schedule.waiting == [(0, (7,))]
    assert schedule.num_redone == 3


def test_lengths_are_expected_from_those_that_ended_and_those_that_grow() -> None:
    limits = Limits(rows=50, longest=1000, page=PAGE)
    schedule = Schedule([4], [range(50)], Pages(50 * 250 + 1), limits)
    assert schedule.expected_length() == 500
    (admitted,) = schedule.admit()
    gone = np.random.default_rng(0).geometric(1 / 40, 50)
    for step in range(2, 41):
        schedule.grow()
        for slot in [s for s in admitted.slots if gone[s] == step]:
            schedule.end(slot)
    # Those that ended so far were the short ones, and would mislead alone.
    ended = [n for n in gone if 1 < n <= 40]
    assert np.mean(ended) < 25
    assert 40 < schedule.expected_length() < 120


def test_the_expected_peak_is_the_maximum_of_what_is_held() -> None:
    for rows, tokens in ((10, 0), (10, 300), (10, 990), (10, 1500)):
        held = [
            (tokens + rows * h) * np.exp(-h / 100) for h in np.linspace(0, 300, 3001)
        ]
        assert expected_peak(rows, tokens, 100.0) == pytest.approx(max(held), rel=1e-4)


def test_sizes_are_rounded_up_to_few() -> None:
    sizes = [round_up(n) for n in range(1, 1025)]
    assert all(
        n <= size <= 1.25 * n + 1 for n, size in zip(range(1, 1025), sizes, strict=True)
    )
    assert len(set(sizes)) < 40
    shape = StepShape(9, 100, 4, 3, 8, 20, 2)
    assert rounded(shape) == StepShape(10, 112, 4, 3, 8, 20, 2)
    assert len(shape) == sum(np.prod(size) for size in shape.sizes().values())


def test_ranks_count_equal_ones_before() -> None:
    assert ranks(np.array([3, 1, 3, 3, 0, 1])).tolist() == [0, 0, 1, 2, 0, 1]
