"""Kept verdicts on equal answers of a training or check, for the `latex` reader."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from neuron_opsd.answers.verifier import Verdict, shared_verifier, unsettled_text
from neuron_opsd.errors import TryAgainError
from neuron_opsd.runs.context import RunContext
from neuron_opsd.storage.integrity import fault_of
from neuron_opsd.storage.verdicts import verdicts_codec, verdicts_name

T = TypeVar("T")


def training_name(work: str) -> str:
    """Name a training's verdicts."""
    return f"{work}/verdicts"


def warn_of_unsettled(
    run: RunContext, source: str, verdicts: Sequence[Verdict]
) -> None:
    """Warn of unsettled comparisons."""
    if text := unsettled_text(verdicts):
        run.warn(f"{source}: {text}")


@contextmanager
def training_verdicts(
    run: RunContext, work: str, made_from: Sequence[str]
) -> Iterator[Callable[[], None]]:
    """Keep the verdicts of a training's votes, earlier processes included.

    Yields:
        A function that writes all current verdicts.
    """
    if not run.config.answers.may_leave_open:
        yield lambda: None
        return
    name = training_name(work)
    codec, verifier = verdicts_codec(name), shared_verifier()
    kept: Sequence[Verdict] = ()
    if run.directory.has(name, codec, made_from):
        kept = codec.load(run.path(codec.file_name))
    verifier.learn(kept)
    with verifier.noting() as notes:
        notes.update({(v.one, v.other): v for v in kept})

        def write() -> None:
            run.directory.write(name, codec, tuple(notes.values()), made_from)

        try:
            yield write
        except TryAgainError:
            write()  # verdicts can take hours
            raise
        write()
        warn_of_unsettled(run, work, tuple(notes.values()))


def noted(
    run: RunContext, source: str, made_from: Sequence[str], compute: Callable[[], T]
) -> T:
    """Compute an output, keeping its verdicts."""
    if not run.config.answers.may_leave_open:
        return compute()
    name = verdicts_name(source)
    with shared_verifier().noting() as notes:
        value = compute()
    run.directory.write(name, verdicts_codec(name), tuple(notes.values()), made_from)
    return value


def warn_as_kept(run: RunContext, source: str, name: str) -> None:
    """Warn of comparisons left unsettled by an output."""
    output = run.directory.manifest.outputs.get(name)
    if output is None:
        return
    path = run.path(output.file)
    if fault := fault_of(run.directory.folder, output):
        run.warn(
            f"{path} {fault}; it is no longer known which comparisons of {source} "
            "could not be settled"
        )
        return
    warn_of_unsettled(run, source, verdicts_codec(name).load(path))
