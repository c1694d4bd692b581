"""Algorithm 1 is written once: a run, a preview and a plan make the same of a pool."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from neuron_opsd.config import Config
from neuron_opsd.config.tables import load_config
from neuron_opsd.errors import DataError
from neuron_opsd.method.selection import kept_ids
from neuron_opsd.methods import METHODS, Oracle, needs_neurons
from neuron_opsd.models.load import load_model
from neuron_opsd.pipeline import prepare
from neuron_opsd.planning.samples import make_sample, selected, try_capture
from neuron_opsd.planning.trials import Trial, try_choices
from neuron_opsd.progress import Silent
from neuron_opsd.records import Message, Question
from neuron_opsd.runs.context import RunContext, resolve_method
from neuron_opsd.runs.inputs import read_pool
from neuron_opsd.runs.prepare import prepare_run
from neuron_opsd.runs.preview import preview
from neuron_opsd.runs.resolution import with_method
from neuron_opsd.stages.rollouts import ask
from neuron_opsd.storage.caching import Workspace
from neuron_opsd.storage.run_directory import RunDirectory
from neuron_opsd.storage.stored_rollouts import StoredRollouts
from resolved import sampled_among_choices, written_freely
from scripted import ScriptedModel
from tiny_runs import parity_rows, tiny_config, write_rows

SIZE = 12

POOL = tuple(
    Question(f"q{n}", (Message("user", f"Is thing {n} odd?"),), ("yes", "no"))
    for n in range(SIZE)
)
MINORITY = (0, 1, 2, 4)
ANSWERS = {
    f"Is thing {n} odd?": ["no" if n in MINORITY else "yes"] for n in range(SIZE)
}
"""Four questions of twelve have an answer of their own, three of them few neurons."""


def quiet(config: Config) -> Workspace:
    return Workspace(config, progress=Silent())


def settings(*assignments: str) -> Config:
    small = ["prompts.form=plain", "rollouts.num_samples=2", "neurons.per_layer=2"]
    small += ["contexts.num_demonstrations=2", "selection.keep_fraction=0.5"]
    config = load_config(None, [*small, "teacher_check.action=off", *assignments])
    return sampled_among_choices(config)


def selected_by_run(folder: Path, config: Config) -> set[str]:
    with RunDirectory.open(folder, {}, {}) as directory:
        run = RunContext(directory, config, Silent())
        found = prepare_run(run, ScriptedModel(ANSWERS), POOL)
        assert isinstance(found.rollouts, StoredRollouts)
    return kept_ids(found.selection)


def selected_by_plan(config: Config, pool: Sequence[Question] = POOL) -> set[str]:
    ticks = count()
    trial = Trial(ScriptedModel(ANSWERS), config, lambda: float(next(ticks)))
    asked = ask(pool, config)
    sample = make_sample(trial, asked, [try_choices(trial, asked)], 0.0)
    _, neurons = try_capture(trial, sample, 1e-9)
    return set(selected(trial, sample, neurons))


@pytest.mark.parametrize("answer", ["first", "greedy", "voted"])
@pytest.mark.parametrize("balance", ["true", "false"])
def test_a_plan_selects_what_the_run_selects(
    tmp_path: Path, balance: str, answer: str
) -> None:
    config = settings(f"selection.balance={balance}", f"contexts.answer={answer}")
    found = selected_by_run(tmp_path, config)
    assert selected_by_plan(config) == found
    minority = {f"q{n}" for n in MINORITY} & found
    assert len(minority) == (2 if balance == "true" else 3)


def test_memory_and_a_run_directory_give_the_same(tmp_path: Path) -> None:
    config = settings("selection.balance=true")
    model, progress = ScriptedModel(ANSWERS), Silent()
    with RunDirectory.open(tmp_path, {}, {}) as directory:
        kept = prepare(Workspace(config, directory, progress), model, POOL)
        told = Silent()
        made = prepare(Workspace(config, progress=told), model, POOL)
        assert list(kept.rollouts) == list(made.rollouts)
    assert kept.selection == made.selection
    assert kept.contexts == made.contexts
    assert kept.examples == made.examples
    assert progress.warnings == told.warnings


def test_examples_can_be_made_of_some_questions_alone() -> None:
    config = settings("contexts.source=selected", "selection.balance=true")
    whole = prepare(quiet(config), ScriptedModel(ANSWERS), POOL)
    left_out = next(e.question_id for e in whole.selection if not e.kept)
    for name in (left_out, whole.examples[0].question_id):
        model = ScriptedModel(ANSWERS)
        some = prepare(quiet(config), model, POOL, only={name})
        assert [example.question_id for example in some.examples] == [name]
        assert some.selection == whole.selection
        shown = {d.question_id for d in some.contexts[0].demonstrations}
        assert shown <= kept_ids(whole.selection)
        assert name == left_out or some.examples == whole.examples[:1]


def test_a_pool_that_gives_no_selection_still_shows_a_question() -> None:
    short = ["rollouts.max_new_tokens=1", "contexts.num_demonstrations=0"]
    config, model = written_freely(settings(*short)), ScriptedModel(ANSWERS)
    with pytest.raises(DataError, match="none of the 12 questions can be selected"):
        prepare(quiet(config), model, POOL)
    found = prepare(quiet(config), model, POOL, only={"q0"})
    assert [example.question_id for example in found.examples] == ["q0"]


@pytest.mark.parametrize("source", ["pool", "selected"])
def test_a_preview_shows_what_the_run_trains_on(
    tmp_path: Path, tiny_llama_plain: Path, source: str
) -> None:
    pool = str(write_rows(tmp_path / "pool.jsonl", parity_rows(range(SIZE))))
    told = ["selection.balance=true", f"contexts.source={source}"]
    config = with_method(tiny_config(tiny_llama_plain, *told))
    model = load_model(config.model)
    questions = read_pool(pool, config).questions
    resolved = resolve_method(config, model, questions)
    with RunDirectory.open(tmp_path / "run", {}, {}) as directory:
        run = RunContext(directory, resolved, Silent())
        trained = prepare_run(run, model, questions).examples
    assert trained
    for example in trained:
        seen = preview(pool, example.question_id, config, Silent())
        assert seen.teacher_prompt == model.tokens.prompt_text(example.teacher_prompt)
        assert seen.student_prompt == model.tokens.prompt_text(example.student_prompt)


class Counted(ScriptedModel):
    """Counts the passes that read off neurons."""

    passes = 0

    def capture(self, *pairs: Any, **settings: Any) -> None:
        """Count a pass."""
        self.passes += 1
        super().capture(*pairs, **settings)


OWN = {
    "default": [],
    "random": ["selection.rule=random"],
    "all": ["selection.rule=all"],
    "shown": ["contexts.num_demonstrations=2", "selection.rule=all"],
}


@pytest.mark.parametrize("prompted", ["true", "false"])
@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize(
    "method", [name for name, one in METHODS.items() if not issubclass(one, Oracle)]
)
def test_neurons_are_captured_where_something_reads_them_and_nowhere_else(
    tmp_path: Path, method: str, own: str, prompted: str
) -> None:
    told = [f"method={method}", f"evaluation.prompted={prompted}", *OWN[own]]
    small = ["prompts.form=plain", "rollouts.num_samples=2", "neurons.per_layer=2"]
    chosen = load_config(None, [*small, "teacher_check.action=off", *told])
    config = sampled_among_choices(with_method(chosen))
    model = Counted(ANSWERS)
    with RunDirectory.open(tmp_path, {}, {}) as directory:
        prepare_run(RunContext(directory, config, Silent()), model, POOL)
    selects = config.selection.rule not in ("all", "random")
    shown = config.contexts.num_demonstrations > 0
    shows = shown and config.contexts.rule not in ("words", "random")
    read = selects or (shows and (METHODS[method].reads_contexts or prompted == "true"))
    assert bool(model.passes) == read
    assert needs_neurons(config) == read
    assert (tmp_path / "neurons.parquet").exists() == read
