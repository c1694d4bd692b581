"""A chat template prints the day on which a run began for as long as the run lives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import templates
from neuron_opsd.comparison.comparison import Comparison, group_folder, set_up
from neuron_opsd.comparison.variants import parse_variant
from neuron_opsd.config.tables import load_config, to_toml
from neuron_opsd.errors import ConfigError
from neuron_opsd.progress import Silent
from neuron_opsd.runs import context as setting
from neuron_opsd.runs.context import resolve
from neuron_opsd.runs.preview import preview
from neuron_opsd.storage.manifest import new_manifest, write_manifest
from scripted import FACTS, ScriptedModel
from templates import templated
from tiny_runs import FinishedRun, outcome_of, read_json, tiny_config, tiny_request
from tiny_runs import tiny_run as run_all

DATING = replace(FACTS, has_chat_template=True, prints_date=True)
FIRST_DAY, NEXT_DAY = "2026-01-31", "2026-02-01"

SetDay = Callable[[str], None]


@pytest.fixture
def set_day(monkeypatch: pytest.MonkeyPatch) -> SetDay:
    """Give what makes it another day."""

    def change(day: str) -> None:
        now = datetime.fromisoformat(f"{day}T12:00:00").replace(tzinfo=UTC)

        class Clock(datetime):
            """A clock that stands still."""

            @classmethod
            def now(cls, tz: Any = None) -> Any:
                """Return noon of the day."""
                return now if tz is None else now.astimezone(tz)

        monkeypatch.setattr(setting, "datetime", Clock)

    return change


@pytest.fixture(scope="module")
def dated(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a tiny model whose template prints the date."""
    folder = tmp_path_factory.mktemp("dated") / "model"
    return templated(tiny_llama, folder, templates.DATED)


# --- the setting ---


@pytest.mark.parametrize("written", ["2026-01-31", '"2026-01-31"', "'2026-01-31'"])
def test_a_day_is_read_as_text_or_as_a_date_of_toml(written: str) -> None:
    config = load_config(None, [f"prompts.date={written}"])
    assert config.prompts.date == FIRST_DAY
    assert 'date = "2026-01-31"' in to_toml(config)


@pytest.mark.parametrize(
    "written", ["2026-13-01", "yesterday", "3", "2026-01-31T10:00:00"]
)
def test_what_is_no_day_is_refused(written: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(None, [f"prompts.date={written}"])
    message = str(error.value)
    assert message.startswith("prompts.date is ")
    assert message.endswith(", but it must be a day such as 2026-11-29, or empty")


# --- which day ---


def test_the_day_is_today_where_a_template_prints_it(set_day: SetDay) -> None:
    set_day(FIRST_DAY)
    resolved = resolve(load_config(), ScriptedModel({}, DATING))
    assert resolved.prompts.date == FIRST_DAY


def test_a_day_that_was_set_stays(set_day: SetDay) -> None:
    set_day(FIRST_DAY)
    resolved = resolve(
        load_config(None, ["prompts.date=2020-02-02"]), ScriptedModel({}, DATING)
    )
    assert resolved.prompts.date == "2020-02-02"


@pytest.mark.parametrize(
    ("form", "facts"),
    [("plain", DATING), ("chat", replace(DATING, prints_date=False))],
)
def test_where_no_date_is_printed_none_is_kept(form: str, facts: Any) -> None:
    """Two runs of the same settings on two days are then the same run."""
    resolved = resolve(
        load_config(None, [f"prompts.form={form}"]), ScriptedModel({}, facts)
    )
    assert resolved.prompts.date == ""


def test_the_day_of_a_run_that_was_begun_holds(tmp_path: Path, set_day: SetDay) -> None:
    set_day(NEXT_DAY)
    begun, empty = tmp_path / "begun", tmp_path / "empty"
    begun.mkdir()
    write_manifest(begun, new_manifest({"prompts.date": FIRST_DAY}, {}, {}))
    model, config = ScriptedModel({}, DATING), load_config()
    assert resolve(config, model, [empty, begun]).prompts.date == FIRST_DAY
    assert resolve(config, model, [empty]).prompts.date == NEXT_DAY


# --- whole runs ---


class Stopping(Silent):
    """Progress that stops a run when a stage begins."""

    def stage(self, name: str, total: int, unit: str) -> Any:
        """Open a stage, or stop."""
        if name == "distillation":
            raise KeyboardInterrupt
        return super().stage(name, total, unit)


def one_run(folder: Path, model: Path, progress: Silent | None = None) -> FinishedRun:
    """Run, or go on with, a run in chat form."""
    config = tiny_config(model, "prompts.form=chat", "evaluation.prompted=false")
    return run_all(tiny_request(folder), config, progress)


def test_a_run_that_is_resumed_on_another_day_asks_with_the_same_tokens(
    dated: Path, tmp_path: Path, set_day: SetDay
) -> None:
    set_day(FIRST_DAY)
    whole = one_run(tmp_path / "whole", dated)
    with pytest.raises(KeyboardInterrupt):
        one_run(tmp_path / "stopped", dated, Stopping())
    set_day(NEXT_DAY)
    resumed = one_run(tmp_path / "stopped", dated)

    assert outcome_of(resumed.folder) == outcome_of(whole.folder)
    settings = read_json(resumed.folder / "manifest.json")["settings"]
    assert settings["prompts.date"] == FIRST_DAY
    assert f'date = "{FIRST_DAY}"' in (resumed.folder / "config.toml").read_text(
        "utf-8"
    )

    other = one_run(tmp_path / "other", dated)
    assert outcome_of(other.folder) != outcome_of(whole.folder)


def test_a_resumed_run_refuses_another_day_by_name(
    dated: Path, tmp_path: Path, set_day: SetDay
) -> None:
    set_day(FIRST_DAY)
    with pytest.raises(KeyboardInterrupt):
        one_run(tmp_path, dated, Stopping())
    config = tiny_config(
        dated,
        "prompts.form=chat",
        "evaluation.prompted=false",
        f"prompts.date={NEXT_DAY}",
    )
    wanted = f'prompts.date was "{FIRST_DAY}", now "{NEXT_DAY}"'
    with pytest.raises(ConfigError, match=wanted):
        run_all(tiny_request(tmp_path), config)


def test_the_blocks_of_a_comparison_share_the_day_of_the_first(
    dated: Path, tmp_path: Path, set_day: SetDay
) -> None:
    set_day(NEXT_DAY)
    request = tiny_request(tmp_path)
    comparison = Comparison(
        sources={"parity": request.pool},
        tests=request.tests,
        variants=(parse_variant("neuron-opsd"),),
        num_seeds=1,
        starts=("base",),
        out=tmp_path / "compared",
    )
    config = tiny_config(dated, "prompts.form=chat")
    assert set_up(comparison, config, Silent()).config.prompts.date == NEXT_DAY
    begun = group_folder(comparison, (0, "parity", "base"))
    begun.mkdir(parents=True)
    write_manifest(begun, new_manifest({"prompts.date": FIRST_DAY}, {}, {}))
    assert set_up(comparison, config, Silent()).config.prompts.date == FIRST_DAY


def test_a_preview_shows_the_day_of_its_settings(dated: Path, tmp_path: Path) -> None:
    request = tiny_request(tmp_path)
    config = tiny_config(dated, "prompts.form=chat", "prompts.date=2024-02-09")
    shown = preview(request.pool, None, config, Silent())
    assert "Today Date: 09 Feb 2024" in shown.student_prompt
    assert "Today Date: 09 Feb 2024" in shown.teacher_prompt
