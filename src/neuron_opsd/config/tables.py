"""Settings from files and flags, and back to TOML; former names still work."""

from __future__ import annotations

import difflib
import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from pydantic import BaseModel, ValidationError

from neuron_opsd.config import Config
from neuron_opsd.documents import DocumentError, TooDeepError, half_pair, parse_toml
from neuron_opsd.errors import ConfigError, RenamedSettingWarning
from neuron_opsd.section import Section

Table: TypeAlias = dict[str, Any]
"""Settings as in TOML: values and one level of tables."""

Settings: TypeAlias = Config | Mapping[str, Any]
"""Checked settings, or entries by name, dotted or nested."""

MAX_BYTES = 2**20
"""Of a settings file; also stops an endless device."""
MAX_PARTS = 8
"""Of a dotted name; no setting is that deep."""
MAX_SHOWN = 80
"""Characters of a value in a message."""
RENAMED: Final = {"fitness": "teacher_check"}
"""Former section names and today's."""

AS_GIVEN: Final = {"rollouts.mode": "auto"}
"""Settings that earlier versions kept unresolved."""


def load_config(
    path: str | Path | None = None,
    assignments: Iterable[str] = (),
    base: Mapping[str, Any] | None = None,
) -> Config:
    """Build the settings from a base, then a TOML file, then `section.field=value`.

    Raises:
        ConfigError: If the file is missing or not TOML, a name is unknown (the nearest
            one is given) or a value is out of range.
    """
    table: Table = renamed_by_user(base or {})
    if path is not None:
        table = merge(table, renamed_by_user(toml_table(Path(path), "settings file")))
    for assignment in assignments:
        table = merge(table, parse_assignment(assignment))
    return config_from_table(table)


def as_config(settings: Settings) -> Config:
    """Return checked settings from either form.

    Raises:
        ConfigError: For the first wrong name or value.
    """
    if isinstance(settings, Config):
        return settings
    if not isinstance(settings, Mapping):
        raise ConfigError(
            f"the settings are {shortened(settings)}, but they must be a Config, as "
            "load_config returns it, or a table such as {'model.name': 'my-model'}"
        )
    table: Table = {}
    for name, value in settings.items():
        table = merge(table, nested(str(name).split("."), value))
    return config_from_table(table)


def config_from_table(table: Mapping[str, Any]) -> Config:
    """Check a nested table and fill in defaults."""
    broken = half_pair(table)
    if broken is not None:
        raise ConfigError(
            f"a setting is {shortened(broken)}, which is not UTF-8, so no file could "
            "hold it; write it in UTF-8 or leave it out"
        )
    try:
        return Config.model_validate(dict(table))
    except ValidationError as error:
        raise ConfigError(explain(error)) from None


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> Table:
    """Merge tables; entries of `above` win."""
    merged: Table = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            merged[key] = merge(old, value)
        else:
            merged[key] = value
    return merged


def toml_table(path: Path, what: str) -> Table:
    """Read a TOML file, called `what` in messages."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"{what} {path} does not exist") from None
    except IsADirectoryError:
        raise ConfigError(f"{what} {path} is a folder") from None
    except OSError as error:
        why = error.strerror or str(error)
        raise ConfigError(f"{what} {path} cannot be read: {why}") from None
    if len(data) > MAX_BYTES:
        raise ConfigError(
            f"{what} {path} is larger than {MAX_BYTES:,} bytes, so it holds "
            "something else; give a file such as `neuron-opsd config` prints"
        )
    try:
        return parse_toml(data)
    except DocumentError as error:
        raise ConfigError(f"{path} is not a TOML file: {error}") from None


def parse_assignment(text: str) -> Table:
    """Read `section.field=value`, with a TOML value or bare string."""
    name, equals, value = text.partition("=")
    parts = name.strip().split(".")
    if not equals or not all(parts) or len(parts) > MAX_PARTS:
        raise ConfigError(
            f"{shortened(text)} is not a setting; write section.field=value, for "
            "example selection.keep_fraction=0.1"
        )
    try:
        parsed = parse_toml(f"value = {value}")["value"]
    except TooDeepError as error:
        raise ConfigError(f"{shortened(name)} cannot be read: {error}") from None
    except DocumentError:
        parsed = value
    return nested(parts, parsed)


def nested(parts: Sequence[str], value: Any) -> Table:
    """Nest a value in tables by its name."""
    for part in reversed(parts):
        value = {part: value}
    return renamed_by_user(value)


def explain(error: ValidationError) -> str:
    """Say what is wrong with a setting, and what to do."""
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        return unknown_name(path)
    if first["type"] == "model_type":
        name, field = path[0], next(iter(section_fields(path)))
        return (
            f"{name} is {shortened(first['input'])}, but it is a section of several "
            f"settings; set them by name, such as {name}.{field}"
        )
    limit = first["msg"].replace("Input should be", "it must be")
    return f"{'.'.join(path)} is {shortened(first['input'])}, but {limit}"


def shortened(value: object) -> str:
    """Write a value as Python does, truncated."""
    try:
        text = repr(value)
    except ValueError:  # a number with thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def unknown_name(path: list[str]) -> str:
    """Say that a setting is unknown, and which is nearest."""
    known = list(section_fields(path[:-1]))
    path = [*path[:-1], path[-1][:MAX_SHOWN]]
    near = difflib.get_close_matches(path[-1], known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(known)}"
    if len(path) == 1:
        return f"there is no section or setting {path[0]}; {hint}"
    return f"[{'.'.join(path[:-1])}] has no setting {path[-1]}; {hint}"


def section_fields(path: list[str]) -> Mapping[str, Any]:
    """Return the fields of a section by name."""
    section: type[BaseModel] = Config
    for part in path:
        kind = section.model_fields[part].annotation
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            return {}
        section = kind
    return section.model_fields


def changed_settings(config: Config) -> dict[str, Any]:
    """Return non-default settings by dotted name."""
    return differences(Config(), config)


def differences(before: Config, after: Config) -> dict[str, Any]:
    """Return settings of `before` that differ, by dotted name."""
    old, new = flatten(before), flatten(after)
    return {name: value for name, value in new.items() if old[name] != value}


def flatten(config: Config) -> dict[str, Any]:
    """Return every setting by dotted name as JSON values."""
    return flatten_table(config.model_dump(mode="json"))


def flatten_table(table: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten a table of tables to dotted names."""
    flat: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{field}": inner for field, inner in value.items()}
        else:
            flat[name] = value
    return flat


def to_toml(
    config: Config, *, comments: bool = False, only_chosen: bool = False
) -> str:
    """Write the settings as TOML, with `comments` each under its field's docstring.

    With `only_chosen`, other settings become comments, so that another version or
    method may set its own.
    """
    lines = setting_lines(config, comments=comments, only_chosen=only_chosen)
    for name, info in Config.model_fields.items():
        section = getattr(config, name)
        if isinstance(section, Section):
            lines += ["", f"[{name}]"]
            if comments:
                lines.insert(-1, f"# {type(section).__doc__ or info.description}")
            lines += setting_lines(section, comments=comments, only_chosen=only_chosen)
    return "\n".join(lines) + "\n"


def setting_lines(section: Section, *, comments: bool, only_chosen: bool) -> list[str]:
    """Write a section's plain fields as TOML lines."""
    lines: list[str] = []
    for name, info in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            continue
        if comments and info.description:
            lines += [f"# {line.strip()}" for line in info.description.splitlines()]
        # TOML has no null: an unset switch is left out or a comment.
        if value is not None:
            chosen = name in section.model_fields_set or not only_chosen
            lines.append(f"{'' if chosen else '# '}{name} = {toml_value(value)}")
        elif comments:
            lines.append(f"# {name} = (unset)")
    return lines


def toml_values(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return settings as TOML by name, or `unset`."""
    return {n: "unset" if v is None else toml_value(v) for n, v in settings.items()}


def toml_value(value: object) -> str:
    """Write one value as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        parts = (f"{toml_value(key)} = {toml_value(one)}" for key, one in value.items())
        return f"{{{', '.join(parts)}}}"
    if isinstance(value, str):
        # JSON strings are TOML strings, except for one control character.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    return repr(value)


def renamed(table: Mapping[str, Any]) -> dict[str, Any]:
    """Rename former sections; today's names win."""
    found = dict(table)
    for old in RENAMED.keys() & table.keys():
        given, known = found.pop(old), found.get(RENAMED[old], {})
        both = isinstance(given, Mapping) and isinstance(known, Mapping)
        found[RENAMED[old]] = {**given, **known} if both else given
    return found


def renamed_by_user(table: Mapping[str, Any]) -> dict[str, Any]:
    """Do the same, and warn of each former name."""
    for old in RENAMED.keys() & table.keys():
        warnings.warn(
            f"the settings {old}.* are called {RENAMED[old]}.* now, and are read as "
            "such; please write the new name",
            RenamedSettingWarning,
            stacklevel=3,
        )
    return renamed(table)


def as_begun(settings: Mapping[str, Any], begun: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings in the words of their run directory.

    Outputs are tied to the hash of settings, so older directories keep their names.
    """
    sections = {name.partition(".")[0] for name in begun}
    former = {new: old for old, new in RENAMED.items() if old in sections}
    given = {
        name: value for name, value in AS_GIVEN.items() if begun.get(name) == value
    }
    found = {}
    for name, value in settings.items():
        section, dot, field = name.partition(".")
        found[f"{former.get(section, section)}{dot}{field}"] = value
    return found | given
