"""A whole run of a model whose prompts open reasoning and whose traces are often cut.

Nothing unfinished may be voted on, shown, rewarded, imitated or selected, and the
report says how much of it there was.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from neuron_opsd.answers.reasoning import final_part
from neuron_opsd.config.tables import load_config
from neuron_opsd.methods import method_of
from neuron_opsd.models.load import learner_of, load_model
from neuron_opsd.prompts import student_prompt
from neuron_opsd.records import Completion, Message, Question, Rollout, TrainingExample
from neuron_opsd.runs.resolution import with_method
from neuron_opsd.stages.training import Batch, TrainingSequence
from neuron_opsd.storage.codecs import CONTEXTS, ROLLOUTS, SELECTION
from thinking_models import thinking_model
from tiny_runs import FinishedRun, tiny_config, tiny_request, tiny_run

FREE = (
    "prompts.form=chat",
    "answers.reader=text",
    "rollouts.max_new_tokens=20",
    "contexts.answer=voted",
    "teacher_check.action=warn",
    "teacher_check.max_pool_share=1.0",
    "selection.keep_fraction=0.3",
    "selection.include_unread=false",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    folder = tmp_path_factory.mktemp("thinking")
    model = thinking_model(folder / "model")
    return tiny_run(tiny_request(folder, kind="free"), tiny_config(model, *FREE))


@pytest.fixture(scope="module")
def rollouts(finished: FinishedRun) -> tuple[Rollout, ...]:
    return tuple(ROLLOUTS.load(finished.folder / "rollouts.parquet"))


def is_open(rollout: Rollout) -> bool:
    """Whether the trace was cut, told by the text alone."""
    _, closed, after = rollout.completion.text.rpartition("</think>")
    return not closed or "<think>" in after


def test_many_traces_are_cut_and_none_of_them_is_read(
    rollouts: tuple[Rollout, ...],
) -> None:
    cut = [r for r in rollouts if is_open(r)]
    assert len(rollouts) / 5 < len(cut) < len(rollouts) * 4 / 5
    assert all(r.answer is None for r in cut)
    assert all(r.completion.final is None for r in cut)
    read = [r.answer for r in rollouts if r.answer is not None]
    assert len(read) > len(rollouts) / 8


def test_no_demonstration_is_an_open_trace(
    finished: FinishedRun, rollouts: tuple[Rollout, ...]
) -> None:
    finals = {r.completion.final for r in rollouts if not is_open(r)}
    contexts = CONTEXTS.load(finished.folder / "contexts.json")
    shown = [d for context in contexts for d in context.demonstrations]
    assert shown
    assert all(d.answer and d.answer in finals for d in shown)


def test_the_warnings_and_the_tests_say_how_many(
    finished: FinishedRun, rollouts: tuple[Rollout, ...]
) -> None:
    count = sum(map(is_open, rollouts))
    wanted = f"{count} of {len(rollouts)} rollouts never closed their reasoning"
    assert any(wanted in warning for warning in finished.warnings)
    assert wanted in (finished.folder / "report.html").read_text("utf-8")


def test_no_open_trace_is_selected(
    finished: FinishedRun, rollouts: tuple[Rollout, ...]
) -> None:
    read = {r.question_id for r in rollouts if not is_open(r)}
    selection = SELECTION.load(finished.folder / "selection.json")
    kept = {entry.question_id for entry in selection if entry.kept}
    assert 0 < len(kept) < len(selection)
    assert len(read) < len(selection)
    assert kept <= read


def sequences(model: Path, method: str) -> list[TrainingSequence]:
    """Return what a few steps of a method train on, with their rewards."""
    config = with_method(
        load_config(
            assignments=[
                f"model.name={model}",
                "model.compute=float32",
                f"method={method}",
                "prompts.form=chat",
                # A vowel, so that some rollouts agree.
                *("answers.reader=regex", "answers.pattern=([aeiou])"),
                "rollouts.max_new_tokens=20",
                "distill.num_samples=8",
            ]
        )
    )
    learner = learner_of(load_model(config.model), config.distill, 0)
    question = Question("q", (Message("user", "Which one?"),))
    prompt = student_prompt(question, config.prompts)
    batch = [TrainingExample(question, prompt, prompt)] * 4
    trained = method_of(config)
    groups = [
        one
        for step in range(3)
        for one in trained.roll_out(learner, Batch(batch, step))
    ]
    return [sequence for group in groups for sequence in group.sequences]


def is_cut(completion: Completion) -> bool:
    return final_part(completion.text, opened=True) is None


@pytest.mark.parametrize("method", ["lmsi", "context-sft"])
def test_no_open_trace_is_imitated(finished: FinishedRun, method: str) -> None:
    found = sequences(Path(finished.config.model.name), method)
    assert found
    assert not any(is_cut(e.completion) for e in found)


@pytest.mark.parametrize("method", ["ttrl", "empo", "rent", "intuitor"])
def test_no_open_trace_is_rewarded(finished: FinishedRun, method: str) -> None:
    found = sequences(Path(finished.config.model.name), method)
    assert any(e.advantage > 0.0 for e in found)
    cut = [e.advantage for e in found if is_cut(e.completion)]
    assert cut
    assert max(cut) <= 0.0
