"""Chat templates that behave as those of the big families do, for the tiny tokenizer.

Each is written for the three control tokens of `tiny.tiny_tokenizer`; what counts is
what they refuse, print and end turns with. Templates that open reasoning are in
`thinking`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tiny import tiny_tokenizer

TURN = (
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] | trim "
    "+ '<|im_end|>\n' }}"
)
ASKING = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
ALL_TURNS = "{% for message in messages %}" + TURN + "{% endfor %}" + ASKING

NO_SYSTEM = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}"
    "{% endif %}"
) + ALL_TURNS
"""Refuses a system turn and begins with a token of its own, as Gemma 2 does."""

SYSTEM_FIRST = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' and not loop.first %}"
    "{{ raise_exception('System message must be at the beginning.') }}"
    "{% endif %}" + TURN + "{% endfor %}" + ASKING
)
"""Takes a system turn at the start alone, as Qwen 3.5 does."""

ALTERNATING = (
    "{{ bos_token }}"
    "{% set turns = messages[1:] if messages[0]['role'] == 'system' else messages %}"
    "{% for message in turns %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/...') }}"
    "{% endif %}"
    "{% if message['role'] == 'user' %}"
    "{{ '[INST] ' }}"
    "{% if loop.first and messages[0]['role'] == 'system' %}"
    "{{ messages[0]['content'] + '\n\n' }}"
    "{% endif %}"
    "{{ message['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}"
    "{% endfor %}"
)
"""Wants user and assistant by turns and ends answers with the tokenizer's own end
token, as Mistral does."""

DATED = (
    "{{ bos_token }}"
    "{% if not date_string is defined %}"
    "{% if strftime_now is defined %}"
    "{% set date_string = strftime_now('%d %b %Y') %}"
    "{% else %}{% set date_string = '26 Jul 2024' %}{% endif %}"
    "{% endif %}"
    "{{ '<|im_start|>system\nToday Date: ' + date_string + '<|im_end|>\n' }}"
) + ALL_TURNS
"""Prints the date unless it is given one, as Llama 3.2 does."""

DATED_BY_NAME = DATED.replace(
    "{% if strftime_now is defined %}"
    "{% set date_string = strftime_now('%d %b %Y') %}"
    "{% else %}{% set date_string = '26 Jul 2024' %}{% endif %}",
    "{% set date_string = '26 Jul 2024' %}",
)
"""Prints one fixed date unless it is given another, as Llama 3.1 does."""

TIMED = (
    "{{ '<|im_start|>system\nIt is ' + strftime_now('%Y-%m-%d %H:%M:%S') "
    "+ '<|im_end|>\n' }}"
) + ALL_TURNS
"""Prints date and time of day."""

SILENT_ON_SYSTEM = (
    "{% for message in messages %}"
    "{% if message['role'] != 'system' %}" + TURN + "{% endif %}"
    "{% endfor %}" + ASKING
)
"""Leaves system turns out without a word."""

LAST_TURN_ONLY = "{% for message in messages[-1:] %}" + TURN + "{% endfor %}" + ASKING
"""Writes the last turn and forgets what came before."""

NOT_COMPILING = "{% for message in messages %}" + TURN + "\n{% endfor"

CLOSING_WITH_TEXT = (
    "{% for message in messages %}"
    "{{ '### ' + message['role'] + ':\n' + message['content'] + '\n\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '### assistant:\n' }}{% endif %}"
)
"""Ends turns with a blank line, as Alpaca does."""

NO_LAST_ANSWER = (
    "{% if messages[-1]['role'] == 'assistant' %}"
    "{{ raise_exception('the last turn must be from user') }}"
    "{% endif %}"
) + ALL_TURNS
"""Refuses a conversation that ends with an answer."""

OPENING_NEXT = (
    "{% for message in messages %}"
    "{{ ('<|im_start|>' if message['role'] == 'user' else '<|im_end|>') "
    "+ message['content'] }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_end|>' }}{% endif %}"
)
"""Ends no turn at all: the next one's first token does, as in GLM 4."""

CHANNELS = (
    "{% for message in messages %}"
    "{% if message['reasoning_content'] is defined %}"
    "{{ '<|im_start|>analysis' + message['reasoning_content'] + '<|im_end|>' }}"
    "{% endif %}"
    "{{ '<|im_start|>' + message['role'] + message['content'] }}"
    "{% set last = loop.last and not add_generation_prompt %}"
    "{{ '<|endoftext|>' if last else '<|im_end|>' }}"
    "{% endfor %}"
) + ASKING
"""Ends reasoning with the token that ends turns before the last one, as gpt-oss."""


def templated(model: Path, folder: Path, template: str, **names: Any) -> Path:
    """Copy a model and give it another chat template.

    Args:
        model: Folder of the model.
        folder: Where the copy goes.
        template: In Jinja.
        names: Fields of `tokenizer_config.json`, such as `eos_token`; the end token is
            changed in the model's own settings as well.

    Returns:
        The folder.
    """
    shutil.copytree(model, folder)
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    changes: dict[str, dict[str, Any]] = {"tokenizer_config.json": names}
    if "eos_token" in names:
        end = tiny_tokenizer().convert_tokens_to_ids(names["eos_token"])
        for name in ("config.json", "generation_config.json"):
            changes[name] = {"eos_token_id": end}
    for name, fields in changes.items():
        path = folder / name
        settings = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(settings | fields), encoding="utf-8")
    return folder
