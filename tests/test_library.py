"""The commands as functions: plain arguments become what the rooms take."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

import neuron_opsd as no
import places
from neuron_opsd import library
from neuron_opsd.config import Config
from neuron_opsd.config.tables import as_config, config_from_table
from neuron_opsd.errors import ConfigError
from neuron_opsd.progress import QUIET, Silent
from neuron_opsd.records import Completion, Rollout
from neuron_opsd.runs.run import Request
from report_examples import example_report

TABLE = {"model.name": "m", "distill": {"steps": 7}, "distill.batch_size": 2}
SETTINGS = config_from_table(
    {"model": {"name": "m"}, "distill": {"steps": 7, "batch_size": 2}}
)
TESTS = {"exam": Path("exam.jsonl")}


@pytest.fixture
def handed_on(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[Any, ...]]:
    """Give what each room is called with, by the name of its function."""
    calls: dict[str, tuple[Any, ...]] = {}

    def note(name: str) -> Any:
        return lambda *arguments: calls.update({name: arguments})

    for room, name in (
        ("running", "run"),
        ("comparing", "compare"),
        ("forecasting", "forecast"),
        ("evaluation", "evaluate"),
        ("analysis", "analyse"),
        ("planning", "estimate"),
        ("previewing", "preview"),
        ("captured", "extract_neurons"),
    ):
        monkeypatch.setattr(f"neuron_opsd.library.{room}.{name}", note(name))
    return calls


def test_settings_are_a_config_or_a_table_with_dotted_names() -> None:
    assert as_config(TABLE) == SETTINGS
    assert as_config(SETTINGS) is SETTINGS
    assert as_config({}) == Config()
    with pytest.raises(ConfigError, match="did you mean steps"):
        as_config({"distill.stepz": 1})


def test_a_run_takes_texts_and_paths(handed_on: dict[str, tuple[Any, ...]]) -> None:
    no.run(Path("pool.jsonl"), "out", TABLE, TESTS)
    request = Request("pool.jsonl", {"exam": "exam.jsonl"}, Path("out"))
    assert handed_on["run"] == (request, SETTINGS, QUIET)
    no.run("pool.jsonl", Path("out"), SETTINGS)
    assert handed_on["run"][0].tests == {}


def test_a_comparison_takes_its_choices_by_name(
    handed_on: dict[str, tuple[Any, ...]],
) -> None:
    for call, name in ((no.compare, "compare"), (library.forecast, "forecast")):
        call({"law": "a.jsonl"}, TESTS, "out", TABLE, methods=["ttrl"], at=[5])
        comparison, settings, progress = handed_on[name]
        assert comparison.sources == {"law": "a.jsonl"}
        assert comparison.tests == {"exam": "exam.jsonl"}
        assert [variant.name for variant in comparison.variants] == ["ttrl"]
        assert (comparison.num_seeds, comparison.shown_steps) == (3, (5,))
        assert (comparison.starts, comparison.out) == (("base",), Path("out"))
        assert (settings, progress) == (SETTINGS, QUIET)
    no.compare({"law": "a"}, TESTS, "out", TABLE, warm_start="both", seeds=1)
    comparison = handed_on["compare"][0]
    assert comparison.starts == ("base", "form-only")
    names = tuple(variant.name for variant in comparison.variants)
    assert names == library.DEFAULT_METHODS


def test_the_others_hand_on_their_arguments(
    handed_on: dict[str, tuple[Any, ...]],
) -> None:
    silent = Silent()
    no.evaluate(TESTS, TABLE, "adapter", Path("o.json"), silent)
    no.analyse(["a", Path("b")], "out", ["x=y.jsonl"], silent, "typed")
    no.plan("pool", TABLE, TESTS, silent)
    no.preview(Path("pool"), TABLE, "q-1", silent)
    no.extract_neurons("c.jsonl", "n.parquet", TABLE, silent)
    files = {"exam": "exam.jsonl"}
    assert handed_on["evaluate"] == (
        files,
        SETTINGS,
        Path("o.json"),
        silent,
        Path("adapter"),
    )
    request, progress = handed_on["analyse"]
    assert (request.runs, request.out) == ((Path("a"), Path("b")), Path("out"))
    assert (request.answers, request.command) == (("x=y.jsonl",), "typed")
    assert progress is silent
    assert handed_on["estimate"] == ("pool", files, SETTINGS, silent)
    assert handed_on["preview"] == ("pool", "q-1", SETTINGS, silent)
    places = Path("c.jsonl"), Path("n.parquet")
    assert handed_on["extract_neurons"] == (*places, SETTINGS, silent)


def test_a_warning_that_nobody_listens_to_is_one_of_python() -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        QUIET.warn("look here")
    assert [str(one.message) for one in told] == ["look here"]
    with QUIET.stage("rollouts", 3, "questions") as done:
        done(3)


def test_no_room_hides_a_function_of_its_name() -> None:
    rooms = {path.stem for path in places.PACKAGE.iterdir()}
    assert not rooms & set(no.__all__)


def test_a_large_record_is_shown_on_a_few_lines() -> None:
    completion = Completion(
        tuple(range(9999)), "so\n" * 9999, finished=True, logprob=-1.5, entropy=0.25
    )
    shown = repr(Rollout("q-1", 0, 0.7, completion, "yes"))
    assert shown.startswith("Rollout(question_id='q-1', index=0, temperature=0.7, ")
    assert len(shown) < 400
    assert len(repr(example_report())) < 3000
