"""Verdicts on expressions are kept with a run, told of, and not asked for again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from neuron_opsd.answers import readers as answers
from neuron_opsd.answers.spans import Reading
from neuron_opsd.answers.verifier import Verifier, shared_verifier
from neuron_opsd.config import Config
from neuron_opsd.config.tables import load_config
from neuron_opsd.errors import TryAgainError
from neuron_opsd.progress import Silent
from neuron_opsd.records import GoldAnswers, Message, Question
from neuron_opsd.runs.context import RunContext, TestSet
from neuron_opsd.runs.prepare import prepare_run
from neuron_opsd.runs.testing import answer_tests
from neuron_opsd.runs.verdicts import training_verdicts, warn_as_kept
from neuron_opsd.storage.manifest import read_manifest
from neuron_opsd.storage.run_directory import RunDirectory
from resolved import written_freely
from scripted import ScriptedModel
from tiny_runs import files_of, tiny_config, tiny_request, tiny_run

POOL = tuple(Question(f"q{n}", (Message("user", f"What is t{n}?"),)) for n in range(12))
SAID = {
    f"What is t{n}?": [f"${n}+x$", f"$x+{n}$", f"${n}-x$", "$9^{9^{9^{9}}}$"]
    for n in range(12)
}
TOWER = "a number of more than 20,000 digits"

Pair = tuple[str, str]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Pair]:
    """Return the pairs that math-verify is asked about; sums are equal to sums."""
    pairs: list[Pair] = []

    def ask(self: Verifier, one: str, other: str) -> dict[str, Any]:
        del self
        pairs.append((one, other))
        return {"same": ("+" in one) == ("+" in other), "cut": "", "seconds": 1.0}

    monkeypatch.setattr(Verifier, "_ask", ask)
    shared_verifier().forget()
    return pairs


def config_of(*assignments: str) -> Config:
    return load_config(
        None,
        [
            "prompts.form=plain",
            "answers.reader=latex",
            "rollouts.num_samples=4",
            "rollouts.block_size=5",
            "evaluation.num_samples=4",
            "contexts.num_demonstrations=2",
            "neurons.per_layer=4",
            "neurons.keep=6",
            "teacher_check.action=off",
            *assignments,
        ],
    )


@contextmanager
def opened(folder: Path, config: Config) -> Iterator[RunContext]:
    """Give a run as a process that has just begun would have it."""
    shared_verifier().forget()
    with RunDirectory.open(folder, {}, {}) as run:
        yield RunContext(run, written_freely(config), Silent())


def votes_in(folder: Path, config: Config) -> tuple[list[dict[str, int]], list[str]]:
    with opened(folder, config) as run:
        prepared = prepare_run(run, ScriptedModel(SAID), POOL)
        return [dict(v.counts) for v in prepared.votes.values()], run.directory.warnings


def test_verdicts_lie_in_the_manifest_and_are_not_asked_for_again(
    tmp_path: Path, asked: list[Pair]
) -> None:
    first, warnings = votes_in(tmp_path, config_of())
    assert first == [{f"{n}+x": 2, f"{n}-x": 1, "9^{9^{9^{9}}}": 1} for n in range(12)]
    assert len(asked) == 24, "each question has two pairs that are computed"
    output = read_manifest(tmp_path).outputs["rollouts.verdicts"]
    assert set(output.made_from or {}) == {"rollouts"}
    kept = (tmp_path / "rollouts.verdicts.json").read_bytes()
    asked.clear()
    assert votes_in(tmp_path, config_of()) == (first, warnings)
    assert asked == []
    assert (tmp_path / "rollouts.verdicts.json").read_bytes() == kept


def test_a_kept_verdict_wins_over_what_would_be_said_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[Pair]
) -> None:
    first, _ = votes_in(tmp_path, config_of())

    def say_no(self: Verifier, one: str, other: str) -> dict[str, Any]:
        del self, one, other
        return {"same": False, "cut": "seconds", "seconds": 1.0}

    monkeypatch.setattr(Verifier, "_ask", say_no)
    assert votes_in(tmp_path, config_of())[0] == first
    assert asked


def test_verdicts_that_were_changed_are_asked_for_again(
    tmp_path: Path, asked: list[Pair]
) -> None:
    first, _ = votes_in(tmp_path, config_of())
    path = tmp_path / "rollouts.verdicts.json"
    path.write_text(path.read_text().replace("true", "false"))
    asked.clear()
    again, warnings = votes_in(tmp_path, config_of())
    assert again == first
    assert len(asked) == 24
    assert any("was changed or damaged" in text for text in warnings)


def test_what_could_not_be_settled_is_told_each_time(
    tmp_path: Path, asked: list[Pair]
) -> None:
    for _ in range(2):
        _, warnings = votes_in(tmp_path, config_of())
        told = [text for text in warnings if "could not be settled" in text]
        # Of each question the tower is compared with two kinds of answer.
        assert len(told) == 1
        assert told[0].startswith(
            "rollouts: 24 of 48 comparisons of expressions could not be settled "
            f"({TOWER})"
        )
    assert asked


def test_a_block_that_was_compared_is_not_compared_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[Pair]
) -> None:
    monkeypatch.setattr(Verifier, "_ask", one_minute(asked))
    asked.clear()
    with pytest.raises(TryAgainError, match="max_minutes"):
        votes_in(tmp_path / "short", config_of("answers.max_minutes=20"))
    before = list(asked)
    asked.clear()
    votes_in(tmp_path / "short", config_of("answers.max_minutes=20"))
    # Twenty-one pairs were asked about, and those of two blocks of five were kept.
    assert (len(before), len(asked)) == (21, 4)


def one_minute(pairs: list[Pair]) -> Any:
    """Return what answers each pair in a minute."""

    def ask(self: Verifier, one: str, other: str) -> dict[str, Any]:
        del self
        pairs.append((one, other))
        return {"same": ("+" in one) == ("+" in other), "cut": "", "seconds": 60.0}

    return ask


def test_tests_count_what_could_not_be_settled(
    tmp_path: Path, asked: list[Pair]
) -> None:
    gold = GoldAnswers({q.id: f"x + {n}" for n, q in enumerate(POOL)}, {})
    test = TestSet("exam", POOL, gold, in_domain=True)
    for _ in range(2):
        with opened(tmp_path, config_of()) as run:
            result = answer_tests(run, ScriptedModel(SAID), [test], "before")["exam"]
            told = [text for text in run.directory.warnings if "settled" in text]
        assert result.num_unsettled == 36
        assert result.metrics["avg_at_k"] == pytest.approx(0.5)
        assert told[0].startswith("tests/exam/before: 36 of")
    assert len(asked) == len(set(asked))
    names = read_manifest(tmp_path).outputs
    assert "tests/exam/before.verdicts" in names


def test_other_readers_keep_no_verdicts(tmp_path: Path, asked: list[Pair]) -> None:
    votes_in(tmp_path, config_of("answers.reader=text"))
    assert asked == []
    assert not list(tmp_path.glob("*verdicts*"))


def train(folder: Path, pairs: Sequence[Pair]) -> list[str]:
    """Compare pairs as a training does, with a checkpoint after each."""
    with opened(folder, config_of()) as run:
        run.directory.integrity.add_source("settings of adapter", "0")
        made_from = ["settings of adapter"]
        with training_verdicts(run, "train", made_from) as write:
            for one, other in pairs:
                shared_verifier().equal(one, other)
                write()
        return run.directory.warnings


def test_a_training_resumes_with_its_verdicts(
    tmp_path: Path, asked: list[Pair]
) -> None:
    pairs = [("a+b", "b+a"), ("9^{9^{9^9}}", "c+b"), ("d+e", "e+d")]
    train(tmp_path, pairs[:2])
    asked.clear()
    warnings = train(tmp_path, pairs)
    assert asked == [("d+e", "e+d")]
    assert warnings[0].startswith("train: 1 of 3 comparisons")
    with opened(tmp_path, config_of()) as run:
        warn_as_kept(run, "train", "train/verdicts")
        assert run.directory.warnings == warnings
    (tmp_path / "train" / "verdicts.json").unlink()
    with opened(tmp_path, config_of()) as run:
        warn_as_kept(run, "train", "train/verdicts")
        assert "is gone; it is no longer known which" in run.directory.warnings[0]


def out_of_time(folder: Path) -> None:
    """Compare a pair as a training does whose time for comparisons is over."""
    with opened(folder, config_of()) as run:
        run.directory.integrity.add_source("settings of adapter", "0")
        with training_verdicts(run, "train", ["settings of adapter"]):
            shared_verifier().equal("a+b", "b+a")
            raise TryAgainError("the time for comparisons is over")


def test_a_training_that_has_to_try_again_keeps_its_verdicts(
    tmp_path: Path, asked: list[Pair]
) -> None:
    with pytest.raises(TryAgainError):
        out_of_time(tmp_path)
    asked.clear()
    train(tmp_path, [("a+b", "b+a")])
    assert asked == []


def read_some(text: str, *, cut: bool = False) -> Reading:
    """Read one of four expressions from whatever a tiny model writes."""
    del cut
    written = ("x+1", "1+x", "x-1", "9^{9^{9^{9}}}")
    return Reading(written[len(text) % 4], "a test")


def test_a_run_resumes_with_the_same_bytes_whatever_would_be_said_now(
    tmp_path: Path,
    tiny_llama: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: list[Pair],
) -> None:
    monkeypatch.setattr(answers, "read_latex", read_some)
    monkeypatch.setattr(answers, "bare_latex", lambda text, _: f"x+{text}")
    latex = ("answers.reader=latex", "method=context-sft", "distill.num_samples=3")
    config = tiny_config(tiny_llama, *latex)
    request = tiny_request(tmp_path, kind="free")
    finished = tiny_run(request, config)
    assert asked
    entry = finished.evaluation()["sums"]["unsettled_comparisons"]
    assert entry["before"] > 0
    assert entry.keys() == {"before", "after", "prompted"}
    places = [text.partition(":")[0] for text in finished.warnings if "settled" in text]
    assert {"rollouts", "teacher_check", "train", "tests/sums/after"} <= set(places)
    page = (request.out / "report.html").read_text()
    assert "could not be settled" in page
    assert "Two expressions are the same answer" in page
    before = files_of(request.out)

    def unlike(self: Verifier, one: str, other: str) -> dict[str, Any]:
        raise AssertionError(f"{self} is asked about {one} and {other}")

    monkeypatch.setattr(Verifier, "_ask", unlike)
    for name in ("evaluation.json", "report.json", "summary.json"):
        (request.out / name).unlink()
    again = tiny_run(request, config)
    assert [t for t in again.warnings if "settled" in t] == [
        t for t in finished.warnings if "settled" in t
    ]
    after = files_of(request.out)
    assert {n for n in before if before[n] != after[n]} <= {"manifest.json"}
