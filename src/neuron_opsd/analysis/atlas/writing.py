"""The atlases of an analysis as files: a page and a JSON for each run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote

from neuron_opsd.analysis.atlas.making import (
    FILES_ALONE,
    AtlasRequest,
    Called,
    make_atlas,
)
from neuron_opsd.analysis.atlas.source import Source, read_texts, source_of
from neuron_opsd.analysis.cases import Findings
from neuron_opsd.analysis.columns import pool_columns
from neuron_opsd.analysis.inputs import (
    assign_answers,
    named_runs,
    read_run,
)
from neuron_opsd.errors import ModelError
from neuron_opsd.progress import Progress
from neuron_opsd.records import Question
from neuron_opsd.report.atlas_page import render_atlas
from neuron_opsd.results.atlas import AtlasData
from neuron_opsd.storage.codecs import encode, save_json, without_nan
from neuron_opsd.storage.files import write_atomic

FOLDER: Final = "atlas"
"""Of the pages, in that of the analysis; what was computed for one is beside it."""


class AtlasWriter:
    """Writes the atlas of each run of an analysis as soon as the run was looked at."""

    def __init__(
        self, request: AtlasRequest, command: str, out: Path, progress: Progress
    ) -> None:
        """Write into a folder; nothing is read yet."""
        self.request = request
        self.folder = out / FOLDER
        self.pages: dict[str, str] = {}
        """By the run's name, as links spell them."""
        self._command = command
        self._progress = progress
        self._pools: Mapping[str, str | None] = {}
        self._other: Findings | None = None

    def begin(self, names: tuple[str, ...]) -> None:
        """Check what was asked for, and read the run that stands beside the others.

        Raises:
            ConfigError: If it cannot be.
            DataError: If that run is not prepared.
        """
        self.request.check()
        self._pools = assign_answers(self.request.pools, names, "--pool")
        if self.request.against is not None:
            ((name, folder),) = named_runs([self.request.against]).items()
            run = read_run(name, folder, self._progress.warn)
            self._other = Findings(run, pool_columns(run, None), None, None)

    def add(self, found: Findings, folder: Path) -> None:
        """Write the atlas of a run, where its model is there to say what a neuron is.

        Raises:
            NeuronOpsdError: For anything that the user can mend.
        """
        name = found.run.name
        try:
            source = source_of(found, folder, self._texts(found), self.request.model)
        except ModelError as error:
            if self.request != FILES_ALONE:
                raise
            self._progress.warn(
                f"{name}: no page of single neurons, since the run's model is not "
                f"there to say how many it has ({error}); name it with --model"
            )
            return
        called = Called(self._command, self.folder / name, self._progress)
        self._write(make_atlas(source, self._beside(source), self.request, called))

    def _texts(self, found: Findings) -> Mapping[str, Question]:
        """Return the questions of a run's pool, none where no file was given."""
        file = self._pools[found.run.name]
        if file is not None:
            return read_texts(found.run, file, self._progress.warn)
        if found.labels is None:
            return {}
        return {question.id: question for question in found.labels.questions}

    def _beside(self, source: Source) -> Source | None:
        """Return the run that stands beside one."""
        if self._other is None or self.request.against is None:
            return None
        return Source(
            self._other,
            self.request.against,
            source.place,
            source.config,
            source.shape,
            texts={},
        )

    def _write(self, data: AtlasData) -> None:
        """Write the page and the JSON of one atlas."""
        page = self.folder / f"{data.run}.html"
        save_json(without_nan(data), page.with_name(f"{data.run}.json"))
        write_atomic(page, encode(render_atlas(data)))
        self.pages[data.run] = quote(page.name)
