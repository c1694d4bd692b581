"""Make the atlases of an analysis from run files and models, as page and JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import quote

from neuron_opsd.analysis.atlas.beside import (
    check_alike,
    drawn_ids,
    measure_movement,
    put_beside,
    rates_of,
)
from neuron_opsd.analysis.atlas.cards import asked_ids, choose, make_cards
from neuron_opsd.analysis.atlas.counting import count_pool, group_rows, layer_rows
from neuron_opsd.analysis.atlas.reading import (
    Reader,
    read_again,
    with_output,
    with_tokens,
)
from neuron_opsd.analysis.atlas.source import Source, read_texts, source_of
from neuron_opsd.analysis.cases import Findings
from neuron_opsd.analysis.columns import pool_columns
from neuron_opsd.analysis.inputs import assign_answers, read_run
from neuron_opsd.analysis.places import named_runs
from neuron_opsd.errors import ConfigError, ModelError
from neuron_opsd.progress import Progress
from neuron_opsd.records import Question
from neuron_opsd.report.atlas_page import render_atlas
from neuron_opsd.results.atlas import AtlasData
from neuron_opsd.runs.reporting import public_name
from neuron_opsd.storage.codecs import encode, save_json, without_nan
from neuron_opsd.storage.files import write_atomic
from neuron_opsd.storage.manifest import installed_versions

FOLDER: Final = "atlas"
"""Holds the pages, and what was computed for each."""
NUM_READ: Final = 256


@dataclass(frozen=True, slots=True)
class AtlasRequest:
    """What an atlas shows besides what the run's files hold."""

    pools: tuple[str, ...] = ()
    """Files of the pools, with or without answers, as `assign_answers` reads them."""
    against: Path | None = None
    """A run to compare each with."""
    neurons: tuple[str, ...] = ()
    """Neurons to show in any case, each as ``LAYER:NEURON`` from 0."""
    read_model: bool = False
    """Whether to load the run's model for what the files lack."""
    model: str = ""
    """Where the runs' model is, if it was moved."""
    num_read: int = NUM_READ
    """Maximum number of questions to read again under base and trained model."""


FILES_ALONE: Final = AtlasRequest()
"""The default: only what the files of a run hold."""


def make_atlas(
    source: Source, other: Findings | None, request: AtlasRequest, command: str
) -> AtlasData:
    """Make the atlas of one run from its files."""
    if other is not None:
        check_alike(source.run, other.run)
    asked = asked_ids(request.neurons, source.shape)
    counts = count_pool(source.found, source.shape)
    cards = make_cards(source.found, counts, source.texts, choose(counts, asked))
    config = source.run.config
    data = AtlasData(
        title=f"Neurons of {source.run.name}",
        run=source.run.name,
        model=public_name(source.run.model),
        num_layers=source.shape.num_layers,
        num_neurons=source.shape.num_neurons,
        num_tested=int((counts.pool > 0).sum()),
        num_strata=len(counts.holders),
        value=config.neurons.value,
        selection_rule=config.selection.rule,
        contexts_rule=config.contexts.rule,
        groups=group_rows(counts),
        layers=layer_rows(counts),
        cards=cards,
        with_texts=bool(source.texts),
        with_model=request.read_model,
        command=command,
        versions=installed_versions(),
        data_hashes={
            "pool": source.run.pool_hash,
            "neuron sets": source.place.hash_of("neurons"),
        },
    )
    if other is not None:
        beside, cards = put_beside(source, counts, other, cards)
        data = replace(data, beside=beside, cards=cards)
    return data


def with_model(data: AtlasData, reader: Reader, num_read: int) -> AtlasData:
    """Add what only the model knows."""
    source = reader.source
    cards = with_output(reader.model, data.cards)
    if not source.texts:
        reader.progress.warn(
            f"{source.run.name}: without its questions nothing can be read again, so "
            "no tokens and no sets after training are shown; name the file with "
            "--pool, or --answers"
        )
        return replace(
            data, cards=tuple(cards), why_not_moved="no questions were given"
        )
    cards = with_tokens(reader, cards)
    ids = drawn_ids(source, num_read)
    base, trained, reason = read_again(reader, ids)
    if reason:
        return replace(data, cards=tuple(cards), why_not_moved=reason)
    movement = measure_movement(source, base, trained)
    moved = tuple(
        replace(card, trained=rates_of(source.shape, card, movement)) for card in cards
    )
    return replace(data, cards=moved, moved=movement.told)


class AtlasWriter:
    """Writes each run's atlas as soon as it is analysed."""

    def __init__(
        self,
        request: AtlasRequest,
        names: tuple[str, ...],
        command: str,
        out: Path,
        progress: Progress,
    ) -> None:
        """Check the request, and read the run to compare with.

        Raises:
            ConfigError: If the request is impossible.
            DataError: If that run is not prepared.
        """
        if request.num_read < 2:
            raise ConfigError(
                f"--num-read is {request.num_read}, but it must be 2 or more, since "
                "sets are compared"
            )
        self.pages: dict[str, str] = {}
        """Run to page name, quoted for links."""
        self._request = request
        self._folder = out / FOLDER
        self._command = command
        self._progress = progress
        self._pools = assign_answers(request.pools, names, "--pool")
        self._other: Findings | None = None
        if request.against is not None:
            ((name, folder),) = named_runs([request.against]).items()
            run = read_run(name, folder, progress.warn)
            self._other = Findings(run, pool_columns(run, None), None, None)

    def add(self, found: Findings, folder: Path) -> None:
        """Write the atlas of a run whose model's shape is known."""
        name = found.run.name
        try:
            source = source_of(found, folder, self._texts(found), self._request.model)
        except ModelError as error:
            if self._request != FILES_ALONE:
                raise
            self._progress.warn(
                f"{name}: no page of single neurons, since the run's model is not "
                f"there to say how many it has ({error}); name it with --model"
            )
            return
        data = make_atlas(source, self._other, self._request, self._command)
        if self._request.read_model:
            reader = Reader.of(source, self._folder / name, self._progress)
            data = with_model(data, reader, self._request.num_read)
        self._write(data)

    def _texts(self, found: Findings) -> Mapping[str, Question]:
        """Return the questions of a run's pool, if any file gave them."""
        file = self._pools[found.run.name]
        if file is not None:
            return read_texts(found.run, file, self._progress.warn)
        return found.questions

    def _write(self, data: AtlasData) -> None:
        """Write one atlas as page and JSON."""
        page = self._folder / f"{data.run}.html"
        save_json(without_nan(data), page.with_name(f"{data.run}.json"))
        write_atomic(page, encode(render_atlas(data)))
        self.pages[data.run] = quote(page.name)
