"""Chat templates: turns that they refuse, drop or date, each said in one line."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

import templates
from loaded import loaded
from neuron_opsd.errors import ModelError
from neuron_opsd.models.tokenizer.encoding import Tokens
from neuron_opsd.models.tokenizer.templates import PLAIN, SYSTEM_ADVICE, ChatTemplate
from neuron_opsd.records import Message, Prompt
from templates import templated
from tiny import CHAT_TEMPLATE, tiny_tokenizer

DAY = "2024-02-09"
BRIEF = Message("system", "Be brief.")
ASKED = Message("user", "Which gas?")
SAID = Message("assistant", "oxygen")


def tokens_with(template: Any, **names: str) -> Tokens:
    """Return a tiny tokenizer with a chat template, for a model named `tiny`."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    for name, value in names.items():
        setattr(tokenizer, name, value)
    return Tokens(tokenizer, frozenset({tokenizer.eos_token_id}), name="tiny")


def written(template: Any, *messages: Message, **fields: Any) -> str:
    """Return what a template makes of turns."""
    return tokens_with(template).prompt_text(Prompt(messages=messages, **fields))


def refusal(template: Any, *messages: Message) -> str:
    """Return why turns are refused."""
    with pytest.raises(ModelError) as error:
        written(template, *messages)
    assert "\n" not in str(error.value)
    return str(error.value)


# --- what is refused ---


def test_a_template_without_a_system_role_refuses_one_with_advice() -> None:
    assert "Which gas?" in written(templates.NO_SYSTEM, ASKED)
    assert refusal(templates.NO_SYSTEM, BRIEF, ASKED) == (
        "the chat template of tiny refuses a system turn: System role not supported; "
        "leave prompts.system empty and put its text into prompts.instruction, or that "
        "of a question's own system turn into its user turn, or set prompts.form=plain"
    )


def test_a_template_that_drops_a_system_turn_in_silence_is_found_out() -> None:
    assert "Which gas?" in written(templates.SILENT_ON_SYSTEM, ASKED)
    assert refusal(templates.SILENT_ON_SYSTEM, BRIEF, ASKED) == (
        f"the chat template of tiny leaves out what a system turn says; {SYSTEM_ADVICE}"
    )


def test_a_system_turn_after_others_is_refused_where_it_must_come_first() -> None:
    assert "Be brief." in written(templates.SYSTEM_FIRST, BRIEF, ASKED, SAID, ASKED)
    assert refusal(templates.SYSTEM_FIRST, ASKED, SAID, BRIEF, ASKED).startswith(
        "the chat template of tiny refuses a system turn: System message must be at "
        "the beginning; leave"
    )


def test_turns_that_do_not_alternate_are_refused_with_their_order() -> None:
    text = written(templates.ALTERNATING, BRIEF, ASKED, SAID, ASKED)
    assert text.endswith("[INST] Which gas? [/INST]")
    assert refusal(templates.ALTERNATING, ASKED, ASKED) == (
        "the chat template of tiny refuses the turns user, user: Conversation roles "
        "must alternate user/assistant/...; give questions whose turns it takes, "
        f"mostly user and assistant in turn, or {PLAIN}"
    )


def test_a_long_order_of_turns_is_shortened() -> None:
    message = refusal(templates.ALTERNATING, *[ASKED, SAID] * 4, ASKED, ASKED)
    assert "refuses the turns user, assistant, user, assistant, user, assistant, ...:"
    assert message.count("user, assistant") == 3


def test_a_template_that_forgets_earlier_turns_is_found_out() -> None:
    assert "Which gas?" in written(templates.LAST_TURN_ONLY, ASKED)
    assert refusal(templates.LAST_TURN_ONLY, ASKED, SAID, ASKED) == (
        f"the chat template of tiny leaves out what a user turn says; {PLAIN}"
    )


def test_a_template_that_does_not_compile_says_where() -> None:
    assert refusal(templates.NOT_COMPILING, ASKED) == (
        "the chat template of tiny cannot be used: unexpected end of template, "
        "expected 'end of statement block' (line 4 of the template); fix it, or "
        f"{PLAIN}"
    )


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ messages[7]['content'] }}", "list object has no element 7"),
        ("{{ nothing.at_all }}", "'nothing' is undefined"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ 'a' + 1 }}", "can only concatenate str"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ range(999999999) }}", "Range too big"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion depth"),
        ("{{ 'x' | nope }}", "No filter named 'nope'"),
        ("{% include 'other' %}", "no loader"),
        ({"a": CHAT_TEMPLATE}, "no default specified"),
    ],
)
def test_whatever_a_template_raises_is_one_line(template: Any, reason: str) -> None:
    message = refusal(template, ASKED)
    assert message.startswith("the chat template of tiny cannot be used: ")
    assert reason in message
    assert message.endswith(f"; fix it, or {PLAIN}")


def test_content_that_a_template_cannot_take_is_refused_by_itself() -> None:
    picky = "{% if 'gas' in messages[0]['content'] %}{{ 1 / 0 }}{% endif %}"
    assert refusal(picky + CHAT_TEMPLATE, ASKED) == (
        "the chat template of tiny cannot write this conversation: division by zero; "
        f"reword it, or {PLAIN}"
    )


def test_a_bad_template_does_not_stop_the_plain_form(
    tiny_llama: Path, tmp_path: Path
) -> None:
    folder = templated(tiny_llama, tmp_path / "bad", templates.NOT_COMPILING)
    model = loaded(folder)
    assert model.encode(Prompt(text="Which gas?"))
    with pytest.raises(ModelError, match=f"the chat template of {folder} cannot be"):
        model.encode(Prompt(messages=(ASKED,)))


def test_the_default_of_several_templates_is_taken() -> None:
    several = {"tool_use": templates.NOT_COMPILING, "default": CHAT_TEMPLATE}
    assert written(several, ASKED) == written(CHAT_TEMPLATE, ASKED)


# --- the first token ---


@pytest.mark.parametrize("template", [templates.NO_SYSTEM, templates.ALTERNATING])
def test_a_first_token_stands_once_whoever_adds_it(
    template: str, tiny_llama_plain: Path, tmp_path: Path
) -> None:
    # This tokenizer puts a first token before every text, and so does the template.
    folder = templated(tiny_llama_plain, tmp_path / "first", template)
    model = loaded(folder)
    first = model.tokens.tokenizer.bos_token_id
    assert model.encode(Prompt(text="Which gas?")).count(first) == 1
    ids = model.encode(Prompt(messages=(ASKED, SAID, ASKED)))
    assert ids[0] == first
    assert ids.count(first) == 1


# --- the date ---


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        (templates.DATED, "Today Date: 09 Feb 2024"),
        (templates.DATED_BY_NAME, "Today Date: 09 Feb 2024"),
        (templates.TIMED, "It is 2024-02-09 00:00:00"),
    ],
)
def test_a_prompt_is_dated_as_it_says(template: str, wanted: str) -> None:
    dated = written(template, ASKED, date=DAY)
    assert wanted in dated
    undated = written(template, ASKED)
    assert wanted not in undated
    assert dated.partition("<|im_end|>")[2] == undated.partition("<|im_end|>")[2]


def test_without_a_day_a_template_prints_what_transformers_makes_it_print() -> None:
    assert date.today().strftime("%d %b %Y") in written(templates.DATED, ASKED)  # noqa: DTZ011
    assert "26 Jul 2024" in written(templates.DATED_BY_NAME, ASKED)


def test_only_a_template_that_asks_for_the_day_needs_one() -> None:
    for template, asks in [
        (templates.DATED, True),
        (templates.TIMED, True),
        (templates.DATED_BY_NAME, False),
        (CHAT_TEMPLATE, False),
    ]:
        assert tokens_with(template).template.prints_date is asks


@pytest.mark.parametrize(
    "form",
    ["%d %b %Y", "%A, %B %-d", "%%Y is %Y", "%j|%U|%y|%p", "%x %X", "no date", "%"],
)
def test_the_still_clock_writes_dates_as_python_does(form: str) -> None:
    clock = ChatTemplate(tiny_tokenizer(), "tiny")
    clock.tokenizer.chat_template = "{{ strftime_now('" + form + "') }}"
    wanted = date.fromisoformat(DAY).strftime(form)
    assert clock.write([{"role": "user", "content": "x"}], day=DAY) == wanted


def test_the_still_clock_leaves_the_rest_of_a_template_as_it_is() -> None:
    head = "\n   {% if true %}x{% endif %}\n"
    source = head + "{% macro m() %}{{ strftime_now('%Y') }}{% endmacro %}{{ m() }}"
    plain = source.replace("strftime_now('%Y')", "'2024'")
    turns = [{"role": "user", "content": "x"}]
    texts = []
    for template in (source, plain):
        chat = ChatTemplate(tiny_tokenizer(), "tiny")
        chat.tokenizer.chat_template = template
        texts.append(chat.write(turns, day=DAY))
    assert texts[0] == texts[1]
    assert texts[0].endswith("2024")
