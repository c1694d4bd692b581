"""A tokenizer as the keys of a GGUF file, and whether these give it back.

The way back from `tokens`. How text is cut is recognised by what it does to texts of
all kinds, as llama.cpp's own converter does.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from tokenizers import Regex, Tokenizer, pre_tokenizers

from neuron_opsd.errors import ModelError
from neuron_opsd.models.gguf.pre_tokenizers import PRE_TOKENIZERS, PreTokenizer
from neuron_opsd.models.gguf.probes import TEXTS
from neuron_opsd.models.gguf.tokens import (
    CONTROL,
    ENDS,
    ROLES,
    SPACE,
    UNKNOWN,
    USER_DEFINED,
)

NORMAL, UNUSED, BYTE = 1, 5, 6
"""Kinds in ``tokenizer.ggml.token_type`` besides."""

KeyValues: TypeAlias = dict[str, Any]

ADVICE: Final = (
    "export it with --to merged and convert that folder with llama.cpp's "
    "convert_hf_to_gguf.py"
)


def tokenizer_keys(tokenizer: Any, size: int, ends: Sequence[int]) -> KeyValues:
    """Return the keys below ``tokenizer.ggml`` that describe a tokenizer.

    Args:
        tokenizer: As transformers has it.
        size: Rows of the embedding; those beyond the vocabulary become unused tokens.
        ends: Tokens that end a completion.

    Raises:
        ModelError: If llama.cpp has no such tokenizer, or it is not known here.
    """
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    table = {} if backend is None else json.loads(backend.to_str())
    model = table.get("model", {})
    if model.get("type") != "BPE":
        raise ModelError(
            f"its tokenizer is of the kind {model.get('type') or type(tokenizer)}, "
            f"and BPE alone is written as GGUF here; {ADVICE}"
        )
    tokens, kinds = vocabulary(table, size)
    if model.get("byte_fallback"):
        keys = pieces(table, tokens)
    else:
        keys = byte_pairs(backend, model)
    special = special_keys(tokenizer, ends)
    if "unknown_token_id" in special:
        kinds[special["unknown_token_id"]] = UNKNOWN
    return keys | {"tokens": tokens, "token_type": kinds} | special


def vocabulary(table: Any, size: int) -> tuple[list[str], list[int]]:
    """Return the texts and kinds of all tokens, by id."""
    named = {number: text for text, number in table["model"]["vocab"].items()}
    kinds = dict.fromkeys(named, NORMAL)
    for number, text in named.items():
        if table["model"].get("byte_fallback") and is_byte(text):
            kinds[number] = BYTE
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


def is_byte(text: str) -> bool:
    """Say whether a token stands for a byte that no other token writes."""
    return len(text) == 6 and text.startswith("<0x") and text.endswith(">")


def byte_pairs(backend: Tokenizer, model: Any) -> KeyValues:
    """Return the keys of a tokenizer that merges pairs of bytes."""
    whole = bool(model.get("ignore_merges"))
    merges = [
        pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]
    ]
    return {
        "model": "gpt2",
        "pre": way_of(backend, whole_words=whole),
        "merges": merges,
    }


def way_of(backend: Tokenizer, *, whole_words: bool) -> str:
    """Return llama.cpp's name for how a tokenizer cuts text."""
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


def cutting(way: PreTokenizer) -> Any:
    """Return a way to cut text as the tokenizers library has it."""
    cuts = [
        pre_tokenizers.Split(Regex(expression), behavior="isolated")
        for expression in way.expressions
    ]
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([*cuts, as_bytes])


def cut_by(way: Any, text: str) -> list[str]:
    """Return the words that a text is cut into."""
    return [word for word, _ in way.pre_tokenize_str(text)] if way else [text]


def pieces(table: Any, tokens: Sequence[str]) -> KeyValues:
    """Return the keys of a tokenizer that joins pieces by score, as SentencePiece.

    A file of merges has no scores, but ranks, of which the first wins; a token's score
    is the rank of the first merge that makes it.
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
    """Return which tokens have a role, and which stand around every text."""
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
    """Return the texts of which a tokenizer that was read back makes other tokens.

    llama.cpp takes texts as they are, so each is given as Unicode composes it, which is
    what tokenizers that normalise text make of it.
    """
    texts = [unicodedata.normalize("NFC", text) for text in TEXTS]
    return [text for text in texts if tokenizer(text).input_ids != read(text).input_ids]
