"""A whole run of a model whose prompts open reasoning and whose traces are often cut.

Nothing unfinished may be voted on, shown, rewarded, imitated or selected, and the
report says how much of it there was.
"""

from __future__ import annotations

import pytest

from neuron_opsd.records import Rollout
from neuron_opsd.world.codecs import CONTEXTS, ROLLOUTS
from thinking import thinking_model
from tiny_runs import FinishedRun, tiny_config, tiny_request, tiny_run

FREE = (
    "prompts.form=chat",
    "answers.reader=text",
    "rollouts.max_new_tokens=20",
    "contexts.answer=voted",
    "fitness.action=warn",
    "fitness.max_pool_share=1.0",
    "selection.keep_fraction=0.3",
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
