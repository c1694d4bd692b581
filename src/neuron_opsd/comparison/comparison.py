"""What a comparison compares, and the checks before any work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import TypeAlias

from neuron_opsd.comparison.variants import (
    Variant,
    check_resolved,
    check_variants,
    choosing,
    config_of,
    prompted,
    variants_for,
    with_form,
)
from neuron_opsd.config import Config
from neuron_opsd.errors import ConfigError
from neuron_opsd.models.load import load_tokenizer
from neuron_opsd.models.roles import LanguageModel
from neuron_opsd.progress import Progress
from neuron_opsd.results.comparison import BASE, FORM, SUMMARIES
from neuron_opsd.results.run import PROMPTED
from neuron_opsd.runs.context import remarks, resolve
from neuron_opsd.runs.fingerprint import model_fingerprint
from neuron_opsd.runs.inputs import Inputs, check_names, read_inputs
from neuron_opsd.runs.machines import THIS_MACHINE, Machines
from neuron_opsd.runs.model_checks import check_questions
from neuron_opsd.storage.folders import BLOCKS, is_run
from neuron_opsd.storage.manifest import MANIFEST, Output, read_manifest

MOST_SEEDS = 1000
"""More trainings of one method would show nothing more."""

GroupKey: TypeAlias = tuple[int, str, str]
"""Seed, source and start."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is compared on what."""

    sources: Mapping[str, str]
    """Name to file of unlabelled questions; a test set has the same name."""
    tests: Mapping[str, str]
    """Test set name to file."""
    variants: tuple[Variant, ...]
    num_seeds: int
    starts: tuple[str, ...]
    """Where training begins: `BASE`, `FORM`, or both."""
    out: Path
    shown_steps: tuple[int, ...] = ()
    """Steps tested besides the last."""
    oracle: bool = False
    command: str = ""

    def seeds(self, config: Config) -> tuple[int, ...]:
        """Return the training seeds."""
        return tuple(config.seed + k for k in range(self.num_seeds))

    @property
    def group_starts(self) -> tuple[str, ...]:
        """Starts that have a group: always the base's, which comes first."""
        return (BASE, FORM) if FORM in self.starts else (BASE,)

    def trained_from(self, start: str) -> tuple[Variant, ...]:
        """Return what is trained from a start.

        The form-only control is always trained from the base.
        """
        form, *others = with_form(self.variants)
        own = tuple(others) if start in self.starts else ()
        return (form, *own) if start == BASE else own


@dataclass(frozen=True, slots=True)
class Cell:
    """One model of a comparison."""

    start: str
    source: str
    method: str
    seed: int

    @property
    def group(self) -> GroupKey:
        """The group it belongs to."""
        return self.seed, self.source, self.start


@dataclass(frozen=True, slots=True)
class ComparisonContext:
    """What all groups of a comparison share."""

    comparison: Comparison
    config: Config
    """The user's shared settings, resolved for the model."""
    remarks: tuple[str, ...]
    """Notes for the user on how the model runs."""
    inputs: Mapping[str, Inputs]
    """By source."""
    model: LanguageModel
    model_hash: str
    progress: Progress

    @property
    def chooses(self) -> bool:
        """Whether any source has choices; methods are set alike for all sources."""
        return any(one.pool_chooses for one in self.inputs.values())

    def trained(self, seed: int, start: str) -> tuple[Variant, ...]:
        """Return what is trained from a start with one seed."""
        place = seed - self.config.seed
        found = self.comparison.trained_from(start)
        return tuple(one for one in found if not one.seeds or place < one.seeds)


def is_comparison(folder: Path) -> bool:
    """Recognise an earlier version's comparison in an unmarked folder."""
    groups = (folder / BLOCKS).glob("*/*/*")
    return any(is_run(group) for group in groups if group.is_dir())


def set_up(
    comparison: Comparison,
    config: Config,
    progress: Progress,
    machines: Machines = THIS_MACHINE,
) -> ComparisonContext:
    """Read and check everything before any work."""
    check(comparison)
    warn = cache(progress.warn)  # once each, as tests are read repeatedly
    inputs = {}
    showing = [config_of(variant, config) for variant in comparison.variants]
    for source, file in comparison.sources.items():
        tests = {source: comparison.tests[source], **comparison.tests}
        own = in_domain(config, source)
        inputs[source] = read_inputs(file, tests, own, warn, showing)
    for variant, own in zip(comparison.variants, showing, strict=True):
        check_steps(variant, own, comparison.shown_steps)
    check_resolved(comparison.variants, config, progress.warn)
    tokenizer = load_tokenizer(config.model)
    facts = tokenizer.facts
    variants = variants_for(comparison.variants, config, facts, progress.warn)
    begun = sorted(comparison.out.glob(f"{BLOCKS}/*/*/*"))
    chooses = any(one.chooses for one in inputs.values())
    resolved = resolve(config, tokenizer, begun, chooses=chooses)
    for one in inputs.values():
        check_questions(tokenizer, one, resolved)
    if any(one.pool_chooses for one in inputs.values()):
        variants = choosing(variants, resolved)
    for variant in variants:
        machines.check_room(facts, config_of(variant, resolved))
    model = machines.load(resolved, tokenizer=tokenizer)
    return ComparisonContext(
        replace(comparison, variants=variants),
        resolved,
        remarks(model.facts, resolved, config),
        inputs,
        model,
        model_fingerprint(config.model),
        progress,
    )


def check(comparison: Comparison) -> None:
    """Refuse an impossible comparison."""
    if not comparison.sources:
        raise ConfigError(
            "no source is given; add --source NAME=FILE, for example "
            "--source science=pool.jsonl"
        )
    check_names(comparison.tests)
    for name in comparison.tests:
        if name in SUMMARIES:
            raise ConfigError(
                f"a test set cannot be named {name!r}, which the tables use for "
                "summaries; give it another name"
            )
    for source in comparison.sources:
        if source not in comparison.tests:
            raise ConfigError(
                f"the source {source} has no test set; add --test {source}=FILE with "
                "questions and answers of the same domain"
            )
    if not 1 <= comparison.num_seeds <= MOST_SEEDS:
        raise ConfigError(
            f"--seeds is {comparison.num_seeds}, but it must be 1 to {MOST_SEEDS}"
        )
    check_variants(comparison.variants, oracle=comparison.oracle)


def check_steps(variant: Variant, config: Config, shown: Sequence[int]) -> None:
    """Refuse to test a model after more steps than it trains for."""
    for step in shown:
        if not 0 < step <= config.distill.steps:
            raise ConfigError(
                f"--at has {step}, but {variant.name} is trained for "
                f"{config.distill.steps} steps; name steps from 1 to that"
            )


def in_domain(config: Config, source: str) -> Config:
    """Make a source's own test set the in-domain one."""
    return config.changed(evaluation={"in_domain": source})


def group_folder(comparison: Comparison, key: GroupKey) -> Path:
    """Return the run directory of a group."""
    seed, source, start = key
    return comparison.out / BLOCKS / source / f"seed-{seed}" / start


def group_outputs(comparison: Comparison, key: GroupKey) -> Mapping[str, Output]:
    """Return a group's outputs from its manifest; empty if not begun."""
    folder = group_folder(comparison, key)
    return read_manifest(folder).outputs if (folder / MANIFEST).is_file() else {}


def settings_of(context: ComparisonContext) -> dict[str, Config]:
    """Return the settings of every trained or prompted model."""
    config, variants = context.config, with_form(context.comparison.variants)
    found = {variant.name: config_of(variant, config) for variant in variants}
    if config.tests_prompted:
        facts = context.model.facts
        found[PROMPTED] = prompted(config, facts, chooses=context.chooses)
    return found


def group_keys(context: ComparisonContext) -> list[GroupKey]:
    """Return all groups in working order."""
    comparison = context.comparison
    seeds = comparison.seeds(context.config)
    return [*product(seeds, comparison.sources, comparison.group_starts)]


def cells_of(context: ComparisonContext) -> list[Cell]:
    """Return every model to train, in working order."""
    return [
        Cell(start, source, variant.name, seed)
        for seed, source, start in group_keys(context)
        for variant in context.trained(seed, start)
    ]
