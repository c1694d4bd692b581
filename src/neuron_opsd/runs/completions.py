"""Neuron sets of existing texts: the `neurons` command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from neuron_opsd.config import Config, QuestionsConfig
from neuron_opsd.data.question_files import open_table
from neuron_opsd.data.rows import BadRowError, FileRow, Problems, shorten
from neuron_opsd.documents import is_half_pair
from neuron_opsd.errors import ConfigError, DataError, ModelError
from neuron_opsd.models.load import load_model
from neuron_opsd.models.roles import Tokenizer
from neuron_opsd.progress import Progress
from neuron_opsd.records import NeuronSet, Pair
from neuron_opsd.stages.capture import capture_pairs, first_tokens
from neuron_opsd.storage.caching import MEMORY, InChunks, Task
from neuron_opsd.storage.codecs import (
    NEURON_SCHEMA,
    NEURONS,
    groups,
    neuron_batch,
    save_table,
)
from neuron_opsd.storage.folders import check_result_place

FIELDS = ("id", "prompt", "completion")


@dataclass(frozen=True, slots=True)
class Written:
    """One row: a rendered prompt and its completion."""

    id: str
    prompt: str
    completion: str


def extract_neurons(
    completions: Path, out: Path, config: Config, progress: Progress
) -> int:
    """Write neuron sets of completions to a Parquet file."""
    check_result_place(out, (completions, Path(config.model.name)))
    if config.neurons.span != "completion":
        raise ConfigError(
            f"neurons.span is {config.neurons.span}, but this command always reads the "
            "whole completion; end the prompt where the span begins and the completion "
            "where it ends, or leave it at completion"
        )
    rows = read_completions(completions, config.questions)
    model = load_model(config.model)
    model.room.told = progress.warn
    if model.facts.why_no_neurons:
        raise ModelError(model.facts.why_no_neurons)
    named = []
    for row in rows:
        prompt, written = encode(model, row, completions)
        named.append((row.id, (prompt, first_tokens(written, config.neurons))))
    with progress.stage("neurons", len(named), "completions") as done:
        chunks = InChunks(named, config.rollouts.block_size, done)
        task = Task(model, partial(capture_pairs, config=config))
        sets = MEMORY.chunks("neurons", NEURONS, chunks, task)
    write_sets(sets, out)
    return len(sets)


def read_completions(path: Path, bounds: QuestionsConfig) -> list[Written]:
    """Read the rows of a completions file."""
    table = open_table(path, bounds, otherwise=".jsonl")
    rows: list[Written] = []
    problems = Problems(path.name)
    places: dict[str, str] = {}
    for number, row in enumerate(table.rows, 1):
        try:
            written = parse(row)
            first = places.setdefault(written.id, row.place)
            if first != row.place:
                raise BadRowError(f"has the id {shorten(written.id)} of {first}")
            rows.append(written)
        except BadRowError as error:
            problems.add(number, row.place, error)
    problems.tell()
    if not rows:
        raise DataError(f"completions {path} holds no rows")
    return rows


def parse(row: FileRow) -> Written:
    """Return the contents of a row."""
    if isinstance(row.values, BadRowError):
        raise row.values
    for field in FIELDS:
        found = row.values.get(field)
        if not isinstance(found, str) or not found:
            raise BadRowError(f"{field} is {shorten(found)}, but it must be a text")
        if is_half_pair(found):
            raise BadRowError(f"{field} holds half of a surrogate pair")
    return Written(*(row.values[field] for field in FIELDS))


def encode(model: Tokenizer, row: Written, path: Path) -> Pair:
    """Return the token ids of a row."""
    prompt, completion = model.encode_rendered(row.prompt, row.completion)
    length = len(prompt) + len(completion)
    if length > model.facts.max_positions:
        raise DataError(
            f"{path.name}, id {row.id}: {length} tokens, but the model holds "
            f"{model.facts.max_positions}; shorten the prompt"
        )
    return prompt, completion


def write_sets(sets: Sequence[NeuronSet], out: Path) -> None:
    """Write neuron sets with the command's column names."""
    schema = NEURON_SCHEMA.set(0, NEURON_SCHEMA.field(0).with_name("id"))
    batches = map(neuron_batch, groups(sets))
    save_table((one.rename_columns(schema.names) for one in batches), schema, out)
