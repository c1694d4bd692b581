"""Workers of a cluster: equal results, and whatever becomes of one of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

import cluster_work as work
import neuron_opsd
from neuron_opsd.cluster.pool import MOST_LOSSES, Mailbox, Pool
from neuron_opsd.config import ClusterConfig
from neuron_opsd.errors import ConfigError, DataError, NotFiniteError, TryAgainError
from neuron_opsd.models.load import RemoteModel
from neuron_opsd.models.room import Room
from neuron_opsd.runs.elsewhere import ClusterMachines
from neuron_opsd.storage.caching import Keeping
from neuron_opsd.storage.journal import Journal
from neuron_opsd.storage.manifest import read_manifest
from tiny_runs import (
    TEST_SIZES,
    files_of,
    outcome_of,
    tiny_config,
    tiny_request,
    tiny_run,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")
"""Ray's own, where it is imported."""

CHUNKS = [(n, [2 * n, 2 * n + 1]) for n in range(6)]
SUMS = {n: [work.base() + item for item in chunk] for n, chunk in CHUNKS}


@contextmanager
def pool_of(
    settings: ClusterConfig, warn: Callable[[str], None] = pytest.fail
) -> Iterator[Pool]:
    pool = Pool(settings, {}, 1, warn)
    try:
        yield pool
    finally:
        pool.close()


def test_chunks_are_shared_and_not_looked_at_before_there_is_a_worker(
    cluster: ClusterConfig, tmp_path: Path
) -> None:
    looked: list[int] = []

    def chunks() -> Iterator[tuple[int, Sequence[int]]]:
        for number, chunk in CHUNKS:
            looked.append(number)
            yield number, chunk

    with pool_of(cluster) as pool:
        found, ahead = {}, []
        for number, results in pool.map(work.base, work.add, chunks()):
            found[number] = results
            ahead.append(len(looked) - len(found))
        assert found == SUMS
        assert max(ahead) <= cluster.workers + 1
        together = partial(work.process, home=tmp_path, count=cluster.workers)
        told = dict(pool.map(work.base, together, CHUNKS))
        facts = {fact for results in told.values() for fact in results}
        assert len({process for process, _, _ in facts}) == cluster.workers
        assert {(threads, variable) for _, threads, variable in facts} == {(1, "1")}
        with pytest.raises(NotFiniteError, match="question q7: the logit is nan; set"):
            list(pool.map(work.base, work.lose_count, CHUNKS))
        with pytest.raises(DataError, match="there is no model here"):
            list(pool.map(work.broken, work.add, CHUNKS))


def test_a_lost_worker_is_replaced_and_its_chunk_worked_on_again(
    cluster: ClusterConfig, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    warned: list[str] = []
    with pool_of(cluster, warned.append) as pool:
        at = partial(work.die_at, item=5, marker=tmp_path / "died")
        assert dict(pool.map(work.base, at, CHUNKS)) == SUMS
        assert len(warned) == 1
        assert "a worker was lost because its process ended" in warned[0]
        assert capfd.readouterr() == ("", "")
        full = partial(work.fill_up_at, item=5, marker=tmp_path / "full")
        assert dict(pool.map(work.base, full, CHUNKS)) == SUMS
        with pytest.raises(TryAgainError, match="memory ran out on a row of 7 tokens"):
            list(pool.map(work.base, work.fill_up, CHUNKS[:1]))
        with pytest.raises(TryAgainError, match=f"lost {MOST_LOSSES} times"):
            list(pool.map(work.base, work.die, CHUNKS[:1]))


def test_workers_that_find_no_room_are_waited_for_so_long(
    cluster: ClusterConfig,
) -> None:
    own = {"cpus_per_worker": 4096, "timeout": 1}
    with pytest.raises(ConfigError, match=r"each worker needs 4096 processors"):
        Pool(cluster.model_copy(update=own), {}, 1, pytest.fail)
    greedy = cluster.model_copy(update={**own, "address": "auto"})
    start = time.monotonic()
    with (
        pool_of(greedy) as pool,
        pytest.raises(TryAgainError, match=r"2 of 2 workers, each with 4096"),
    ):
        list(pool.map(work.base, work.add, CHUNKS))
    assert time.monotonic() - start < 30


def test_a_worker_with_another_version_is_refused(
    cluster: ClusterConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neuron_opsd, "__version__", "99.0")
    with (
        pool_of(cluster) as pool,
        pytest.raises(ConfigError, match=r"this machine 99\.0; install the same"),
    ):
        list(pool.map(work.base, work.add, CHUNKS))


def test_letters_are_taken_in_their_order_and_once(cluster: ClusterConfig) -> None:
    assert cluster.address
    mailbox = Mailbox()
    for letter in ("one", "two"):
        mailbox.send(letter)
    assert (mailbox.take(), mailbox.take()) == (["one", "two"], [])


def test_what_was_finished_of_a_lost_chunk_is_not_done_again(
    cluster: ClusterConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neuron_opsd.cluster.pool.MOST_LOSSES", 2)
    alone = cluster.model_copy(update={"workers": 1})
    config = tiny_config(tmp_path).model_copy(update={"cluster": alone})
    keeping: Keeping[Any] = Keeping(work.NotingAsked, partial(journal_of, tmp_path))
    recipe: Any = work.AskedRecipe(config, tmp_path, deadly=[1, 2])
    chunks = [(0, [0, 1, 2, 3]), (1, [4, 5])]

    def through() -> dict[int, Sequence[int]]:
        model = RemoteModel(Mock(), Mock(), Room(4096), recipe, Mock())
        with ClusterMachines(config, lambda _: None) as machines:
            return dict(machines.map(model, work.ask_each, chunks, keeping))

    with pytest.raises(TryAgainError, match="a chunk was lost 2 times"):
        through()
    assert set(journal_of(tmp_path, 0).values) == {"0", "1"}
    assert through() == {n: [2 * item for item in chunk] for n, chunk in chunks}
    asked = {p.name: len(p.read_text()) for p in tmp_path.glob("asked-*")}
    assert asked == {f"asked-{n}": 2 if n in (1, 2) else 1 for n in range(6)}


def journal_of(folder: Path, number: int) -> Journal:
    return Journal(folder / f"{number}.journal", pytest.fail)


@pytest.mark.long
def test_a_run_on_a_cluster_makes_the_same_to_the_bit(
    cluster: ClusterConfig, tiny_llama: Path, tmp_path: Path
) -> None:
    """All that comes before training, which several workers share, and its start."""
    own = ["rollouts.centre_choices=true", "evaluation.num_samples=2"]
    config = tiny_config(tiny_llama, *own)
    here = tiny_run(tiny_request(tmp_path, "here"), config)
    on_cluster = config.model_copy(update={"cluster": cluster})
    there = tiny_run(tiny_request(tmp_path, "there"), on_cluster)
    one, other = files_of(here.folder), files_of(there.folder)
    assert one.keys() == other.keys()
    same = [name for name in one if one[name] == other[name]]
    for name in ("choice-bias.json", "rollouts.parquet", "neurons.parquet"):
        assert name in same
    for name in ("selection.json", "contexts.json", "teacher_check.json"):
        assert name in same
    for test in TEST_SIZES:
        assert f"tests/{test}/before.parquet" in same
    assert "tests/parity/prompted.parquet" in same
    facts = [read_manifest(run.folder) for run in (here, there)]
    assert facts[0].environment == facts[1].environment
    assert facts[0].settings == facts[1].settings
    before = files_of(there.folder)
    assert tiny_run(there.request, config).warnings == there.warnings
    assert outcome_of(there.folder).items() <= before.items()


@pytest.mark.parametrize(
    ("kind", "rule", "name"),
    [
        ("choices", "belief-shift", "beliefs"),
        ("free", "belief-shift", "beliefs"),
        ("free", "divergence", "divergences"),
    ],
)
def test_workers_share_what_the_teacher_is_asked_of_the_pool(
    cluster: ClusterConfig,
    tiny_llama_plain: Path,
    tmp_path: Path,
    kind: str,
    rule: str,
    name: str,
) -> None:
    config = tiny_config(
        tiny_llama_plain,
        *(f"selection.rule={rule}", "distill.steps=1", "evaluation.prompted=false"),
        *("evaluation.num_samples=1", "teacher_check.action=off"),
    )
    here = tiny_run(tiny_request(tmp_path, "here", kind=kind), config)
    one = config.model_copy(
        update={"cluster": cluster.model_copy(update={"workers": 1})}
    )
    there = tiny_run(tiny_request(tmp_path, "there", kind=kind), one)
    kept = [files_of(run.folder) for run in (here, there)]
    for file in (f"{name}.json", "selection.json", "contexts.json"):
        assert kept[0][file] == kept[1][file]
