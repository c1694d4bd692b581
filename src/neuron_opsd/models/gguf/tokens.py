"""Build a GGUF file's tokenizer from the file alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)
from transformers import PreTrainedTokenizerFast

from neuron_opsd.models.gguf.file import GGUFFile, Keys
from neuron_opsd.models.gguf.pre_tokenizers import PRE_TOKENIZERS, PreTokenizer

UNKNOWN, CONTROL, USER_DEFINED = 2, 3, 4
"""Kinds in ``tokenizer.ggml.token_type`` that match literally in a text."""

SPACE = "\u2581"
"""Space in SentencePiece vocabularies."""

ROLES = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "pad_token": "padding_token_id",
    "unk_token": "unknown_token_id",
}
"""Tokens with a role: transformers' name to GGUF's."""

ENDS = ("eos_token_id", "eot_token_id", "eom_token_id")
"""Tokens that end a completion: of a text, a turn and a message."""

HARMLESS = frozenset(
    {
        "cls_token_id",
        "hf.json",
        "mask_token_id",
        "middle_token_id",
        "prefix_token_id",
        "remove_extra_whitespaces",
        "seperator_token_id",
        "suffix_token_id",
        "token_type_count",
        *(f"fim_{p}_token_id" for p in ("pre", "suf", "mid", "pad", "rep", "sep")),
    }
)
"""Keys without effect on tokens in the supported kinds of tokenizer."""


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """A file's tokenizer, and the ids with a role."""

    tokenizer: Any
    size: int
    ids: dict[str, int]
    """By GGUF's role name; only those the file has."""

    @property
    def end_ids(self) -> list[int]:
        """All distinct tokens that end a completion."""
        return list(dict.fromkeys(self.ids[one] for one in ENDS if one in self.ids))


def vocabulary_of(gguf: GGUFFile) -> Vocabulary:
    """Build a file's tokenizer."""
    keys = gguf.tokenizer
    tokens = tokens_of(keys)
    ids = roles(keys, len(tokens))
    kind = keys.need("model")
    if kind == "gpt2":
        made, add_bos = byte_pairs(keys, tokens)
    elif kind == "llama":
        made, add_bos = sentence_pieces(keys, tokens, ids), True
    else:
        keys.refuse("model", kind, "gpt2 and llama are the kinds read from GGUF")
    frame(keys, made, tokens, ids, add_bos=add_bos)
    keys.expect("suppress_tokens", [], "no token is kept from being sampled here")
    keys.refuse_left(HARMLESS)
    named = {role: tokens[ids[name]] for role, name in ROLES.items() if name in ids}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, clean_up_tokenization_spaces=False, **named
    )
    tokenizer.chat_template = gguf.chat_template
    return Vocabulary(tokenizer, len(tokens), ids)


def tokens_of(keys: Keys) -> list[str]:
    """Return all tokens' texts, naming empty ones like llama.cpp."""
    tokens = [text or f"[EMPTY_{i}]" for i, text in enumerate(keys.need("tokens"))]
    if len(set(tokens)) < len(tokens):
        twice = Counter(tokens).most_common(1)[0][0]
        keys.refuse("tokens", twice, "this token appears twice")
    return tokens


def roles(keys: Keys, size: int) -> dict[str, int]:
    """Return tokens with a role, which must be in the vocabulary."""
    found = {}
    for name in dict.fromkeys([*ROLES.values(), *ENDS]):
        token = keys.take(name)
        if token is None:
            continue
        if not 0 <= token < size:
            keys.refuse(name, token, f"there are {size} tokens")
        found[name] = int(token)
    return found


def byte_pairs(keys: Keys, tokens: Sequence[str]) -> tuple[Tokenizer, bool]:
    """Return a tokenizer that merges byte pairs, and whether bos comes first."""
    # llama.cpp, too, takes this way where a file names none.
    name = keys.take("pre", "default")
    if name not in PRE_TOKENIZERS:
        keys.refuse("pre", name, "this pre-tokenizer is not known here")
    way = PRE_TOKENIZERS[name]
    keys.take("add_space_prefix")
    keys.take("scores")
    vocabulary = {token: number for number, token in enumerate(tokens)}
    merges = merges_of(keys, vocabulary)
    made = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=way.whole_words))
    made.pre_tokenizer = cutting(way)
    made.decoder = decoders.ByteLevel()
    return made, way.add_bos


def cutting(way: PreTokenizer) -> Any:
    """Convert a way of splitting text to the tokenizers library."""
    cuts = [
        pre_tokenizers.Split(Regex(expression), behavior="isolated")
        for expression in way.expressions
    ]
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([*cuts, as_bytes])


def merges_of(keys: Keys, vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    """Return the distinct merges, highest priority first."""
    merges = []
    for line in dict.fromkeys(keys.need("merges")):
        left, _, right = line[1:].partition(" ")
        pair = line[0] + left, right
        if not {*pair, "".join(pair)} <= vocabulary.keys():
            keys.refuse("merges", line, "what it joins or makes is not a token")
        merges.append(pair)
    return merges


def sentence_pieces(
    keys: Keys, tokens: Sequence[str], ids: dict[str, int]
) -> Tokenizer:
    """Return a tokenizer that joins the best-scored pieces, like SentencePiece."""
    keys.take("pre")
    keys.take("merges")
    scores = keys.need("scores")
    prefixed = keys.take("add_space_prefix") is not False
    unknown = tokens[ids["unknown_token_id"]] if "unknown_token_id" in ids else None
    vocabulary = {token: number for number, token in enumerate(tokens)}
    merges = merges_by_score(vocabulary, scores)
    options = {"unk_token": unknown, "fuse_unk": True, "byte_fallback": True}
    made = Tokenizer(models.BPE(vocabulary, merges, **options))
    spaces = normalizers.Replace(" ", SPACE)
    before = [normalizers.Prepend(SPACE)] if prefixed else []
    made.normalizer = normalizers.Sequence([*before, spaces])
    after = [decoders.Strip(" ", 1, 0)] if prefixed else []
    made.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *after]
    )
    return made


def merges_by_score(
    vocabulary: dict[str, int], scores: Sequence[float]
) -> list[tuple[str, str]]:
    """Return every pair of tokens that makes a token, best score first."""
    pairs = [
        (token[:cut], token[cut:])
        for token in sorted(vocabulary, key=lambda one: -scores[vocabulary[one]])
        for cut in range(1, len(token))
    ]
    return [(a, b) for a, b in pairs if a in vocabulary and b in vocabulary]


def frame(
    keys: Keys,
    made: Tokenizer,
    tokens: Sequence[str],
    ids: dict[str, int],
    *,
    add_bos: bool,
) -> None:
    """Mark control tokens, and add those that the file puts around texts."""
    kinds = list(zip(tokens, keys.take("token_type", []), strict=False))
    # These are matched before the text is split.
    control = [t for t, kind in kinds if kind in {UNKNOWN, CONTROL}]
    defined = [t for t, kind in kinds if kind == USER_DEFINED]
    plain = partial(AddedToken, normalized=False)
    made.add_special_tokens([plain(text, special=True) for text in control])
    made.add_tokens([plain(text, special=False) for text in defined])
    keys.expect("add_sep_token", neutral=False, why="no token separates texts here")
    first = wanted(keys, "bos", tokens, ids, default=add_bos)
    last = wanted(keys, "eos", tokens, ids, default=False)
    if first or last:
        before, after = ([text for text, _ in some] for some in (first, last))
        made.post_processor = processors.TemplateProcessing(
            single=[*before, "$A", *after],
            pair=[*before, "$A", *after, *before, "$B:1", *after],
            special_tokens=list(dict.fromkeys([*first, *last])),
        )


def wanted(
    keys: Keys, name: str, tokens: Sequence[str], ids: dict[str, int], *, default: bool
) -> list[tuple[str, int]]:
    """Return the token put before or after every text, if any."""
    asked = keys.take(f"add_{name}_token")
    number = ids.get(f"{name}_token_id")
    if asked and number is None:
        keys.refuse(f"add_{name}_token", asked, f"there is no {name}_token_id")
    wants = default if asked is None else asked
    return [(tokens[number], number)] if wants and number is not None else []
