"""All commands put together, and how errors become exit statuses."""

from __future__ import annotations

import os
import shlex
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Literal, TextIO

from cyclopts import App, CycloptsError
from cyclopts.exceptions import MissingArgumentError
from rich.console import Console

from neuron_opsd import errors
from neuron_opsd.cli import (
    export,
    inspect,
    neurons,
    planning,
    probe,
    run,
    scoring,
)
from neuron_opsd.cli.exit_statuses import BROKEN_PIPE, DONE, MISTAKE, TRY_AGAIN
from neuron_opsd.cli.options import COMMAND_LINE
from neuron_opsd.cli.terminal import PROGRAM, complain, open_streams
from neuron_opsd.cli.usage_errors import explain_mistake
from neuron_opsd.processes.ranks import launched_rank
from neuron_opsd.processes.stopping import RESUMES, STOPPING
from neuron_opsd.storage.disk import LASTING, reason_of

OUT_OF_MEMORY = (
    "lower distill.micro_batch_size if it was in training, else "
    "model.tokens_per_batch, or take a smaller model; `neuron-opsd plan` says how much "
    "memory a run needs"
)

ENDS = (errors.NeuronOpsdError, KeyboardInterrupt, OSError, RuntimeError, MemoryError)
"""What may end a command; `RuntimeError` only if out of memory."""


def completion(shell: Literal["bash", "zsh", "fish"], /) -> None:
    """Print a script that completes commands, flags and their values in a shell.

    Save it where the shell looks for one, and open a new shell. For bash that is
    ~/.local/share/bash-completion/completions/neuron-opsd, for zsh a file _neuron-opsd
    in a folder of $fpath, for fish ~/.config/fish/completions/neuron-opsd.fish. Do
    so again after an update.

    Args:
        shell: Your shell.
    """
    sys.stdout.write(build_app().generate_completion(shell=shell))


POOL = "--model MODEL --pool questions.jsonl"
TEST = "--test exam=exam.jsonl"
COMMANDS: Final[Mapping[Callable[..., int | None], str]] = {
    run.run: f"{POOL} {TEST} --out runs/first",
    run.demo: "--quick",
    scoring.evaluate: f"--model MODEL {TEST} --adapter runs/first/adapter "
    "--out exam.json",
    run.compare: "--model MODEL --source law=law-pool.jsonl "
    "--test law=law.jsonl other=other.jsonl --out runs/compared",
    run.methods: "",
    neurons.analyse: "runs/first --answers labelled.jsonl --out runs/first-analysis",
    run.fetch: "demo",
    probe.probe: f"{POOL} --out runs/probed",
    planning.split: "labelled.csv --out questions",
    planning.preview: POOL,
    inspect.read: "outputs.jsonl --set answers.reader=number",
    planning.plan: f"{POOL} {TEST}",
    neurons.neurons: "--model MODEL --completions outputs.jsonl --out neurons.parquet",
    inspect.status: "runs/first",
    inspect.watch: "runs/first",
    inspect.report: "runs/first",
    export.export: "runs/first --to merged --out first-merged",
    scoring.forgetting: "runs/first --out first-forgetting --limit 500",
    export.push: "runs/first OWNER/NAME --base-model OWNER/BASE --dry-run",
    planning.config: "--set method=lmsi > settings.toml",
    planning.doctor: "",
    completion: "bash",
}
"""Every command in listing order, with arguments to try."""


def build_app() -> App:
    """Return the parser of all commands."""
    app = App(
        name=PROGRAM,
        help="Improve a language model in one domain from unlabelled questions "
        "alone, and measure what it did.",
        help_epilogue=f"Start with `{PROGRAM} demo --quick`. `{PROGRAM} COMMAND` says "
        "what a command needs.",
        version=version,
        suppress_keyboard_interrupt=False,
        help_format="plaintext",
    )
    for place, (command, arguments) in enumerate(COMMANDS.items()):
        typed = f"{PROGRAM} {command.__name__} {arguments}".rstrip()
        app.command(command, sort_key=place, help_epilogue=f"For example: {typed}")
    return app


def version() -> str:
    """Return the version of the installed package."""
    try:
        return metadata.version(PROGRAM)
    except metadata.PackageNotFoundError:
        return "0+unknown"


SHOWN_ONLY: Final = ("--quiet", "--json")
"""Flags that change only what is shown, so reports leave them out."""
TRACK: Final = "--track"
"""The same, but with a value."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command, by default this process's, and return the exit status.

    See `exit_statuses`.
    """
    open_streams()
    tokens = list(sys.argv[1:] if argv is None else argv)
    typed = COMMAND_LINE.set(shlex.join([PROGRAM, *making(tokens)]))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.filterwarnings("default", category=errors.RenamedSettingWarning)
            warnings.showwarning = partial(show_warning, warnings.showwarning)
            return run_command(tokens)
    except ENDS as error:
        return explain_end(error)
    finally:
        COMMAND_LINE.reset(typed)


def making(tokens: Sequence[str]) -> Iterator[str]:
    """Yield the arguments that change what is made."""
    for before, token in zip(("", *tokens), tokens, strict=False):
        if token in SHOWN_ONLY or TRACK in (before, token.partition("=")[0]):
            continue
        yield token


def show_warning(
    others: Callable[..., None],
    message: Warning | str,
    category: type[Warning],
    *place: Any,
) -> None:
    """Show our warnings in one line, others as Python does."""
    if issubclass(category, errors.RenamedSettingWarning):
        complain(f"warning: {message}")
    else:
        others(message, category, *place)


def refuse_lost_folder() -> None:
    """Refuse to work in a deleted folder, where libraries fail silently."""
    try:
        Path.cwd()
    except OSError as error:
        raise errors.ConfigError(
            f"the current folder cannot be found ({error.strerror}); change into "
            "another one, and run the same command again"
        ) from None


def refuse_several(tokens: Sequence[str]) -> None:
    """Refuse to be one of several processes doing the same."""
    command = next(iter(tokens), "")
    if command != run.run.__name__ and launched_rank() is not None:
        raise errors.ConfigError(
            f"torchrun or the like started several processes of {PROGRAM} {command}, "
            "and each would do all the work; only run trains with several; start one "
            "process"
        )


def run_command(tokens: Sequence[str]) -> int:
    """Parse the arguments and run the command."""
    refuse_lost_folder()
    refuse_several(tokens)
    app = build_app()
    try:
        status = app(
            tokens,
            exit_on_error=False,
            print_error=False,
            verbose=False,
            result_action="return_value",
        )
    except CycloptsError as error:
        if isinstance(error, MissingArgumentError) and len(tokens) == 1:
            app.help_print(tokens, console=Console(file=sys.stderr))
        complain(explain_mistake(error))
        return MISTAKE
    except errors.ConfigError:
        if len(tokens) == 1:
            app.help_print(tokens, console=Console(file=sys.stderr))
        raise
    # Flushed here, where a closed pipe is still handled.
    sys.stdout.flush()
    return status if isinstance(status, int) else DONE


def explain_end(error: BaseException) -> int:
    """Explain the end of a command in a line, and return its exit status."""
    if isinstance(error, OSError) and STOPPING.number:
        return explain_stop()  # what failed was to tidy up a terminal that is gone
    if isinstance(error, BrokenPipeError):
        leave_pipe(sys.stdout)
        return BROKEN_PIPE
    if os.environ.get("NEURON_OPSD_DEBUG", "") not in {"", "0"}:
        traceback.print_exception(error)
    if isinstance(error, KeyboardInterrupt):
        return explain_stop()
    if isinstance(error, errors.NeuronOpsdError):
        complain(str(error))
        return error.exit_status
    if isinstance(error, OSError):
        what = f"{error.filename}: " * bool(error.filename) + reason_of(error)
        complain(f"{what}; fix that and run the same command again")
        return MISTAKE if error.errno in LASTING else TRY_AGAIN
    if errors.is_out_of_memory(error):
        where = "".join(f" ({note})" for note in getattr(error, "__notes__", [])[:1])
        complain(f"memory ran out{where}; {OUT_OF_MEMORY}")
        return TRY_AGAIN
    raise error


def explain_stop() -> int:
    """Say that a signal stopped the command, if anyone listens."""
    try:
        complain(RESUMES)
    except OSError:
        leave_pipe(sys.stdout)
        leave_pipe(sys.stderr)
    return STOPPING.status


def leave_pipe(stream: TextIO) -> None:
    """Redirect a stream, so that closing it does not complain."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
