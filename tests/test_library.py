"""The commands as functions: plain arguments become what the rooms take."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

import neuron_opsd as no
import places
from neuron_opsd import library
from neuron_opsd.comparison.variants import DEFAULT_METHODS
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
        ("testing", "evaluate"),
        ("analysis", "analyse"),
        ("planning", "estimate"),
        ("foresight", "foresee"),
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
    odd: Any = {1: 2}
    with pytest.raises(ConfigError, match="no section or setting 1"):
        as_config(odd)


def test_settings_may_have_former_names_in_a_base_and_a_path_as_text(
    tmp_path: Path,
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("[fitness]\naction = 'stop'\n")
    base = {"fitness": {"action": "off", "one_answer": "warn"}}
    with pytest.warns(match=r"fitness\.\* are called teacher_check"):
        check = no.load_config(str(file), base=base).teacher_check
    assert (check.action, check.one_answer) == ("stop", "warn")


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
    assert names == DEFAULT_METHODS


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"method": ["ttrl"]}, "has no choice method; it has methods, seeds, "),
        ({"warm_start": "yes"}, "warm_start is 'yes', but it must be one of no, form"),
        ({"seeds": "2"}, "seeds and at are whole numbers, but '2' is not one"),
        ({"at": [1.5]}, "seeds and at are whole numbers, but 1.5 is not one"),
        ({"methods": [3]}, "'3' names no method to compare"),
    ],
)
def test_choices_that_cannot_be_are_refused_in_a_line(
    tmp_path: Path, choices: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        no.compare({"law": "a"}, {"law": "b"}, tmp_path / "out", TABLE, **choices)
    assert not (tmp_path / "out").exists()


def test_one_value_stands_for_a_list_of_it(
    handed_on: dict[str, tuple[Any, ...]],
) -> None:
    choices: Any = {"methods": "ttrl", "at": 5}
    no.compare({"law": "a"}, TESTS, "out", TABLE, **choices)
    comparison = handed_on["compare"][0]
    names = [variant.name for variant in comparison.variants]
    assert (names, comparison.shown_steps) == (["ttrl"], (5,))
    one: Any = Path("run")
    no.analyse(one, "out", one)
    runs, _, _, answers, *_ = handed_on["analyse"]
    assert (runs, answers) == ([one], ["run"])


@pytest.mark.parametrize("files", ["exam.jsonl", ["exam.jsonl"]])
def test_files_without_names_are_refused(files: Any) -> None:
    with pytest.raises(ConfigError, match="is not a table of files by name"):
        no.run("pool.jsonl", "out", TABLE, files)


@pytest.mark.parametrize("settings", [None, "model.name=m", Path("x.toml")])
def test_settings_that_are_none_are_refused(settings: Any) -> None:
    with pytest.raises(ConfigError, match="but they must be a Config, as load_config"):
        no.run("pool.jsonl", "out", settings)


def test_the_others_hand_on_their_arguments(
    handed_on: dict[str, tuple[Any, ...]],
) -> None:
    silent = Silent()
    no.evaluate(TESTS, TABLE, "adapter", Path("o.json"), silent)
    no.analyse(["a", Path("b")], "out", ["x=y.jsonl"], silent, "typed")
    no.plan("pool", TABLE, TESTS, silent)
    no.foresee(TABLE, [24, 80], Path("pool"), TESTS, silent)
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
    *analysed, _ = handed_on["analyse"]
    runs = [Path("a"), Path("b")]
    assert analysed == [runs, Path("out"), silent, ["x=y.jsonl"], "typed"]
    assert handed_on["estimate"] == ("pool", files, SETTINGS, silent)
    assert handed_on["foresee"] == (SETTINGS, [24, 80], "pool", files, silent)
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
