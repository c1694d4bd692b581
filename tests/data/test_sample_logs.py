"""Questions out of what judges logged, and out of TRL's rows."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from neuron_opsd.config import QuestionsConfig
from neuron_opsd.data.questions import QuestionFile, read_questions
from neuron_opsd.errors import DataError

WORDS = ["ice", "tin", "gold", "lead"]


def write(path: Path, rows: Sequence[Any]) -> Path:
    """Write rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def lm_eval_row(number: int, doc: dict[str, Any], filter_name: str = "none") -> Any:
    """Return a sample as `lm_eval --log_samples` of version 0.4 writes it."""
    return {
        "doc_id": number,
        "doc": doc,
        "target": "2",
        "arguments": {"gen_args_0": {"arg_0": "Question: Which floats?\nAnswer:"}},
        "resps": [["so", "so"]],
        "filtered_resps": ["so"],
        "filter": filter_name,
        "metrics": ["exact_match"],
        "doc_hash": "d0c" * 20,
        "prompt_hash": "f" * 64,
        "target_hash": "e" * 64,
        "exact_match": 1.0,
    }


def arc(number: int) -> dict[str, Any]:
    """Return a row of ARC."""
    return {
        "id": f"Mercury_{number}",
        "question": f"Which floats in {number}?",
        "choices": {"text": WORDS, "label": list("ABCD")},
        "answerKey": "C",
    }


def test_the_doc_of_lm_eval_is_read_as_the_set_that_it_is(tmp_path: Path) -> None:
    rows = [lm_eval_row(n, arc(n)) for n in range(3)]
    file = read_questions(write(tmp_path / "samples_arc.jsonl", rows))
    assert [q.id for q in file.questions] == [f"Mercury_{n}" for n in range(3)]
    assert file.questions[1].choices == tuple(WORDS)
    assert set(file.gold.answer_of.values()) == {"gold"}
    path = tmp_path / "samples_arc.jsonl"
    assert file.notes == (
        f"{path}: read the questions of a log of lm-eval",
        f"{path}: read as ARC-Easy, ARC-Challenge",
    )


def test_a_question_under_several_filters_is_one(tmp_path: Path) -> None:
    doc = {"question": "How many?", "answer": "We count.\n#### 7"}
    rows = [
        lm_eval_row(n, doc | {"question": f"How many {n}?"}, name)
        for name in ("strict-match", "flexible-extract")
        for n in range(4)
    ]
    file = read_questions(write(tmp_path / "samples.jsonl", rows))
    assert [q.id for q in file.questions] == ["0", "1", "2", "3"]
    assert set(file.gold.answer_of.values()) == {"7"}
    assert file.reader == "number"
    assert "of lm-eval; 4 rows repeat one" in file.notes[0]


def test_logs_of_two_tasks_in_one_file_are_not_mixed_up(tmp_path: Path) -> None:
    rows = [lm_eval_row(0, {"question": text}) for text in ("One?", "Two?")]
    with pytest.raises(DataError, match="line 2: has the id '0' of line 1"):
        read_questions(write(tmp_path / "samples.jsonl", rows))


def test_the_target_answers_a_doc_without_an_answer(tmp_path: Path) -> None:
    rows = [lm_eval_row(0, {"query": "What is 1 + 1?"})]
    file = read_questions(write(tmp_path / "samples.jsonl", rows))
    assert file.gold.answer_of == {"0": "2"}
    pool = read_questions(write(tmp_path / "samples.jsonl", rows), labelled=False)
    assert pool.gold.answer_of == {}
    assert pool.questions == file.questions


def inspect_log(samples: Sequence[Any], **more: Any) -> dict[str, Any]:
    """Return a log as inspect writes it with `--log-format json`."""
    return {
        "version": 2,
        "status": "success",
        "eval": {"task": "exam", "model": "hf/model", "config": {"epochs": 2}},
        "plan": {"name": "plan", "steps": [{"solver": "multiple_choice"}]},
        "results": {"total_samples": len(samples), "scores": []},
        "stats": {"model_usage": {}},
        "samples": list(samples),
        "reductions": [{"scorer": "choice", "samples": []}],
        **more,
    }


def sample(name: Any, epoch: int = 1, **more: Any) -> dict[str, Any]:
    """Return a sample of such a log."""
    return {
        "id": name,
        "epoch": epoch,
        "input": f"Which floats in {name}?",
        "choices": WORDS,
        "target": "A",
        "messages": [{"id": "x", "role": "user", "content": "Answer: ..."}],
        "output": {"model": "m", "choices": [{"message": {"content": "ANSWER: A"}}]},
        "scores": {"choice": {"value": "C", "answer": "A"}},
        "events": [{"event": "model", "text": "{[" * 50}],
        "attachments": {},
    } | more


def read_log(tmp_path: Path, log: dict[str, Any], **named: Any) -> QuestionFile:
    """Read a log."""
    path = tmp_path / "log.json"
    path.write_text(json.dumps(log, indent=2))
    return read_questions(path, **named)


def test_the_samples_of_inspect_are_read_each_once(tmp_path: Path) -> None:
    log = inspect_log([sample(n, epoch) for epoch in (1, 2) for n in (1, 2, 3)])
    file = read_log(tmp_path, log)
    assert [q.id for q in file.questions] == ["1", "2", "3"]
    assert file.questions[0].text == "Which floats in 1?"
    assert file.questions[0].choices == tuple(WORDS)
    assert set(file.gold.answer_of.values()) == {"ice"}
    assert "of inspect; 3 rows repeat one" in file.notes[0]
    assert file.place_of["2"] == "sample 2"
    assert read_log(tmp_path, log, labelled=False).gold.answer_of == {}


def test_inputs_may_be_messages_and_targets_several(tmp_path: Path) -> None:
    asked = [
        {"id": "a", "role": "system", "content": "Be brief."},
        {
            "id": "b",
            "source": "input",
            "role": "user",
            "content": [{"type": "text", "text": "Who?", "refusal": None}],
        },
    ]
    log = inspect_log([sample("q", input=asked, choices=None, target=["he", "she"])])
    file = read_log(tmp_path, log)
    (question,) = file.questions
    assert [m.role for m in question.messages] == ["system", "user"]
    assert question.messages[1].content == "Who?"
    assert file.gold.answer_of == {"q": "he"}
    assert file.gold.aliases_of == {"q": ("she",)}


def test_of_a_log_no_more_is_held_than_a_sample(tmp_path: Path) -> None:
    """A log is one JSON object, far longer than a row may be."""
    log = inspect_log([sample(n, events=["x" * 2000] * 5) for n in range(200)])
    config = QuestionsConfig(max_row_bytes=40_000)
    file = read_log(tmp_path, log, config=config)
    assert (tmp_path / "log.json").stat().st_size > 40 * config.max_row_bytes
    assert len(file.questions) == 200


@pytest.mark.parametrize(
    ("cut", "said"),
    [
        (-40, "the log: not JSON"),
        (4000, r"sample \d+: not JSON"),
    ],
)
def test_a_log_that_was_cut_is_an_error(tmp_path: Path, cut: int, said: str) -> None:
    text = json.dumps(inspect_log([sample(n) for n in range(50)]))
    path = tmp_path / "log.json"
    path.write_text(text[:cut])
    with pytest.raises(DataError, match=said):
        read_questions(path)


def test_a_log_without_samples_holds_no_questions(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no questions"):
        read_log(tmp_path, inspect_log([]))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zipped_log_asks_what_one_of_json_asks(tmp_path: Path, method: int) -> None:
    samples = [sample(n, epoch) for epoch in (1, 2) for n in (1, 2, 3)]
    path = tmp_path / "log.eval"
    with zipfile.ZipFile(path, "w", method) as log:
        log.writestr("header.json", json.dumps({"version": 2, "status": "success"}))
        for one in samples:
            name = f"samples/{one['id']}_epoch_{one['epoch']}.json"
            log.writestr(name, json.dumps(one))
    file = read_questions(path)
    plain = read_log(tmp_path, inspect_log(samples))
    assert file.questions == plain.questions
    assert file.gold == plain.gold
    assert file.place_of["2"] == "samples/2_epoch_1.json"
    assert "of inspect; 3 rows repeat one" in file.notes[0]


def test_a_zipped_log_that_is_none_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "log.eval"
    path.write_bytes(b"PK\3\4")
    with pytest.raises(DataError, match=r"log\.eval: is damaged"):
        read_questions(path)


# --- TRL

TRL = QuestionsConfig(format="trl")
ASKED = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Why?"},
]
ANSWER = {"role": "assistant", "content": "So."}


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [*ASKED, ANSWER]},
        {"prompt": ASKED, "completion": [ANSWER]},
        {"prompt": ASKED, "completion": "So."},
    ],
)
def test_the_answer_in_rows_of_trl_is_no_part_of_the_question(
    tmp_path: Path, row: dict[str, Any]
) -> None:
    path = write(tmp_path / "t.jsonl", [row])
    with pytest.raises(DataError, match="--format"):
        read_questions(path)
    file = read_questions(path, config=TRL)
    (question,) = file.questions
    assert [m.content for m in question.messages] == ["Be brief.", "Why?"]
    assert file.gold.answer_of == {"t-1": "So."}
    assert (
        "the assistant's last turn, or the completion, is the answer" in (file.notes[0])
    )
    pool = read_questions(path, labelled=False, config=TRL)
    assert pool.questions == file.questions
    assert pool.gold.answer_of == {}


def test_rows_of_trl_that_only_ask_are_read_as_they_were(tmp_path: Path) -> None:
    for row in ({"prompt": "Why?"}, {"prompt": ASKED}, {"messages": ASKED}):
        file = read_questions(write(tmp_path / "t.jsonl", [row]), labelled=False)
        assert file.questions[0].messages[-1].content == "Why?"
        assert not any("TRL" in note for note in file.notes)


def test_a_text_prompt_with_its_completion(tmp_path: Path) -> None:
    row = {"prompt": "The sky is", "completion": " blue."}
    file = read_questions(write(tmp_path / "t.jsonl", [row]), config=TRL)
    assert file.questions[0].text == "The sky is"
    assert file.gold.answer_of == {"t-1": "blue."}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"messages": [ANSWER]}, "messages is an empty list"),
        ({"prompt": [ANSWER], "completion": "So."}, "last message of prompt is from"),
    ],
)
def test_rows_of_trl_that_ask_nothing_are_bad(
    tmp_path: Path, row: dict[str, Any], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        read_questions(write(tmp_path / "t.jsonl", [row]), config=TRL)


def test_long_texts_that_inspect_keeps_apart_are_put_back(tmp_path: Path) -> None:
    apart = sample("q", input="attachment://abc", attachments={"abc": "Which floats?"})
    asked = [{"role": "user", "content": "attachment://abc"}]
    inner = sample("r", input=asked, attachments={"abc": "Which sinks?"})
    file = read_log(tmp_path, inspect_log([apart, inner]))
    assert file.questions[0].text == "Which floats?"
    assert file.questions[1].messages[0].content == "Which sinks?"
    lost = inspect_log([sample("q", input="attachment://abc")])
    with pytest.raises(DataError, match="'attachment://abc', which is not among"):
        read_log(tmp_path, lost)
