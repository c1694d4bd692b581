"""The commands to ask before anything is spent: config, plan, doctor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from neuron_opsd.cli.environment import prepare_libraries
from neuron_opsd.cli.options import (
    DEFAULT_OUTPUT,
    DEFAULT_SETTINGS,
    Output,
    Settings,
    Tests,
    read_named,
    resolve,
    resolve_with_model,
)
from neuron_opsd.cli.terminal import Terminal, open_terminal
from neuron_opsd.cli.text import duration, size
from neuron_opsd.storage.cache import cache_folder

if TYPE_CHECKING:
    from neuron_opsd.planning.costs import Plan
    from neuron_opsd.planning.doctor import Check

UNFIT = 2
"""Exit status of `doctor` where something must be mended first."""


def config(
    *, settings: Settings = DEFAULT_SETTINGS, output: Output = DEFAULT_OUTPUT
) -> None:
    """Print every setting with its value and what it does, as a TOML file.

    What was neither given nor belongs to the method stands there as a comment.

    Args:
        settings: The settings of the run.
        output: How to say what came out.
    """
    from neuron_opsd.config.tables import to_toml

    resolved = resolve(settings)
    if "method" in resolved.model_fields_set:
        # Imported where it is needed: the methods bring PyTorch with them.
        from neuron_opsd.runs.resolution import with_method

        resolved = with_method(resolved)
    with open_terminal(quiet=output.quiet) as terminal:
        if output.json:
            terminal.show_json(resolved.model_dump())
        else:
            text = to_toml(resolved, comments=True, only_chosen=True)
            terminal.show_toml(text.rstrip())


def plan(
    *,
    pool: str,
    tests: Tests = (),
    settings: Settings = DEFAULT_SETTINGS,
    output: Output = DEFAULT_OUTPUT,
) -> None:
    """Estimate tokens, time, memory and disk of a run before anything is spent.

    Times small samples of the run's own stages on this machine and counts the rest.

    Args:
        pool: File with the unlabelled questions, or the id of a dataset.
        tests: Test sets, NAME=FILE each.
        settings: The settings of the run.
        output: How to say what came out.
    """
    resolved = resolve_with_model(settings)
    files = read_named(tests)
    prepare_libraries(allow_download=resolved.model.allow_download)
    from neuron_opsd.planning.estimate import estimate

    with open_terminal(quiet=output.quiet) as terminal:
        estimated = estimate(pool, files, resolved, terminal)
        if output.json:
            terminal.show_json(asdict(estimated) | {"seconds": estimated.seconds})
        else:
            show_plan(terminal, estimated)


def show_plan(terminal: Terminal, estimated: Plan) -> None:
    """Show one line per stage and the sums."""
    rows = [
        [
            stage.name,
            f"{stage.tokens:,}",
            duration(stage.seconds),
            f"{duration(stage.low)} to {duration(stage.high)}",
        ]
        for stage in estimated.stages
    ]
    terminal.show_table(["stage", "tokens", "time", "likely range"], rows)
    spread = f"{duration(estimated.low)} to {duration(estimated.high)}"
    terminal.show(f"time:   {duration(estimated.seconds)} ({spread})")
    memory = estimated.peak_memory_bytes
    held = f"{size(memory)} at most" if memory else "not told by this system"
    terminal.show(f"memory: {held}")
    terminal.show(f"disk:   {size(estimated.disk_bytes)}")


def doctor(*, out: Path = Path(), output: Output = DEFAULT_OUTPUT) -> int:
    """Check whether this machine is fit to run, and say how to mend what is not.

    Args:
        out: Where runs are to be written.
        output: How to say what came out.

    Returns:
        The exit status: 2 where something must be mended, else 0.
    """
    prepare_libraries(allow_download=False)
    from neuron_opsd.planning.doctor import diagnose

    with open_terminal(quiet=output.quiet) as terminal:
        checks = diagnose(cache_folder(), out)
        if output.json:
            terminal.show_json({"checks": [asdict(check) for check in checks]})
        else:
            show_checks(terminal, checks)
    return UNFIT if any(check.state == "fail" for check in checks) else 0


def show_checks(terminal: Terminal, checks: Sequence[Check]) -> None:
    """Show one line per check, with advice under those that are not well."""
    width = max(len(check.name) for check in checks)
    for check in checks:
        terminal.show(f"{check.state:<4}  {check.name:<{width}}  {check.value}")
        if check.advice:
            terminal.show(f"{'':<4}  {'':<{width}}  → {check.advice}")
