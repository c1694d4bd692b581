"""Tiny GGUF files of every family that is read, written as llama.cpp wants them."""

# ruff: noqa: RUF001 (texts in many scripts are what the probes are about)

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from gguf import GGUFValueType, GGUFWriter
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

Weights: TypeAlias = dict[str, NDArray[np.float32]]

WIDTH, NUM_NEURONS, NUM_LAYERS, NUM_HEADS, NUM_KV_HEADS = 32, 48, 2, 4, 2
HEAD_WIDTH = WIDTH // NUM_HEADS
CONTEXT = 256

CONTROLS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['content'] }}<|im_end|>"
    "{% endfor %}"
)

# Merges learnt without any cut cross every border, so that each cut shows.
CORPUS = (
    "it's 12345 o'clock, we'll see; they've done 3.14 times 2,718 and I'M HE'D",
    "for (int i = 0; i < 10; i++) {\n    a[i] += b[i] * 2;\n\n    return x == y;\n}",
    "the  quick   brown    fox\tjumps\n\nover the lazy dog   \n  and  \r\n more",
    "$100 + 20% = #120!!! <tag> [x]^2 ~ `code` | a_b_c --- ... ???",
    "Iñtërnâtiônàlizætiøn naïve café Ünïcödé ÅNGSTRÖM straße ΑΒΓ αβγ привет Мир",
    "日本語の文章です。中文字符测试，你好世界！ 한국어 텍스트",
    "ภาษาไทย हिन्दी עברית العربية",
    "👍🏽👩‍👩‍👧‍👦🎉🎉 ½ ² Ⅳ ٣٤٥ ١٢٣ 1st 2nd 42km",
    "1,000,000 0x1F CamelCaseWord HTTPServer",
)

LETTERS = "aBéstN12½٣中文 \n\r\t'.(/$`👍\u0301\u00a0ก"
"""Characters of every class that some way to cut text knows."""

PAIRS = tuple(a + b for a in LETTERS for b in LETTERS)

UNMERGED = "Hello"
"""A token that no merge makes."""


def noise(seed: int) -> str:
    """Return a text in which any class may stand beside any other."""
    drawn = np.random.default_rng(seed).integers(len(LETTERS), size=200)
    return "".join(LETTERS[place] for place in drawn)


PROBES = (
    *CORPUS,
    *(noise(seed) for seed in range(5)),
    "Hello world",
    " leading and trailing ",
    "1 12 123 1234 12345 123456 1234567",
    "don't DON'T we'Re I'd'nt 'twas",
    "a\nb\n\nc\n\n\nd\r\ne\r\n\r\nf",
    "x  y   z    w\t\tv\t u",
    "   ",
    "\n\n",
    "\t",
    "Question: Which gas do plants take in?\nAnswer: carbon dioxide (CO2), i.e. 44 g",
    'def f(x):\n\treturn {\'k\': [1, 2.5e-3], "s": f"{x!r}"}  # done',
    "e\u0301 n\u0303 \u0e01\u0e33 क्षि",
    "a\u00a0b\u2003c\u3000d\u200be",
    "\u202eabc\u202c \ufeffx",
    "price: $5/€7/£9…—–“quoted”‘single’",
    "http://example.org/a?b=c&d=1#e",
    "AbCdEF ABCdef abcDEF ÀÉàé ΣΑσα ǅǆ",
    "৪২ ४२ ۴۲ 𝟜𝟚 ①②",
    "<|im_start|>user\nhi<|im_end|>",
    "a<|endoftext|>b",
)
"""Texts of many kinds, each cut differently by some pre-tokenizer."""


@cache
def byte_vocabulary() -> tuple[list[str], list[str]]:
    """Return tokens and merges of a byte-level vocabulary."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=False
    )
    trainer = trainers.BpeTrainer(
        vocab_size=1499,
        special_tokens=list(CONTROLS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    # Pairs are worth a merge each, and texts seen twice longer ones.
    tokenizer.train_from_iterator([*PAIRS * 20, *CORPUS, *CORPUS], trainer)
    vocabulary = tokenizer.get_vocab()
    tokens = sorted(vocabulary, key=lambda token: vocabulary[token])
    return [*tokens, UNMERGED], merges_in(tokenizer)


def merges_in(tokenizer: Tokenizer) -> list[str]:
    """Return the merges of a tokenizer as GGUF writes them."""
    import json

    pairs = json.loads(tokenizer.to_str())["model"]["merges"]
    return [" ".join(pair) for pair in pairs]


@cache
def piece_vocabulary() -> tuple[list[str], list[float], list[int]]:
    """Return tokens, scores and kinds of a vocabulary as SentencePiece makes them."""
    tokenizer = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(vocab_size=900, show_progress=False)
    texts = [text.replace(" ", "\u2581") for text in (*PAIRS * 20, *CORPUS, *CORPUS)]
    tokenizer.train_from_iterator(texts, trainer)
    vocabulary = tokenizer.get_vocab()
    learnt = sorted(vocabulary, key=lambda token: vocabulary[token])
    # SentencePiece puts pieces in order of merging, and characters last.
    pieces = [one for one in learnt if len(one) > 1]
    pieces += [one for one in learnt if len(one) == 1]
    first = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    # Scores alone say what is merged first, so the ids run the other way.
    tokens = [*first, *reversed(pieces)]
    scores = [0.0] * len(first) + [float(-rank) for rank in range(len(pieces))][::-1]
    return tokens, scores, [2, 3, 3] + [6] * 256 + [1] * len(pieces)


def shared_keys(family: str) -> dict[str, Any]:
    """Return the keys that a file of a family has under its name."""
    keys: dict[str, Any] = {
        "context_length": CONTEXT,
        "embedding_length": WIDTH,
        "block_count": NUM_LAYERS,
        "feed_forward_length": NUM_NEURONS,
        "attention.head_count": NUM_HEADS,
        "attention.head_count_kv": NUM_KV_HEADS,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.freq_base": 10_000.0,
    }
    if family == "gemma2":
        keys |= {"attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0}
    if family.startswith("gemma"):
        keys["attention.sliding_window"] = 4
    return keys


def weights(family: str, num_tokens: int, num_layers: int = NUM_LAYERS) -> Weights:
    """Return random tensors of a family under their names in GGUF; tied at the head."""
    rng = np.random.default_rng(0)

    def matrix(*shape: int) -> NDArray[np.float32]:
        return rng.normal(scale=0.3, size=shape).astype(np.float32)

    def norm(width: int = WIDTH) -> NDArray[np.float32]:
        return (1.0 + 0.3 * rng.normal(size=width)).astype(np.float32)

    tensors = {"token_embd.weight": matrix(num_tokens, WIDTH)}
    tensors["output_norm.weight"] = norm()
    keys_width = HEAD_WIDTH * NUM_KV_HEADS
    for layer in range(num_layers):
        block = {
            "attn_norm.weight": norm(),
            "ffn_norm.weight": norm(),
            "attn_q.weight": matrix(WIDTH, WIDTH),
            "attn_k.weight": matrix(keys_width, WIDTH),
            "attn_v.weight": matrix(keys_width, WIDTH),
            "attn_output.weight": matrix(WIDTH, WIDTH),
            "ffn_gate.weight": matrix(NUM_NEURONS, WIDTH),
            "ffn_up.weight": matrix(NUM_NEURONS, WIDTH),
            "ffn_down.weight": matrix(WIDTH, NUM_NEURONS),
        }
        if family == "qwen2":
            block |= {f"attn_{one}.bias": matrix(WIDTH) for one in "q"}
            block |= {f"attn_{one}.bias": matrix(keys_width) for one in "kv"}
        if family in {"qwen3", "gemma3"}:
            block |= {f"attn_{one}_norm.weight": norm(HEAD_WIDTH) for one in "qk"}
        if family == "olmo2":
            block["attn_q_norm.weight"] = norm()
            block["attn_k_norm.weight"] = norm(keys_width)
            del block["attn_norm.weight"], block["ffn_norm.weight"]
        if family in {"olmo2", "gemma2", "gemma3"}:
            block["post_attention_norm.weight"] = norm()
            block["post_ffw_norm.weight"] = norm()
        tensors |= {f"blk.{layer}.{name}": one for name, one in block.items()}
    return tensors


@dataclass
class TinyGGUF:
    """What to write into a tiny file; a test changes what it is about."""

    family: str = "llama"
    pre: str | None = "gpt-2"
    pieces: bool = False
    """Whether the vocabulary is one of SentencePiece's."""
    tied: bool = True
    num_layers: int = NUM_LAYERS
    keys: dict[str, Any] = field(default_factory=dict)
    """Besides or instead of the usual ones, under the family's name; None drops one."""
    tokenizer: dict[str, Any] = field(default_factory=dict)
    """The same under ``tokenizer.ggml``."""
    other: dict[str, Any] = field(default_factory=dict)
    """The same by full name."""
    tensors: dict[str, Any] = field(default_factory=dict)
    """Besides or instead of the usual ones; None drops one."""

    def write(self, path: Path) -> Path:
        """Write the file."""
        writer = GGUFWriter(path, self.family)
        keys = shared_keys(self.family) | {"block_count": self.num_layers}
        named = {
            f"{self.family}.{name}": one for name, one in (keys | self.keys).items()
        }
        vocabulary = self.vocabulary() | self.tokenizer
        named |= {f"tokenizer.ggml.{name}": one for name, one in vocabulary.items()}
        named |= {"tokenizer.chat_template": CHAT_TEMPLATE} | self.other
        for name, value in named.items():
            if value is not None:
                add_key(writer, name, value)
        for name, tensor in self.all_tensors().items():
            writer.add_tensor(name, tensor)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    def vocabulary(self) -> dict[str, Any]:
        """Return the usual keys of the tokenizer."""
        if self.pieces:
            tokens, scores, kinds = piece_vocabulary()
            return {
                "model": "llama",
                "tokens": tokens,
                "scores": scores,
                "token_type": kinds,
                "unknown_token_id": 0,
                "bos_token_id": 1,
                "eos_token_id": 2,
            }
        tokens, merges = byte_vocabulary()
        return {
            "model": "gpt2",
            "pre": self.pre,
            "tokens": tokens,
            "token_type": [3] * len(CONTROLS) + [1] * (len(tokens) - len(CONTROLS)),
            "merges": merges,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "padding_token_id": 2,
            "unknown_token_id": 0,
        }

    def all_tensors(self) -> Weights:
        """Return the tensors of the file."""
        num_tokens = len((self.vocabulary() | self.tokenizer)["tokens"])
        tensors = weights(self.family, num_tokens, self.num_layers)
        if not self.tied:
            noise = np.random.default_rng(1).normal(scale=0.3, size=(num_tokens, WIDTH))
            tensors["output.weight"] = noise.astype(np.float32)
        merged: Mapping[str, Any] = tensors | self.tensors
        return {name: one for name, one in merged.items() if one is not None}


def add_key(writer: GGUFWriter, name: str, value: Any) -> None:
    """Add a key, its type that of the value."""
    if isinstance(value, bool):
        writer.add_bool(name, value)
    elif isinstance(value, int):
        writer.add_uint32(name, value)
    elif isinstance(value, float):
        writer.add_float32(name, value)
    elif isinstance(value, str):
        writer.add_string(name, value)
    elif value and isinstance(value[0], float):
        writer.add_key_value(name, value, GGUFValueType.ARRAY, GGUFValueType.FLOAT32)
    elif value and isinstance(value[0], int):
        writer.add_key_value(name, value, GGUFValueType.ARRAY, GGUFValueType.INT32)
    else:
        writer.add_array(name, value)
