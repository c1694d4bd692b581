"""The commands that export or publish a finished run: export, push."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

import neuron_opsd as no
from neuron_opsd.cli import options
from neuron_opsd.cli.terminal import Terminal
from neuron_opsd.cli.text import size
from neuron_opsd.errors import ConfigError
from neuron_opsd.exporting.targets import TARGETS

if TYPE_CHECKING:
    from neuron_opsd.exporting.export import Exported
    from neuron_opsd.exporting.publication import Package


@Parameter(name="*")
@dataclass(frozen=True)
class Given:
    """What some targets need besides the run."""

    dtype: Literal["base", "float32", "bfloat16", "float16"] = "base"
    """Type of the weights in `merged` and `gguf`; `base` keeps that of the base."""
    base: options.Text = ""
    """Folder or hub id of the base, if it has moved since the run."""
    pool: options.Text = ""
    """The run's pool, as a file or dataset."""
    tests: options.Tests = ()
    """The run's test sets, as NAME=FILE."""
    name: options.Text = ""
    """Name of the model on servers; default: the name of the run's folder."""


NOTHING_GIVEN = Given()


def export(
    run: Path | None = None,
    /,
    *,
    to: options.Text = "",
    out: Path | None = None,
    given: Given = NOTHING_GIVEN,
    output: options.Output = options.DEFAULT_OUTPUT,
) -> None:
    """Turn a finished run into files for another program.

    Without arguments it lists the targets. The folder is written completely or not at
    all; nothing is overwritten or downloaded.

    Args:
        run: Folder of a finished run.
        to: Name of a target.
        out: A new or empty folder.
        given: What some targets need besides.
    """
    with options.opened(output) as terminal:
        if run is None:
            show_targets(terminal)
            return
        if out is None:
            raise ConfigError("--out is missing; name a new or empty folder")
        choices = vars(given) | {"tests": options.read_named(given.tests)}
        found = no.export(run, to, out, terminal, **choices)
        show_exported(terminal, found)


def show_targets(terminal: Terminal) -> None:
    """List the export targets."""
    targets = {target.name: target.summary for target in TARGETS.values()}
    if terminal.json:
        terminal.show_json(targets)
        return
    rows = [[name, summary] for name, summary in targets.items()]
    terminal.show_table(["target", "what it writes"], rows)


def show_exported(terminal: Terminal, found: Exported) -> None:
    """Show what was written and how to use it."""
    if terminal.json:
        terminal.show_json(
            {
                "to": found.to,
                "out": found.out.resolve(),
                "files": found.files,
                "facts": found.facts,
                "next_steps": found.next_steps,
            }
        )
        return
    for name, num_bytes in found.files.items():
        terminal.show(f"{found.out / name}  {size(num_bytes)}")
    terminal.show("", *found.next_steps)


@Parameter(name="*")
@dataclass(frozen=True)
class Said:
    """What the model card says besides what the run knows."""

    base_model: options.Text = ""
    """Hub id of the base, needed if the run loaded it from a folder."""
    pool_dataset: options.Text = ""
    """Hub id of the pool's dataset."""
    benchmarks: Annotated[tuple[str, ...], options.several("--benchmark")] = ()
    """Hub ids of test sets, as NAME=DATASET, or NAME=DATASET#TASK if the hub lists
    results of that task."""
    license: options.Text = ""
    """Licence of what was trained, as the hub calls it, such as apache-2.0."""


NOTHING_SAID = Said()


def push(  # noqa: PLR0913 - one argument per flag
    run: Path,
    repo: str,
    /,
    *,
    dry_run: options.Flag = False,
    private: options.Flag = False,
    update: options.Flag = False,
    said: Said = NOTHING_SAID,
    output: options.Output = options.DEFAULT_OUTPUT,
) -> None:
    """Publish what a run trained on the Hugging Face hub, with a model card.

    Sends what was trained, the card, `evaluation.json` and benchmark results in one
    commit, but no question, answer or setting of the run. All of it is searched for
    paths, user and machine names, and keys; if any is found, nothing is sent.

    Args:
        run: Folder of a finished run.
        repo: The repository, OWNER/NAME.
        dry_run: Say what would be sent, and send nothing.
        private: Let only the owner see a new repository.
        update: Add a commit to a repository that exists.
        said: What the card says besides.
    """
    with options.opened(output, online=not dry_run) as terminal:
        benchmarks = options.read_named(said.benchmarks, "--benchmark")
        found = no.prepare_push(run, repo, **vars(said) | {"benchmarks": benchmarks})
        address = "" if dry_run else no.push(found, private=private, update=update)
        show_package(terminal, found, address)


def show_package(terminal: Terminal, found: Package, address: str) -> None:
    """Show every file, and the card if nothing was sent."""
    files = found.sizes()
    if terminal.json:
        terminal.show_json(
            {
                "repo": found.repo,
                "base_model": found.base_model,
                "files": files,
                "card": found.card,
                "commit": address or None,
            }
        )
        return
    for name, num_bytes in files.items():
        terminal.show(f"{found.repo}/{name}  {size(num_bytes)}")
    sent = [address] if address else [found.card, "nothing was sent (--dry-run)"]
    terminal.show("", *sent)
