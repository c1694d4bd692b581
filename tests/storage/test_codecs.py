"""Tests that what a stage writes is what the next one reads, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar, cast

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_opsd.records import (
    Completion,
    Demonstration,
    NeuronSet,
    Rollout,
    SelectionEntry,
    TeacherCheck,
    TeacherContext,
)
from neuron_opsd.records.scores import QuestionScore, TestResult
from neuron_opsd.storage import codecs
from neuron_opsd.storage.codecs import (
    CONTEXTS,
    NEURONS,
    ROLLOUTS,
    SELECTION,
    Codec,
    json_codec,
    record_codec,
    records_codec,
    writable,
)
from neuron_opsd.storage.stored_rollouts import StoredRollouts

T = TypeVar("T")

HOSTILE = ["", "ünï\u2028cødé \U0001f9e0", 'a "b" \\ \n\r\t', "\0", "<|im_end|>"]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.floats(allow_nan=False)
COUNTS = st.integers(0, 2**31 - 1)

ROLLOUT = st.builds(
    Rollout,
    question_id=TEXTS,
    index=COUNTS,
    temperature=NUMBERS,
    completion=st.builds(
        Completion,
        token_ids=st.lists(COUNTS, max_size=4).map(tuple),
        text=TEXTS,
        finished=st.booleans(),
        logprob=NUMBERS,
        entropy=NUMBERS,
    ),
    answer=st.none() | TEXTS,
)
CONTEXT = st.builds(
    TeacherContext,
    question_id=TEXTS,
    demonstrations=st.lists(
        st.builds(
            Demonstration,
            question_id=TEXTS,
            answer=TEXTS,
            distance=NUMBERS,
            reason=TEXTS,
        ),
        max_size=3,
    ).map(tuple),
)

TEST_RESULTS = records_codec("results.json", TestResult)


def through_file(codec: Codec[T], value: T) -> T:
    """Write a value twice, compare the bytes, and read it back."""
    with TemporaryDirectory() as folder:
        first, second = Path(folder, "1"), Path(folder, "2")
        codec.save(value, first)
        codec.save(value, second)
        assert first.read_bytes() == second.read_bytes()
        found = codec.load(first)
        # What stays in its file is gone with the folder.
        return cast("T", tuple(found)) if isinstance(found, StoredRollouts) else found


def neuron_set(question_id: str, neurons: Sequence[int]) -> NeuronSet:
    return NeuronSet(
        question_id=question_id,
        neuron_count=len(neurons) + 7,
        neuron_ids=np.array(neurons, dtype=np.uint32),
        scores=np.array([0.1 + n for n in neurons], dtype=np.float32),
        num_tokens=3,
    )


def test_a_rollout_comes_back_the_same() -> None:
    completion = Completion((1, 0, 49_151), "yes", True, -1.5, 0.1 + 0.2)  # noqa: FBT003
    rollouts = (
        Rollout("q-1", 0, 0.6, completion, "yes"),
        Rollout("q-2", 7, 0.0, Completion((), "", False, -0.0, 1e-300), None),  # noqa: FBT003
    )
    assert through_file(ROLLOUTS, rollouts) == rollouts


def test_a_token_of_many_rollouts_is_one_object() -> None:
    thought = Completion((70_000, 5, 70_000), "x", True, 0.0, 0.0)  # noqa: FBT003
    rollouts = tuple(Rollout("q", k, 0.6, thought, None) for k in range(3))
    found = through_file(ROLLOUTS, rollouts)
    tokens = [token for one in found for token in one.completion.token_ids]
    assert len({id(token) for token in tokens if token == 70_000}) == 1


def test_the_files_of_tables_have_the_promised_columns(tmp_path: Path) -> None:
    ROLLOUTS.save((), tmp_path / "rollouts.parquet")
    NEURONS.save((), tmp_path / "neurons.parquet")
    rollouts = pq.read_schema(tmp_path / "rollouts.parquet")
    neurons = pq.read_schema(tmp_path / "neurons.parquet")
    assert [f"{field.name} {field.type}" for field in rollouts] == [
        "question_id string",
        "index int64",
        "temperature double",
        "token_ids list<element: int32>",
        "text string",
        "finished bool",
        "logprob double",
        "entropy double",
        "answer string",
        "final_start int64",
    ]
    assert [f"{field.name} {field.type}" for field in neurons] == [
        "question_id string",
        "neuron_count int64",
        "neuron_ids list<element: uint32>",
        "scores list<element: float>",
        "num_tokens int64",
    ]
    metadata = pq.read_metadata(tmp_path / "neurons.parquet")
    assert metadata.num_rows == 0


@pytest.mark.parametrize("rows_per_group", [1, 2, 4096])
def test_neuron_sets_come_back_the_same(
    monkeypatch: pytest.MonkeyPatch, rows_per_group: int
) -> None:
    monkeypatch.setattr(codecs, "ROWS_PER_GROUP", rows_per_group)
    sets: Sequence[NeuronSet] = [
        neuron_set("a", [0, 5, 2**32 - 1]),
        neuron_set("b", []),
        neuron_set("c", [7]),
        neuron_set("d", []),
        neuron_set("e", [1, 2]),
    ]
    back = through_file(NEURONS, sets)
    for old, new in zip(sets, back, strict=True):
        assert (old.question_id, old.neuron_count) == (
            new.question_id,
            new.neuron_count,
        )
        assert old.num_tokens == new.num_tokens
        assert old.neuron_ids.tolist() == new.neuron_ids.tolist()
        assert old.scores.tolist() == new.scores.tolist()
        assert new.neuron_ids.dtype == np.uint32
        assert new.scores.dtype == np.float32


@pytest.mark.parametrize(
    "codec", [ROLLOUTS, NEURONS, SELECTION, CONTEXTS, TEST_RESULTS]
)
def test_nothing_comes_back_as_nothing(codec: Codec[Sequence[object]]) -> None:
    assert through_file(codec, ()) == ()


@pytest.mark.parametrize("text", HOSTILE)
def test_any_text_comes_back_the_same(text: str) -> None:
    completion = Completion((1,), text, finished=True, logprob=0.0, entropy=0.0)
    rollouts = (Rollout(text, 0, 0.6, completion, text),)
    entries = (SelectionEntry(text, 5, 0, kept=True, reason=text),)
    assert through_file(ROLLOUTS, rollouts) == rollouts
    assert through_file(SELECTION, entries) == entries
    assert through_file(json_codec("x"), {text: [text]}) == {text: [text]}


def test_half_a_surrogate_pair_is_replaced_and_a_pair_is_joined() -> None:
    assert writable("a\ud800b\udfff") == "a\ufffdb\ufffd"
    assert writable("\ud83e\udde0") == "\U0001f9e0"
    completion = Completion((1,), "\ud800", finished=True, logprob=0.0, entropy=0.0)
    (back,) = through_file(ROLLOUTS, (Rollout("\udfff", 0, 0.6, completion, "\ud800"),))
    assert (back.question_id, back.answer) == ("\ufffd", "\ufffd")
    assert back.completion.text == "\ufffd"
    (context,) = through_file(CONTEXTS, (TeacherContext("\ud800", ()),))
    assert context.question_id == "\ufffd"


def test_test_results_come_back_with_their_scores() -> None:
    score = QuestionScore("q", 3, 8, None, False, 0.375, 5, 1, 12.5)  # noqa: FBT003
    results = (TestResult("arc", {"avg_at_k": 1 / 3, "ece": float("inf")}, (score,)),)
    assert through_file(TEST_RESULTS, results) == results


def test_a_number_that_is_none_comes_back_as_such() -> None:
    (back,) = through_file(TEST_RESULTS, (TestResult("a", {"m": float("nan")}, ()),))
    assert np.isnan(back.metrics["m"])


def test_one_record_comes_back_the_same() -> None:
    teacher_check = TeacherCheck(
        9, 0.5, 0.25, 0.1, 0.2, "yes", 0.9, 0.4, 0.75, ("it got worse", "stop")
    )
    assert (
        through_file(record_codec("teacher_check.json", TeacherCheck), teacher_check)
        == teacher_check
    )


def test_many_records_lie_one_a_line(tmp_path: Path) -> None:
    entries = [SelectionEntry(str(n), n, n, kept=n == 1, reason="r") for n in (1, 2)]
    SELECTION.save(entries, tmp_path / "selection.json")
    text = (tmp_path / "selection.json").read_text()
    assert len(text.splitlines()) == 4
    assert json.loads(text)[0] == {
        "question_id": "1",
        "neuron_count": 1,
        "rank": 1,
        "kept": True,
        "reason": "r",
    }


def test_a_codec_can_lie_elsewhere() -> None:
    elsewhere = ROLLOUTS.named("base/arc")
    assert elsewhere.file_name == "base/arc.parquet"
    assert elsewhere.read is ROLLOUTS.read


@given(st.lists(ROLLOUT, max_size=5).map(tuple))
@settings(max_examples=30, deadline=None)
def test_any_rollouts_come_back_the_same(rollouts: Sequence[Rollout]) -> None:
    assert through_file(ROLLOUTS, rollouts) == rollouts


@given(st.lists(CONTEXT, max_size=4).map(tuple))
@settings(max_examples=30, deadline=None)
def test_any_contexts_come_back_the_same(contexts: Sequence[TeacherContext]) -> None:
    assert through_file(CONTEXTS, contexts) == contexts
