"""Flags that several commands share, and how they become settings and test sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from cyclopts import Parameter

from neuron_opsd.cli.environment import prepare_libraries
from neuron_opsd.cli.exit_statuses import DONE
from neuron_opsd.cli.terminal import Terminal, complain, open_terminal
from neuron_opsd.errors import ConfigError
from neuron_opsd.tracking import TrackerName

if TYPE_CHECKING:
    from neuron_opsd.config import Config
    from neuron_opsd.progress import Progress

Flag: TypeAlias = Annotated[bool, Parameter(negative=(), show_default=False)]


def several(*names: str) -> Parameter:
    """Return a flag that may be given several times, with several values each time."""
    return Parameter(name=names, consume_multiple=True, negative=(), show_default=False)


Ray: TypeAlias = Annotated[str, Parameter(show_default=False)]

Track: TypeAlias = Annotated[TrackerName | None, Parameter(show_default=False)]

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
    """One or more `section.field=value`; stronger than the file."""
    preset: Literal["equal", "source"] | None = None
    """`source`: train as the method's paper or code does; else `equal`, one budget."""
    seed: int | None = None
    """Number from which every random draw derives."""
    formats: Annotated[tuple[str, ...], several("--format")] = ()
    """How to read question files: NAME for all, or pool=NAME, or TEST=NAME."""


@Parameter(name="*")
@dataclass(frozen=True)
class Output:
    """How a command says what it does and what came out."""

    json: Flag = False
    """Print the result as one JSON document."""
    quiet: Flag = False
    """Show no progress; warnings and errors still come."""


DEFAULT_SETTINGS = Settings()
DEFAULT_OUTPUT = Output()


@contextmanager
def opened(
    output: Output, config: Config | None = None, *, online: bool = False
) -> Iterator[Terminal]:
    """Open the terminal, and prepare the libraries that are imported from here on.

    They stay off the network unless the command is `online` or the settings allow it.
    """
    allowed = config is not None and config.model.allow_download
    prepare_libraries(allow_download=online or allowed)
    with open_terminal(quiet=output.quiet) as terminal:
        yield terminal


@contextmanager
def tracked(tracker: str | None, out: Path, terminal: Terminal) -> Iterator[Progress]:
    """Give the progress of a command, which tells a tracker too where one is named."""
    if tracker is None:
        yield terminal
        return
    from neuron_opsd.tracking.tracked import tracked as open_tracked

    with open_tracked(tracker, out, terminal) as progress:
        yield progress


def on_cluster(ray: str) -> dict[str, Any]:
    """Return the settings that `--ray` stands for."""
    return {"cluster": {"address": ray}} if ray else {}


def follow(config: Config) -> int:
    """Help rank 0 of several processes train; return the exit status."""
    from neuron_opsd.processes.stopping import STOPPING

    prepare_libraries(allow_download=config.model.allow_download)
    from neuron_opsd.runs.ranked import follow_run

    follow_run(config)
    return STOPPING.status if STOPPING.number else DONE


def keep_settings_file(out: Path, settings: Settings) -> None:
    """Refuse to write a result over the file that the settings come from."""
    from neuron_opsd.storage.folders import check_result_place

    if settings.config is not None:
        check_result_place(out, [settings.config])


def resolve(
    settings: Settings,
    above: dict[str, Any] | None = None,
    below: dict[str, Any] | None = None,
) -> Config:
    """Build the settings of a command from its file, flags and own flags (`above`).

    All of them win over what is `below`.
    """
    # Imported late: pydantic alone would take a third of the time of a help page.
    from neuron_opsd.config.tables import config_from_table, load_config, merge
    from neuron_opsd.storage.status import settings_fault

    config = load_config(settings.config, settings.assignments, below)
    if settings.config is not None and (fault := settings_fault(settings.config)):
        complain(f"warning: {settings.config} {fault}; it is used as it is")
    flags = {
        "model": {"name": settings.model} if settings.model is not None else {},
        "preset": settings.preset,
        "seed": settings.seed,
        "questions": {"format": ",".join(settings.formats)} if settings.formats else {},
    }
    given = {name: value for name, value in flags.items() if value not in (None, {})}
    table = merge(config.model_dump(exclude_unset=True), above or {})
    return config_from_table(merge(table, given))


def resolve_with_model(
    settings: Settings,
    above: dict[str, Any] | None = None,
    below: dict[str, Any] | None = None,
) -> Config:
    """Build the settings of a command that needs a model; one has to be named."""
    config = resolve(settings, above, below)
    if not config.model.name:
        raise ConfigError(
            "no model is named; give --model with a folder, a GGUF file or a hub id, "
            "or set model.name"
        )
    return config


def read_named(specs: Sequence[str], flag: str = "--test") -> dict[str, str]:
    """Read `NAME=FILE` into file by name; a lone `FILE` is named after itself."""
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
