"""Prompts: the student's is the teacher's without demonstrations, in both forms."""

from __future__ import annotations

import pytest

from neuron_opsd.config import PromptsConfig
from neuron_opsd.prompts import (
    choice_answers,
    resolve_prompts,
    student_prompt,
    teacher_prompt,
)
from neuron_opsd.records import Message, Prompt, Question

PLAIN = PromptsConfig(form="plain")
CHAT = PromptsConfig(form="chat")


def question(text: str, *choices: str) -> Question:
    return Question("q", (Message("user", text),), choices)


SKY = question("What colour is the sky?", "blue", "green")
GRASS = question("  And grass?\n")


@pytest.mark.parametrize(
    ("form", "has_chat_template", "resolved"),
    [
        ("auto", True, "chat"),
        ("auto", False, "plain"),
        ("plain", True, "plain"),
        ("chat", True, "chat"),
    ],
)
def test_the_form_is_resolved_from_the_model(
    form: str, has_chat_template: bool, resolved: str
) -> None:
    config = PromptsConfig.model_validate({"form": form})
    found = resolve_prompts(
        config, has_chat_template=has_chat_template, constrained=True
    )
    assert found.form == resolved


def test_a_plain_student_prompt_ends_where_the_answer_begins() -> None:
    assert student_prompt(SKY, PLAIN) == Prompt(
        text="Question: What colour is the sky?\nAnswer:"
    )


def test_plain_demonstrations_stand_before_the_question_in_order() -> None:
    shown = [(SKY, "blue"), (GRASS, "it is\ngreen ")]
    prompt = teacher_prompt(question("Snow?"), shown, PLAIN)
    assert prompt.text == (
        "Question: What colour is the sky?\nAnswer: blue\n\n"
        "Question: And grass?\nAnswer: it is green\n\n"
        "Question: Snow?\nAnswer:"
    )


def test_labels_system_and_instruction_are_the_users() -> None:
    config = PromptsConfig(
        form="plain",
        question_label="Frage",
        answer_label="Antwort",
        system="Be brief.",
        instruction="One word.",
    )
    assert student_prompt(SKY, config).text == (
        "Be brief.\n\nFrage: What colour is the sky?\nOne word.\nAntwort:"
    )


def test_a_question_may_have_labels_of_its_own() -> None:
    review = Question(
        "r",
        (Message("user", "A dull film."),),
        question_label="Review",
        answer_label="Sentiment",
    )
    config = PromptsConfig(form="plain", question_label="Frage")
    assert teacher_prompt(review, [(SKY, "blue")], config).text == (
        "Frage: What colour is the sky?\nAnswer: blue\n\n"
        "Review: A dull film.\nSentiment:"
    )
    shown = teacher_prompt(SKY, [(review, "negative")], config).text
    assert shown.startswith("Review: A dull film.\nSentiment: negative\n\nFrage:")


def test_chat_demonstrations_are_turns() -> None:
    prompt = teacher_prompt(GRASS, [(SKY, "blue")], CHAT)
    assert prompt.text == ""
    assert prompt.messages == (
        Message("user", "What colour is the sky?"),
        Message("assistant", "blue"),
        Message("user", "And grass?"),
    )


@pytest.mark.parametrize(
    ("system", "own", "stands"),
    [
        ("", "Be brief.", "Be brief."),
        ("Be kind.", "", "Be kind."),
        ("Be kind.", "Be brief.", "Be kind.\n\nBe brief."),
        ("Be brief.", "Be brief.", "Be brief."),
    ],
)
def test_a_system_turn_stands_once_at_the_start(
    system: str, own: str, stands: str
) -> None:
    before = (Message("system", own),) if own else ()
    shown = Question("d", (*before, Message("user", "Sky?")))
    last = Question("q", (*before, Message("user", "Snow?")))
    chat = CHAT.model_copy(update={"system": system})
    assert teacher_prompt(last, [(shown, "blue")], chat).messages == (
        Message("system", stands),
        Message("user", "Sky?"),
        Message("assistant", "blue"),
        Message("user", "Snow?"),
    )
    plain = PLAIN.model_copy(update={"system": system})
    assert teacher_prompt(last, [(shown, "blue")], plain).text == (
        f"{stands}\n\nQuestion: Sky?\nAnswer: blue\n\nQuestion: Snow?\nAnswer:"
    )


def test_a_demonstration_brings_no_system_turn_of_its_own() -> None:
    shown = Question("d", (Message("system", "Be rude."), Message("user", "Sky?")))
    turns = teacher_prompt(question("Snow?"), [(shown, "blue")], CHAT).messages
    assert [turn.role for turn in turns] == ["user", "assistant", "user"]


def test_a_conversation_keeps_its_earlier_turns() -> None:
    turns = (
        Message("user", "Hi"),
        Message("assistant", "Hello"),
        Message("user", "Which?"),
    )
    config = PromptsConfig(form="chat", system="Be brief.", instruction="Now.")
    assert student_prompt(Question("q", turns), config).messages == (
        Message("system", "Be brief."),
        *turns[:2],
        Message("user", "Which?\nNow."),
    )
    assert student_prompt(Question("q", turns), PLAIN).text == (
        "Question: Hi\n\nHello\n\nWhich?\nAnswer:"
    )


@pytest.mark.parametrize("config", [PLAIN, CHAT], ids=["plain", "chat"])
def test_without_demonstrations_the_teacher_is_asked_as_the_student(
    config: PromptsConfig,
) -> None:
    assert teacher_prompt(SKY, [], config) == student_prompt(SKY, config)


@pytest.mark.parametrize("config", [PLAIN, CHAT], ids=["plain", "chat"])
def test_the_teacher_is_asked_last_exactly_as_the_student(
    config: PromptsConfig,
) -> None:
    student = student_prompt(SKY, config)
    teacher = teacher_prompt(SKY, [(GRASS, "green")], config)
    assert teacher.text.endswith(student.text)
    assert teacher.messages[len(teacher.messages) - len(student.messages) :] == (
        student.messages
    )


def test_student_and_teacher_have_a_thinking_switch_each() -> None:
    config = PromptsConfig(form="chat", student_thinking=False, teacher_thinking=True)
    assert student_prompt(SKY, config).thinking is False
    assert teacher_prompt(SKY, [], config).thinking is True
    assert student_prompt(SKY, CHAT).thinking is None


def test_choices_are_listed_for_a_model_that_writes_freely() -> None:
    def listed(setting: str, *, constrained: bool) -> str:
        config = PLAIN.model_copy(update={"list_choices": setting})
        return resolve_prompts(
            config, has_chat_template=False, constrained=constrained
        ).list_choices

    assert listed("auto", constrained=True) == "no"
    assert listed("auto", constrained=False) == "letters"
    assert listed("no", constrained=False) == "no"
    assert listed("texts", constrained=True) == "texts"


@pytest.mark.parametrize(
    ("list_choices", "shown", "written"),
    [
        ("no", "", ("blue", "green")),
        ("texts", "\n- blue\n- green", ("blue", "green")),
        ("letters", "\nA. blue\nB. green", ("A", "B")),
    ],
)
def test_choices_are_listed_and_answered_as_the_settings_say(
    list_choices: str, shown: str, written: tuple[str, ...]
) -> None:
    config = PLAIN.model_copy(update={"list_choices": list_choices})
    assert student_prompt(SKY, config).text == (
        f"Question: What colour is the sky?{shown}\nAnswer:"
    )
    assert choice_answers(SKY, config) == written
    assert choice_answers(GRASS, config) == ()
