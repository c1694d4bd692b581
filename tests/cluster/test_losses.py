"""A run and a comparison on a cluster lose workers, or the process that was started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from neuron_opsd.cluster.pool import Hand, Pool
from neuron_opsd.comparison import spreading
from neuron_opsd.config import ClusterConfig
from neuron_opsd.library import compare
from neuron_opsd.progress import Silent
from neuron_opsd.storage.mirror import Change, repeat
from tiny_runs import (
    command_line,
    files_of,
    outcome_of,
    parity_rows,
    pool_rows,
    tiny_config,
    tiny_request,
    tiny_run,
    write_rows,
)

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
]


class Losing:
    """Loses a worker in every stage, over the first chunk that it gives out."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.stages: list[str] = []
        self.lost: set[int] = set()
        mapped, give = Pool.map, Pool.give

        def losing_map(pool: Pool, recipe: Any, function: Any, *more: Any) -> Any:
            inner = function.keywords["function"]
            self.stages.append(getattr(inner, "func", inner).__name__)
            return mapped(pool, recipe, function, *more)

        def losing_give(pool: Pool, hand: Hand, *more: Any) -> None:
            give(pool, hand, *more)
            if len(self.stages) not in self.lost:
                self.lost.add(len(self.stages))
                os.kill(hand.process, signal.SIGKILL)

        patch.setattr(Pool, "map", losing_map)
        patch.setattr(Pool, "give", losing_give)


def test_a_worker_killed_in_every_stage_changes_nothing(
    cluster: ClusterConfig,
    tiny_llama: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = tiny_config(tiny_llama, "rollouts.centre_choices=true")
    alone = cluster.model_copy(update={"workers": 1})
    here = tiny_run(tiny_request(tmp_path, "here"), config)
    losing, progress = Losing(monkeypatch), Silent()
    there = tiny_run(
        tiny_request(tmp_path, "there"),
        config.model_copy(update={"cluster": alone}),
        progress,
    )
    assert outcome_of(here.folder) == outcome_of(there.folder)
    assert {"plain_logprobs", "sample_rollouts", "capture_answers"} <= set(
        losing.stages
    )
    assert {"scored_choices", "facts_of"} <= set(losing.stages)
    assert len(losing.lost) == len(losing.stages) >= 9
    told = [text for text in progress.warnings if "a worker was lost" in text]
    assert len(told) == len(losing.lost)


def test_a_run_goes_on_after_the_process_that_owns_it_was_killed(
    cluster: ClusterConfig, tiny_llama: Path, tmp_path: Path
) -> None:
    config = tiny_config(tiny_llama)
    here = tiny_run(tiny_request(tmp_path, "here"), config)
    request = tiny_request(tmp_path, "there")
    own = ["cluster.address=local", "cluster.workers=1"]
    command = [sys.executable, "-m", "neuron_opsd"]
    command += command_line(request, tiny_llama, own)
    receipts = request.out / "parts" / "rollouts"
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + 300
        while not list(receipts.glob("*.done")) and process.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.01)
        process.kill()
        assert process.stderr is not None
        said = process.stderr.read()
    assert process.returncode == -signal.SIGKILL, said
    assert not (request.out / "evaluation.json").exists()
    alone = cluster.model_copy(update={"workers": 1})
    there = tiny_run(request, config.model_copy(update={"cluster": alone}))
    assert outcome_of(here.folder) == outcome_of(there.folder)


def compared(folder: Path, out: str, config: Any, progress: Silent) -> dict[str, bytes]:
    """Fill a comparison of two starts; return what must be the same in any other."""
    pool = write_rows(folder / "pool.jsonl", pool_rows("choices"))
    test = write_rows(folder / "parity.jsonl", parity_rows(range(100, 108), "a"))
    compare(
        {"parity": pool},
        {"parity": test},
        folder / out,
        config,
        progress,
        methods=["neuron-opsd"],
        seeds=1,
        warm_start="both",
    )
    timed = ("manifest.json", "result.json", "hashes.json", "budgets.csv")
    pages = ("comparison.html", "comparison.json", "results.json")
    return {
        name: data
        for name, data in files_of(folder / out).items()
        if Path(name).name not in (*timed, *pages)
    }


def test_a_group_goes_on_where_its_worker_was_killed(
    cluster: ClusterConfig,
    tiny_llama: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = tiny_config(tiny_llama)
    here = compared(tmp_path, "here", config, Silent())
    killed: list[Sequence[str]] = []

    def repeat_and_kill(folder: Path, change: Change) -> None:
        """Kill the worker of a group once half of its training has arrived."""
        repeat(folder, change)
        if "train" in str(sorted(change.written)) and len(killed) < 1:
            killed.append(sorted(change.written))
            hands = [hand for hand in pools[-1].hands if hand.chunk]
            os.kill(hands[0].process, signal.SIGKILL)

    pools: list[Pool] = []
    mapped = Pool.map

    def seen_map(pool: Pool, *more: Any) -> Any:
        pools.append(pool)
        return mapped(pool, *more)

    monkeypatch.setattr(Pool, "map", seen_map)
    monkeypatch.setattr(spreading, "repeat", repeat_and_kill)
    progress = Silent()
    settings = config.model_copy(update={"cluster": cluster})
    there = compared(tmp_path, "there", settings, progress)
    assert killed
    assert here == there
    assert len([text for text in progress.warnings if "was lost" in text]) == 1
    begun = len(pools)
    assert compared(tmp_path, "there", settings, Silent()) == there
    assert len(pools) == begun + 1  # the model's facts alone
