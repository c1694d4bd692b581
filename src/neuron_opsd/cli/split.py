"""The command that makes a pool and a test set from one labelled file: split."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import neuron_opsd as no
from neuron_opsd.cli import options

if TYPE_CHECKING:
    from neuron_opsd.cli.terminal import Terminal
    from neuron_opsd.data.splitting import SplitData


def split(  # noqa: PLR0913 - one argument per flag
    file: str,
    /,
    *,
    out: Path,
    test_share: float = 0.2,
    group: str = "",
    by: str = "",
    where: options.Texts = (),
    passage_words: int = 32,
    settings: options.Settings = options.DEFAULT_SETTINGS,
    output: options.Output = options.DEFAULT_OUTPUT,
) -> None:
    """Make an unlabelled pool and a labelled test set from one labelled file.

    The side of a question is drawn by a hash of its text, or of its group, with the
    seed. Questions of one text or one passage stay together, and none of the test
    nearly equals one of the pool.

    Args:
        file: Labelled questions, or the id of a dataset.
        out: New or empty folder for pool.jsonl, test.jsonl and split.json.
        test_share: Share that falls into the test, about.
        group: Column whose equal values stay on one side, such as a patient.
        by: Column for each of whose values there is a folder with a pool and a test.
        where: One or more `COLUMN=VALUE,VALUE`: take only such rows. A column within
            another is named with a dot, as in details.level=L1,L2.
        passage_words: Words in a row that make two questions share a passage; 0 looks
            for none.
    """
    config = options.resolve(settings)
    with options.opened(output, config) as terminal:
        data = no.split(
            file,
            out,
            config,
            terminal,
            test_share=test_share,
            group=group,
            by=by,
            where=where,
            passage_words=passage_words,
        )
        terminal.show_result(data, show_split)


def show_split(terminal: Terminal, data: SplitData) -> None:
    """Show how many questions each side has, and how to go on."""
    rows = [
        [part.name or "all", f"{part.num_pool:,}", f"{part.num_test:,}"]
        for part in data.parts
    ]
    terminal.show_table(["part", "pool", "test"], rows)
    terminal.show(
        f"{data.num_groups:,} groups, the largest of {data.largest_group:,} questions"
    )
    if len(data.parts) == 1:
        (part,) = data.parts
        terminal.show(f"--pool {part.pool} --test test={part.test}")
        return
    terminal.show(
        " ".join(["--source", *(f"{part.name}={part.pool}" for part in data.parts)]),
        " ".join(["--test", *(f"{part.name}={part.test}" for part in data.parts)]),
    )
