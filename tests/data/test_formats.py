"""What columns mean: public sets by name, other names by table, the rest refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from neuron_opsd.config import QuestionsConfig
from neuron_opsd.data.formats.public_sets import BY_NAME, check_targets, format_of
from neuron_opsd.data.questions import QuestionFile, read_questions
from neuron_opsd.errors import ConfigError, DataError

Row: TypeAlias = dict[str, Any]
Read: TypeAlias = Callable[..., QuestionFile]

WORDS = ["ice", "tin", "gold", "lead"]

PUBLIC: dict[str, tuple[Row, str, tuple[str, ...], str]] = {
    "edu_feedback": (
        {"id": 0, "input": "Good thesis. ", "label": "Without Explanation"},
        "Does this comment on an essay explain its judgement?\nComment: Good thesis.",
        ("Without Explanation", "With Explanation"),
        "Without Explanation",
    ),
    "arc": (
        {
            "id": "Mercury_7175875",
            "question": "Which floats?",
            "choices": {"text": WORDS, "label": ["1", "2", "3", "4"]},
            "answerKey": "2",
        },
        "Which floats?",
        tuple(WORDS),
        "tin",
    ),
    "commonsense_qa": (
        {
            "id": "1af",
            "question": "Which floats?",
            "question_concept": "float",
            "choices": {"label": list("ABCDE"), "text": [*WORDS, "zinc"]},
            "answerKey": "E",
        },
        "Which floats?",
        (*WORDS, "zinc"),
        "zinc",
    ),
    "openbookqa": (
        {
            "id": "7-980",
            "question_stem": "Ice will",
            "choices": {"text": WORDS, "label": list("ABCD")},
            "answerKey": "D",
        },
        "Ice will",
        tuple(WORDS),
        "lead",
    ),
    "sciknoweval": (
        {
            "question": "Which floats?",
            "choices": {"text": WORDS, "label": list("ABCD")},
            "answerKey": "C",
            "answer": "",
            "type": "mcq-4-choices",
            "domain": "Physics",
            "details": {"level": "L2", "task": "t", "subtask": "s", "source": "x"},
            "prompt": {"default": "Answer the question."},
        },
        "Which floats?",
        tuple(WORDS),
        "gold",
    ),
    "mmlu": (
        {
            "question": "How many?",
            "subject": "algebra",
            "choices": ["0", "4", "1", "6"],
            "answer": 1,
        },
        "How many?",
        ("0", "4", "1", "6"),
        "4",
    ),
    "mmlu_pro": (
        {
            "question_id": 70,
            "question": "Which floats?",
            "options": [*WORDS, "N/A", "N/A"],
            "answer": "C",
            "answer_index": 2,
            "cot_content": "A: Let's think. The answer is (C).",
            "category": "physics",
            "src": "ori_mmlu",
        },
        "Which floats?",
        tuple(WORDS),
        "gold",
    ),
    "medmcqa": (
        {
            "id": "e9ad",
            "question": "Which floats?",
            **dict(zip(["opa", "opb", "opc", "opd"], WORDS, strict=True)),
            "cop": 3,
            "choice_type": "single",
            "exp": "Lead is heavy",
            "subject_name": "Physics",
            "topic_name": None,
        },
        "Which floats?",
        tuple(WORDS),
        "lead",
    ),
    "race": (
        {
            "example_id": "high1.txt",
            "article": "Ice is light.",
            "answer": "A",
            "question": "What floats?",
            "options": WORDS,
        },
        "Ice is light.\nWhat floats?",
        tuple(WORDS),
        "ice",
    ),
    "gpqa": (
        {
            "Question": "Which floats?\n",
            "Correct Answer": "ice\n",
            "Incorrect Answer 1": "tin",
            "Incorrect Answer 2": "gold",
            "Incorrect Answer 3": "lead",
            "Explanation": "It is light.",
            "Record ID": "rec0",
            "Subdomain": "x",
        },
        "Which floats?",
        ("ice", "gold", "lead", "tin"),
        "ice",
    ),
    "sciq": (
        {
            "question": "Which floats?",
            "distractor3": "tin",
            "distractor1": "gold",
            "distractor2": "lead",
            "correct_answer": "ice",
            "support": "Ice is lighter than water.",
        },
        "Which floats?",
        ("ice", "gold", "lead", "tin"),
        "ice",
    ),
    "opentdb": (
        {
            "type": "multiple",
            "difficulty": "easy",
            "category": "Science",
            "question": "Which floats?",
            "correct_answer": "ice",
            "incorrect_answers": ["tin", "gold", "lead"],
        },
        "Which floats?",
        ("ice", "gold", "lead", "tin"),
        "ice",
    ),
    "truthfulqa": (
        {
            "question": "Which floats?",
            "mc1_targets": {"choices": WORDS, "labels": [1, 0, 0, 0]},
            "mc2_targets": {"choices": WORDS, "labels": [1, 0, 1, 0]},
        },
        "Which floats?",
        ("ice", "gold", "lead", "tin"),
        "ice",
    ),
    "boolq": (
        {"question": "does ice float", "answer": False, "passage": "Ice is light."},
        "Ice is light.\nQuestion: does ice float?",
        ("no", "yes"),
        "no",
    ),
    "hellaswag": (
        {
            "ind": 24,
            "activity_label": "Roof shingle removal",
            "ctx_a": "A man is on a roof.",
            "ctx_b": "he",
            "ctx": "How to float [title] Take ice. he",
            "endings": ["sinks.", "swims. [step] He rows.", "flies.", "sits."],
            "source_id": "activitynet~v",
            "split": "val",
            "split_type": "indomain",
            "label": "1",
        },
        "How to float. Take ice. he",
        ("sinks.", "swims. He rows.", "flies.", "sits."),
        "swims. He rows.",
    ),
    "winogrande": (
        {
            "sentence": "The cup fell off the _ .",
            "option1": "table",
            "option2": "lid",
            "answer": "2",
        },
        "The cup fell off the _ .",
        ("table", "lid"),
        "lid",
    ),
    "piqa": (
        {"goal": "Float.", "sol1": "Take ice.", "sol2": "Take lead.", "label": 0},
        "Float.",
        ("Take ice.", "Take lead."),
        "Take ice.",
    ),
    "siqa": (
        {
            "context": "Ann fell.",
            "question": "How does Ann feel?",
            "answerA": "well",
            "answerB": "hurt",
            "answerC": "tall",
            "label": "2",
        },
        "Ann fell. How does Ann feel?",
        ("well", "hurt", "tall"),
        "hurt",
    ),
    "copa": (
        {
            "premise": "The ice melted.",
            "choice1": "It was warm.",
            "choice2": "It was cold.",
            "question": "cause",
            "idx": 0,
            "label": 0,
        },
        "The ice melted. What was the cause of this?",
        ("It was warm.", "It was cold."),
        "It was warm.",
    ),
    "math": (
        {
            "problem": "What is 1/2?",
            "level": "Level 1",
            "type": "Algebra",
            "solution": r"We see $\boxed{2}$, no, $\boxed{\frac12}$.",
        },
        "What is 1/2?",
        (),
        r"\frac12",
    ),
    "triviaqa": (
        {
            "question": "What floats?",
            "question_id": "tc_1",
            "question_source": "http://www.example.org",
            "entity_pages": {"title": []},
            "search_results": {"title": []},
            "answer": {
                "aliases": ["Ice", "Frozen water"],
                "normalized_aliases": ["ice", "frozen water"],
                "type": "WikipediaEntity",
                "value": "Ice",
            },
        },
        "What floats?",
        (),
        "Ice",
    ),
    "alpaca": (
        {"instruction": "Sort.", "input": "b, a", "output": "a, b", "text": "Below"},
        "Sort.\nb, a",
        (),
        "a, b",
    ),
    "verl": (
        {
            "data_source": "math_dapo",
            "prompt": [{"role": "user", "content": "2+2?"}],
            "ability": "MATH",
            "reward_model": {"ground_truth": "4", "style": "rule"},
            "extra_info": {"index": "9a"},
        },
        "2+2?",
        (),
        "4",
    ),
    "gsm8k": (
        {"question": "2 and 2?", "answer": "It is <<2+2=4>>4.\n#### 4"},
        "2 and 2?",
        (),
        "4",
    ),
    "boxed": (
        {"question": "2 and 2?", "answer": r"It is $\boxed{4}$."},
        "2 and 2?",
        (),
        "4",
    ),
}
"""A row as it is published, its question, choices and gold answer."""

ANSWER_COLUMNS = ("answer", "answerKey", "answer_index", "cop", "label", "solution")
TELL_RIGHT_APART = {"gpqa", "sciq", "opentdb", "truthfulqa"}


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    """Read rows as if they stood in `exam.jsonl`."""
    monkeypatch.chdir(tmp_path)

    def read(*rows: Row, labelled: bool = True, **settings: Any) -> QuestionFile:
        Path("exam.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        config = QuestionsConfig.model_validate(settings)
        return read_questions(
            "exam.jsonl", config=config, name="exam", labelled=labelled
        )

    return read


def gold_of(file: QuestionFile) -> list[str | None]:
    """Return the gold answers in the order of the questions."""
    return [file.gold.answer_of.get(question.id) for question in file.questions]


def plain(choices: Sequence[str], answer: object, **others: object) -> Row:
    """Return a row in the product's own columns."""
    return {"question": "Which?", "choices": list(choices), "answer": answer, **others}


# --- Public sets


def test_every_public_set_has_a_row() -> None:
    # Rows of TRL, which are only read by name, stand in test_sample_logs.py.
    assert set(PUBLIC) == set(BY_NAME) - {"trl"}


@pytest.mark.parametrize("chosen", ["auto", "named"])
@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_set_is_read_as_published(read: Read, name: str, chosen: str) -> None:
    row, text, choices, gold = PUBLIC[name]
    file = read(row, format="auto" if chosen == "auto" else name)
    (question,) = file.questions
    assert question.text.strip() == text
    assert question.choices == choices
    assert gold_of(file) == [gold]
    assert file.notes[0].startswith(f"exam.jsonl: read as {BY_NAME[name].title}")


@pytest.mark.parametrize("name", PUBLIC)
def test_a_pool_is_the_same_without_its_answers(read: Read, name: str) -> None:
    row = PUBLIC[name][0]
    refused = {
        "boolq": "'passage' may belong to the question",
        "edu_feedback": "has neither a prompt nor a question",
    }
    if name in refused:
        with pytest.raises(DataError, match=refused[name]):
            read(row, labelled=False)
    settings = {"format": name} if name in refused else {}
    with_answers = read(row, labelled=False, **settings)
    assert not with_answers.gold.answer_of
    stripped = {key: row[key] for key in row if key not in ANSWER_COLUMNS}
    without = read(stripped, labelled=False, **settings)
    assert without.questions == with_answers.questions
    wrong = row | {key: "no such" for key in ANSWER_COLUMNS if key in row}
    assert read(wrong, labelled=False, **settings).questions == without.questions
    assert read(row, **settings).questions == without.questions


@pytest.mark.parametrize("name", sorted(TELL_RIGHT_APART))
def test_the_order_of_choices_does_not_tell_the_right_one(
    read: Read, name: str
) -> None:
    rows = [json.loads(json.dumps(PUBLIC[name][0])) for _ in range(60)]
    for number, row in enumerate(rows):
        key = "Question" if "Question" in row else "question"
        row[key] = f"Which floats, {number}?"
        row.pop("Record ID", None)
    file = read(*rows)
    places = [
        question.choices.index(file.gold.answer_of[question.id])
        for question in file.questions
    ]
    assert {places.count(place) > 5 for place in range(4)} == {True}
    assert read(*rows[::-1]).questions[-1].choices == file.questions[0].choices


def test_unlabelled_rows_of_public_sets_have_no_gold(read: Read) -> None:
    changes: dict[str, Row] = {
        "medmcqa": {"cop": -1},
        "piqa": {"label": -1},
        "hellaswag": {"label": ""},
        "winogrande": {"answer": ""},
        "commonsense_qa": {"answerKey": ""},
    }
    for name, change in changes.items():
        assert gold_of(read(PUBLIC[name][0] | change)) == [None]


def test_the_authors_own_arc_and_medmcqa_files_are_read(read: Read) -> None:
    row = {
        "id": "a",
        "question": {
            "stem": "Which floats?",
            "choices": [
                {"text": text, "label": label}
                for text, label in zip(WORDS, "ABCD", strict=True)
            ],
        },
        "answerKey": "C",
    }
    file = read(row)
    assert gold_of(file) == ["gold"]
    assert file.questions[0].text == "Which floats?"
    medicine = PUBLIC["medmcqa"][0]
    rows = [medicine | {"cop": 4, "id": "1"}, medicine | {"cop": 1, "id": "2"}]
    file = read(*rows)
    assert gold_of(file) == ["lead", "ice"]
    assert any("count from 1" in note for note in file.notes)


def test_boolq_of_super_glue_is_read(read: Read) -> None:
    row = {"question": "does ice float", "passage": "Light.", "idx": 0, "label": 1}
    assert gold_of(read(row)) == ["yes"]
    assert gold_of(read({**row, "label": -1})) == [None]
    text = {"question": "does ice float", "passage": "Light.", "answer": "False"}
    assert gold_of(read(text)) == ["no"]


def test_siqa_may_answer_by_letter(read: Read) -> None:
    row = {**PUBLIC["siqa"][0], "correct": "B"}
    assert gold_of(read(row)) == ["hurt"]
    del row["label"]
    assert gold_of(read(row | {"correct": "C"})) == ["tall"]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (PUBLIC["gpqa"][0] | {"Correct Answer": None}, "Correct Answer is missing"),
        (PUBLIC["arc"][0] | {"answerKey": "E"}, "answerKey 'E' is not a choice"),
        (
            PUBLIC["mmlu_pro"][0] | {"answer_index": 1},
            "answer 'C' and answer_index 1 are not the same answer",
        ),
        (
            PUBLIC["sciknoweval"][0]
            | {"choices": {"text": [], "label": []}, "type": "open-ended-qa"},
            "type 'open-ended-qa' has no choices",
        ),
        (
            PUBLIC["arc"][0] | {"choices": {"text": WORDS, "label": ["A"]}},
            "choices has 4 texts, but 1 labels",
        ),
        (
            PUBLIC["truthfulqa"][0]
            | {"mc1_targets": {"choices": WORDS, "labels": [1, 1, 0, 0]}},
            "labels of mc1_targets mark 2 choices, not one",
        ),
        (PUBLIC["copa"][0] | {"question": "Why?"}, "question must be cause or effect"),
        (PUBLIC["winogrande"][0] | {"answer": "3"}, "answer '3' is not a choice"),
        (
            PUBLIC["math"][0] | {"solution": "It is one half."},
            r"solution 'It is one half.' has no \boxed{}",
        ),
    ],
)
def test_a_row_that_its_set_cannot_have_is_refused(
    read: Read, row: Row, problem: str
) -> None:
    with pytest.raises(DataError) as caught:
        read(row)
    assert str(caught.value).startswith(f"exam.jsonl, line 1: {problem}")


def test_rows_of_two_sets_are_refused(read: Read) -> None:
    with pytest.raises(DataError, match=r"several sets: line 2 as plain, line 1 as gs"):
        read(PUBLIC["gsm8k"][0], {"question": "3 and 3?", "answer": "6"})


def test_a_named_set_needs_its_columns(read: Read) -> None:
    with pytest.raises(DataError, match="no column 'opa', which identifies medmcqa"):
        read(plain(["yes", "no"], "yes"), format="medmcqa")


def test_a_file_has_the_format_that_the_setting_gives_it() -> None:
    assert format_of("exam=gpqa,plain", "exam") == "gpqa"
    assert format_of("exam=gpqa,plain", "other") == "plain"
    assert format_of("exam=gpqa", "pool") == "auto"
    with pytest.raises(
        ConfigError, match=r"'gqpa', but it must be one of auto, plain.*gp"
    ):
        format_of("exam=gqpa", "pool")
    check_targets("exam=gpqa,arc", ("pool", "exam"))
    with pytest.raises(ConfigError, match="names 'exm', but the files are pool, exam"):
        check_targets("exm=gpqa", ("pool", "exam"))


# --- Other names


@pytest.mark.parametrize(
    "row",
    [
        {"Question ": "Which?", "OPTIONS": ["ice", "tin"], "Answer Key": "B"},
        {"question": "Which?", "choice": ["ice", "tin"], "correct_option": "b"},
        {"query": "Which?", "options": ["ice", "tin"], "target": "tin"},
        {"question": "Which?", "A": "ice", "B": "tin", "answer": "B"},
        {"question": "Which?", "option_a": "ice", "option_b": "tin", "answer": "B"},
        {"question": "Which?", "optionA": "ice", "optionB": "tin", "answer": "optionB"},
        {"question": "Which?", "Option 1": "ice", "Option 2": "tin", "answer": "2"},
        {"question": "Which?", "opa": "ice", "opb": "tin", "answer": "opb"},
        {
            "question": "Which?",
            "A": "ice",
            "B": "tin",
            "C": None,
            "correct_answer": "tin",
        },
        {"question": "Which?", "options": {"A": "ice", "B": "tin"}, "answer_idx": "B"},
        {
            "question": "Which?",
            "options": {"A": "ice", "B": "tin"},
            "answer": "tin",
            "answer_idx": "B",
        },
        {"question": "Which?", "choices": "['ice' 'tin']", "answer": "B"},
        {"question": "Which?", "choices": "['ice', \"tin\"]", "answer_index": 1},
        {"question": "Which?", "options": [{"A": "ice"}, {"B": "tin"}], "answer": "B"},
        {"question": "Which?", "choices": ["A、ice", "B、tin"], "answer": "B、tin"},
        {"problem": "Which?", "choices": ["(A) ice", "(B) tin"], "answer": "(B) tin"},
        {"question": "Which?", "choices": ["ice", "tin"], "answer": "Answer: B"},
        {"question": "Which?", "choices": ["ice", "tin"], "label": 1, "level": 0},
    ],
)
def test_columns_are_known_by_other_names(read: Read, row: Row) -> None:
    file = read(row)
    (question,) = file.questions
    assert (question.text, question.choices) == ("Which?", ("ice", "tin"))
    assert gold_of(file) == ["tin"]


def test_columns_under_other_names_are_told(read: Read) -> None:
    file = read({"Question": "Which?", "options": ["ice", "tin"], "answerKey": "B"})
    assert file.notes == (
        "exam.jsonl: read 'options' as choices, 'answerKey' as answer",
    )
    file = read({"question": "Which?", "A": "ice", "B": "tin", "answer": "B"})
    assert file.notes == ("exam.jsonl: read 'A' to 'B' as choices",)
    assert read(plain(["ice", "tin"], "B")).notes == ()


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"question": "?", "answers": ["a", "b"]}, "'answers' is a list of texts and"),
        ({"question": "?", "kandidaten": ["a", "b"]}, "'kandidaten' is a list of text"),
        ({"question": "?", "answer_choise": "a|b"}, "'answer_choise' holds text and m"),
        (
            {"question": "?", "chioces": "a|b"},
            "'chioces' holds text and may be choices",
        ),
        ({"question": "?", "true_answer": "b"}, "true_answer 'b' may be the answer"),
        ({"question": "?", "anwser": "b"}, "anwser 'b' may be the answer, but is not"),
        (
            {"question": "?", "passage": "Long ago."},
            "'passage' may belong to the quest",
        ),
        (
            {"question": "?", "image": "a.png"},
            "'image' may belong to the question, but",
        ),
        ({"question": "?", "image_1": {"bytes": ""}}, "'image_1' may belong to the qu"),
        (
            {"question": "?", "choices": ["a", "b"], "options": ["a", "c"]},
            "has 'choices' and 'options', which may all be the choices; keep one of",
        ),
        (
            {"question": "?", "choices": ["a", "b"], "A": "a", "B": "b"},
            "has both 'choices' and 'A', which may all be choices; keep one kind",
        ),
        (
            {"question": "?", "A": "a", "B": "b", "D": "d", "answer": "D"},
            "has the columns A, B, D, which may be choices, but one is missing",
        ),
        (
            {"question": "?", "A": "a", "B": None, "C": "c"},
            "'A' to 'C' 2 must be text, not nothing",
        ),
        (
            {"question": "?", "option1": "a", "option2": "b", "label": 1},
            "label 1 may be the number of a column, an index from 0 or",
        ),
        (
            {"question": "?", "choices": ["a", "b"], "answer": "A", "answer_index": 1},
            "answer 'A' and answer_index 1 are not the same answer",
        ),
        ({"question": "?", "label": 2}, "label 2 is the number of a class without a"),
        ({"text": "A film.", "label": 1}, "has neither a prompt nor a question; its c"),
        (
            {"prompt": "a", "query": "b"},
            "has both 'prompt' and 'query'; keep one",
        ),
        (
            {"question": "?", "choices": [{"id": 1, "value": "a"}]},
            "choices must be a list of texts, or of objects with label and text, not",
        ),
        (
            {"question": "?", "choices": "['a' 'b', 'c']"},
            "choices must be a list of texts such as",
        ),
        (
            {"question": "?", "choices": "['a', 'b' x]"},
            "choices must be a list of texts such as",
        ),
        (
            {"question": "?", "choices": "[f'a', 'b']"},
            "choices must be a list of texts such as",
        ),
        (
            {"question": "?", "choices": "[open('x'), 'b']"},
            "choices must be a list of texts such as",
        ),
        (
            {"question": "Is it \frac{1}{2}?"},
            "question holds a control character before 'rac', as LaTeX in JSON",
        ),
        (
            {"question": "?", "answer": "\frac{1}{2}"},
            "answer holds a control character before 'rac', as LaTeX in JSON",
        ),
        ({"prompt": "?", "completion": "b"}, "completion 'b' may be the answer, but"),
        ({"prompt": "?", "chosen": "b", "rejected": "c"}, "chosen 'b' may be the ans"),
        (
            {
                "messages": [
                    {"role": "user", "content": "?"},
                    {"role": "assistant", "content": "yes"},
                ]
            },
            "the last message of messages is from assistant, not from user; leave it o",
        ),
        (
            {
                "prompt": [
                    {"role": "user", "content": "?"},
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": "?"},
                ]
            },
            "message 2 of prompt is from system; a system turn may only come first",
        ),
        (
            {"prompt": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "content of message 1 of prompt must be text, or parts of the type 'text'",
        ),
        (plain(["a", "nan"], "a"), "choice 2 is 'nan', which stands for a missing"),
        (
            {"question": "?", "answer": "nan"},
            "answer is 'nan', which stands for a ",
        ),
        (
            plain(["a", "b"], "B. a"),
            "answer 'B. a' is not a choice; give a choice's text",
        ),
    ],
)
def test_what_may_be_meant_and_is_not_read_is_named(
    read: Read, row: Row, problem: str
) -> None:
    with pytest.raises(DataError) as caught:
        read(row)
    assert str(caught.value).startswith(f"exam.jsonl, line 1: {problem}")
    assert len(str(caught.value).splitlines()) == 1


def test_plain_reads_its_own_columns_and_no_others(read: Read) -> None:
    row = plain(["0", "1"], 1, passage="Long ago.", options=["x"], true_answer="z")
    file = read(row, format="plain")
    assert (file.questions[0].choices, gold_of(file)) == (("0", "1"), ["1"])
    assert file.notes == ()
    loose = {"question": "?", "tags": ["a", "b"], "answer": "#### 4"}
    assert gold_of(read(loose, format="plain")) == ["#### 4"]


# --- What the other rows tell


@pytest.mark.parametrize(
    ("answers", "golds"),
    [
        ([0, 1, 2], ["ice", "tin", "gold"]),
        (["0", "1", "2"], ["ice", "tin", "gold"]),
        ([1, 2, 4], ["ice", "tin", "lead"]),
        (["1", "4"], ["ice", "lead"]),
        (["A", "1", "4"], ["ice", "ice", "lead"]),
        ([1, 2], ["tin", "gold"]),
        ([1.0, 0.0], ["tin", "ice"]),
        (["1.0", "0.0"], ["tin", "ice"]),
    ],
)
def test_numbers_count_from_where_the_file_shows(
    read: Read, answers: list[object], golds: list[str]
) -> None:
    assert gold_of(read(*(plain(WORDS, answer) for answer in answers))) == golds


def test_numbers_that_may_count_from_0_are_told(read: Read) -> None:
    assert read(plain(WORDS, 0), plain(WORDS, 1)).notes == ()
    (note,) = read(plain(WORDS, 1)).notes
    assert "are taken to count from 0, though none is 0" in note
    (note,) = read(plain(WORDS, 4)).notes
    assert "its answers count from 1, as one is as high as its number" in note


@pytest.mark.parametrize("answers", [["1", "2"], ["A", "1"]])
def test_digits_that_may_count_from_either_are_refused(
    read: Read, answers: list[str]
) -> None:
    with pytest.raises(DataError, match="may count from 0 or from 1"):
        read(*(plain(WORDS, answer) for answer in answers))


def test_a_set_that_counts_from_0_and_as_high_as_its_choices_is_refused(
    read: Read,
) -> None:
    with pytest.raises(DataError, match="line 2: answer 4 is not a choice"):
        read(plain(WORDS, 0), plain(WORDS, 4))


def test_choices_that_are_letters_stay_texts(read: Read) -> None:
    blood = ["O", "A", "B", "AB"]
    file = read(*(plain(blood, answer) for answer in ("A", "AB", "O")))
    assert gold_of(file) == ["A", "AB", "O"]


def test_a_letter_among_letters_is_refused_where_others_are_letters(
    read: Read,
) -> None:
    rows = plain(["O", "A", "B", "AB"], "A"), plain(WORDS, "B")
    with pytest.raises(DataError, match="line 1: answer 'A' is both a choice's text"):
        read(*rows)
    assert gold_of(read(*rows, answers="letter")) == ["O", "tin"]
    with pytest.raises(DataError, match="line 2: answer 'B' is not a choice"):
        read(*rows, answers="text")


def test_numbers_among_numbers_are_indices_where_others_are(read: Read) -> None:
    numbers = ["3", "2", "1", "0"]
    assert gold_of(read(plain(numbers, 1), plain(WORDS, 0))) == ["2", "ice"]
    with pytest.raises(DataError, match="both a choice's text and an index"):
        read(plain(numbers, "1"), plain(WORDS, "0"))


def test_numbers_that_can_only_be_texts_are_texts(read: Read) -> None:
    powers = ["2", "4", "8"]
    assert gold_of(read(plain(powers, 8), plain(powers, 2))) == ["8", "2"]
    with pytest.raises(DataError, match="answer 2 is both a choice's text and an in"):
        read(plain(powers, 2))


def test_columns_named_by_letters_answer_by_letter_where_others_do(
    read: Read,
) -> None:
    def columns(texts: Sequence[str], answer: str) -> Row:
        named = dict(zip("ABCD", texts, strict=True))
        return {"question": "Which?", **named, "answer": answer}

    blood = columns(["O", "A", "B", "AB"], "A")
    with pytest.raises(DataError, match="other rows do not show which is meant"):
        read(blood)
    assert gold_of(read(blood, columns(WORDS, "D"))) == ["O", "lead"]
    assert gold_of(read(blood, columns(WORDS, "lead"))) == ["A", "lead"]


def test_true_and_false_are_the_choices_that_say_so(read: Read) -> None:
    assert gold_of(read(plain(["yes", "no"], True))) == ["yes"]  # noqa: FBT003
    assert gold_of(read(plain(["False", "True"], False))) == ["False"]  # noqa: FBT003
    with pytest.raises(DataError, match="answer True is not a choice"):
        read(plain(["a", "b"], True))  # noqa: FBT003


def test_marks_of_html_are_told_and_compared(read: Read) -> None:
    file = read(plain(["salt &amp; ice", "tin"], "salt & ice"))
    assert gold_of(file) == ["salt &amp; ice"]
    assert "1 row holds '&amp;'" in file.notes[0]


def test_whole_numbers_with_a_point_are_told(read: Read) -> None:
    (note,) = read({"question": "How many?", "answer": "42.0"}).notes
    assert "every answer is a whole number that ends in .0" in note
    assert read({"question": "How many?", "answer": "42.5"}).notes == ()
    assert gold_of(read({"question": "How many?", "answer": 42.0})) == ["42"]


def test_letters_without_choices_are_told(read: Read) -> None:
    rows = [{"question": "A) x B) y?", "answer": letter} for letter in "AB"]
    assert "every answer is a single letter, but there are no" in read(*rows).notes[0]
