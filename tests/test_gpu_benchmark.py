"""The rows that only a GPU can give: which they are, and what they say without one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.gpu.__main__ import PAGE, ROWS, main
from benchmarks.gpu.cases import FULL, TINY, memory_systems, speed_cases
from benchmarks.gpu.model import random_model
from benchmarks.gpu.scaling import Row, command, lines, seconds_of
from benchmarks.speed import worker
from benchmarks.speed.process import Setting
from loaded import loaded
from neuron_opsd.cli.app import build_app
from tiny import tiny_model


def setting(device: str = "cuda") -> Setting:
    here = Path()
    return Setting(here, here, here, device, 1, gguf="", neufs="")


def test_without_a_gpu_every_row_says_that_it_was_not_measured(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["--dry-run"])
    out = capsys.readouterr().out
    systems = [s for case in speed_cases(FULL) for s in case.systems]
    num_rows = len(memory_systems(FULL)) + len(systems) + 2 * len(FULL.counts)
    assert out.count("not measured: a dry run") == num_rows
    assert out.count("### ") == len(ROWS) - 1 + len(speed_cases(FULL))


def test_the_page_has_a_table_for_every_row() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name in ("memory", *(case.name for case in speed_cases(FULL)), "scaling"):
        assert f"<!-- begin gpu {name} -->" in page


def test_every_system_that_is_measured_is_there() -> None:
    for case in speed_cases(FULL):
        for system in case.systems:
            assert callable(worker.find(f"benchmarks.speed.{system.run}"))
    assert callable(worker.find("benchmarks.speed.memory:ours"))


@pytest.mark.parametrize("way", ["torchrun", "Ray"])
def test_a_run_over_several_is_one_that_can_be_typed(way: str) -> None:
    typed = command(way, 2, TINY, setting(), Path("t"), Path("o"))
    arguments = typed[typed.index("neuron_opsd") + 1 :]
    build_app().parse_args(arguments, exit_on_error=False, print_error=False)


def test_stages_of_a_run_are_added_up(tmp_path: Path) -> None:
    outputs = {
        "rollouts/chunk-0": {"seconds": 1.5},
        "rollouts/chunk-1": {"seconds": 2.5},
        "adapter": {"seconds": None},
    }
    manifest = {"outputs": outputs, "facts": {"seconds": {"training": 7.0}}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    found = seconds_of(tmp_path)
    assert (found["rollouts"], found["training"]) == (4.0, 7.0)


def test_a_run_is_held_against_the_first_of_its_kind() -> None:
    one = Row("Ray", 1, {"rollouts": 8.0, "training": 4.0, "evaluation": 2.0})
    two = Row("Ray", 2, {"rollouts": 4.0, "training": 4.0, "evaluation": 1.0})
    none = Row("Ray", 4, {}, "2 GPUs here")
    text = "\n".join(lines([one, two, none]))
    assert "| Ray, 1 worker | 8 s (1.00) |" in text
    assert "| Ray, 2 workers | 4 s (2.00) | 4 s (1.00) | 1 s (2.00) |" in text
    assert "| Ray, 4 workers | not measured: 2 GPUs here |" in text


def test_a_random_model_can_be_loaded(tmp_path: Path) -> None:
    tokenizer = tiny_model(tmp_path / "tiny")
    made = random_model("Qwen3-4B", tokenizer, tmp_path, tiny=True)
    model = loaded(made)
    assert model.facts.family == "qwen3"
    assert model.facts.num_layers == 2
