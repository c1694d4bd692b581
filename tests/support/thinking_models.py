"""Chat templates of reasoning models, and a tiny model that thinks and often is cut.

The templates behave as those of the families that their names say.
"""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    AddedToken,
    AutoModelForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from tiny import fill, tiny_config, tiny_tokenizer

TURNS = (
    "{% for m in messages %}"
    "{% set text = m['content'] %}"
    "{% if m['role'] == 'assistant' and '</think>' in text %}"
    "{% set text = text.split('</think>')[-1].lstrip('\\n') %}"
    "{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\\n' + text + '<|im_end|>\\n' }}"
    "{% endfor %}"
)
"""Earlier turns without their reasoning, as Qwen3 writes them."""

OPENS = TURNS + (
    "{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\\n<think>\\n' }}"
    "{% endif %}"
)
"""Opens reasoning in every prompt, as Qwen3-Thinking does."""

SWITCHED = TURNS + (
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}"
    "{{ '<think>\\n\\n</think>\\n\\n' }}{% else %}{{ '<think>\\n' }}{% endif %}"
    "{% endif %}"
)
"""The same with a switch that closes the block at once."""

HYBRID = SWITCHED.replace("{% else %}{{ '<think>\\n' }}", "")
"""Opens no block, since the model does so itself, as Qwen3's first models do."""

UNCLOSED = (
    "{% for m in messages %}"
    "{{ '<|im_start|>' + m['role'] + '\\n' + m['content'][:5] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""Cuts what earlier turns say, in a way that nobody can see from outside."""

MAGISTRAL = (
    "{% for m in messages %}"
    "{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n[THINK]' }}{% endif %}"
    "{# closed by [/THINK] #}"
)
"""Marks of reasoning that are control tokens, as Magistral's are."""


def thinking_tokenizer(template: str = OPENS) -> PreTrainedTokenizerFast:
    """Return a tokenizer with marks of reasoning: ordinary ones and control tokens."""
    tokenizer = tiny_tokenizer(chat=True)
    tokenizer.add_tokens(
        [AddedToken(text, special=False) for text in ("<think>", "</think>")]
    )
    tokenizer.add_special_tokens(
        {"additional_special_tokens": ["[THINK]", "[/THINK]"]},
        replace_extra_special_tokens=False,
    )
    tokenizer.chat_template = template
    return tokenizer


def thinking_model(folder: Path, template: str = OPENS, *, rate: float = 0.06) -> Path:
    """Write a tiny model that thinks at random and now and then closes its thoughts.

    Args:
        folder: Where to.
        template: Of its chats.
        rate: About the probability, at every token, of the mark that closes reasoning,
            and about that of the end of the turn.
    """
    tokenizer = thinking_tokenizer(template)
    config = tiny_config("qwen3", tokenizer, {})
    assert isinstance(config, Qwen3Config)
    model = AutoModelForCausalLM.from_config(config)
    fill(model, seed=0)
    ids = tokenizer.get_vocab()
    favour(model, [ids["</think>"], ids["<|im_end|>"]], rate)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def favour(model: torch.nn.Module, tokens: list[int], rate: float) -> None:
    """Make some tokens about so probable wherever they may come."""
    source = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 300, (16, 24), generator=source)
    head = model.get_output_embeddings().weight  # type: ignore[operator]
    with torch.no_grad():
        states = model.get_decoder()(input_ids=ids).last_hidden_state.flatten(0, 1)  # type: ignore[operator]
        others = (states @ head.T).logsumexp(dim=-1).mean()
        wanted = others + torch.log(torch.tensor(rate))
        # The least change of a row after which its logits are the wanted ones.
        row = torch.linalg.lstsq(
            torch.cat([states, torch.eye(states.shape[1])]),
            torch.cat([wanted.expand(len(states)), torch.zeros(states.shape[1])])[
                :, None
            ],
        ).solution[:, 0]
        for token in tokens:
            head[token] = row
