"""The demonstration: its settings, its questions, and a run of it on a tiny model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from neuron_opsd.cli import main
from neuron_opsd.config.tables import changed_settings
from neuron_opsd.data.questions import read_questions
from neuron_opsd.demo import demonstration
from neuron_opsd.demo.demonstration import (
    CROSS_DOMAIN,
    CROSS_SIZE,
    IN_DOMAIN,
    QUICK_POOL_SIZE,
    QUICK_TEST_SIZE,
    demo_config,
    demo_questions,
    first_rows,
)
from neuron_opsd.demo.fetch import DemoFiles
from neuron_opsd.demo.sources import DEFAULT_SETS, QUESTION_SETS
from tiny_runs import parity_rows, read_json, write_rows

NAMES = (IN_DOMAIN, *CROSS_DOMAIN)


def demo_files(folder: Path, model: Path, pool: int, test: int) -> DemoFiles:
    """Write question sets of the demo's names; no question stands in two of them."""
    questions = {}
    for n, name in enumerate(NAMES):
        start = 10_000 * n
        rows = parity_rows(range(start, start + pool + test), name)
        questions[name] = {
            "pool": write_rows(folder / name / "pool.jsonl", rows[:pool]),
            "test": write_rows(folder / name / "test.jsonl", rows[pool:]),
        }
    return DemoFiles(model, questions)


def test_the_sets_of_the_demo_are_fetched_by_default() -> None:
    assert set(NAMES) <= set(DEFAULT_SETS)
    assert not any(QUESTION_SETS[name].noncommercial for name in NAMES)


def test_the_demo_has_its_controls_and_a_quick_one_is_smaller() -> None:
    whole = demo_config(Path("m"), quick=False, seed=3)
    quick = demo_config(Path("m"), quick=True, seed=3)
    for config in (whole, quick):
        assert (config.seed, config.model.name) == (3, "m")
        assert config.evaluation.form_only
        assert config.evaluation.prompted
        assert config.prompts.form == "plain"
    work = [c.distill.steps * c.distill.batch_size for c in (quick, whole)]
    assert work[0] < work[1]
    assert changed_settings(whole)["seed"] == 3
    assert (whole.engine.rollouts, whole.rollouts.mode) == ("transformers", "auto")


@pytest.mark.parametrize("engine", ["transformers", "vllm"])
def test_an_engine_has_the_answers_of_the_demo_written_freely(engine: str) -> None:
    config = demo_config(Path("m"), quick=True, seed=0, engine=engine)
    assert (config.engine.rollouts, config.rollouts.mode) == (engine, "free")


@pytest.mark.parametrize("quick", [False, True])
def test_the_demo_takes_the_first_questions_of_each_set(
    tmp_path: Path, quick: bool
) -> None:
    files = demo_files(tmp_path / "cache", tmp_path, 500, 450)
    pool, tests = demo_questions(files, tmp_path / "runs" / "demo", quick=quick)
    sizes = (QUICK_POOL_SIZE, QUICK_TEST_SIZE) if quick else (500, 450)
    assert list(tests) == [IN_DOMAIN, *CROSS_DOMAIN]
    asked = read_questions(pool).questions
    assert len(asked) == sizes[0]
    assert asked[0].id == f"{IN_DOMAIN}0"
    assert len(read_questions(tests[IN_DOMAIN]).questions) == sizes[1]
    cross = QUICK_TEST_SIZE if quick else CROSS_SIZE
    for name in CROSS_DOMAIN:
        assert len(read_questions(tests[name]).questions) == cross
    # They lie beside the run directory, which must be empty to begin with.
    assert Path(pool).parent == tmp_path / "runs" / "demo-questions"


def test_the_first_rows_are_whole_whatever_their_texts_hold(tmp_path: Path) -> None:
    rows = [{"question": f"What is\u2028this\x85{n}?"} for n in range(5)]
    source = write_rows(tmp_path / "all.jsonl", rows)
    target = tmp_path / "deep" / "some.jsonl"
    assert first_rows(source, target, 3) == str(target)
    lines = target.read_text("utf-8").split("\n")
    assert [json.loads(line) for line in lines[:-1]] == rows[:3]
    assert lines[-1] == ""
    first_rows(source, target, 99)
    assert target.read_bytes() == source.read_bytes()


def test_the_quick_demo_runs_on_a_tiny_model(
    tiny_llama_plain: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = demo_files(tmp_path / "cache", tiny_llama_plain, 20, 6)
    monkeypatch.setattr(demonstration, "fetch_demo", lambda *_: files)
    out = tmp_path / "runs" / "demo"
    argv = ["demo", "--quick", "--out", str(out), "--quiet"]
    assert main(argv) == 0
    shown = capsys.readouterr().out
    for name in NAMES:
        assert name in shown
    assert f"report:  {out}/report.html" in shown
    table = read_json(out / "evaluation.json")
    assert list(table) == list(NAMES)
    assert set(table[IN_DOMAIN]["controls"]) == {"prompted", "form-only"}
    report = read_json(out / "report.json")
    assert report["command"] == "neuron-opsd demo --quick --seed 0"
    # The folder of the cache is called `model`, which would say nothing.
    assert report["model"]["name"] == "SmolLM2-135M-Instruct"
    page, card = (out / name for name in ("report.html", "adapter/README.md"))
    assert "<span>SmolLM2-135M-Instruct</span>" in page.read_text()
    assert "base_model: SmolLM2-135M-Instruct" in card.read_text()
    assert f'"{tiny_llama_plain}"' in card.read_text()
    # The same command again goes on, which here is to show the same table.
    shutil.rmtree(tmp_path / "runs" / "demo-questions")
    assert main(argv) == 0
    assert capsys.readouterr().out == shown
    # The folder of another run is refused before anything is written beside it.
    shutil.rmtree(tmp_path / "runs" / "demo-questions")
    assert main([*argv, "--seed", "1"]) == 2
    assert "seed was 0, now 1" in capsys.readouterr().err
    assert not (tmp_path / "runs" / "demo-questions").exists()
