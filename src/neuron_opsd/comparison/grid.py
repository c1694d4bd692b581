"""The `compare` command: methods, sources and seeds, cell by cell.

The same call resumes it: a run group is a run directory, and a cell with a result is
only read. Several processes may make the same call; each takes groups that no other
holds. Gold answers are read for testing, and for oracles on request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

from neuron_opsd import errors
from neuron_opsd.comparison import run_group
from neuron_opsd.comparison.comparison import (
    Cell,
    ComparisonContext,
    GroupKey,
    group_folder,
    group_keys,
    in_domain,
    settings_of,
)
from neuron_opsd.comparison.oracles import targets_of
from neuron_opsd.comparison.variants import with_budget
from neuron_opsd.config import Config
from neuron_opsd.methods import Oracle, Targets
from neuron_opsd.pipeline import centred
from neuron_opsd.progress import PassedOn, Progress
from neuron_opsd.results.comparison import BASE, FORM
from neuron_opsd.results.run import PROMPTED
from neuron_opsd.runs.context import RunContext
from neuron_opsd.runs.inputs import environment, run_settings
from neuron_opsd.storage.integrity import faults, files_in, is_read, quick_fault
from neuron_opsd.storage.manifest import json_sha256
from neuron_opsd.storage.run_directory import RunDirectory

GREEDY: Final = "greedy"
"""Manifest fact of a group: whether it generates greedy answers."""
NO_START: Final = (
    "there is no form-only model to start from, because its training failed"
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The results of a comparison so far."""

    results: Mapping[Cell, run_group.CellResult]
    failures: Mapping[Cell, str]
    """Why others have no result."""
    warnings: tuple[str, ...]


def fill(context: ComparisonContext) -> Outcome:
    """Train and test all that is missing; return all results.

    A method that fails, such as on a loss that is not finite, is left out and named. A
    group held by another process is skipped, and retried while there is other work.

    Raises:
        TryAgainError: If the disk is full, or other processes hold all that is left.
        ConfigError: If something was started with other settings.
    """
    keys = group_keys(context)
    parts: dict[GroupKey, Outcome] = {}
    while left := [key for key in keys if key not in parts]:
        for key in left:
            with suppress(errors.InUseError):
                parts[key] = fill_group(context, key, parts)
        if not parts.keys() & left:
            raise errors.InUseError(
                "other processes are working on all that is left of "
                f"{context.comparison.out}: {', '.join(map(group_name, left))}; run "
                "the same command again when they have finished, and it writes the page"
            )
    return joined([parts[key] for key in keys])


def joined(parts: Sequence[Outcome]) -> Outcome:
    """Join the parts of a comparison, naming the models of each warning."""
    results = {cell: one for part in parts for cell, one in part.results.items()}
    warnings = [text for part in parts for text in part.warnings]
    warned: dict[tuple[str, str], list[str]] = {}
    for cell, result in results.items():
        for text in result.warnings:
            group = group_name(cell.group)
            warned.setdefault((group, text), []).append(cell.method)
    warnings += [
        f"{group}, {', '.join(dict.fromkeys(methods))}: {text}"
        for (group, text), methods in warned.items()
    ]
    failures = {cell: why for part in parts for cell, why in part.failures.items()}
    return Outcome(results, failures, tuple(dict.fromkeys(warnings)))


def fill_group(
    context: ComparisonContext, key: GroupKey, parts: Mapping[GroupKey, Outcome]
) -> Outcome:
    """Train and test all methods of a group, or say why this is impossible."""
    seed, source, start = key
    if start == FORM:
        base = parts.get((seed, source, BASE))
        if base is None:
            raise errors.InUseError(
                f"the model that {source} seed {seed} starts from is in use"
            )
        if Cell(BASE, source, FORM, seed) not in base.results:
            names = [variant.name for variant in context.trained(seed, start)]
            lost = {Cell(start, source, name, seed): NO_START for name in names}
            return Outcome({}, lost, ())
    with opened(context, key) as group:
        greedy = draws_greedy(group.run.directory, settings_of(context))
        return filled(replace(group, greedy=greedy), context)


def draws_greedy(directory: RunDirectory, settings: Mapping[str, Config]) -> bool:
    """Return whether a group generates greedy answers: if any model shows them.

    Groups of earlier versions always have them.

    Raises:
        ConfigError: If a model added after the group began would need them.
    """
    shown = [n for n, own in settings.items() if own.contexts.answer == "greedy"]
    manifest = directory.manifest
    if not manifest.outputs and GREEDY not in manifest.facts:
        directory.note(GREEDY, bool(shown))
    drawn = bool(manifest.facts.get(GREEDY, True))
    if shown and not drawn:
        raise errors.ConfigError(
            f"{shown[0]} shows greedy answers (contexts.answer), but "
            f"{directory.folder} was started without any, as no method asked for them "
            "then; write NAME=METHOD:contexts.answer=first in --methods, or choose "
            "another --out"
        )
    return drawn


def filled(group: run_group.RunGroup, context: ComparisonContext) -> Outcome:
    """Train and test all methods of a group; return the outcome."""
    config = centred(group.run.work, context.model, group.pool).config
    run = replace(group.run, config=config)
    group = replace(group, run=run)
    results: dict[Cell, run_group.CellResult] = {}
    failures: dict[Cell, str] = {}
    warnings = tuple(run.directory.warnings)
    start = run_group.StartModel(context.model, run, group.adapters)
    first = run_group.measure_start(group, start)
    # In the tables, the model a warm start begins from is the form-only one.
    if group.start == BASE:
        results[Cell(BASE, group.source, BASE, config.seed)] = first
    for name, work in works(group, start, context).items():
        cell = Cell(group.start, group.source, name, config.seed)
        try:
            results[cell] = work()
        except (errors.TryAgainError, errors.ConfigError):
            raise
        except errors.NeuronOpsdError as error:
            failures[cell] = str(error)
            run.progress.warn(f"{name} is left out: {error}")
    # What results depend on is intact by now, or was remade.
    folder, manifest = run.directory.folder, run.directory.manifest
    for fault in faults(folder, manifest, quick_fault).values():
        run.progress.warn(f"{fault}; no result depends on it")
    return Outcome(results, failures, warnings)


def works(
    group: run_group.RunGroup, start: run_group.StartModel, context: ComparisonContext
) -> dict[str, Callable[[], run_group.CellResult]]:
    """Return what makes each model of a group but the first."""
    found: dict[str, Callable[[], run_group.CellResult]] = {}
    if group.run.config.tests_prompted:
        found[PROMPTED] = partial(run_group.measure_prompted, group, start)
    for variant in context.trained(group.run.config.seed, group.start):
        found[variant.name] = partial(run_group.train_variant, group, variant, start)
    return found


def group_name(key: GroupKey) -> str:
    """Name a group in messages."""
    seed, source, start = key
    begun = "" if start == BASE else f" from {start}"
    return f"{source} seed {seed}{begun}"


@contextmanager
def opened(context: ComparisonContext, key: GroupKey) -> Iterator[run_group.RunGroup]:
    """Open a new or started group."""
    seed, source, start = key
    comparison, inputs = context.comparison, context.inputs[source]
    config = in_domain(context.config, source).model_copy(update={"seed": seed})
    hashes = {**inputs.hashes, "model": context.model_hash}
    adapters: tuple[Path, ...] = ()
    if start == FORM:
        folder = group_folder(comparison, (seed, source, BASE))
        adapters = (folder / run_group.cell_folder(FORM) / "adapter",)
        hashes["start"] = repr(form_adapter(adapters[0]))
    progress = Prefixed(context.progress, group_name(key))
    with RunDirectory.open(
        group_folder(comparison, key),
        run_settings(with_budget(config)),
        hashes,
        environment=environment(config.model),
        warn=progress.warn,
    ) as directory:
        for remark in context.remarks:
            directory.warn(remark)
        run = RunContext(directory, config, progress)
        targets: Targets = {}
        if any(issubclass(one.trained, Oracle) for one in comparison.variants):
            targets = targets_of(comparison.sources[source], inputs.pool, config)
            told = {name: asdict(target) for name, target in targets.items()}
            directory.integrity.add_source(run_group.GOLD, json_sha256(told))
        yield run_group.RunGroup(
            run,
            source,
            start,
            inputs.pool,
            inputs.tests,
            comparison.shown_steps,
            adapters,
            targets,
            chooses=context.chooses,
        )


def form_adapter(folder: Path) -> dict[str, str]:
    """Return the hashes of the adapter that a group starts from."""
    if not folder.is_dir():
        raise errors.DataError(
            f"there is no form-only model at {folder} to start from, though it was "
            "trained; put the folder back, or choose another --out"
        )
    return {name: found for name, found in files_in(folder).items() if is_read(name)}


@dataclass(frozen=True, slots=True)
class Prefixed(PassedOn):
    """Progress that names each stage's group and repeats no warning."""

    progress: Progress
    prefix: str
    said: set[str] = field(default_factory=set)

    def called(self, stage: str) -> str:
        """Prefix a stage with its group."""
        return f"{self.prefix}, {stage}"

    def warn(self, text: str) -> None:
        """Pass on a new warning."""
        if text not in self.said:
            self.said.add(text)
            self.progress.warn(f"{self.prefix}: {text}")
