"""Ranks that train together do what one process does, and fail together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import ranked_training
from neuron_opsd.errors import NotFiniteError, TryAgainError
from neuron_opsd.processes.ranks import ALONE
from neuron_opsd.records import Message, Prompt, Question, TrainingExample
from neuron_opsd.stages.together import done_by_all, joint_error, told
from neuron_opsd.stages.training import Batch
from ranked_training import CHANGES, IMPATIENCE, METHODS_AND_SIZES, PATIENCE, SHORT
from script_runs import left_by

EXACT = 1e-5
"""How far a weight may be from that of a single process, in float32."""

ROUNDED = ("loss", "grad_norm", "entropy", "reward")
"""Measures of a step whose last bits depend on how many rows a pass holds."""


@pytest.fixture(scope="module")
def folder(tiny_llama_plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give what all trainings left."""
    return left_by(ranked_training, tmp_path_factory.mktemp("ranks"), tiny_llama_plain)


def distance(folder: Path, name: str, other: str, part: str = "") -> float:
    """Return how far the weights of two trainings are apart at most."""
    one, two = (load_file(folder / f"{n}.rank-0.safetensors") for n in (name, other))
    assert one.keys() == two.keys()
    kept = [key for key in one if key.startswith(part)]
    assert kept
    return max(float((one[key] - two[key]).abs().max()) for key in kept)


def left(folder: Path, name: str, rank: int = 0) -> dict[str, Any]:
    """Return metrics and end of a training as a rank saw it."""
    text = (folder / f"{name}.rank-{rank}.json").read_text()
    found: dict[str, Any] = json.loads(text)
    return found


def moved(folder: Path, name: str) -> float:
    """Return how far a training moved the student at most."""
    state = load_file(folder / f"{name}.rank-0.safetensors")
    return max(
        float(value.abs().max()) for key, value in state.items() if "lora_B" in key
    )


@pytest.mark.parametrize(("name", "size"), METHODS_AND_SIZES)
def test_ranks_make_the_adapter_of_a_single_process(
    folder: Path, name: str, size: int
) -> None:
    together, alone = f"{name}.{size}", f"{name}.alone"
    assert moved(folder, alone) > 100 * EXACT
    limit = 0.0 if size == 1 else EXACT
    assert distance(folder, together, alone, "student.") <= limit
    assert distance(folder, together, alone, "teacher.") <= limit


@pytest.mark.parametrize(("name", "size"), METHODS_AND_SIZES)
def test_ranks_yield_the_metrics_of_the_whole_batch(
    folder: Path, name: str, size: int
) -> None:
    expected = left(folder, f"{name}.alone")["metrics"]
    assert len(expected) == SHORT
    for rank in range(size):
        found = left(folder, f"{name}.{size}", rank)["metrics"]
        assert len(found) == SHORT
        for entry, wanted in zip(found, expected, strict=True):
            rounded = {
                n: pytest.approx(wanted[n], rel=1e-4, abs=1e-7)
                for n in ROUNDED
                if wanted[n] is not None
            }
            assert entry == wanted | (rounded if size > 1 else {})


@pytest.mark.parametrize("lost", ["sum", "denominator"])
def test_what_is_left_out_is_noticed(folder: Path, lost: str) -> None:
    apart = distance(folder, f"without-{lost}", "alone", "student.")
    assert apart > 10 * EXACT


@pytest.mark.parametrize("change", CHANGES)
def test_a_training_resumes_with_other_ranks(
    folder: Path, change: Sequence[int]
) -> None:
    before, after = change
    name = f"stopped.{before}-{after}"
    assert distance(folder, name, "alone", "student.") <= EXACT
    assert distance(folder, name, "alone", "teacher.") <= EXACT


def test_ranks_without_a_question_take_part(folder: Path) -> None:
    assert moved(folder, "few.alone") > 100 * EXACT
    assert distance(folder, "few.3", "few.alone", "student.") <= EXACT


def test_all_weights_are_trained_alike_by_two_ranks(folder: Path) -> None:
    assert distance(folder, "full.2", "full.1") <= EXACT
    student = load_file(folder / "full.1.rank-0.safetensors")
    assert not any("lora" in name for name in student)
    moved_by = max(
        float((value - student[name.replace("student.", "teacher.")]).abs().max())
        for name, value in student.items()
        if name.startswith("student.")
    )
    assert moved_by > 100 * EXACT


@pytest.mark.skipif(
    find_spec("bitsandbytes") is None, reason="the extra qlora is not installed"
)
def test_an_adapter_of_a_model_in_four_bits_is_trained_alike_by_two_ranks(
    folder: Path,
) -> None:
    assert moved(folder, "packed.1") > 100 * EXACT
    assert distance(folder, "packed.2", "packed.1", "student.") <= EXACT
    assert distance(folder, "packed.1", "alone", "student.") > 10 * EXACT


def faults(folder: Path, fault: str) -> dict[str, Any]:
    """Return how the processes ended in which a rank failed."""
    table: dict[str, Any] = json.loads((folder / "faults.json").read_text())[fault]
    return table


def test_a_rank_that_is_killed_ends_the_others_with_a_line(folder: Path) -> None:
    ends = faults(folder, "killed")
    assert ends["codes"] == [0, -9]
    assert ends["seconds"] < PATIENCE.total_seconds() + 10
    found = left(folder, "fault.killed")
    assert found["kind"] == "LostRankError"
    assert "has ended or cannot be reached" in found["error"]
    assert "the same command resumes" in found["error"]
    assert len(found["metrics"]) == 1


def test_a_rank_that_says_nothing_is_not_waited_for_long(folder: Path) -> None:
    ends = faults(folder, "stuck")
    assert ends["seconds"] < 10 * IMPATIENCE.total_seconds() + 20
    found = left(folder, "fault.stuck")
    assert found["kind"] == "LostRankError"
    assert "has not answered for" in found["error"]


def test_other_weights_on_a_rank_stop_all(folder: Path) -> None:
    for rank in (0, 1):
        found = left(folder, "fault.other weights", rank)
        assert found["kind"] == "TrainingError"
        assert (
            "after step 1 the weights of rank 1 are not those of rank 0"
            in found["error"]
        )
        assert len(found["metrics"]) == 1


@pytest.mark.parametrize("fault", ["little room", "no memory"])
def test_all_ranks_take_the_split_that_one_needs(folder: Path, fault: str) -> None:
    name = f"fault.{fault}"
    noted = [
        json.loads((folder / f"{name}.rank-{rank}.splits").read_text())
        for rank in (0, 1)
    ]
    assert noted[0] == noted[1]
    first, last = noted[0][0][0], noted[0][0][-1]
    lowered = "tokens" if fault == "little room" else "micro_batch_size"
    assert last["step"] == 1
    assert last[lowered] < first[lowered]
    assert distance(folder, name, "alone", "student.") <= EXACT


def test_a_loss_that_is_not_finite_on_a_rank_skips_the_step_on_all(
    folder: Path,
) -> None:
    for rank in (0, 1):
        found = left(folder, "fault.not finite", rank)
        assert not found["error"]
        skipped = [entry["skipped"] for entry in found["metrics"]]
        assert [bool(reason) for reason in skipped] == [False, True, False]
        assert "the loss is nan" in skipped[1]
    one, two = (
        load_file(folder / f"fault.not finite.rank-{rank}.safetensors")
        for rank in (0, 1)
    )
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_shares_are_balanced_and_hold_every_question_once() -> None:
    examples = [
        TrainingExample(Question(f"q{n}", (Message("user", "?"),)), Prompt(), Prompt())
        for n in range(11)
    ]
    batch = Batch(examples, 4)
    for size in range(1, 14):
        shares = [batch.share(rank, size) for rank in range(size)]
        placed = [pair for share in shares for pair in share.placed]
        assert placed == list(enumerate(examples))
        sizes = {len(share.examples) for share in shares}
        assert max(sizes) - min(sizes) <= 1


def test_one_process_tells_itself_and_keeps_its_own_errors() -> None:
    assert told(ALONE, "a topic", {"a": 1}) == [{"a": 1}]
    error = TryAgainError("no room")

    def work() -> None:
        raise error

    with pytest.raises(TryAgainError) as raised:
        done_by_all(ALONE, work)
    assert raised.value is error


def test_of_several_faults_one_that_ends_the_training_counts() -> None:
    spoilt = {"what": "the loss is nan", "questions": ["a"]}
    other = {"what": "the loss is inf", "questions": ["b"]}
    full = {"text": "no room", "status": 75}
    joint = joint_error({1: spoilt, 2: other})
    assert isinstance(joint, NotFiniteError)
    assert (joint.what, joint.questions) == ("the loss is nan", ("a", "b"))
    ended = joint_error({0: spoilt, 2: full})
    assert isinstance(ended, TryAgainError)
    assert str(ended) == "on rank 2, no room"
