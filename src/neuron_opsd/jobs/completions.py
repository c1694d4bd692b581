"""Neuron sets of texts that exist already: the `neurons` command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from neuron_opsd.config import Config
from neuron_opsd.errors import ConfigError, DataError, ModelError
from neuron_opsd.jobs.room import tell_of_room
from neuron_opsd.models.hf import HFModel
from neuron_opsd.models.load import load_model
from neuron_opsd.models.protocol import Pair
from neuron_opsd.progress import Progress
from neuron_opsd.records import NeuronSet
from neuron_opsd.stages.capture import capture_neurons
from neuron_opsd.world.codecs import NEURON_SCHEMA, groups, neuron_batch, save_table
from neuron_opsd.world.places import check_file_place

FIELDS = ("id", "prompt", "completion")
MAX_SHOWN = 20


def extract_neurons(
    completions: Path, out: Path, config: Config, progress: Progress
) -> int:
    """Write the neuron sets of completions to a Parquet file.

    Args:
        completions: JSON lines with `id`, `prompt` and `completion`; the prompt is
            rendered already, control tokens and all.
        out: Gets `id`, `neuron_count`, `neuron_ids`, `scores` and `num_tokens`.
        config: Model and rule.
        progress: Told of every completion.

    Returns:
        How many completions there were.

    Raises:
        NeuronOpsdError: For anything that the user can mend.
    """
    check_file_place(out)
    if config.neurons.span != "completion":
        raise ConfigError(
            f"neurons.span is {config.neurons.span}, but this command takes every "
            "completion whole; end the prompt where the span begins and the completion "
            "where it ends, or leave it at completion"
        )
    rows = read_completions(completions)
    model = load_model(config.model)
    tell_of_room(model, progress.warn)
    if model.facts.why_no_neurons:
        raise ModelError(model.facts.why_no_neurons)
    pairs = [encode(model, row, completions) for row in rows]
    size = config.rollouts.block_size
    sets: list[NeuronSet] = []
    with progress.stage("neurons", len(pairs), "completions") as done:
        for start in range(0, len(pairs), size):
            block = slice(start, start + size)
            sets += capture_neurons(
                model,
                [row["id"] for row in rows[block]],
                pairs[block],
                config.neurons,
                config.model.tokens_per_batch,
            )
            done(len(pairs[block]))
    write_sets(sets, out)
    return len(sets)


def read_completions(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a completions file.

    Raises:
        DataError: If it is missing, empty or has bad rows; all are named.
    """
    try:
        # Not splitlines: texts of models hold other line breaks than the file's own.
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise DataError(f"completions file {path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"completions {path} cannot be read: {error}") from None
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            problem = parse_row(line, rows)
            if problem:
                problems.append(f"{path.name}, line {number}: {problem}")
    problems += [f"{path.name}: {text}" for text in repeated(rows)]
    if problems:
        more = len(problems) - MAX_SHOWN
        tail = f"\nand {more} more" if more > 0 else ""
        raise DataError("\n".join(problems[:MAX_SHOWN]) + tail)
    if not rows:
        raise DataError(f"completions {path} holds no rows")
    return rows


def parse_row(line: str, rows: list[dict[str, Any]]) -> str | None:
    """Append a line's row; return what is wrong with it, if anything."""
    try:
        row = json.loads(line)
    except ValueError as error:
        return f"not JSON ({error})"
    if not isinstance(row, dict):
        return "not an object with id, prompt and completion"
    for field in FIELDS:
        if not isinstance(row.get(field), str):
            return f"{field} is {row.get(field)!r}, but it must be a text"
    if not row["prompt"] or not row["completion"]:
        return "prompt and completion must not be empty"
    rows.append(row)
    return None


def repeated(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Name every id that stands more than once."""
    seen: set[str] = set()
    for row in rows:
        if row["id"] in seen:
            yield f"the id {row['id']!r} stands more than once"
        seen.add(row["id"])


def encode(model: HFModel, row: dict[str, Any], path: Path) -> Pair:
    """Return a row's token ids.

    Raises:
        DataError: If the model cannot hold it.
    """
    prompt, completion = model.tokens.encode_rendered(row["prompt"], row["completion"])
    length = len(prompt) + len(completion)
    if length > model.facts.max_positions:
        raise DataError(
            f"{path.name}, id {row['id']}: {length} tokens, but the model holds "
            f"{model.facts.max_positions}; shorten the prompt"
        )
    return prompt, completion


def write_sets(sets: list[NeuronSet], out: Path) -> None:
    """Write neuron sets under the names that the command promises."""
    names = ["id", *NEURON_SCHEMA.names[1:]]
    schema = pa.schema(
        [
            field.with_name(name)
            for field, name in zip(NEURON_SCHEMA, names, strict=True)
        ]
    )
    tables = (neuron_batch(group).rename_columns(names) for group in groups(sets))
    save_table(tables, schema, out)
