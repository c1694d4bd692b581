"""One run group of a comparison: all methods for a source, a seed and a start.

A run group is a run directory. Its pool is answered once for all methods; each method
has a folder, and stored results are not recomputed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from neuron_opsd.comparison.variants import Variant, config_of, prompted
from neuron_opsd.config import Config
from neuron_opsd.config.tables import differences
from neuron_opsd.errors import ConfigError
from neuron_opsd.method.contexts.search import OF_NEURONS
from neuron_opsd.methods import Method, Oracle, Targets
from neuron_opsd.models.roles import LanguageModel
from neuron_opsd.pipeline import BIAS_NAME, ROLLOUTS_NAME, Prepared, roll_out
from neuron_opsd.records import Question, StepMetrics
from neuron_opsd.records.scores import TestResult
from neuron_opsd.results.comparison import BASE
from neuron_opsd.results.run import PROMPTED
from neuron_opsd.runs.adapters import Training
from neuron_opsd.runs.checkpoints import end_checkpoints
from neuron_opsd.runs.context import RunContext, TestSet, keep_room
from neuron_opsd.runs.inputs import settings_in
from neuron_opsd.runs.machines import load_again
from neuron_opsd.runs.prepare import PoolOutputs, prepare_run
from neuron_opsd.runs.testing import BEFORE, answer_prompted, answer_tests, compared
from neuron_opsd.runs.training import train_prepared
from neuron_opsd.runs.watching import tell_again
from neuron_opsd.storage.codecs import ROLLOUTS, json_codec, record_codec
from neuron_opsd.storage.folders import METHOD_FOLDERS
from neuron_opsd.storage.manifest import value_text

GOLD = "gold answers of the pool"
"""Source name of oracle targets; nothing else is made from it."""


@dataclass(frozen=True, slots=True)
class Spent:
    """The cost of one training."""

    prompts: int
    generated_tokens: int
    trained_tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class CellResult:
    """The outcome for one model of a comparison."""

    tests: Mapping[int, Mapping[str, TestResult]]
    """Steps, then test set name, to result."""
    spent: Spent | None = None
    """`None` for an untrained model."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunGroup:
    """What the methods of a group share."""

    run: RunContext
    source: str
    start: str
    pool: tuple[Question, ...]
    tests: tuple[TestSet, ...]
    shown_steps: tuple[int, ...] = ()
    """Steps tested besides the last."""
    adapters: tuple[Path, ...] = ()
    """Made by the training that led to the start."""
    targets: Targets = field(default_factory=dict)
    """For oracles, by question id."""
    greedy: bool = True
    """Whether greedy answers are generated too."""
    chooses: bool = True
    """Whether any source of the comparison has choices."""


class StartModel:
    """The model where a group's training begins, loaded on first use."""

    def __init__(
        self, base: LanguageModel, run: RunContext, adapters: Sequence[Path]
    ) -> None:
        self.run = run
        self.base = base
        self.adapters = tuple(adapters)
        self._model = None if self.adapters else base

    def get(self) -> LanguageModel:
        """Return the model."""
        if self._model is None:
            directory, config = self.run.directory, self.run.config
            self._model = load_again(directory, config, *self.adapters, base=self.base)
        keep_room(self.run, self._model)
        return self._model


def cell_folder(name: str) -> str:
    """Return the folder of a method's files in a group."""
    return f"{METHOD_FOLDERS}/{name}"


def once(
    group: RunGroup,
    name: str,
    compute: Callable[[], CellResult],
    made_from: Sequence[str],
) -> CellResult:
    """Return the stored result of a model, or compute it; keep its warnings."""
    directory, folder = group.run.directory, cell_folder(name)
    codec = record_codec(f"{folder}/result.json", CellResult)

    def warned() -> CellResult:
        before = len(directory.warnings)
        result = compute()
        return replace(result, warnings=tuple(directory.warnings[before:]))

    return directory.once(folder, codec, warned, made_from=made_from)


def measure_start(group: RunGroup, start: StartModel) -> CellResult:
    """Test the model where training begins.

    A trained one was tested on every set before; here only its in-domain answers are
    needed, to find demonstrations.
    """
    tests = [test for test in group.tests if group.start == BASE or test.in_domain]

    def compute() -> CellResult:
        run = shared_run(group)
        return CellResult({0: answer_tests(run, start.get(), tests, BEFORE)})

    made_from = [name for t in tests for name in compared(t.name, BEFORE)]
    return once(group, BASE, compute, made_from)


def measure_prompted(group: RunGroup, start: StartModel) -> CellResult:
    """Test the group's start with its demonstrations in the prompt."""
    tests = [test.name for test in group.tests if test.in_domain]
    return once(
        group,
        PROMPTED,
        lambda: CellResult({0: answer_with_demonstrations(group, start.get())}),
        [
            name
            for test in tests
            for label in (BEFORE, PROMPTED)
            for name in compared(test, label)
        ],
    )


def shared_run(group: RunGroup) -> RunContext:
    """Return the run that generates what any method needs."""
    answer = "greedy" if group.greedy else "first"
    config = group.run.config.changed(contexts={"answer": answer})
    return replace(group.run, config=config)


def answer_with_demonstrations(
    group: RunGroup, model: LanguageModel
) -> dict[str, TestResult]:
    """Test a model in-domain with its demonstrations in the prompt."""
    config = prompted(group.run.config, model.facts, chooses=group.chooses)
    # No teacher is asked here, so one with nothing to teach stops nothing.
    config = config.changed(teacher_check={"one_answer": "warn"})
    run = replace(group.run, config=config)
    made = outputs_for(group.run.config, config, cell_folder(PROMPTED))
    prepared = prepared_for(group, model, run, made)
    return {
        test.name: answer_prompted(run, model, test, prepared, made)
        for test in group.tests
        if test.in_domain
    }


def prepared_for(
    group: RunGroup, model: LanguageModel, run: RunContext, made: PoolOutputs
) -> Prepared:
    """Make from the pool what one method's training needs."""
    if not run.directory.has(ROLLOUTS_NAME, ROLLOUTS, [BIAS_NAME]):
        roll_out(shared_run(group).work, model, group.pool)
    return prepare_run(run, model, group.pool, made)


def outputs_for(shared: Config, own: Config, folder: str = "") -> PoolOutputs:
    """Name the outputs of a method's preparation in its group.

    Methods that capture the same answers alike share neuron sets; those with equal
    demonstrations and room share the teacher's views.
    """
    captured = changed(shared, own, "neurons")
    taught = changed(shared, own, "contexts")
    if own.context_signals & OF_NEURONS:
        taught += captured
    if own.most_new_tokens != shared.most_new_tokens:
        taught += f"-max_new_tokens-{own.most_new_tokens}"
    neurons = f"neurons-{own.contexts.answer}{captured}"
    return PoolOutputs(folder, neurons, captured, taught)


def changed(shared: Config, own: Config, section: str) -> str:
    """Return a method's own settings in a section, for file names."""
    return "".join(
        f"-{name.removeprefix(section + '.')}-{value}"
        for name, value in differences(shared, own).items()
        if name.startswith(section + ".")
    )


def train_variant(group: RunGroup, variant: Variant, start: StartModel) -> CellResult:
    """Train and test one method, unless that is stored."""
    folder = cell_folder(variant.name)
    config = config_of(variant, group.run.config)
    run = replace(group.run, config=config)
    last = config.distill.steps
    between = tuple(step for step in group.shown_steps if step < last)
    check_settings(run, folder, variant)
    told = (GOLD,) if issubclass(variant.trained, Oracle) else ()
    training = Training(variant.name, folder, between, told)
    adapters = {step: training.kept(step) for step in between}
    adapters |= {last: training.adapter}
    made = outputs_for(group.run.config, config, folder)

    def compute() -> CellResult:
        model = start.get()
        prepared = prepared_for(group, model, run, made)
        method = method_for(variant, config, group.targets)
        metrics = train_prepared(run, model, training, prepared, method)
        model.release()  # frees what training kept in memory
        labels = {step: label_after(variant.name, step) for step in adapters}
        tests = {
            step: test_after(group, run, start.base, labels[step], adapter)
            for step, adapter in adapters.items()
        }
        return CellResult(tests, spent(run, variant.name, metrics))

    tests = [
        name
        for step in adapters
        for test in group.tests
        for name in compared(test.name, label_after(variant.name, step))
    ]
    made_from = [*told, *made.all, *adapters.values(), training.metrics, *tests]
    result = once(group, variant.name, compute, made_from)
    tell_again(run, training, result.tests.get(last, {}))
    end_checkpoints(run, training.work)
    late = [str(step) for step in between if step not in result.tests]
    if late:
        group.run.progress.warn(
            f"{variant.name} was trained before --at had {', '.join(late)}, so it is "
            "not tested there; to train it again, choose another --out"
        )
    return result


def method_for(variant: Variant, config: Config, targets: Targets) -> Method:
    """Return a variant's method ready to train; only oracles get targets."""
    if issubclass(variant.trained, Oracle):
        return variant.trained(config, targets)
    return variant.trained(config)


def check_settings(run: RunContext, folder: str, variant: Variant) -> None:
    """Refuse a method that was started with other settings; say how to resume it.

    Older versions let a method's own settings win over shared ones.
    """
    codec = json_codec(f"{folder}/settings.json")
    wanted = settings_in(run.directory, run.config)
    known = run.directory.once(f"{folder}/settings", codec, lambda: wanted)
    others = [
        name for name in wanted if value_text(known, name) != value_text(wanted, name)
    ]
    if others:
        begun = ",".join(f"{name}={value_text(known, name)}" for name in others)
        raise ConfigError(
            f"{run.directory.folder} has started {variant.name} with other settings "
            f"({', '.join(others)}); write {variant.name}={variant.method}:{begun} to "
            "resume it as it was started, or choose another name for the method or "
            "another --out"
        )


def test_after(
    group: RunGroup, run: RunContext, base: LanguageModel, label: str, adapter: str
) -> dict[str, TestResult]:
    """Test a method's model after some steps, under a label."""
    path = run.directory.path(adapter)
    adapters = *group.adapters, path
    trained = load_again(run.directory, run.config, *adapters, base=base)
    keep_room(run, trained)
    return answer_tests(run, trained, group.tests, label, [adapter])


def label_after(name: str, step: int) -> str:
    """Name a method's model after some steps."""
    return f"{name}-{step}"


def spent(run: RunContext, name: str, metrics: Sequence[StepMetrics]) -> Spent:
    """Add up the cost of a training."""
    return Spent(
        prompts=len(metrics) * run.config.distill.batch_size,
        generated_tokens=sum(m.num_generated for m in metrics),
        trained_tokens=sum(m.num_tokens for m in metrics),
        seconds=float(run.directory.manifest.facts.get("seconds", {}).get(name, 0.0)),
    )
