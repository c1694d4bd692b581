"""Rollouts that stay in their file: the same as in memory, and no memory taken."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from neuron_opsd.answers.votes import sampled_rollouts, tally_votes
from neuron_opsd.records import Completion, Rollout, StoredSummary
from neuron_opsd.storage import codecs, stored_rollouts
from neuron_opsd.storage.caching import InChunks
from neuron_opsd.storage.codecs import ROLLOUTS
from neuron_opsd.storage.run_directory import RunDirectory
from neuron_opsd.storage.stored_rollouts import StoredRollouts, in_full, summaries_of
from tasks import alone

SUMMARY_COLUMNS = (
    "question_id",
    "index",
    "temperature",
    "answer",
    "num_tokens",
    "finished",
    "is_closed",
    "logprob",
    "entropy",
)


def made(num_questions: int, length: int = 3) -> Iterator[Rollout]:
    """Yield two samples and a greedy rollout for each question, all different."""
    for n in range(num_questions):
        for index, temperature in ((0, 0.6), (1, 0.6), (0, 0.0)):
            ids = tuple((n + k * 7 + index) % 997 for k in range(length + n % 3))
            cut = n % 5 == 4
            yield Rollout(
                f"q{n}",
                index,
                temperature,
                Completion(
                    ids,
                    f"thought {n}, so {n % 4}" + " and on" * length,
                    finished=not cut,
                    logprob=-0.5 * n,
                    entropy=0.25,
                    final_start=None if cut else 3,
                ),
                None if cut else str(n % 4),
            )


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StoredRollouts:
    """Return 90 rollouts in a file with row groups of 16, outlined 32 at a time."""
    monkeypatch.setattr(codecs, "ROWS_PER_GROUP", 16)
    monkeypatch.setattr(stored_rollouts, "SUMMARIES_READ", 32)
    ROLLOUTS.save(tuple(made(30)), tmp_path / "rollouts.parquet")
    return StoredRollouts(tmp_path / "rollouts.parquet")


def test_they_are_the_rollouts_that_were_written(kept: StoredRollouts) -> None:
    whole = tuple(made(30))
    assert tuple(kept) == whole
    assert kept == whole
    assert kept != whole[:-1]
    assert kept != tuple(made(29)) + whole[:3]
    assert len(kept) == 90
    assert (kept[0], kept[17], kept[-1]) == (whole[0], whole[17], whole[-1])
    assert kept[14:50:7] == whole[14:50:7]
    with pytest.raises(IndexError):
        kept[90]


def test_outlines_say_the_same_as_rollouts(kept: StoredRollouts) -> None:
    summaries = list(kept.summaries())
    assert [one.row for one in summaries] == list(range(90))
    for summary, rollout in zip(summaries, made(30), strict=True):
        assert [getattr(summary, name) for name in SUMMARY_COLUMNS] == [
            getattr(rollout, name) for name in SUMMARY_COLUMNS
        ]
    assert tally_votes(summaries) == tally_votes(tuple(made(30)))
    assert list(sampled_rollouts(summaries)) == [f"q{n}" for n in range(30)]


def test_some_come_back_in_full_and_in_order(kept: StoredRollouts) -> None:
    whole = tuple(made(30))
    some = [one for one in summaries_of(kept) if one.index == 1][::-3]
    rows = [one.row for one in some if isinstance(one, StoredSummary)]
    assert in_full(kept, some) == [whole[row] for row in rows]
    assert in_full(whole, whole[3:5]) == list(whole[3:5])
    assert summaries_of(whole) is whole


def test_files_of_the_first_version_are_outlined_alike(tmp_path: Path) -> None:
    texts = ("<think>a</think>b", "<think>never closed", "plain")
    rollouts = [
        Rollout(f"q{n}", 0, 0.6, Completion((n,), text, True, 0.0, 0.0), "b")  # noqa: FBT003
        for n, text in enumerate(texts)
    ]
    ROLLOUTS.save(rollouts, tmp_path / "new.parquet")
    table = pq.read_table(tmp_path / "new.parquet").drop_columns(["final_start"])
    pq.write_table(table, tmp_path / "old.parquet")
    old = StoredRollouts(tmp_path / "old.parquet")
    assert [one.is_closed for one in old.summaries()] == [True, False, True]
    assert [one.is_closed for one in old] == [True, False, True]


def peak_of(work: Callable[[], object]) -> int:
    """Return the most bytes of Python objects that some work held."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_number_of_rollouts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gone over, and outlined: four times as many take no more at a time."""
    monkeypatch.setattr(stored_rollouts, "SUMMARIES_READ", 32)
    monkeypatch.setattr(codecs, "ROWS_PER_GROUP", 32)
    peaks = []
    for count in (40, 160):
        ROLLOUTS.save(tuple(made(count, 400)), tmp_path / f"{count}.parquet")
        kept = StoredRollouts(tmp_path / f"{count}.parquet")

        def summary(kept: StoredRollouts = kept) -> int:
            return sum(one.num_tokens for one in kept.summaries())

        def read(kept: StoredRollouts = kept) -> int:
            return sum(len(one.completion.text) for one in kept)

        peaks.append((peak_of(summary), peak_of(read)))
    for less, more in zip(*peaks, strict=True):
        assert more < 1.5 * less


def test_joining_blocks_holds_one_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written as a whole is read block by block, never all at once."""
    monkeypatch.setattr(codecs, "ROWS_PER_GROUP", 24)

    def block_of(some: Sequence[int]) -> list[Rollout]:
        return [
            Rollout(
                f"q{n}",
                0,
                0.6,
                Completion((n,) * 2000, "x" * 9000, True, 0.0, 0.0),  # noqa: FBT003
                "a",
            )
            for n in some
        ]

    def peak(count: int, attempt: int) -> int:
        with RunDirectory.open(tmp_path / f"{count}-{attempt}", {}, {}) as run:
            rows = InChunks(range(count), 8)
            work = partial(run.chunks, "rollouts", ROLLOUTS, rows, alone(block_of))
            return peak_of(work)

    # The least of some, since other threads of the process may allocate meanwhile.
    peaks = [min(peak(count, n) for n in range(3)) for count in (64, 256)]
    assert peaks[1] < 1.5 * peaks[0]
