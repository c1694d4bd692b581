"""Question files as public sets and common tools write them: read right, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

import places
from neuron_opsd.config import QuestionsConfig
from neuron_opsd.data.questions import QuestionFile, read_questions
from neuron_opsd.errors import DataError
from tests.data.test_question_shapes import SHAPES

CASES = places.CASES / "questions"

OXIDATION = ("Iron rusts", "Salt melts", "Wax burns", "Ice boils")

CHOICES: dict[str, tuple[tuple[str, ...], str]] = {
    "abcd_columns.csv": (OXIDATION, "Iron rusts"),
    "arc_dict.jsonl": (OXIDATION, "Iron rusts"),
    "arc_dict_numeric_key.jsonl": (OXIDATION, "Iron rusts"),
    "arc_text_list_answerKey.jsonl": (OXIDATION, "Iron rusts"),
    "boolq.jsonl": (("no", "yes"), "yes"),
    "case_text.jsonl": (OXIDATION, "Iron rusts"),
    "choices_space.csv": (OXIDATION[:2], "Iron rusts"),
    "choices_upper.jsonl": (OXIDATION, "Iron rusts"),
    "digit_choices_str.jsonl": (("1", "2", "3", "4"), "1"),
    "float_answer.parquet": (OXIDATION, "Iron rusts"),
    "float_index.jsonl": (OXIDATION, "Wax burns"),
    "gpqa.csv": (("Salt melts", "Wax burns", "Ice boils", "Iron rusts"), "Iron rusts"),
    "hellaswag.jsonl": (OXIDATION, "Iron rusts"),
    "html.jsonl": (("<b>x</b>", "y"), "<b>x</b>"),
    "large.parquet": (OXIDATION, "Wax burns"),
    "letter_choices.jsonl": (("C", "B", "A", "D"), "A"),
    "letter_text.jsonl": (OXIDATION, "Salt melts"),
    "lower_letter.jsonl": (OXIDATION, "Salt melts"),
    "medmcqa.jsonl": (OXIDATION, "Iron rusts"),
    "mmlu_int.jsonl": (OXIDATION, "Iron rusts"),
    "mmlu_int_str.jsonl": (OXIDATION, "Iron rusts"),
    "mmlu_pro.jsonl": ((*OXIDATION, "Air cools"), "Iron rusts"),
    "nbsp.jsonl": (("10\xa0kg", "5 kg"), "10\xa0kg"),
    "nfd.jsonl": (("café", "tea"), "café"),
    "none_choice.jsonl": (("x", "y"), "x"),
    "np_choices.parquet": (OXIDATION, "Iron rusts"),
    "openbookqa.jsonl": (OXIDATION, "Iron rusts"),
    "options.csv": (OXIDATION[:2], "Iron rusts"),
    "paren_letter.jsonl": (OXIDATION, "Salt melts"),
    "prefixed_choices.jsonl": (OXIDATION[:2], "Iron rusts"),
    "pylist.csv": (OXIDATION[:2], "Iron rusts"),
    "sciknoweval.jsonl": (OXIDATION, "Iron rusts"),
    "struct.parquet": (OXIDATION, "Iron rusts"),
    "thirty_choices.jsonl": (tuple(f"number {n}" for n in range(30)), "number 28"),
    "truthfulqa.jsonl": (
        ("Wax burns", "Ice boils", "Iron rusts", "Salt melts"),
        "Iron rusts",
    ),
    "twenty_seven.jsonl": (tuple(f"opt{n}" for n in range(30)), "opt28"),
    "winogrande.jsonl": (("table", "lid"), "table"),
}
"""Choices and gold answer of the first row."""

FREE: dict[str, tuple[str, str]] = {
    "alpaca.jsonl": ("Name a metal that rusts", "iron"),
    "array.json": ("a", "b"),
    "bom.csv": ("Which metal rusts?", "iron"),
    "category.parquet": ("q1?", "iron"),
    "content_parts.jsonl": ("Which metal rusts?", "iron"),
    "cr_only.csv": ("Which metal rusts?", "iron"),
    "dapo.jsonl": ("What is 2+3? Put it in \\boxed{}.", "5"),
    "dec.parquet": ("q1?", "4.20"),
    "float_answer.jsonl": ("How many?", "42"),
    "float_free.parquet": ("q1?", "42"),
    "gsm8k.jsonl": ("Mia has 3 bags of 12 beads and buys 6 more. How many?", "42"),
    "index.parquet": ("q1?", "x"),
    "int_free.parquet": ("q1?", "42"),
    "math.jsonl": ("What is 1/2+1/4?", r"\frac{3}{4}"),
    "math_renamed.jsonl": ("What is 1/2+1/4?", r"\frac{3}{4}"),
    "messages.jsonl": ("Which metal rusts?", "iron"),
    "multiline.csv": ('First line\nsecond, line with "quotes"', "iron"),
    "na.csv": ("Is NA sodium?", "NA"),
    "nq_open.jsonl": ("which metal rusts", "iron"),
    "pandas_index.csv": ("Which metal rusts?", "iron"),
    "same_q.jsonl": ("a?", "x"),
    "semicolon.csv": ("Which metal rusts?", "iron"),
    "semicolon_one.csv": ("Which metal, if any, rusts?", "iron"),
    "sep_line.csv": ("Which metal rusts?", "iron"),
    "spaces_header.csv": ("Which metal rusts?", "iron"),
    "tab.tsv": ("Which metal rusts?", "iron"),
    "trailing_comma.csv": ("Which metal rusts?", "iron"),
    "triviaqa.jsonl": ("Which metal rusts?", "iron"),
    "trl_prompt_system.jsonl": ("Be brief.\n\nWhich metal rusts?", "iron"),
    "utf16.csv": ("Which metal rusts?", "iron"),
    "word_gold.jsonl": ("How many legs has creature 0?", "eight"),
}
"""Question and gold answer of the first row."""

REFUSED: dict[str, str] = {
    "arc_digit_keys.csv": "line 3: answer '1' may count from 0 or from 1",
    "array.jsonl": "holds a JSON array, not one object per line; give it a name that",
    "backslash_quote.csv": "line 2: not CSV",
    "bool.parquet": "row 1: answer must be text, not true or false",
    "cp1252.csv": "line 2: not UTF-8 (byte 0xdf",
    "digit_choices.jsonl": "line 1: answer 1 is both a choice's text and an index",
    "dup_choices.jsonl": "line 1: the choice '12' appears twice",
    "dup_ids.jsonl": "line 2: has the id '1' of line 1",
    "empty_choice.jsonl": "line 1: choice 2 is empty",
    "nan.jsonl": "line 1: not JSON (NaN",
    "number_choices.jsonl": "line 1: choice 1 must be text, not a number",
    "pipe_choices.csv": "line 2: choices must be a list of texts",
    "pretty.jsonl": "holds one JSON object over several lines",
    "sharegpt.jsonl": "its columns are 'conversations'",
    "single_quotes.csv": "line 2: 4 fields, but 2 columns; put a field that holds",
}
"""What the one line of the error says after the file's name."""

OTHERS = {"mmlu_pro_test.jsonl"}


def read_case(name: str, **settings: object) -> QuestionFile:
    """Read one of the cases."""
    config = QuestionsConfig.model_validate(settings)
    return read_questions(CASES / name, config=config)


def test_every_case_has_an_expectation() -> None:
    named = {*CHOICES, *FREE, *REFUSED, *OTHERS, *SHAPES}
    assert named == {path.name for path in CASES.iterdir()}


@pytest.mark.parametrize("name", CHOICES)
def test_a_file_with_choices_is_read_right(name: str) -> None:
    file = read_case(name)
    first = file.questions[0]
    assert (first.choices, file.gold.answer_of[first.id]) == CHOICES[name]


@pytest.mark.parametrize("name", FREE)
def test_a_file_with_free_answers_is_read_right(name: str) -> None:
    file = read_case(name)
    first = file.questions[0]
    assert (first.text, file.gold.answer_of[first.id]) == FREE[name]
    assert first.choices == ()


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_one_clear_line(name: str) -> None:
    with pytest.raises(DataError) as caught:
        read_case(name)
    assert REFUSED[name] in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_every_row_of_a_longer_file_is_read_right() -> None:
    file = read_case("mmlu_pro_test.jsonl")
    golds = [file.gold.answer_of[q.id] for q in file.questions]
    assert golds[:3] == ["iron", "salt", "wax"]
    assert {len(question.choices) for question in file.questions} == {10}
    (second,) = read_case("cr_only.csv").questions[1:]
    assert second.text == "Which gas?"


def test_other_right_answers_are_kept() -> None:
    for name in ("triviaqa.jsonl", "nq_open.jsonl"):
        file = read_case(name)
        assert list(file.gold.aliases_of.values()) == [("Fe",)]


def test_what_could_be_either_is_what_the_settings_say() -> None:
    file = read_case("digit_choices.jsonl", answers="text")
    assert [*file.gold.answer_of.values()] == ["1"]
    file = read_case("digit_choices.jsonl", answers="index-from-0")
    assert [*file.gold.answer_of.values()] == ["2"]
    file = read_case("letter_choices.jsonl", answers="letter")
    assert [*file.gold.answer_of.values()] == ["C"]
    file = read_case("arc_digit_keys.csv", answers="index-from-1")
    assert [*file.gold.answer_of.values()] == ["Iron rusts", "ice"]


def test_rows_with_a_repeated_choice_are_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "two.jsonl"
    good = (CASES / "choices_upper.jsonl").read_text()
    path.write_text((CASES / "dup_choices.jsonl").read_text() + good)
    config = QuestionsConfig(drop_repeated_choices=True)
    file = read_questions(path, config=config)
    assert [question.id for question in file.questions] == ["two-2"]
    assert file.notes == (
        f"{path}: 1 row was left out, as a choice appears twice: line 1",
    )
    path.write_text((CASES / "dup_choices.jsonl").read_text())
    with pytest.raises(DataError, match="holds no question without a repeated choice"):
        read_questions(path, config=config)
