"""Express a tokenizer as GGUF keys, checking that they give it back.

Inverse of `tokens`. The way of splitting text is recognised by its effect on many kinds
of text, as in llama.cpp's converter.
"""

# ruff: noqa: RUF001 (texts in many scripts tell tokenizers apart)

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from typing import Any, Final

from tokenizers import Tokenizer

from neuron_opsd.errors import ModelError
from neuron_opsd.models.gguf.keys import ADVICE, KeyValues
from neuron_opsd.models.gguf.pre_tokenizers import PRE_TOKENIZERS
from neuron_opsd.models.gguf.tokens import (
    CONTROL,
    ENDS,
    ROLES,
    SPACE,
    UNKNOWN,
    USER_DEFINED,
    cutting,
)

NORMAL, UNUSED, BYTE = 1, 5, 6
"""Other kinds in ``tokenizer.ggml.token_type``."""

TEXTS: Final = (
    "The capital of France is",
    "Question: Which gas do plants take in from the air?\nAnswer: carbon dioxide\n",
    "1 12 123 1234 12345 123456 1,234,567.89",
    "In 1969, 3 men flew 384,400 km; 2 walked. It's 50% true",
    "I don't think we'll see they've DON'T WE'LL",
    "def f(x):\n    if x > 10:\n        return x[1:] + [2.5e-3]\n\n    return None\n",
    "for (int i = 0; i < n; i++) { a[i] += 0x1F; } // done",
    "    leading and trailing    ",
    "many   spaces     between\t\ttabs\t and\n\n\n\nlines\r\n",
    "\n",
    "   ",
    "日本語の文章です。中文字符测试，你好世界！",
    "한국어 텍스트 ภาษาไทย हिन्दी עברית العربية",
    "привет мир Ελληνικά café naïve ÅNGSTRÖM straße",
    "👍🏽👩‍👩‍👧‍👦🎉🎉 emoji 🇫🇷!",
    "½ ² Ⅳ ٣٤٥ १२३ 1st 2nd 42km",
    "$5/€7/£9…—–“quoted”‘single’",
    "http://example.org/a_b?c=d&e=1#f user@example.org",
    "CamelCaseWord HTTPServer snake_case kebab-case",
    "<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n",
    "<|endoftext|>The end",
    "a\u00a0b\u2003c\u3000d\u200be\ufefff",
    "e\u0301 n\u0303 combining",
    '{"key": [1, 2, {"x": null}], "s": "a\\nb"}',
    "| a | b |\n|---|---|\n| 1 | 22 |\n",
    "\\frac{12}{345} + x^{2} = \\boxed{678}",
    "!!! ??? ... --- === ~~~ ^^^",
    "Review: a film of 100 minutes , none of them dull .\nSentiment: positive",
    "A) 10  B) 200  C) 3000  D) 40000",
    "x" * 50 + " " + "9" * 50,
)
"""Texts that tell tokenizers apart."""


def tokenizer_keys(tokenizer: Any, size: int, ends: Sequence[int]) -> KeyValues:
    """Return the keys below ``tokenizer.ggml`` for a tokenizer, or refuse it.

    `size` counts embedding rows; those beyond the vocabulary become unused tokens.
    `ends` are the tokens that end a completion.
    """
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    table = {} if backend is None else json.loads(backend.to_str())
    model = table.get("model", {})
    if model.get("type") != "BPE":
        raise ModelError(
            f"its tokenizer is of the kind {model.get('type') or type(tokenizer)}, and "
            f"only BPE is written as GGUF here; {ADVICE}"
        )
    tokens, kinds = vocabulary(table, size)
    if model.get("byte_fallback"):
        keys = pieces(table, tokens)
    else:
        merges = [p if isinstance(p, str) else " ".join(p) for p in model["merges"]]
        whole = bool(model.get("ignore_merges"))
        pre = way_of(backend, whole_words=whole)
        keys = {"model": "gpt2", "pre": pre, "merges": merges}
    special = special_keys(tokenizer, ends)
    if "unknown_token_id" in special:
        kinds[special["unknown_token_id"]] = UNKNOWN
    return keys | {"tokens": tokens, "token_type": kinds} | special


def vocabulary(table: Any, size: int) -> tuple[list[str], list[int]]:
    """Return the texts and kinds of all tokens, by id."""
    named = {number: text for text, number in table["model"]["vocab"].items()}
    kinds = dict.fromkeys(named, NORMAL)
    if table["model"].get("byte_fallback"):
        # These stand for bytes that no other token writes.
        kinds |= {n: BYTE for n, t in named.items() if re.fullmatch("<0x..>", t, re.S)}
    for added in table["added_tokens"]:
        named[added["id"]] = added["content"]
        kinds[added["id"]] = CONTROL if added["special"] else USER_DEFINED
    if max(named) >= size:
        raise ModelError(
            f"its tokenizer has a token {max(named)}, but its embedding has {size} "
            "rows; export it with --to merged, after its embedding was made longer"
        )
    places = range(size)
    tokens = [named.get(place, f"[PAD{place}]") for place in places]
    return tokens, [kinds.get(place, UNUSED) for place in places]


def way_of(backend: Tokenizer, *, whole_words: bool) -> str:
    """Return llama.cpp's name for how a tokenizer splits text."""
    wanted = [cut_by(backend.pre_tokenizer, text) for text in TEXTS]
    for name, way in PRE_TOKENIZERS.items():
        if way.whole_words != whole_words:
            continue
        own = cutting(way)
        if all(cut_by(own, t) == w for t, w in zip(TEXTS, wanted, strict=True)):
            return name
    raise ModelError(
        "its tokenizer cuts text in a way that is not known here (of "
        f"{len(PRE_TOKENIZERS)} names that are); {ADVICE}"
    )


def cut_by(way: Any, text: str) -> list[str]:
    """Return the words that a text is split into."""
    return [word for word, _ in way.pre_tokenize_str(text)] if way else [text]


def pieces(table: Any, tokens: Sequence[str]) -> KeyValues:
    """Return the keys of a tokenizer that joins pieces by score (SentencePiece).

    A merges file has ranks, lowest first, instead of scores; a token scores by the rank
    of the first merge that makes it.
    """
    scores: dict[str, float] = {}
    for rank, pair in enumerate(table["model"]["merges"]):
        left, right = pair.split(" ", 1) if isinstance(pair, str) else pair
        scores.setdefault(left + right, -float(rank))
    worst = -float(len(table["model"]["merges"]))
    prefixed = f'"{SPACE}"' in json.dumps(
        [table.get("normalizer"), table.get("pre_tokenizer")], ensure_ascii=False
    ) and any(
        word in json.dumps(table) for word in ('"Prepend"', '"always"', '"first"')
    )
    return {
        "model": "llama",
        "pre": "default",
        "scores": [scores.get(token, worst) for token in tokens],
        "add_space_prefix": prefixed,
    }


def special_keys(tokenizer: Any, ends: Sequence[int]) -> KeyValues:
    """Return tokens with a role, and those placed around every text."""
    keys: KeyValues = {}
    for role, name in ROLES.items():
        number = getattr(tokenizer, f"{role}_id")
        if number is not None:
            keys[name] = int(number)
    first = [keys["eos_token_id"]] if keys.get("eos_token_id") in ends else []
    ordered = dict.fromkeys([*first, *sorted(ends)])
    keys |= dict(zip(ENDS, ordered, strict=False))
    around = tokenizer("a").input_ids
    alone = tokenizer("a", add_special_tokens=False).input_ids
    bos, eos = keys.get("bos_token_id"), keys.get("eos_token_id")
    keys["add_bos_token"] = len(around) > len(alone) and around[0] == bos
    keys["add_eos_token"] = len(around) > len(alone) and around[-1] == eos
    return keys


def other_tokens(tokenizer: Any, read: Any) -> list[str]:
    """Return texts that a tokenizer encodes differently after reading it back.

    llama.cpp does not normalise, so texts are given in composed Unicode form.
    """
    texts = [unicodedata.normalize("NFC", text) for text in TEXTS]
    return [text for text in texts if tokenizer(text).input_ids != read(text).input_ids]
