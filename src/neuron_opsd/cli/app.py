"""The commands put together, and how whatever happens becomes an exit status."""

from __future__ import annotations

import errno
import os
import shlex
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import metadata
from typing import TextIO

from cyclopts import App, CycloptsError

from neuron_opsd.cli import analyse, compare, look, prepare, read, settings, work
from neuron_opsd.cli.environment import COMMAND_LINE, debugging
from neuron_opsd.cli.mistakes import explain_mistake
from neuron_opsd.cli.terminal import PROGRAM, complain, open_streams
from neuron_opsd.errors import NeuronOpsdError, TryAgainError
from neuron_opsd.stopping import RESUMES, STOPPING

DONE = 0
MISTAKE = 2
TRY_AGAIN = TryAgainError.exit_status
BROKEN_PIPE = 128 + 13

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

NO_MEMORY = "can't allocate memory"
"""What PyTorch says on a processor; on a GPU the error has a type of its own."""

OUT_OF_MEMORY = (
    "memory ran out; lower distill.micro_batch_size where it was in training, "
    "model.tokens_per_batch elsewhere, or take a smaller model; `neuron-opsd plan` "
    "says how much a run holds"
)


def build_app() -> App:
    """Return the parser of all commands."""
    app = App(
        name=PROGRAM,
        help="Improve a language model in one domain from unlabelled questions "
        "alone, and measure what it did.",
        version=version,
        suppress_keyboard_interrupt=False,
        help_format="plaintext",
    )
    commands: tuple[Callable[..., int | None], ...] = (
        work.run,
        work.demo,
        work.evaluate,
        compare.compare,
        compare.methods,
        analyse.analyse,
        prepare.fetch,
        prepare.preview,
        read.read,
        settings.plan,
        prepare.neurons,
        look.status,
        look.report,
        settings.config,
        settings.doctor,
    )
    for place, command in enumerate(commands):
        app.command(command, sort_key=place)
    return app


def version() -> str:
    """Return the version of the installed package."""
    try:
        return metadata.version(PROGRAM)
    except metadata.PackageNotFoundError:
        return "0+unknown"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status.

    Args:
        argv: The arguments; those of the process when left out.

    Returns:
        0 done, 2 a user's mistake, 75 try again, from 129 on stopped by a signal.
    """
    open_streams()
    tokens = list(sys.argv[1:] if argv is None else argv)
    typed = COMMAND_LINE.set(shlex.join([PROGRAM, *tokens]))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return run_command(tokens)
    except (NeuronOpsdError, KeyboardInterrupt, OSError, RuntimeError) as error:
        return explain_end(error)
    finally:
        COMMAND_LINE.reset(typed)


def run_command(tokens: Sequence[str]) -> int:
    """Parse the arguments and run what they ask for."""
    try:
        status = build_app()(
            tokens,
            exit_on_error=False,
            print_error=False,
            verbose=False,
            result_action="return_value",
        )
    except CycloptsError as error:
        complain(explain_mistake(error))
        return MISTAKE
    # Flushed here, where a reader that went away is still handled.
    sys.stdout.flush()
    return status if isinstance(status, int) else DONE


def explain_end(error: BaseException) -> int:
    """Say in a line why a command ended, and return the exit status.

    Raises:
        OSError: If it is neither a full disk nor a closed pipe.
        RuntimeError: If it is not that memory ran out.
    """
    if isinstance(error, OSError) and STOPPING.number:
        return explain_stop()  # what failed was to tidy up a terminal that is gone
    if isinstance(error, BrokenPipeError):
        leave_pipe(sys.stdout)
        return BROKEN_PIPE
    if debugging():
        traceback.print_exception(error)
    if isinstance(error, KeyboardInterrupt):
        return explain_stop()
    if isinstance(error, NeuronOpsdError):
        complain(str(error))
        return error.exit_status
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        where = f" for {error.filename}" if error.filename else ""
        complain(f"no space is left on the disk{where}; make room and try again")
        return TRY_AGAIN
    if type(error).__name__ == "OutOfMemoryError" or NO_MEMORY in str(error):
        complain(OUT_OF_MEMORY)
        return MISTAKE
    raise error


def explain_stop() -> int:
    """Say that a signal stopped the command, to whoever is still there."""
    try:
        complain(RESUMES)
    except OSError:
        leave_pipe(sys.stdout)
        leave_pipe(sys.stderr)
    return STOPPING.status


def leave_pipe(stream: TextIO) -> None:
    """Point a stream elsewhere, so that closing it at exit does not complain."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
