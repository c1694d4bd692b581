"""A whole run whose free answers another engine writes, and how it resumes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neuron_opsd.errors import ConfigError
from tiny_runs import tiny_config, tiny_request, tiny_run

pytestmark = [
    pytest.mark.usefixtures("engine"),
    pytest.mark.filterwarnings("default"),  # vLLM's own
]

FREE = ("engine.rollouts=vllm", "engine.check_every=1", "rollouts.mode=free")


def test_a_run_ends_with_a_report_and_resumes_from_what_was_written(
    folder: Path, tmp_path: Path
) -> None:
    request = tiny_request(tmp_path, kind="free")
    config = tiny_config(folder, *FREE)
    tiny_run(request, config)
    run = request.out
    rows = (run / "train" / "metrics.jsonl").read_text("utf-8").splitlines()
    gaps = [json.loads(row)["engine_gap"] for row in rows]
    assert len(gaps) == 4
    assert all(gap is not None and gap < 1e-3 for gap in gaps)
    assert (run / "report.html").exists()
    kept = {
        name: (run / name).read_bytes()
        for name in ("rollouts.parquet", "selection.json", "contexts.json")
    }
    # Without what was made of them, the rollouts are read and not drawn again.
    (run / "selection.json").unlink()
    (run / "contexts.json").unlink()
    tiny_run(request, config)
    assert {name: (run / name).read_bytes() for name in kept} == kept


def test_a_run_keeps_the_engine_that_it_was_started_with(
    folder: Path, tmp_path: Path
) -> None:
    request = tiny_request(tmp_path, kind="free")
    tiny_run(request, tiny_config(folder, "rollouts.mode=free", "distill.steps=1"))
    with pytest.raises(ConfigError, match=r"engine\.rollouts"):
        tiny_run(request, tiny_config(folder, *FREE, "distill.steps=1"))
