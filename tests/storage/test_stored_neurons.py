"""Neuron sets that stay in their file are those that were written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neuron_opsd.errors import DataError
from neuron_opsd.records import NeuronSet
from neuron_opsd.storage import stored_neurons
from neuron_opsd.storage.codecs import NEURONS
from neuron_opsd.storage.stored_neurons import STORED_NEURONS, StoredNeurons


def example_sets(count: int) -> list[NeuronSet]:
    """Return sets of different sizes, an empty one among them."""
    return [
        NeuronSet(
            f"q{n}",
            3 * n,
            np.arange(n, 2 * n, dtype=np.uint32),
            np.full(n, n / 2, dtype=np.float32),
            num_tokens=n + 1,
        )
        for n in range(count)
    ]


def test_sets_come_back_each_time_a_few_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = example_sets(11)
    path = tmp_path / "neurons.parquet"
    NEURONS.save(sets, path)
    monkeypatch.setattr(stored_neurons, "SETS_READ", 3)
    found = STORED_NEURONS.load(path)
    assert isinstance(found, StoredNeurons)
    assert len(found) == 11
    for _ in range(2):
        for one, other in zip(sets, found, strict=True):
            assert one.question_id == other.question_id
            assert one.neuron_count == other.neuron_count
            assert one.num_tokens == other.num_tokens
            np.testing.assert_array_equal(one.neuron_ids, other.neuron_ids)
            np.testing.assert_array_equal(one.scores, other.scores)
    assert found[4].question_id == "q4"
    assert [one.question_id for one in found[-2:]] == ["q9", "q10"]


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "neurons.parquet"
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match="does not hold what it should"):
        STORED_NEURONS.load(path)
