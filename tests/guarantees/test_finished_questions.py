"""A run that is killed in the middle of a block repeats no question it had finished."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from killed_runs import KILLED, die, fork, wait
from loaded import loaded
from neuron_opsd import pipeline
from neuron_opsd.config import Config
from neuron_opsd.config.tables import load_config
from neuron_opsd.errors import NotFiniteError, TryAgainError
from neuron_opsd.models.decoding.growing import Request
from neuron_opsd.models.hf import HFModel
from neuron_opsd.models.remembering import remembering
from neuron_opsd.models.roles import Sampling
from neuron_opsd.pipeline import roll_out
from neuron_opsd.progress import Silent
from neuron_opsd.records import Message, Question
from neuron_opsd.runs.context import RunContext
from neuron_opsd.runs.testing import sample_test
from neuron_opsd.stages.rollouts import ask
from neuron_opsd.storage.caching import Workspace
from neuron_opsd.storage.journal import Journal
from neuron_opsd.storage.run_directory import RunDirectory
from tiny_runs import POOL_SIZE, tiny_config, tiny_request, tiny_run

QUESTIONS = [
    Question(
        f"q{n}",
        (Message("user", f"Is {n} odd?"),),
        choices=("yes", "no") if n % 4 == 3 else (),
    )
    for n in range(12)
]
"""A quarter of them are answered among their choices."""

FREE = [question.id for question in QUESTIONS if not question.choices]


@pytest.fixture
def config(tiny_llama_plain: Path) -> Config:
    return load_config(
        None,
        [
            f"model.name={tiny_llama_plain}",
            "prompts.form=plain",
            "rollouts.mode=constrained",
            "rollouts.max_new_tokens=16",
            "rollouts.num_samples=3",
            "rollouts.block_size=12",
        ],
    )


@contextmanager
def opened(folder: Path, config: Config) -> Iterator[Workspace]:
    with RunDirectory.open(folder, {}, {}, warn=pytest.fail) as run:
        workers = RunContext(run, config, Silent()).work.workers
        yield Workspace(config, cache=run, progress=Silent(), workers=workers)


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*.parquet"))
    }


def answer(folder: Path, model: HFModel, config: Config) -> None:
    """Answer the pool and a test set."""
    with opened(folder, config) as work:
        roll_out(work, model, QUESTIONS)
        sample_test(work, model, "exam", "", ask(QUESTIONS, config))


def killed_after(
    folder: Path, model: HFModel, config: Config, count: int, seed: int
) -> int:
    """Answer in a child that dies once it has kept so many records."""

    def work() -> None:
        dying(count)
        model.room.rows = seed
        answer(folder, model, config)

    return wait(fork(work))


def dying(count: int) -> None:
    """Have this process die once it has kept so many records."""
    add, kept = Journal.add, []

    def counted(journal: Journal, key: str, value: Any) -> None:
        add(journal, key, value)
        kept.append(key)
        if len(kept) == count:
            die()

    setattr(Journal, "add", counted)  # noqa: B010 - in a child of its own


@contextmanager
def begun() -> Iterator[list[int]]:
    """Note the prompt of every completion that is begun."""
    found: list[int] = []
    real = Request.begin

    def begin(request: Request, prompt: int, numbers: Sequence[int]) -> Any:
        found.extend([prompt] * len(numbers))
        return real(request, prompt, numbers)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Request, "begin", begin)
        yield found


@pytest.mark.parametrize(("count", "rows"), [(1, 4), (4, 2), (9, 4), (13, 7)])
def test_a_killed_block_goes_on_with_what_was_not_finished(
    tmp_path: Path, config: Config, tiny_llama_plain: Path, count: int, rows: int
) -> None:
    model = loaded(tiny_llama_plain)
    answer(tmp_path / "whole", model, config)
    run = tmp_path / "run"
    assert killed_after(run, model, config, count, rows) == KILLED
    (journal,) = (run / "parts").rglob("*.journal")
    in_pool = min(count, 1 + len(FREE))
    in_test = count - in_pool
    with begun() as again:
        answer(run, model, config)
    # The first record of a block holds the scores of its choices.
    samples = 3 * (len(FREE) - max(0, in_pool - 1))
    samples += config.evaluation.num_samples * (len(FREE) - max(0, in_test - 1))
    assert len(again) == samples
    assert files_of(run) == files_of(tmp_path / "whole")
    assert not journal.exists()
    assert not list(run.rglob("*.journal"))


def test_a_whole_run_that_is_killed_in_a_block_goes_on_with_the_rest(
    tmp_path: Path, tiny_llama_plain: Path
) -> None:
    config = tiny_config(
        tiny_llama_plain, "rollouts.mode=free", "rollouts.max_new_tokens=4"
    )

    def work() -> None:
        dying(3)
        tiny_run(tiny_request(tmp_path), config)

    assert wait(fork(work)) == KILLED
    (journal,) = (tmp_path / "run").rglob("*.journal")
    assert journal.parent.name == "rollouts"
    assert len(journal.read_bytes().splitlines()) == 3

    def stop(*_: Any) -> Any:
        raise TryAgainError("the pool is answered")

    with begun() as again, pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "hold_votes", stop)
        with pytest.raises(TryAgainError, match="the pool is answered"):
            tiny_run(tiny_request(tmp_path), config)
    assert len(again) == config.rollouts.num_samples * (POOL_SIZE - 3)


@pytest.mark.parametrize("later", [False, True])
def test_records_of_earlier_versions_are_read_and_of_later_ones_drawn_again(
    tmp_path: Path, config: Config, tiny_llama_plain: Path, later: bool
) -> None:
    model = loaded(tiny_llama_plain)
    prompts, seeds = [model.encode(ask(QUESTIONS[:1], config)[0].prompt)], [[1, 2]]
    sampling, path = Sampling(1.0, max_new_tokens=4), tmp_path / "journal"
    journal, add = Journal(path, pytest.fail), Journal.add

    def other(self: Journal, key: str, rows: Any) -> None:
        less = [{n: v for n, v in row.items() if n != "logprobs"} for row in rows]
        add(self, key, [row | {"mood": "fair"} for row in rows] if later else less)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "add", other)
        first = remembering(model, journal).sample(prompts, seeds, sampling)
    with begun() as asked:
        again = remembering(model, Journal(path, pytest.fail))
        assert again.sample(prompts, seeds, sampling) == first
    assert asked == ([0, 0] if later else [])


def test_a_logit_that_is_not_finite_names_the_question_it_belongs_to(
    tmp_path: Path, config: Config, tiny_llama_plain: Path
) -> None:
    model = loaded(tiny_llama_plain)
    prompts = [model.encode(one.prompt) for one in ask(QUESTIONS[:3], config)]
    seeds, sampling = [[1], [2], [3]], Sampling(1.0, max_new_tokens=4)
    journal = Journal(tmp_path / "journal", pytest.fail)
    first = remembering(model, journal).sample(prompts[:2], seeds[:2], sampling)

    class Spoilt(HFModel):
        def sample(self, *_: Any) -> Any:
            raise NotFiniteError("a logit is no number", [0])

    model.__class__ = Spoilt
    again = remembering(model, Journal(journal.path, pytest.fail))
    with pytest.raises(NotFiniteError) as caught:
        again.sample(prompts, seeds, sampling)
    assert caught.value.places == (2,)
    model.__class__ = HFModel
    # Another way of sampling is another question.
    with begun() as asked:
        again.sample(prompts[:2], seeds[:2], replace(sampling, top_p=0.5))
        assert again.sample(prompts[:2], seeds[:2], sampling) == first
    assert sorted(asked) == [0, 1]
