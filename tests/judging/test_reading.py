"""Files of samples: every shape, how samples find their questions, what is counted."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import neuron_opsd as no
from neuron_opsd.errors import DataError
from neuron_opsd.progress import Silent
from neuron_opsd.results.judging import JudgedFile
from sample_files import (
    Row,
    answered,
    capitals,
    inspect_sample,
    likelihood_row,
    lm_eval_row,
    sums,
    write_log,
    write_rows,
    write_zip_log,
)

FEW = {"evaluation.num_resamples": 20}
NUMBERS = FEW | {"answers.reader": "number"}


def judged(
    path: Path,
    test: Path | None = None,
    settings: Mapping[str, Any] = NUMBERS,
    confidence: str = "",
) -> JudgedFile:
    """Score one file."""
    tests = {} if test is None else {"exam": test}
    data = no.judge(
        {"model": path}, settings, tests, progress=Silent(), confidence=confidence
    )
    return data.files[0]


def counts(found: JudgedFile) -> dict[str, int]:
    """Return how much of each kind was found."""
    return {one.kind: one.count for one in found.findings}


def accuracy(found: JudgedFile) -> float:
    """Return Avg@k."""
    return found.measures["avg_at_k"].value


@pytest.fixture
def exam(tmp_path: Path) -> Path:
    """Give a test set of three sums."""
    return write_rows(tmp_path / "exam.jsonl", sums(3))


def test_a_row_a_sample_with_ids(exam: Path, tmp_path: Path) -> None:
    rows = answered(sums(3), [4, 1, 0])
    found = judged(write_rows(tmp_path / "made.jsonl", rows), exam)
    assert (found.num_questions, found.num_samples, found.samples) == (3, 12, (4, 4))
    assert accuracy(found) == pytest.approx(5 / 12)
    assert found.measures["pass_at_k"].value == pytest.approx(2 / 3)
    # Of four different answers the first given has the vote.
    assert found.measures["maj_at_k"].value == pytest.approx(2 / 3)
    assert found.shapes == ("plain",)
    assert counts(found) == {}


@pytest.mark.parametrize(
    "row",
    [
        {"completions": ["0", "7", "0"]},
        {"responses": [[{"role": "assistant", "content": "0"}], "7", "0"]},
        {"outputs": [{"text": "0", "finish_reason": "stop"}, {"text": "7"}, "0"]},
        {"choices": [{"message": {"content": one}} for one in ("0", "7", "0")]},
        {
            "choices": [
                {"text": one, "finish_reason": "stop", "index": n}
                for n, one in enumerate(("0", "7", "0"))
            ]
        },
        {
            "response": {
                "status_code": 200,
                "body": {
                    "id": "cmpl-1",
                    "choices": [{"message": {"content": c}} for c in ("0", "7", "0")],
                },
            },
            "error": None,
        },
    ],
)
def test_several_samples_in_a_row(row: Row, exam: Path, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "made.jsonl", [{"custom_id": "q0", **row}])
    found = judged(path, exam)
    assert found.num_samples == 3
    assert accuracy(found) == pytest.approx(2 / 3)
    assert counts(found) == {"missing": 2}


def test_reasoning_apart_and_within_is_left_out(exam: Path, tmp_path: Path) -> None:
    parts = [{"type": "reasoning", "reasoning": "4?"}, {"type": "text", "text": "2"}]
    rows: list[Row] = [
        {"id": "q0", "completion": "<think>It is 7</think>The answer is 0."},
        {"id": "q1", "choices": [{"message": {"role": "assistant", "content": parts}}]},
        {"id": "q2", "completion": "<think>It is 4", "finish_reason": "length"},
    ]
    found = judged(write_rows(tmp_path / "made.jsonl", rows), exam)
    assert accuracy(found) == pytest.approx(2 / 3)
    assert counts(found) == {"unread": 1}
    assert "line 3, q2: reasoning is not closed" in found.findings[0].first


def test_cut_completions_and_tokens_are_counted_where_the_file_says(
    exam: Path, tmp_path: Path
) -> None:
    rows: list[Row] = [
        {"id": "q0", "completion": "0", "finish_reason": "stop", "num_tokens": 10},
        {"id": "q1", "completion": "2", "finish_reason": "length", "num_tokens": 20},
        {"id": "q2", "completion": "4", "finish_reason": "stop", "token_ids": [1] * 30},
    ]
    found = judged(write_rows(tmp_path / "made.jsonl", rows), exam)
    assert found.measures["truncation"].value == pytest.approx(1 / 3)
    assert found.measures["mean_length"].value == pytest.approx(20.0)
    for row in rows:
        row.pop("finish_reason")
    del rows[0]["num_tokens"]
    found = judged(write_rows(tmp_path / "made.jsonl", rows), exam)
    assert not {"truncation", "mean_length"} & found.measures.keys()


def test_a_cut_completion_is_read_as_one(exam: Path, tmp_path: Path) -> None:
    rows = [{"id": "q1", "completion": "First 1, then 2", "finish_reason": "stop"}]
    found = judged(write_rows(tmp_path / "made.jsonl", rows), exam)
    assert accuracy(found) == 1.0
    rows[0]["finish_reason"] = "length"
    found = judged(write_rows(tmp_path / "made.jsonl", rows), exam)
    assert counts(found) == {"unread": 1, "missing": 2}


def test_the_mean_of_what_is_stated_is_that_of_the_vote(
    exam: Path, tmp_path: Path
) -> None:
    row = {"id": "q0", "completions": ["0", "7", "0"], "confidence": [0.9, 0.1, 0.6]}
    found = judged(write_rows(tmp_path / "made.jsonl", [row]), exam)
    mean = {one.source: one.mean for one in found.confidences}
    assert mean["stated, mean"] == pytest.approx(0.75)
    assert mean["stated"] == pytest.approx(1.6 / 3)
    assert mean["vote share"] == pytest.approx(2 / 3)


def test_samples_without_ids_are_found_by_what_they_ask(
    exam: Path, tmp_path: Path
) -> None:
    rows: list[Row] = [
        {"prompt": "What is 0 plus 0?", "completion": "0"},
        {"prompt": "Question: What is  1 plus 1?\nAnswer:", "completion": "2"},
        {
            "prompt": [{"role": "user", "content": "What is 2 plus 2?"}],
            "completion": "5",
        },
        {"id": "other-17", "question": "What is 2 plus 2?", "completion": "4"},
    ]
    found = judged(write_rows(tmp_path / "made.jsonl", rows), exam)
    assert accuracy(found) == pytest.approx(2.5 / 3)
    assert counts(found) == {"by text": 1, "fewer": 2}


def test_an_id_that_asks_something_else_is_an_error(exam: Path, tmp_path: Path) -> None:
    rows = [{"id": "q1", "question": "Who was Ada?", "completion": "2"}]
    path = write_rows(tmp_path / "made.jsonl", rows)
    with pytest.raises(DataError, match=r"line 1: has the id 'q1', but asks 'Who was"):
        judged(path, exam)
    swapped = [{"id": "q1", "question": "What is 2 plus 2?", "completion": "4"}]
    found = judged(write_rows(tmp_path / "made.jsonl", swapped), exam)
    assert counts(found) == {"by text": 1, "missing": 2}
    assert accuracy(found) == 1.0


def test_what_belongs_nowhere_is_counted_and_named(exam: Path, tmp_path: Path) -> None:
    rows = [*answered(sums(3), [4, 4, 4]), {"id": "q99", "completion": "1"}]
    found = judged(write_rows(tmp_path / "made.jsonl", rows), exam)
    assert counts(found) == {"unmatched": 1}
    assert found.findings[0].first == ("line 13: 'q99'",)
    with pytest.raises(DataError, match=r"none of its samples .* 'q99', the test set"):
        judged(write_rows(tmp_path / "made.jsonl", rows[-1:]), exam)


def test_missing_samples_are_counted_and_named(exam: Path, tmp_path: Path) -> None:
    rows = answered(sums(3), [4, 4, 4])[:6]
    found = judged(write_rows(tmp_path / "made.jsonl", rows), exam)
    assert counts(found) == {"missing": 1, "fewer": 1}
    assert [one.first for one in found.findings] == [("q2",), ("q1 has 2 of 4",)]
    assert found.samples == (2, 4)


def test_a_sample_that_stands_there_twice_counts_once(
    exam: Path, tmp_path: Path
) -> None:
    rows = answered(sums(3), [4, 2, 2])
    found = judged(write_rows(tmp_path / "made.jsonl", [*rows, rows[0]]), exam)
    assert counts(found) == {"repeated": 1}
    assert found.findings[0].first == ("line 13, as line 1",)
    assert found.num_samples == 12
    clash = rows[0] | {"completion": "something else, 5"}
    path = write_rows(tmp_path / "made.jsonl", [*rows, clash])
    with pytest.raises(DataError, match=r"line 13: is sample 0 of 'q0', as line 1 is"):
        judged(path, exam)


def test_long_completions_that_are_alike_are_pointed_out(
    exam: Path, tmp_path: Path
) -> None:
    text = "I add the numbers with care. " * 10 + "The answer is 0."
    rows = [{"id": "q0", "completion": text}, {"id": "q0", "completion": "0"}] * 2
    found = judged(write_rows(tmp_path / "made.jsonl", rows), exam)
    assert counts(found) == {"alike": 1, "missing": 2}
    assert found.num_samples == 4


def test_samples_of_one_seed_are_pointed_out(tmp_path: Path) -> None:
    exam = write_rows(tmp_path / "exam.jsonl", sums(12))
    rows: list[Row] = [{"id": f"q{n}", "completion": "1"} for n in range(12)] * 3
    found = judged(write_rows(tmp_path / "made.jsonl", rows), exam)
    assert counts(found) == {"one draw": 12}
    assert found.findings[0].first[0] == "line 13, q0"
    rows[-1] = {"id": "q11", "completion": "2"}
    assert not counts(judged(write_rows(tmp_path / "other.jsonl", rows), exam))


def test_requests_that_failed_are_no_samples(exam: Path, tmp_path: Path) -> None:
    reply = {"choices": [{"message": {"content": "2"}, "finish_reason": "stop"}]}
    rows: list[Row] = [
        {"custom_id": "q0", "response": None, "error": {"code": 429}},
        {"custom_id": "q1", "response": {"body": reply}, "error": None},
    ]
    found = judged(write_rows(tmp_path / "made.jsonl", rows), exam)
    assert counts(found) == {"failed": 1, "missing": 2}
    assert "429" in found.findings[0].first[0]
    with pytest.raises(DataError, match="no sample that could be scored"):
        judged(write_rows(tmp_path / "made.jsonl", rows[:1]), exam)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["not json"], r"made\.jsonl, line 1: not JSON"),
        (["{}"], "has no completion"),
        (['{"id": [1], "completion": "x"}'], "its id is a list"),
        (['{"id": "q0", "completion": 5}'], "completion must be text, not 5"),
        ([], "holds no samples"),
    ],
)
def test_bad_rows_are_errors(
    rows: Sequence[str], said: str, exam: Path, tmp_path: Path
) -> None:
    path = tmp_path / "made.jsonl"
    path.write_text("\n".join(rows))
    with pytest.raises(DataError, match=said):
        judged(path, exam)


def test_files_of_no_known_format_are_refused(exam: Path, tmp_path: Path) -> None:
    path = tmp_path / "made.txt"
    path.write_text("{}")
    with pytest.raises(DataError, match="is not a file of samples"):
        judged(path, exam)
    with pytest.raises(DataError, match="does not exist"):
        judged(tmp_path / "none.jsonl", exam)


def test_a_file_with_its_own_questions(tmp_path: Path) -> None:
    rows = [
        {**sum_, **sample, "temperature": 0.7, "seed": n}
        for sum_ in sums(3)
        for n, sample in enumerate(answered([sum_], [3]))
    ]
    found = judged(write_rows(tmp_path / "made.jsonl", rows))
    assert (found.num_questions, accuracy(found)) == (3, 0.75)
    without_ids = [{k: v for k, v in row.items() if k != "id"} for row in rows]
    found = judged(write_rows(tmp_path / "made.jsonl", without_ids))
    assert (found.num_questions, accuracy(found)) == (3, 0.75)
    rows[5]["answer"] = "7"
    path = write_rows(tmp_path / "made.jsonl", rows)
    with pytest.raises(
        DataError, match=r"line 6: has the id 'q1', but not the same question"
    ):
        judged(path)


def test_without_questions_a_test_set_is_asked_for(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "made.jsonl", answered(sums(3), [1, 1, 1]))
    with pytest.raises(DataError, match="give the test set with --test NAME=FILE"):
        judged(path)


def test_lm_eval_logs_of_generations(exam: Path, tmp_path: Path) -> None:
    rows = [
        lm_eval_row(n, doc, ["0", "2"], exact_match=1.0, filter=name)
        for n, doc in enumerate(sums(2))
        for name in ("strict", "flexible")
    ]
    path = write_rows(tmp_path / "samples_exam.jsonl", rows)
    for test in (exam, None):
        found = judged(path, test)
        assert found.num_samples == 4
        assert accuracy(found) == 0.5
        assert counts(found)["other filters"] == 2
        assert found.shapes == ("lm-eval",)
        # Two samples share the row's one score, which is of neither.
        assert found.agreement is None


def test_lm_eval_logs_whose_documents_are_no_questions(tmp_path: Path) -> None:
    row = lm_eval_row(7, sums(1)[0], ["It is 0."], exact_match=0.0)
    row["doc"] = {"left": 0, "right": 0}
    found = judged(write_rows(tmp_path / "samples.jsonl", [row]))
    assert accuracy(found) == 1.0
    assert found.agreement == (0, 1)
    assert counts(found) == {"disagree": 1}
    assert found.findings[0].first == ("line 1, 7: right here, 0 there",)


def test_lm_eval_logs_of_likelihoods(tmp_path: Path) -> None:
    rows = [
        likelihood_row(0, capitals()[0], [-3.0, -1.0, -2.0]),
        likelihood_row(1, capitals()[1], [-3.0, -1.0, -2.0]),
        likelihood_row(2, capitals()[2], [-2.0, -2.0, -1.5]),
    ]
    for row in rows:  # what was asked is more than the question
        for request in row["arguments"].values():
            request["arg_0"] = f"Question: {request['arg_0']}\nAnswer:"
    path = write_rows(tmp_path / "samples.jsonl", rows)
    exam = write_rows(tmp_path / "capitals.jsonl", capitals())
    for test in (None, exam):
        found = judged(path, test, FEW)
        assert accuracy(found) == pytest.approx(2 / 3)
        assert found.agreement == (3, 3)
        (likelihood,) = found.confidences
        assert likelihood.source == "likelihood"
        share = 1 / (1 + 2.718281828**-1 + 2.718281828**-2)
        third = 1 / (1 + 2 * 2.718281828**-0.5)
        assert likelihood.mean == pytest.approx((2 * share + third) / 3)


def test_letters_count_only_where_the_prompt_lists_the_choices_alike(
    tmp_path: Path,
) -> None:
    exam = write_rows(tmp_path / "capitals.jsonl", capitals())
    row = likelihood_row(0, capitals()[0], [-3.0, -1.0, -2.0])
    asked = "Capital of France?\nA. Lyon\nB. Paris\nC. Nice\nAnswer:"
    for place, letter in enumerate("ABC"):
        row["arguments"][f"gen_args_{place}"] = {"arg_0": asked, "arg_1": f" {letter}"}
    path = write_rows(tmp_path / "samples.jsonl", [row])
    assert accuracy(judged(path, exam, FEW)) == 1.0
    swapped = json.loads(json.dumps(row).replace("Lyon", "Nice", 1))
    for place in range(3):
        swapped["arguments"][f"gen_args_{place}"]["arg_0"] = (
            "Capital of France?\nA. Paris\nB. Lyon\nC. Nice\nAnswer:"
        )
    path = write_rows(tmp_path / "samples.jsonl", [swapped])
    with pytest.raises(DataError, match="in the order of the test set"):
        judged(path, exam, FEW)


@pytest.mark.parametrize("form", ["json", "zstd", "deflate"])
def test_inspect_logs(form: str, tmp_path: Path) -> None:
    samples = [
        inspect_sample(question, text, epoch, scores={"ours": {"value": score}})
        for question, pair in zip(
            capitals(), [("B", "B"), ("A", "C"), ("It is C.", "A")], strict=True
        )
        for epoch, (text, score) in enumerate(zip(pair, "CI", strict=True), 1)
    ]
    path = tmp_path / ("log.json" if form == "json" else "log.eval")
    if form == "json":
        write_log(path, samples)
    else:
        write_zip_log(path, samples, form)
    exam = write_rows(tmp_path / "capitals.jsonl", capitals())
    for test in (None, exam):
        found = judged(path, test, FEW)
        assert (found.num_questions, found.samples) == (3, (2, 2))
        assert accuracy(found) == pytest.approx(4 / 6)
        assert found.agreement == (5, 6)
        assert found.shapes == ("inspect",)
        assert found.measures["mean_length"].value == pytest.approx(8 / 6)


def test_inspect_samples_that_failed_and_long_texts_kept_apart(tmp_path: Path) -> None:
    question = sums(1)[0]
    apart = inspect_sample(question, "attachment://abc", 1, attachments={"abc": "0"})
    failed = inspect_sample(question, "", 2, error={"message": "timed out"})
    found = judged(write_log(tmp_path / "log.json", [apart, failed]))
    assert (found.num_samples, accuracy(found)) == (1, 1.0)
    assert counts(found) == {"failed": 1}
    assert "timed out" in found.findings[0].first[0]


def test_a_damaged_log_is_an_error(tmp_path: Path) -> None:
    question = sums(1)[0]
    path = write_zip_log(tmp_path / "log.eval", [inspect_sample(question, "0" * 500)])
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    with pytest.raises(DataError, match=r"log\.eval"):
        judged(path)
    place = whole.index(b"samples/") + 40
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
    with pytest.raises(DataError, match=r"log\.eval"):
        judged(path)
    entry = zipfile.ZipFile(io.BytesIO(whole)).getinfo("samples/q0_epoch_1.json")
    crc, other = (struct.pack("<L", one) for one in (entry.CRC, entry.CRC ^ 1))
    path.write_bytes(whole.replace(crc, other))
    with pytest.raises(DataError, match=r"q0_epoch_1\.json: is damaged"):
        judged(path)
    log = write_log(tmp_path / "log.json", [])
    with pytest.raises(DataError, match="holds no samples"):
        judged(log)


def test_rows_that_are_too_long_are_errors(tmp_path: Path) -> None:
    question = sums(1)[0]
    path = write_zip_log(tmp_path / "log.eval", [inspect_sample(question, "0" * 5000)])
    with pytest.raises(DataError, match=r"questions\.max_row_bytes"):
        judged(path, settings=NUMBERS | {"questions.max_row_bytes": 1000})


def test_confidences_under_other_names(exam: Path, tmp_path: Path) -> None:
    rows = [
        {"id": f"q{n}", "completion": str(2 * n), "meta": {"sure": 50 + n}, "p": [0.5]}
        for n in range(3)
    ]
    path = write_rows(tmp_path / "made.jsonl", rows)
    found = judged(path, exam, confidence="meta.sure")
    assert found.confidences[0].mean == pytest.approx(0.51)
    assert judged(path, exam, confidence="p").confidences[0].mean == 0.5
    assert judged(path, exam).confidences == ()
    with pytest.raises(DataError, match="has no column 'certain'"):
        judged(path, exam, confidence="certain")


def test_confidences_that_are_missing_or_unread_are_counted(
    exam: Path, tmp_path: Path
) -> None:
    rows: list[Row] = [
        {"id": "q0", "completion": "0", "confidence": 0.9},
        {"id": "q1", "completion": "2", "confidence": "banana"},
        {"id": "q2", "completion": "5"},
    ]
    found = judged(write_rows(tmp_path / "made.jsonl", rows), exam)
    assert counts(found) == {"no confidence": 2, "unread confidence": 1}
    (stated,) = found.confidences
    assert (stated.num_answers, stated.num_questions, stated.mean) == (1, 1, 0.9)
    rows[2]["confidence"] = 90
    path = write_rows(tmp_path / "made.jsonl", rows)
    with pytest.raises(DataError, match=r"line 1 has 0\.9 and line 3 has 90"):
        judged(path, exam)
