"""Tokens: text is data, and every completion closes with a token that ends it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from neuron_opsd.errors import DataError
from neuron_opsd.models.tokenizer.encoding import Tokens
from neuron_opsd.records import Message, Prompt, TokenIds
from tiny import tiny_tokenizer

Form: TypeAlias = Literal["chat", "plain"]

ASKED = Prompt(text="Question: Which gas?\nAnswer:")
CHAT_ASKED = Prompt(messages=(Message("user", "Which gas?"),))

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def tokens_of(form: Form) -> Tokens:
    """Return a tiny tokenizer; the chat variant pads with its end token."""
    tokenizer = tiny_tokenizer(chat=form == "chat")
    return Tokens(tokenizer, frozenset({tokenizer.eos_token_id}))


CHAT, PLAIN = tokens_of("chat"), tokens_of("plain")

both = pytest.mark.parametrize("tokens", [CHAT, PLAIN], ids=["chat", "plain"])


def ids_of(tokens: Tokens, text: str) -> TokenIds:
    """Return the ids of a text as the tokenizer alone sees it, control tokens read."""
    return tuple(tokens.tokenizer(text, add_special_tokens=False).input_ids)


def changed(change: Callable[[PreTrainedTokenizerFast], None]) -> Any:
    """Return the chat tokenizer after a change."""
    tokenizer = tiny_tokenizer(chat=True)
    change(tokenizer)
    return tokenizer


# --- prompts ---


@both
def test_a_plain_prompt_and_its_answer_are_the_tokens_of_the_whole(
    tokens: Tokens,
) -> None:
    whole = tokens.encode(Prompt(text=f"{ASKED.text} carbon dioxide\n"))
    assert tokens.encode(ASKED) + tokens.encode_answer(ASKED, "carbon dioxide") == whole


def test_a_first_token_stands_once_and_before_the_prompt_alone() -> None:
    first = PLAIN.tokenizer.bos_token_id
    assert PLAIN.encode(ASKED)[0] == first
    assert PLAIN.encode(ASKED).count(first) == 1
    assert first not in PLAIN.encode_answer(ASKED, "oxygen")
    assert CHAT.encode(ASKED)[0] not in CHAT.tokenizer.all_special_ids


def test_a_chat_prompt_and_its_answer_are_the_tokens_of_the_conversation() -> None:
    answered = Prompt(messages=(*CHAT_ASKED.messages, Message("assistant", "oxygen")))
    turns = [{"role": m.role, "content": m.content} for m in answered.messages]
    whole = ids_of(CHAT, CHAT.template.write(turns))
    joined = CHAT.encode(CHAT_ASKED) + CHAT.encode_answer(CHAT_ASKED, "oxygen")
    assert whole[: len(joined)] == joined
    assert ids_of(CHAT, "\n") == whole[len(joined) :]


def test_prompt_text_is_what_the_model_reads() -> None:
    assert PLAIN.prompt_text(ASKED) == ASKED.text
    assert CHAT.prompt_text(CHAT_ASKED) == (
        "<|im_start|>user\nWhich gas?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert ids_of(CHAT, CHAT.prompt_text(CHAT_ASKED)) == CHAT.encode(CHAT_ASKED)


def test_the_thinking_switch_reaches_the_template() -> None:
    def shown(thinking: bool | None) -> str:
        prompt = Prompt(messages=CHAT_ASKED.messages, thinking=thinking)
        return CHAT.prompt_text(prompt)

    assert shown(thinking=False) == shown(None) + "<think>\n\n</think>\n\n"
    assert shown(thinking=True) == shown(None)


# --- what ends a completion ---


def test_an_answer_closes_with_the_end_token_though_it_also_pads() -> None:
    end = CHAT.tokenizer.eos_token_id
    assert end == CHAT.tokenizer.pad_token_id
    assert CHAT.encode_answer(CHAT_ASKED, "oxygen") == (*ids_of(CHAT, "oxygen"), end)


@both
def test_a_plain_answer_is_a_space_the_answer_and_a_line_break(tokens: Tokens) -> None:
    ids = tokens.encode_answer(ASKED, "carbon\n dioxide ")
    assert tokens.tokenizer.decode(ids) == " carbon dioxide\n"
    assert ids[-1] == tokens.newline_id
    assert not set(ids) & tokens.end_ids


def test_the_template_says_which_end_token_closes_an_answer() -> None:
    def close_with_another(tokenizer: PreTrainedTokenizerFast) -> None:
        tokenizer.chat_template = (
            "{% for m in messages %}{{ m['content'] }}<|endoftext|>{% endfor %}"
        )

    tokenizer = changed(close_with_another)
    ends = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
    tokens = Tokens(tokenizer, frozenset(ends))
    assert tokens.encode_answer(CHAT_ASKED, "oxygen")[-1] == ends[0]


def test_a_template_that_closes_with_nothing_leaves_the_tokenizers_end() -> None:
    def close_with_nothing(tokenizer: PreTrainedTokenizerFast) -> None:
        tokenizer.chat_template = (
            "{% for m in messages %}{{ m['content'] }}{% endfor %}"
        )

    tokens = Tokens(changed(close_with_nothing), CHAT.end_ids)
    ids = tokens.encode_answer(CHAT_ASKED, "oxygen")
    assert ids[-1] == CHAT.tokenizer.eos_token_id


@both
def test_every_token_with_a_line_break_ends_a_plain_completion(tokens: Tokens) -> None:
    found = tokens.newline_ids
    assert tokens.newline_id in found
    for token in range(len(tokens.tokenizer)):
        assert (token in found) == ("\n" in tokens.tokenizer.decode([token]))


def test_a_line_break_that_merges_with_a_colon_stands_alone_after_an_answer() -> None:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=False
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=258,
        special_tokens=["</s>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(["a:\n", "b:\n", "c:\n"], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="</s>")
    merged = tokenizer(":\n").input_ids
    assert len(merged) == 1
    tokens = Tokens(tokenizer, frozenset({tokenizer.eos_token_id}))
    assert tokens.tokenizer.decode([tokens.newline_id]) == "\n"
    assert tokens.newline_ids == {tokens.newline_id, merged[0]}
    assert tokenizer.decode(list(tokens.encode_answer(ASKED, "x y"))) == " x y\n"


# --- text is data ---


@pytest.mark.parametrize("control", CONTROL)
def test_a_control_token_in_a_plain_question_becomes_ordinary_tokens(
    control: str,
) -> None:
    ids = CHAT.encode(Prompt(text=f"What does {control} do?"))
    assert CHAT.tokenizer.decode(ids) == f"What does {control} do?"
    assert not set(ids) & control_ids(CHAT)


@pytest.mark.parametrize("control", CONTROL)
def test_a_control_token_in_an_answer_becomes_ordinary_tokens(control: str) -> None:
    for prompt in (ASKED, CHAT_ASKED):
        *ids, _end = CHAT.encode_answer(prompt, f"{control} it is")
        assert not set(ids) & control_ids(CHAT)


@pytest.mark.parametrize("control", CONTROL)
@pytest.mark.parametrize("role", ["system", "user", "assistant"])
def test_a_control_token_in_a_conversation_is_refused_by_name(
    role: Literal["system", "user", "assistant"], control: str
) -> None:
    prompt = Prompt(messages=(Message(role, f"see {control} here"),))
    with pytest.raises(DataError) as error:
        CHAT.encode(prompt)
    assert str(error.value) == (
        f"a {role} message contains the control token {control!r}: "
        f"'see {control} here'; remove it, or use prompts.form=plain"
    )


def control_ids(tokens: Tokens) -> set[int]:
    added = tokens.tokenizer.added_tokens_decoder.items()
    return {i for i, token in added if token.special}


@both
@given(text=texts)
def test_no_text_can_write_a_control_token(tokens: Tokens, text: str) -> None:
    ids = tokens.encode(Prompt(text=text or "?"))
    first = tokens.tokenizer.bos_token_id if tokens is PLAIN else None
    assert not (set(ids) & control_ids(tokens)) - {first}


@both
@given(text=texts)
def test_an_answer_reads_back_as_it_was(tokens: Tokens, text: str) -> None:
    line = " ".join(text.split())
    assert tokens.decode(tokens.encode_answer(ASKED, text)) == line


@given(texts)
def test_a_chat_answer_keeps_its_lines(text: str) -> None:
    assert CHAT.decode(CHAT.encode_answer(CHAT_ASKED, text)) == text.strip()


def test_splitting_control_tokens_does_not_outlast_a_call() -> None:
    before = CHAT.encode(CHAT_ASKED)
    CHAT.encode(Prompt(text="<|im_end|>"))
    assert CHAT.encode(CHAT_ASKED) == before
    assert set(before) & control_ids(CHAT)


def test_rendered_texts_keep_their_control_tokens_and_gain_none() -> None:
    start, end = ids_of(CHAT, "<|im_start|>"), ids_of(CHAT, "<|im_end|>")
    prompt, completion = CHAT.encode_rendered("<|im_start|>user\n", "yes<|im_end|>")
    assert prompt == start + ids_of(CHAT, "user\n")
    assert completion == ids_of(CHAT, "yes") + end
    assert PLAIN.encode_rendered("yes", "no") == (
        ids_of(PLAIN, "yes"),
        ids_of(PLAIN, "no"),
    )


def test_decoding_leaves_out_control_tokens_and_outer_space() -> None:
    ids = ids_of(CHAT, "<|im_start|> a  b \n<|im_end|><|endoftext|>")
    assert CHAT.decode(ids) == "a  b"
