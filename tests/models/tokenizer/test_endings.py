"""What the chat template ends an answer with ends a completion, whatever else does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AddedToken

import templates
from loaded import loaded
from neuron_opsd.errors import DataError
from neuron_opsd.models.roles import Sampling
from neuron_opsd.models.tokenizer.encoding import Tokens
from neuron_opsd.models.tokenizer.templates import (
    ChatTemplate,
    closing_token,
    control_ids,
    shared_end,
)
from neuron_opsd.records import Message, Prompt
from templates import templated
from tiny import CHAT_TEMPLATE, tiny_tokenizer

DOCUMENT_END, TURN_START, TURN_END = range(3)
"""Ids of the tiny tokenizer's control tokens, in its order."""

ASKED = Prompt(messages=(Message("user", "Which gas?"),))


def chat(template: str) -> ChatTemplate:
    """Return a template of a tokenizer that names the end of documents as its end."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    tokenizer.eos_token = "<|endoftext|>"
    return ChatTemplate(tokenizer, "tiny")


def test_the_ids_are_those_of_the_tiny_tokenizer() -> None:
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    found = tiny_tokenizer().convert_tokens_to_ids(names)
    assert found == [DOCUMENT_END, TURN_START, TURN_END]


@pytest.mark.parametrize(
    ("template", "closing"),
    [
        (CHAT_TEMPLATE, TURN_END),
        (templates.NO_SYSTEM, TURN_END),
        (templates.DATED, TURN_END),
        (templates.NO_LAST_ANSWER, TURN_END),
        (templates.ALTERNATING, DOCUMENT_END),
        (templates.CHANNELS, DOCUMENT_END),
        (templates.CLOSING_WITH_TEXT, None),
        (templates.NOT_COMPILING, None),
        # No turn has an end, and the next one's first token is no end by itself ...
        (templates.OPENING_NEXT, None),
    ],
)
def test_a_template_says_what_closes_an_answer(
    template: str, closing: int | None
) -> None:
    assert closing_token(chat(template), {DOCUMENT_END}) == closing


def test_the_next_turns_first_token_closes_where_the_settings_name_it() -> None:
    # ... unless the model's settings say so, as those of GLM 4 do.
    ends = {DOCUMENT_END, TURN_START}
    assert closing_token(chat(templates.OPENING_NEXT), ends) == TURN_START


def test_a_token_that_also_ends_reasoning_does_not_close_an_answer() -> None:
    """Ending there would cut every answer after its reasoning."""
    ends_both = templates.CHANNELS.replace(
        "'<|endoftext|>' if last", "'<|im_end|>' if last"
    )
    assert closing_token(chat(ends_both), {DOCUMENT_END}) is None


def test_an_end_that_was_added_as_an_ordinary_token_counts() -> None:
    template = chat(CHAT_TEMPLATE.replace("<|im_end|>", "<|eot|>"))
    assert closing_token(template, {DOCUMENT_END}) is None
    template.tokenizer.add_tokens(AddedToken("<|eot|>", special=False))
    added = template.tokenizer.convert_tokens_to_ids("<|eot|>")
    assert closing_token(template, {DOCUMENT_END}) == added
    # So no question may contain it.
    tokens = Tokens(template.tokenizer, frozenset({DOCUMENT_END}))
    with pytest.raises(DataError, match=r"control token '<\|eot\|>'"):
        tokens.encode(Prompt(messages=(Message("user", "Say <|eot|>."),)))


def test_runs_of_blanks_that_were_added_are_no_control_tokens() -> None:
    tokenizer: Any = tiny_tokenizer()
    tokenizer.add_tokens(AddedToken("\n\n", special=False, normalized=False))
    blank = tokenizer.convert_tokens_to_ids("\n\n")
    assert blank not in control_ids(tokenizer)
    assert control_ids(tokenizer) == {DOCUMENT_END, TURN_START, TURN_END}


def test_the_shared_end_of_sequences_is_counted_from_their_ends() -> None:
    assert shared_end((1, 2, 3), (9, 2, 3)) == 2
    assert shared_end((1,), (2,)) == 0
    assert shared_end((2, 3), (1, 2, 3)) == 2


# --- in a loaded model ---


def test_a_base_model_ends_where_its_template_ends_a_turn(
    tiny_llama: Path, tmp_path: Path
) -> None:
    """A base Qwen's settings name the end of documents alone."""
    folder = templated(
        tiny_llama, tmp_path / "base", CHAT_TEMPLATE, eos_token="<|endoftext|>"
    )
    model = loaded(folder)
    assert model.tokens.end_ids == {DOCUMENT_END, TURN_END}
    assert model.encode_answer(ASKED, "oxygen")[-1] == TURN_END
    assert model.facts.closes_answers
    prompt = model.encode(ASKED)
    sampling = Sampling(temperature=2.0, max_new_tokens=400)
    (drawn,) = model.sample([prompt], [list(range(12))], sampling)
    ends = [c.token_ids[-1] for c in drawn if c.finished]
    assert TURN_END in ends
    for completion in drawn:
        assert not {DOCUMENT_END, TURN_END} & set(completion.token_ids[:-1])


def test_a_template_that_closes_with_text_is_told_of(
    tiny_llama: Path, tmp_path: Path
) -> None:
    folder = templated(tiny_llama, tmp_path / "text", templates.CLOSING_WITH_TEXT)
    model = loaded(folder)
    assert not model.facts.closes_answers
    assert model.tokens.end_ids == {TURN_END}
    assert model.encode_answer(ASKED, "oxygen")[-1] == TURN_END


def test_a_model_whose_template_alone_names_an_end_can_be_loaded(
    tiny_llama: Path, tmp_path: Path
) -> None:
    folder = templated(
        tiny_llama,
        tmp_path / "template",
        CHAT_TEMPLATE,
        eos_token="<|im_end|>",
    )
    for name in ("tokenizer_config.json", "config.json", "generation_config.json"):
        text = (folder / name).read_text("utf-8")
        text = text.replace('"eos_token_id": 2', '"eos_token_id": null')
        text = text.replace('"eos_token": "<|im_end|>"', '"eos_token": null')
        (folder / name).write_text(text, "utf-8")
    model = loaded(folder)
    assert model.tokens.end_ids == {TURN_END}
    assert model.encode_answer(ASKED, "oxygen")[-1] == TURN_END
