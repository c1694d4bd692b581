"""What a comparison keeps is believed only as far as it can be proven."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from neuron_opsd.cli import main
from neuron_opsd.comparison.compare import compare
from neuron_opsd.comparison.comparison import Comparison
from neuron_opsd.comparison.run_group import GOLD
from neuron_opsd.comparison.variants import parse_variant
from neuron_opsd.config import Config
from neuron_opsd.progress import Silent
from neuron_opsd.results.comparison import BASE
from neuron_opsd.storage.manifest import Manifest, read_manifest
from tiny_runs import (
    parity_rows,
    pool_rows,
    read_json,
    tiny_config,
    with_wrong_answers,
    write_rows,
)

ORACLE, FREE = "oracle-opsd", "lmsi"
SHORT = ("distill.steps=2", "distill.num_samples=4", "evaluation.num_resamples=40")


def compared(wanted: Comparison, config: Config) -> list[str]:
    """Compare, or resume a comparison; return what it warned of."""
    progress = Silent()
    with warnings.catch_warnings():
        # PEFT asks transformers for what it calls by a new name now.
        warnings.simplefilter("ignore", FutureWarning)
        compare(wanted, config, progress)
    return progress.warnings


@pytest.fixture(scope="module")
def config(tiny_llama_plain: Path) -> Config:
    return tiny_config(tiny_llama_plain, *SHORT)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, config: Config) -> Comparison:
    folder = tmp_path_factory.mktemp("compared")
    wanted = comparison(folder, folder / "pool.jsonl")
    write_rows(folder / "pool.jsonl", pool_rows("choices"))
    compared(wanted, config)
    return wanted


def comparison(folder: Path, pool: Path) -> Comparison:
    test = write_rows(folder / "test.jsonl", parity_rows(range(100, 106), "a"))
    return Comparison(
        sources={"parity": str(pool)},
        tests={"parity": str(test)},
        variants=tuple(parse_variant(name) for name in (ORACLE, FREE)),
        num_seeds=1,
        starts=(BASE,),
        out=folder / "out",
        oracle=True,
        command="a command",
    )


@pytest.fixture
def copied(ended: Comparison, tmp_path: Path) -> Comparison:
    """Give a copy of the comparison that a test may harm."""
    shutil.copytree(ended.out, tmp_path / "out")
    return replace(ended, out=tmp_path / "out")


def group_of(wanted: Comparison) -> Path:
    return wanted.out / "blocks/parity/seed-0/base"


def manifest_of(wanted: Comparison) -> Manifest:
    return read_manifest(group_of(wanted))


def made_by(wanted: Comparison, method: str) -> dict[str, Any]:
    """Return the hashes of a method's adapter and answers."""
    outputs = manifest_of(wanted).outputs
    names = (f"methods/{method}/adapter", f"tests/parity/{method}-2")
    return {name: outputs[name].sha256 for name in names}


def test_only_what_an_oracle_made_depends_on_gold_answers(ended: Comparison) -> None:
    outputs = manifest_of(ended).outputs
    told = {name for name, one in outputs.items() if GOLD in (one.made_from or {})}
    folder = f"methods/{ORACLE}"
    assert told == {
        folder,
        f"{folder}/adapter",
        f"{folder}/adapter/README.md",
        f"{folder}/train/metrics.jsonl",
    }


def test_other_gold_answers_make_what_oracles_made_again(
    copied: Comparison, config: Config, tmp_path: Path
) -> None:
    before = {name: made_by(copied, name) for name in (ORACLE, FREE)}
    assert not [line for line in compared(copied, config) if "another" in line]
    assert {name: made_by(copied, name) for name in (ORACLE, FREE)} == before
    flipped = with_wrong_answers(pool_rows("choices"))
    pool = str(write_rows(tmp_path / "pool.jsonl", flipped))
    wanted = replace(copied, sources={"parity": pool})
    told = compared(wanted, config)
    assert any(
        f"{ORACLE}/result.json was made from another {GOLD}; it is made again" in line
        for line in told
    )
    assert made_by(wanted, FREE) == before[FREE]
    again = made_by(wanted, ORACLE)
    assert (
        again[f"methods/{ORACLE}/adapter"]
        != before[ORACLE][f"methods/{ORACLE}/adapter"]
    )
    fresh = replace(wanted, out=tmp_path / "fresh")
    compared(fresh, config)
    assert made_by(fresh, ORACLE) == again


def test_a_result_beside_another_adapter_is_made_again(
    copied: Comparison, config: Config
) -> None:
    before = made_by(copied, FREE)
    weights = group_of(copied) / f"methods/{FREE}/adapter/adapter_model.safetensors"
    whole = weights.read_bytes()
    other = group_of(copied) / f"methods/{ORACLE}/adapter" / weights.name
    shutil.copy(other, weights)
    told = compared(copied, config)
    assert any(f"methods/{FREE}/adapter was changed or damaged" in one for one in told)
    assert weights.read_bytes() == whole
    assert made_by(copied, FREE) == before


def test_an_edited_comparison_is_not_reported(
    copied: Comparison, config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copied.out / "comparison.json"
    table = read_json(path)
    path.write_text(json.dumps(table | {"title": "better"}))
    (copied.out / "measurements.csv").unlink()
    (group_of(copied) / "rollouts.parquet").unlink()
    assert main(["report", str(copied.out)]) == 2
    assert "comparison.json was changed or damaged" in (
        " ".join(capsys.readouterr().err.split())
    )
    assert main(["status", str(copied.out)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    for line in (
        "comparison.json was changed or damaged",
        "measurements.csv is gone",
        "rollouts.parquet is gone",
        "state: damaged",
    ):
        assert line in told
    compared(copied, config)
    assert read_json(path)["title"] == table["title"]
    assert main(["status", str(copied.out)]) == 0
    assert "state: finished" in capsys.readouterr().out


def test_the_page_of_another_version_is_listed_anew(
    copied: Comparison, capsys: pytest.CaptureFixture[str]
) -> None:
    (copied.out / "comparison.html").write_text("an older page")
    (copied.out / "contrasts.csv").unlink()
    assert main(["report", str(copied.out)]) == 0
    assert "contrasts.csv is gone" in " ".join(capsys.readouterr().err.split())
    assert main(["status", str(copied.out)]) == 0
    told = capsys.readouterr().out
    assert "comparison.html" not in told
    assert "contrasts.csv is gone" in " ".join(told.split())
    (copied.out / "hashes.json").write_text("[1]")
    assert main(["report", str(copied.out)]) == 2
    assert "hashes.json is damaged" in " ".join(capsys.readouterr().err.split())
