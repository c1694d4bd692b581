"""Flags that several commands share, and how they become settings and test sets.

Also sets the environment variables that libraries read, except the cache's.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from cyclopts import Parameter

from neuron_opsd.cli.exit_statuses import DONE
from neuron_opsd.cli.terminal import Terminal, complain, open_terminal
from neuron_opsd.errors import ConfigError
from neuron_opsd.tracking import TrackerName

if TYPE_CHECKING:
    from neuron_opsd.config import Config
    from neuron_opsd.progress import Progress

COMMAND_LINE: ContextVar[str] = ContextVar("COMMAND_LINE", default="")
"""The command as typed, for a run's records."""

_ALWAYS = {
    # Waiting threads spin for microseconds: sleeping made decoding a third slower, and
    # with longer spins two busy cores are slower than one.
    "OMP_WAIT_POLICY": "passive",
    "GOMP_SPINCOUNT": "1000",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    # Torch makes this folder on import, in /tmp by default, unless it exists; nothing
    # is compiled here.
    "TORCHINDUCTOR_CACHE_DIR": sys.prefix,
}

_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
}


def prepare_libraries(*, allow_download: bool) -> None:
    """Set the environment that libraries read; the user's own wins."""
    for name, value in (_ALWAYS if allow_download else _ALWAYS | _OFFLINE).items():
        os.environ.setdefault(name, value)


def several(*names: str) -> Parameter:
    """Return a flag that may be repeated, with several values each time."""
    return Parameter(name=names, consume_multiple=True, negative=(), show_default=False)


PLAIN = Parameter(show_default=False)
Flag: TypeAlias = Annotated[bool, Parameter(negative=(), show_default=False)]
Text: TypeAlias = Annotated[str, PLAIN]
Texts: TypeAlias = Annotated[tuple[str, ...], several()]
Track: TypeAlias = Annotated[TrackerName | None, PLAIN]
Tests: TypeAlias = Annotated[tuple[str, ...], several("--test")]


@Parameter(name="*")
@dataclass(frozen=True)
class Settings:
    """Where the settings of a command come from; later ones here win."""

    model: str | None = None
    """Folder, GGUF file or hub id of the model."""
    config: Path | None = None
    """TOML file with settings, as `neuron-opsd config` prints them."""
    assignments: Annotated[tuple[str, ...], several("--set")] = ()
    """One or more `section.field=value`; overrides the file."""
    preset: Literal["equal", "paper"] | None = None
    """`equal` (default): one budget; `paper`: as in the method's paper or code."""
    seed: int | None = None
    """Seed of every random draw."""
    formats: Annotated[tuple[str, ...], several("--format")] = ()
    """How to read question files: NAME for all, or pool=NAME, or TEST=NAME."""


@Parameter(name="*")
@dataclass(frozen=True)
class Output:
    """How a command says what it does and what came out."""

    json: Flag = False
    """Print the result as one JSON document."""
    quiet: Flag = False
    """Hide progress, but not warnings and errors."""


DEFAULT_SETTINGS = Settings()
DEFAULT_OUTPUT = Output()


@contextmanager
def opened(
    output: Output, config: Config | None = None, *, online: bool = False
) -> Iterator[Terminal]:
    """Open the terminal, and prepare the libraries imported from here on.

    They stay offline unless the command is `online` or settings allow it.
    """
    allowed = config is not None and config.model.allow_download
    prepare_libraries(allow_download=online or allowed)
    with open_terminal(quiet=output.quiet, json=output.json) as terminal:
        yield terminal


@contextmanager
def tracked(tracker: str | None, out: Path, terminal: Terminal) -> Iterator[Progress]:
    """Give a command's progress, which also feeds a tracker if one is named."""
    if tracker is None:
        yield terminal
        return
    from neuron_opsd.tracking.tracked import tracked as open_tracked

    with open_tracked(tracker, out, terminal) as progress:
        yield progress


def on_cluster(ray: str) -> dict[str, Any]:
    """Return the settings behind `--ray`."""
    return {"cluster": {"address": ray}} if ray else {}


def follow(config: Config) -> int:
    """Help rank 0 of several processes train; return the exit status."""
    from neuron_opsd.processes.stopping import STOPPING

    prepare_libraries(allow_download=config.model.allow_download)
    from neuron_opsd.runs.ranked import follow_run

    follow_run(config)
    return STOPPING.status if STOPPING.number else DONE


def keep_settings_file(out: Path, settings: Settings) -> None:
    """Refuse to overwrite the settings file."""
    from neuron_opsd.storage.folders import check_result_place

    if settings.config is not None:
        check_result_place(out, [settings.config])


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Drop values that were not given."""
    return {
        name: value
        for name, value in values.items()
        if value is not None and value is not False and value not in ((), {})
    }


def resolve(
    settings: Settings,
    above: dict[str, Any] | None = None,
    below: dict[str, Any] | None = None,
) -> Config:
    """Build a command's settings from its file, flags and own flags (`above`).

    All of them win over `below`.
    """
    # Imported late: pydantic alone takes a third of the time of a help page.
    from neuron_opsd.config.tables import config_from_table, load_config, merge
    from neuron_opsd.storage.status import settings_fault

    config = load_config(settings.config, settings.assignments, below)
    if settings.config is not None and (fault := settings_fault(settings.config)):
        complain(f"warning: {settings.config} {fault}; it is used as it is")
    flags = {
        "model": given({"name": settings.model}),
        "preset": settings.preset,
        "seed": settings.seed,
        "questions": {"format": ",".join(settings.formats)} if settings.formats else {},
    }
    table = merge(config.model_dump(exclude_unset=True), above or {})
    return config_from_table(merge(table, given(flags)))


def resolve_with_model(
    settings: Settings,
    above: dict[str, Any] | None = None,
    below: dict[str, Any] | None = None,
) -> Config:
    """Build the settings of a command that needs a model."""
    config = resolve(settings, above, below)
    if not config.model.name:
        raise ConfigError(
            "no model is named; give --model with a folder, a GGUF file or a hub id, "
            "or set model.name"
        )
    return config


def read_named(specs: Sequence[str], flag: str = "--test") -> dict[str, str]:
    """Map names to files from `NAME=FILE`; a lone `FILE` is named after itself."""
    named: dict[str, str] = {}
    for spec in specs:
        name, equals, file = map(str.strip, spec.partition("="))
        if not equals:
            name, file = Path(spec).name.partition(".")[0].strip(), spec.strip()
        if not name or not file:
            raise ConfigError(
                f"{flag} is {spec!r}, but it must be NAME=FILE, for example "
                "exam=questions.jsonl"
            )
        if name in named:
            raise ConfigError(
                f"{flag} names {name!r} twice, for {named[name]} and {file}; "
                "give each set a name of its own"
            )
        named[name] = file
    return named


def need_tests(specs: Sequence[str]) -> dict[str, str]:
    """Read the test sets of a command that needs at least one."""
    tests = read_named(specs)
    if not tests:
        raise ConfigError(
            "no test set is given; add --test NAME=FILE, for example "
            "--test exam=questions.jsonl"
        )
    return tests
