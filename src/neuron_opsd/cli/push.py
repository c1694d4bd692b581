"""The command that publishes a finished run on the hub: push."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

import neuron_opsd as no
from neuron_opsd.cli import options
from neuron_opsd.cli.terminal import Terminal
from neuron_opsd.cli.text import size

if TYPE_CHECKING:
    from neuron_opsd.exporting.publication import Package

Text = Annotated[str, Parameter(show_default=False)]


@Parameter(name="*")
@dataclass(frozen=True)
class Said:
    """What the model card says besides what the run knows."""

    base_model: Text = ""
    """Hub id of the base, needed where the run had it in a folder."""
    pool_dataset: Text = ""
    """Hub id of the dataset that the pool is."""
    benchmarks: Annotated[tuple[str, ...], options.several("--benchmark")] = ()
    """Hub ids of test sets, as NAME=DATASET, or NAME=DATASET#TASK where the hub lists
    results of that task."""
    license: Text = ""
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

    Sends what was trained, the card, `evaluation.json` and results on benchmarks, in
    one commit; no question, answer or setting of the run. Everything is looked through
    for paths, names of users and machines, and keys, and nothing is sent where there
    are any.

    Args:
        run: Folder of a finished run.
        repo: Where to: OWNER/NAME.
        dry_run: Say what would be sent, and send nothing.
        private: Let only the owner see a new repository.
        update: Add a commit to a repository that exists.
        said: What the card says besides.
    """
    with options.opened(output, online=not dry_run) as terminal:
        found = no.prepare_push(
            run,
            repo,
            base_model=said.base_model,
            pool_dataset=said.pool_dataset,
            benchmarks=options.read_named(said.benchmarks, "--benchmark"),
            license=said.license,
        )
        address = "" if dry_run else no.push(found, private=private, update=update)
        show_package(terminal, found, address, as_json=output.json)


def show_package(
    terminal: Terminal, found: Package, address: str, *, as_json: bool
) -> None:
    """Show every file, and the card where nothing was sent."""
    if as_json:
        terminal.show_json(
            {
                "repo": found.repo,
                "base_model": found.base_model,
                "files": found.sizes(),
                "card": found.card,
                "commit": address or None,
            }
        )
        return
    for name, num_bytes in found.sizes().items():
        terminal.show(f"{found.repo}/{name}  {size(num_bytes)}")
    terminal.show()
    if address:
        terminal.show(address)
        return
    terminal.show(found.card)
    terminal.show("nothing was sent (--dry-run)")
