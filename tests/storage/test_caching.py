"""Memory as a cache, and items in chunks."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from neuron_opsd.config.tables import load_config
from neuron_opsd.progress import Silent
from neuron_opsd.storage.caching import MEMORY, InChunks, Workspace
from neuron_opsd.storage.codecs import records_codec
from tasks import alone

SQUARES = records_codec("squares.json", int)


def test_items_are_cut_at_the_same_places_each_time() -> None:
    items = InChunks(range(5), 2)
    assert [list(chunk) for chunk in items] == [[0, 1], [2, 3], [4]]
    assert [list(chunk) for chunk in items] == [[0, 1], [2, 3], [4]]
    assert not list(InChunks([], 2))


def test_memory_computes_chunk_by_chunk_and_tells_how_far_it_is() -> None:
    done: list[int] = []
    chunks: list[Sequence[int]] = []

    def squares(chunk: Sequence[int]) -> Sequence[int]:
        chunks.append(list(chunk))
        return [n * n for n in chunk]

    for _ in range(2):
        items = InChunks(range(5), 2, done.append)
        found = MEMORY.chunks(
            "squares", SQUARES, items, alone(squares), made_from=["items"]
        )
        assert found == [0, 1, 4, 9, 16]
    assert chunks == 2 * [[0, 1], [2, 3], [4]]
    assert done == 2 * [2, 2, 1]


def test_memory_keeps_nothing() -> None:
    values = iter([1, 2])
    assert MEMORY.once("one", SQUARES, lambda: next(values)) == 1
    assert MEMORY.once("one", SQUARES, lambda: next(values), made_from=["x"]) == 2


@pytest.mark.parametrize("size", [1, 3])
def test_a_workspace_cuts_as_its_settings_say_and_warns(size: int) -> None:
    progress = Silent()
    config = load_config(None, [f"rollouts.block_size={size}"])
    work = Workspace(config, progress=progress)
    lengths: list[int] = []

    def squares(chunk: Sequence[int]) -> Sequence[int]:
        lengths.append(len(chunk))
        return [n * n for n in chunk]

    assert work.by_question("squares", SQUARES, range(3), alone(squares)) == [0, 1, 4]
    assert lengths == [size] * (3 // size)
    work.warn(["one", "two"])
    assert progress.warnings == ["one", "two"]
