"""Explain a wrong command line in one line, with the nearest name."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Literal, get_args, get_origin

from cyclopts import CoercionError, CycloptsError, exceptions

from neuron_opsd.cli.terminal import PROGRAM
from neuron_opsd.cli.text import one_line

KINDS = {int: "a whole number", float: "a number", bool: "given without a value"}


def explain_mistake(error: CycloptsError) -> str:
    """Say what is wrong, what is allowed and what to do."""
    command = " ".join([PROGRAM, *(error.command_chain or ())])
    if isinstance(error, exceptions.UnknownCommandError):
        return unknown_command(error)
    if isinstance(error, exceptions.UnknownOptionError):
        return unknown_option(error, command)
    if isinstance(error, exceptions.UnusedCliTokensError):
        extra = " ".join(error.unused_tokens or ())
        return f"{one_line(extra)!r} is not expected here; see {command} --help"
    if isinstance(error, exceptions.MissingArgumentError):
        return missing_argument(error, command)
    if isinstance(error, CoercionError) and error.token is not None:
        return unfit_value(error, command)
    text = " ".join(str(error).split()).rstrip(".")
    return f"{text[:1].lower()}{text[1:]}; see {command} --help"


def unknown_command(error: exceptions.UnknownCommandError) -> str:
    """Name the nearest command, or all of them."""
    word = (error.unused_tokens or [""])[0]
    if word.startswith("-"):
        return f"{PROGRAM} has no flag {one_line(word)}; see {PROGRAM} --help"
    known = () if error.app is None else error.app.resolved_commands()
    names = [name for name in known if not name.startswith("-")]
    hint = nearest(word, names) or f"there are {', '.join(names)}"
    return f"there is no command {one_line(word)}; {hint}"


def unknown_option(error: exceptions.UnknownOptionError, command: str) -> str:
    """Name the nearest flag, or the page that lists them."""
    word = (error.token.keyword or error.token.value).partition("=")[0]
    names = [name for argument in error.argument_collection for name in argument.names]
    hint = nearest(word, names) or f"see {command} --help"
    return f"{command} has no flag {one_line(word)}; {hint}"


def nearest(word: str, names: Sequence[str]) -> str:
    """Ask whether the nearest name was meant; empty if none is near."""
    near = difflib.get_close_matches(word, names, n=1)
    return f"did you mean {near[0]}?" if near else ""


def missing_argument(error: exceptions.MissingArgumentError, command: str) -> str:
    """Say what is missing or misspelt."""
    name = "an argument" if error.argument is None else error.argument.name
    if error.keyword or (error.argument is not None and error.argument.tokens):
        return f"{error.keyword or name} needs a value; see {command} --help"
    flags = [word for word in error.unused_tokens or () if word.startswith("--")]
    # Stricter than elsewhere: a misspelling of another flag must not be taken for this.
    near = difflib.get_close_matches(name, flags, n=1, cutoff=0.8)
    if near:
        return f"{command} has no flag {one_line(near[0])}; did you mean {name}?"
    return f"{name} is missing; see {command} --help"


def unfit_value(error: CoercionError, command: str) -> str:
    """Say which value is not allowed, and which are."""
    token, target = error.token, error.target_type
    value = "" if token is None else token.value
    keyword = None if token is None else token.keyword
    name = keyword or ("it" if error.argument is None else error.argument.name)
    said = f"{name} is {one_line(value)!r}, but it must be"
    if get_origin(target) is Literal:
        choices = [str(choice) for choice in get_args(target)]
        hint = nearest(value, choices)
        return f"{said} {' or '.join(choices)}{'; ' * bool(hint)}{hint}"
    kind = KINDS.get(target, "another") if target is not None else "another"
    return f"{said} {kind}; see {command} --help"
