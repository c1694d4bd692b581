"""Settings: one name each, merged in one order, refused with the way out."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from neuron_opsd.config import Config, TeacherCheckConfig
from neuron_opsd.config.tables import (
    as_begun,
    changed_settings,
    config_from_table,
    differences,
    flatten,
    load_config,
    merge,
    parse_assignment,
    renamed,
    to_toml,
)
from neuron_opsd.errors import ConfigError, RenamedSettingWarning
from neuron_opsd.section import Section

EVERY_SETTING = flatten(Config())


def write(folder: Path, text: str) -> Path:
    path = folder / "settings.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_defaults_are_the_papers() -> None:
    config = load_config()
    assert config == Config()
    assert config.selection.keep_fraction == 0.2
    assert config.contexts.num_demonstrations == 10
    assert config.distill.ema_rate == 0.01
    assert (config.distill.steps, config.distill.batch_size) == (150, 16)
    assert config.evaluation.num_bins == 15


def test_a_flag_wins_over_the_file_and_the_file_over_the_base(tmp_path: Path) -> None:
    path = write(tmp_path, "seed = 2\n[distill]\nsteps = 20\nbatch_size = 8\n")
    base = {"seed": 1, "distill": {"steps": 10, "lora_rank": 4}}
    config = load_config(path, ["distill.steps=30"], base)
    assert config.seed == 2
    assert config.distill.steps == 30
    assert config.distill.batch_size == 8
    assert config.distill.lora_rank == 4
    assert config.distill.micro_batch_size == Config().distill.micro_batch_size


def test_of_two_equal_flags_the_last_wins() -> None:
    assert load_config(assignments=["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("model.name=some/folder", "some/folder"),
        ("model.name=a=b", "a=b"),
        ('model.name="true"', "true"),
        ("model.name=", ""),
    ],
)
def test_a_value_that_is_not_toml_is_taken_as_it_stands(
    assignment: str, value: str
) -> None:
    assert load_config(assignments=[assignment]).model.name == value


def test_values_have_the_types_that_toml_gives_them() -> None:
    assert parse_assignment("a.b=0.5") == {"a": {"b": 0.5}}
    assert parse_assignment(" a.b = true") == {"a": {"b": True}}
    assert parse_assignment("a=1_000") == {"a": 1000}


def test_merging_leaves_what_it_was_given_alone() -> None:
    below, above = {"a": {"x": 1}}, {"a": {"y": 2}}
    assert merge(below, above) == {"a": {"x": 1, "y": 2}}
    assert (below, above) == ({"a": {"x": 1}}, {"a": {"y": 2}})


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        (
            "selection.keep_fracton=0.1",
            r"\[selection\] has no setting keep_fracton; did you mean keep_fraction\?",
        ),
        ("selecton.keep_fraction=1", "no section or setting selecton; did you mean"),
        ("sed=1", r"no section or setting sed; did you mean seed\?"),
        (
            "teacher_check.zzz=1",
            r"\[teacher_check\] has no setting zzz; it has action, ",
        ),
        ("selection.keep_fraction=1.5", "keep_fraction is 1.5, but it must be less"),
        ("selection.keep_fraction=0", "keep_fraction is 0, but it must be greater"),
        ("selection.rule=best", "rule is 'best', but it must be 'fewest-neurons'"),
        ("rollouts.num_samples=2.5", "num_samples is 2.5, but it must be a valid int"),
        ("rollouts.temperature=nan", "temperature is nan, but it must be"),
        ("rollouts.temperature=inf", "temperature is inf, but it must be"),
        ("seed=-1", "seed is -1, but it must be greater than or equal to 0"),
        ("selection=3", "selection is 3, but"),
        ("seed", "'seed' is not a setting; write section.field=value"),
        ("=3", "'=3' is not a setting"),
    ],
)
def test_a_wrong_setting_is_named_with_the_way_out(
    assignment: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(assignments=[assignment])
    assert "\n" not in str(caught.value)


FORMER = r"settings fitness\.\* are called teacher_check\.\* now"


@pytest.mark.parametrize("action", ["warn", "off"])
def test_a_former_name_is_read_as_the_new_one_and_warned_of(
    tmp_path: Path, action: str
) -> None:
    path = write(tmp_path, '[fitness]\naction = "stop"\nnum_questions = 3\n')
    with pytest.warns(RenamedSettingWarning, match=FORMER):
        config = load_config(path)
    assert config.teacher_check == TeacherCheckConfig(action="stop", num_questions=3)
    base = {"teacher_check": {"num_questions": 5, "min_stability": 0.1}}
    with pytest.warns(RenamedSettingWarning, match=FORMER):
        config = load_config(None, [f"fitness.action={action}"], base)
    assert config.teacher_check.model_dump(exclude_unset=True) == {
        "num_questions": 5,
        "min_stability": 0.1,
        "action": action,
    }
    with (
        pytest.warns(RenamedSettingWarning, match=FORMER),
        pytest.raises(ConfigError, match=r"\[teacher_check\] has no setting zzz"),
    ):
        load_config(None, ["fitness.zzz=1"])


def test_of_a_former_and_a_new_name_the_new_one_wins() -> None:
    both = {"fitness": {"a": 1, "b": 1}, "teacher_check": {"b": 2}, "seed": 3}
    assert renamed(both) == {"teacher_check": {"a": 1, "b": 2}, "seed": 3}


def test_a_run_directory_keeps_its_own_words() -> None:
    now = {"teacher_check.action": "off", "rollouts.mode": "free", "seed": 1}
    former = {"fitness.action": "off", "rollouts.mode": "auto", "seed": 1}
    assert as_begun(now, now) == now
    assert as_begun(now, former) == former


@pytest.mark.parametrize("assignment", ["seed.deep=1", "distill.steps.more=1"])
def test_a_name_below_a_value_is_refused(assignment: str) -> None:
    with pytest.raises(ConfigError):
        load_config(assignments=[assignment])


def test_a_settings_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "none.toml"
    with pytest.raises(ConfigError, match=r"none\.toml does not exist"):
        load_config(missing)
    with pytest.raises(ConfigError, match="is a folder"):
        load_config(tmp_path)
    with pytest.raises(ConfigError, match=r"settings\.toml is not a TOML file"):
        load_config(write(tmp_path, "seed = "))
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"bytes\.toml is not a TOML file"):
        load_config(tmp_path / "bytes.toml")


def test_settings_cannot_be_changed_after_they_were_made() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Config().seed = 1


@pytest.mark.parametrize("comments", [False, True])
def test_the_written_defaults_read_back_as_they_were(
    tmp_path: Path,
    comments: bool,
) -> None:
    text = to_toml(Config(), comments=comments)
    assert load_config(write(tmp_path, text)) == Config()


@given(name=st.text(), pattern=st.text(), rate=st.floats(1e-9, 1.0), on=st.booleans())
def test_any_settings_written_as_toml_read_back_as_they_were(
    name: str, pattern: str, rate: float, on: bool
) -> None:
    table: dict[str, Any] = {
        "model": {"name": name, "allow_download": on},
        "answers": {"pattern": pattern},
        "prompts": {"student_thinking": on},
        "distill": {"learning_rate": rate},
    }
    config = config_from_table(table)
    for comments in (False, True):
        again = config_from_table(tomllib.loads(to_toml(config, comments=comments)))
        assert again == config


def test_what_was_not_chosen_can_stand_there_as_a_comment() -> None:
    config = config_from_table({"distill": {"steps": 7}})
    text = to_toml(config, comments=True, only_chosen=True)
    lines = text.splitlines()
    assert "steps = 7" in lines
    assert "# batch_size = 16" in lines
    assert tomllib.loads(text)["distill"] == {"steps": 7}
    assert config_from_table(tomllib.loads(text)) == config


def test_comments_explain_every_setting() -> None:
    lines = to_toml(Config(), comments=True).splitlines()
    for name in EVERY_SETTING:
        field = name.rpartition(".")[2]
        places = [
            i
            for i, line in enumerate(lines)
            if line.startswith((f"{field} = ", f"# {field} = "))
        ]
        assert places
        assert all(lines[place - 1].startswith("# ") for place in places)


def test_every_field_of_every_section_has_a_docstring() -> None:
    sections: list[type[Section]] = [Config, *Section.__subclasses__()]
    for section in sections:
        for name, field in section.model_fields.items():
            nested = isinstance(field.default, Section)
            assert nested or field.description, f"{section.__name__}.{name}"


def test_changed_settings_are_those_that_differ_from_the_defaults() -> None:
    config = load_config(assignments=["distill.steps=30", "selection.rule=random"])
    assert changed_settings(config) == {
        "distill.steps": 30,
        "selection.rule": "random",
    }
    assert changed_settings(Config()) == {}


def test_differences_hold_the_later_value() -> None:
    before, after = Config(seed=1), Config(seed=2)
    assert differences(before, after) == {"seed": 2}
    assert differences(before, before) == {}


def test_flattened_names_are_what_a_flag_takes() -> None:
    for name, value in EVERY_SETTING.items():
        if value is not None:
            written = str(value).lower() if isinstance(value, bool) else value
            assert load_config(assignments=[f"{name}={written}"]) == Config()
