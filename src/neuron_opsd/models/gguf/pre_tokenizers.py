"""How text is split before byte-pair merging, by GGUF name.

``tokenizer.ggml.pre`` names one of llama.cpp's ways (`llama-vocab.cpp`). Each
expression splits the previous one's pieces: matches and gaps become pieces.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
LINES_AND_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
CASED = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+{0}|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*{0}"
)
"""Words with upper case before lower case; ``{0}`` may end one."""

GPT2 = (
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)",
)  # fmt: skip
DIGITS_FIRST = (r"\p{N}", *GPT2)
DEFAULT = (r"[\p{P}\$\+<=>\^~\|]+", *GPT2, r"\p{N}+", r"[0-9][0-9][0-9]")
FALCON = (r"[\p{P}\$\+<=>\^~\|`]+", *GPT2, r"[0-9][0-9][0-9]")
UP_TO_THREE_DIGITS = (
    rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|"
    rf" ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{LINES_AND_SPACES}",
)
SINGLE_DIGITS = (UP_TO_THREE_DIGITS[0].replace("{1,3}", ""),)
MARKS_WITH_LETTERS = (
    rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}|"
    rf" ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{LINES_AND_SPACES}",
)
TEKKEN = (
    CASED.replace("{0}", "")
    + rf"|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{LINES_AND_SPACES}",
)
GPT4O = (
    CASED.replace("{0}", f"{CONTRACTIONS}?")
    + rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{LINES_AND_SPACES}",
)
DEEPSEEK_CODER = (
    r"[\r\n]",
    r"\s?\p{L}+",
    r"\s?\p{P}+",
    "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+",
    r"\p{N}",
)
DEEPSEEK_V3 = (
    r"\p{N}{1,3}",
    "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"""
    r"|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|" + LINES_AND_SPACES,
)


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """A way to split text, with llama.cpp's defaults for its models."""

    expressions: tuple[str, ...]
    whole_words: bool = False
    """Whether a word in the vocabulary stays whole, whatever the merges."""
    add_bos: bool = False
    """Whether texts start with the first token if the file does not say."""


WAYS: Final[Mapping[str, PreTokenizer]] = {
    "default": PreTokenizer(DEFAULT),
    "llama-bpe llama3 llama-v3 falcon3 pixtral": PreTokenizer(
        UP_TO_THREE_DIGITS, whole_words=True, add_bos=True
    ),
    "dbrx smaug-bpe chatglm-bpe": PreTokenizer(UP_TO_THREE_DIGITS),
    "glm4": PreTokenizer(UP_TO_THREE_DIGITS, whole_words=True),
    "qwen2 deepseek-r1-qwen stablelm2 hunyuan megrez": PreTokenizer(SINGLE_DIGITS),
    "qwen35": PreTokenizer(MARKS_WITH_LETTERS),
    "gpt-2 phi-2 mpt olmo jais exaone4 trillion": PreTokenizer(GPT2),
    "smollm starcoder refact command-r codeshell exaone minerva-7b": PreTokenizer(
        DIGITS_FIRST
    ),
    "falcon": PreTokenizer(FALCON),
    "tekken": PreTokenizer(TEKKEN, whole_words=True, add_bos=True),
    "gpt-4o llama4": PreTokenizer(GPT4O),
    "deepseek-coder": PreTokenizer(DEEPSEEK_CODER),
    "deepseek-v3": PreTokenizer(DEEPSEEK_V3),
}

PRE_TOKENIZERS: Final = {
    name: way for names, way in WAYS.items() for name in names.split()
}
"""By ``tokenizer.ggml.pre``."""
