"""Methods, sources and seeds, one cell after another: the `compare` command.

Whatever stopped it, the same call goes on: a block is a run directory, and a cell whose
result is there is only read. Gold answers are read to test, and by oracles where the
user asked for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

from neuron_opsd.config import Config
from neuron_opsd.errors import (
    ConfigError,
    DataError,
    NeuronOpsdError,
    TryAgainError,
)
from neuron_opsd.jobs.block import (
    Block,
    CellResult,
    StartModel,
    cell_folder,
    measure_prompted,
    measure_start,
    train_variant,
)
from neuron_opsd.jobs.checks import check_questions
from neuron_opsd.jobs.inputs import (
    Inputs,
    environment,
    model_fingerprint,
    read_inputs,
    run_settings,
)
from neuron_opsd.jobs.oracles import targets_of
from neuron_opsd.jobs.setting import Job, settle
from neuron_opsd.jobs.training import fingerprint
from neuron_opsd.jobs.variants import (
    Variant,
    check_variants,
    config_of,
    shared_config,
    with_form,
)
from neuron_opsd.models.hf import HFModel
from neuron_opsd.models.load import load_model
from neuron_opsd.progress import Progress
from neuron_opsd.report.comparison_data import (
    BASE,
    CROSS_DOMAIN,
    FORM,
    IN_DOMAIN,
    SPECIFICITY,
    Failure,
)
from neuron_opsd.report.data import PROMPTED
from neuron_opsd.stages.methods import METHODS
from neuron_opsd.stages.methods.method import Targets
from neuron_opsd.world.store import RunDir

NO_START = "there is no form-only model to begin from, because its training failed"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is compared on what."""

    sources: Mapping[str, str]
    """Name to the file of its unlabelled questions; a test set has the same name."""
    tests: Mapping[str, str]
    """Name to file of every test set."""
    variants: tuple[Variant, ...]
    num_seeds: int
    starts: tuple[str, ...]
    """Where the variants' training begins: `BASE`, `FORM`, or both."""
    out: Path
    shown_steps: tuple[int, ...] = ()
    """Numbers of steps after which models are tested besides the end of training."""
    oracle: bool = False
    """Whether methods may be told gold answers."""
    command: str = ""

    def seeds(self, config: Config) -> tuple[int, ...]:
        """Return the seeds of its trainings."""
        return tuple(config.seed + k for k in range(self.num_seeds))

    @property
    def blocks(self) -> tuple[str, ...]:
        """Starts of which there is a block; the base's comes first and always."""
        return (BASE, FORM) if FORM in self.starts else (BASE,)

    def trained_from(self, start: str) -> tuple[Variant, ...]:
        """Return what is trained from a start.

        The form-only control is trained from the base, whatever else is.
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


@dataclass(frozen=True, slots=True)
class Outcome:
    """What there is of a comparison."""

    results: Mapping[Cell, CellResult]
    failures: tuple[Failure, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Setting:
    """What all blocks of a comparison share."""

    comparison: Comparison
    config: Config
    """Settled for the model, before any method has its say."""
    constrained: bool
    inputs: Mapping[str, Inputs]
    """By source."""
    model: HFModel
    model_hash: str
    progress: Progress


def set_up(comparison: Comparison, config: Config, progress: Progress) -> Setting:
    """Read and check everything before any work is done.

    Raises:
        NeuronOpsdError: For anything that the user can mend.
    """
    check(comparison)
    shared = shared_config(config)
    inputs = {
        source: read_inputs(
            file, in_domain_first(comparison.tests, source), in_domain(shared, source)
        )
        for source, file in comparison.sources.items()
    }
    for variant in comparison.variants:
        own = config_of(variant, shared)
        METHODS[variant.method].objective(own, {})
        check_steps(variant, own, comparison.shown_steps)
    model = load_model(shared.model)
    settled, constrained = settle(shared, model.facts)
    for one in inputs.values():
        check_questions(model, one, settled, constrained=constrained)
    return Setting(
        comparison,
        settled,
        constrained,
        inputs,
        model,
        model_fingerprint(shared.model),
        progress,
    )


def check(comparison: Comparison) -> None:
    """Refuse a comparison that cannot be.

    Raises:
        ConfigError: If there is no source, one has no test set of its own, a test set
            cannot have its name, a variant cannot be, or there is no seed.
    """
    if not comparison.sources:
        raise ConfigError(
            "no source is given; add --source NAME=FILE, for example "
            "--source science=pool.jsonl"
        )
    for name in comparison.tests:
        if name in (IN_DOMAIN, CROSS_DOMAIN, SPECIFICITY):
            raise ConfigError(
                f"a test set cannot be named {name!r}, which stands for what the "
                "tables sum up; give it another name"
            )
    for source in comparison.sources:
        if source not in comparison.tests:
            raise ConfigError(
                f"the source {source} has no test set; add --test {source}=FILE with "
                "questions and answers of the same domain"
            )
    if comparison.num_seeds < 1:
        raise ConfigError(
            f"--seeds is {comparison.num_seeds}, but it must be 1 or more"
        )
    check_variants(comparison.variants, oracle=comparison.oracle)


def check_steps(variant: Variant, config: Config, shown: Sequence[int]) -> None:
    """Refuse to test a model after more steps than it is trained for.

    Raises:
        ConfigError: If a number of steps lies outside the training.
    """
    for step in shown:
        if not 0 < step <= config.distill.steps:
            raise ConfigError(
                f"--at has {step}, but {variant.name} is trained for "
                f"{config.distill.steps} steps; name steps from 1 to that"
            )


def in_domain_first(tests: Mapping[str, str], source: str) -> dict[str, str]:
    """Return the test sets, the source's own first."""
    return {source: tests[source], **tests}


def in_domain(config: Config, source: str) -> Config:
    """Return settings that name a source's own test set."""
    evaluation = config.evaluation.model_copy(update={"in_domain": source})
    return config.model_copy(update={"evaluation": evaluation})


def fill(setting: Setting) -> Outcome:
    """Train and test all that is not there yet; return what there is.

    A method that fails, for example because its loss is no longer finite, is left out
    and named; the others go on.

    Raises:
        TryAgainError: If the disk is full or a folder is in use.
        ConfigError: If something was begun with other settings.
    """
    results: dict[Cell, CellResult] = {}
    failures: list[Failure] = []
    warnings: list[str] = []
    comparison = setting.comparison
    for seed, source, start in product(
        comparison.seeds(setting.config), comparison.sources, comparison.blocks
    ):
        if start == FORM and Cell(BASE, source, FORM, seed) not in results:
            failures += [
                Failure(start, source, variant.name, seed, NO_START)
                for variant in comparison.trained_from(start)
            ]
            continue
        with opened(setting, source, seed, start) as block:
            warnings += block.job.run.warnings
            fill_block(block, setting, results, failures)
    warnings += [
        f"{block_name(cell.source, cell.seed, cell.start)}, {cell.method}: {text}"
        for cell, result in results.items()
        for text in result.warnings
    ]
    return Outcome(results, tuple(failures), tuple(dict.fromkeys(warnings)))


def fill_block(
    block: Block,
    setting: Setting,
    results: dict[Cell, CellResult],
    failures: list[Failure],
) -> None:
    """Train and test all methods of a block; add what became of them."""
    seed = block.job.config.seed
    start = StartModel(setting.model, block.job.config, block.adapters)
    first = measure_start(block, start)
    # What a warm start begins from stands in the tables as the form-only model.
    if block.start == BASE:
        results[Cell(block.start, block.source, BASE, seed)] = first
    for name, work in works(block, start, setting.comparison).items():
        try:
            result = work()
        except (TryAgainError, ConfigError):
            raise
        except NeuronOpsdError as error:
            reason = str(error)
            failures.append(Failure(block.start, block.source, name, seed, reason))
            block.job.progress.warn(f"{name} is left out: {reason}")
            continue
        results[Cell(block.start, block.source, name, seed)] = result


def works(
    block: Block, start: StartModel, comparison: Comparison
) -> dict[str, Callable[[], CellResult]]:
    """Return what makes the result of every model of a block but the first."""
    config = block.job.config
    found: dict[str, Callable[[], CellResult]] = {}
    if config.evaluation.prompted and config.contexts.num_demonstrations:
        found[PROMPTED] = partial(measure_prompted, block, start)
    for variant in comparison.trained_from(block.start):
        found[variant.name] = partial(train_variant, block, variant, start)
    return found


def block_name(source: str, seed: int, start: str) -> str:
    """Return what a block is called in messages."""
    begun = "" if start == BASE else f" from {start}"
    return f"{source} seed {seed}{begun}"


def block_folder(comparison: Comparison, source: str, seed: int, start: str) -> Path:
    """Return the run directory of a block."""
    return comparison.out / "blocks" / source / f"seed-{seed}" / start


@contextmanager
def opened(setting: Setting, source: str, seed: int, start: str) -> Iterator[Block]:
    """Open a block, new or begun.

    Raises:
        DataError: If it begins from a form-only model that is not there.
    """
    comparison, inputs = setting.comparison, setting.inputs[source]
    config = in_domain(setting.config, source).model_copy(update={"seed": seed})
    hashes = {**inputs.hashes, "model": setting.model_hash}
    adapters: tuple[Path, ...] = ()
    if start == FORM:
        folder = block_folder(comparison, source, seed, BASE)
        adapters = (folder / cell_folder(FORM) / "adapter",)
        hashes["start"] = repr(form_adapter(adapters[0]))
    progress = Prefixed(setting.progress, block_name(source, seed, start))
    with RunDir.open(
        block_folder(comparison, source, seed, start),
        run_settings(config),
        hashes,
        environment=environment(),
        warn=progress.warn,
    ) as run:
        job = Job(run, config, setting.constrained, progress)
        targets: Targets = {}
        if any(METHODS[variant.method].oracle for variant in comparison.variants):
            targets = targets_of(comparison.sources[source], inputs.pool, config)
        yield Block(
            job,
            source,
            start,
            inputs.pool,
            inputs.tests,
            comparison.shown_steps,
            adapters,
            targets,
        )


def form_adapter(folder: Path) -> dict[str, str]:
    """Return the hashes of the adapter that a block begins from.

    Raises:
        DataError: If it is not there, because its training failed.
    """
    if not folder.is_dir():
        raise DataError(
            f"there is no form-only model at {folder} to begin from; its training "
            "failed, so run the same command again"
        )
    return fingerprint(folder)


def cells_of(setting: Setting) -> list[Cell]:
    """Return every model that is to be trained, in the order of the work."""
    comparison = setting.comparison
    return [
        Cell(start, source, variant.name, seed)
        for seed in comparison.seeds(setting.config)
        for source in comparison.sources
        for start in comparison.blocks
        for variant in comparison.trained_from(start)
    ]


class Prefixed:
    """Progress whose stages say what block they are of."""

    def __init__(self, progress: Progress, prefix: str) -> None:
        """Take the progress to tell."""
        self.progress = progress
        self.prefix = prefix

    def stage(
        self, name: str, total: int, unit: str
    ) -> AbstractContextManager[Callable[[int], None]]:
        """Open a stage."""
        return self.progress.stage(f"{self.prefix}, {name}", total, unit)

    def warn(self, text: str) -> None:
        """Hand on a warning."""
        self.progress.warn(f"{self.prefix}: {text}")
