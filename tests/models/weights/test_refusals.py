"""Checkpoints that cannot be used end as one line with advice, whatever a library says.

Each case spoils a good folder in one place. None of them may end in another error than
`ModelError`, and none may load as if nothing were wrong.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel

from loaded import learning, loaded, model_config
from neuron_opsd.errors import ModelError
from neuron_opsd.models.library_errors import full_line, refusing
from neuron_opsd.models.load import load_model

Spoil: TypeAlias = Callable[[Path], None]

WEIGHTS = "model.safetensors"


@pytest.fixture
def copy(tiny_llama: Path, tmp_path: Path) -> Path:
    """Give a model folder that a test may spoil."""
    return Path(shutil.copytree(tiny_llama, tmp_path / "copy"))


def refusal(folder: Path, *adapters: Path) -> str:
    """Return why a folder is not loaded, which must be said in one line."""
    with pytest.raises(ModelError) as error:
        load_model(model_config(folder), *adapters)
    assert "\n" not in str(error.value)
    return str(error.value)


def fields(name: str, **changes: Any) -> Spoil:
    """Return what changes fields of a JSON file."""

    def spoil(folder: Path) -> None:
        settings = json.loads((folder / name).read_text("utf-8"))
        (folder / name).write_text(json.dumps(settings | changes), "utf-8")

    return spoil


def config(**changes: Any) -> Spoil:
    """Return what changes fields of `config.json`."""
    return fields("config.json", **changes)


def content(name: str, text: str | bytes) -> Spoil:
    """Return what writes a file anew."""
    data = text if isinstance(text, bytes) else text.encode()

    def spoil(folder: Path) -> None:
        (folder / name).write_bytes(data)

    return spoil


def gone(name: str, *others: Spoil) -> Spoil:
    """Return what removes a file and does other things."""

    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        for other in others:
            other(folder)

    return spoil


# --- quantised weights ---


@pytest.mark.parametrize(
    ("described", "said"),
    [
        (
            {"quant_method": "bitsandbytes", "load_in_4bit": True},
            "bitsandbytes, 4 bits",
        ),
        (
            {"quant_method": "bitsandbytes", "load_in_8bit": True},
            "bitsandbytes, 8 bits",
        ),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "gptq, 4 bits"),
        ({"quant_method": "awq", "bits": 4, "version": "gemm"}, "awq, 4 bits"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8"),
        ({"quant_method": "mxfp4"}, "mxfp4"),
        ({"quant_method": "unheard-of"}, "unheard-of"),
        ({"bits": 3}, "of no named method, 3 bits"),
        ([1], "in a way that config.json does not name"),
    ],
)
def test_a_quantised_checkpoint_is_refused_with_what_to_give(
    described: Any, said: str, copy: Path
) -> None:
    config(quantization_config=described)(copy)
    assert refusal(copy) == (
        f"model {copy} is a quantised checkpoint ({said}), which can neither be read "
        "by neuron nor trained here; give the unquantised checkpoint that it was made "
        "from, or a GGUF file, which is unpacked"
    )


@pytest.mark.parametrize(
    "place",
    [
        {"compression_config": {"quant_method": "compressed-tensors"}},
        {"text_config": {"quantization_config": {"quant_method": "gptq"}}},
    ],
)
def test_quantised_weights_are_found_wherever_it_is_said(
    place: dict[str, Any], copy: Path
) -> None:
    config(**place)(copy)
    assert f"model {copy} is a quantised checkpoint (" in refusal(copy)


def test_no_quantisation_is_no_quantisation(copy: Path) -> None:
    config(quantization_config=None, dtype="bfloat16")(copy)
    assert loaded(copy).facts.num_layers == 2


# --- other kinds of models ---


@pytest.mark.parametrize("family", ["t5", "bart", "whisper", "clip"])
def test_what_is_no_causal_language_model_is_refused_by_its_family(
    family: str, tmp_path: Path
) -> None:
    AutoConfig.for_model(family).save_pretrained(tmp_path)
    # As many as there are layers, at least.
    save_file({str(n): torch.zeros(1) for n in range(40)}, tmp_path / WEIGHTS)
    assert refusal(tmp_path) == (
        f"model {tmp_path} is of the family {family}, which transformers does not load "
        "as a causal language model; give a model that reads and writes text alone, "
        "such as Llama, Qwen 3 or Gemma 3"
    )


def test_weights_without_an_unembedding_are_refused(copy: Path) -> None:
    config(architectures=["LlamaModel"], tie_word_embeddings=False)(copy)
    body = AutoModel.from_pretrained(copy)
    body.save_pretrained(copy)
    config(tie_word_embeddings=False)(copy)
    assert "has no weights for 1 of its tensors, first lm_head.weight" in refusal(copy)


# --- settings and weights that do not fit ---

SPOILT: dict[str, tuple[Spoil, str]] = {
    "a list": (content("config.json", "[]"), "object has no attribute"),
    "null": (content("config.json", "null"), "not iterable"),
    "a number": (content("config.json", "3"), "not iterable"),
    "bytes": (content("config.json", b"\xff\xfe"), "not a valid JSON file"),
    "a size of none": (config(hidden_size=None), "'hidden_size' expected int"),
    "a size as text": (config(hidden_size="32"), "'hidden_size' expected int"),
    "positions of none": (config(max_position_embeddings=None), "expected int, got No"),
    "no heads": (config(num_attention_heads=0), "modulo by zero"),
    "three heads": (config(num_attention_heads=3), "not a multiple of the number of"),
    "no tokens": (config(vocab_size=0), "Padding_idx must be within"),
    "padding outside": (config(pad_token_id=9999), "Padding_idx must be within"),
    "an unknown activation": (config(hidden_act="nope"), "there is no 'nope'"),
    "unknown positions": (config(rope_parameters={"rope_type": "nope"}), "no 'nope'"),
    "positions as text": (config(rope_parameters="x"), "'rope_parameters' with value"),
    "an unknown type": (config(dtype="nope"), "no attribute 'nope'"),
    "an end as text": (config(eos_token_id="</s>"), "'eos_token_id' with value"),
    "generation as a list": (content("generation_config.json", "[]"), "not a mapping"),
    "no weights": (content(WEIGHTS, b""), "header too small"),
    "a page": (content(WEIGHTS, "<html>not found</html>"), "header too large"),
    "a pointer": (
        content(WEIGHTS, "version https://git-lfs.github.com/spec/v1\n"),
        "h",
    ),
    "an index as a list": (
        gone(
            WEIGHTS,
            content("model-1.safetensors", b""),
            content(f"{WEIGHTS}.index.json", "[]"),
        ),
        "model.safetensors.index.json is damaged",
    ),
    "an index of nothing": (
        gone(
            WEIGHTS,
            content("model-1.safetensors", b""),
            content(f"{WEIGHTS}.index.json", "{}"),
        ),
        "must hold a weight_map from tensors to files",
    ),
}


@pytest.mark.newest
@pytest.mark.parametrize("name", SPOILT)
def test_whatever_is_raised_over_settings_and_weights_is_one_line(
    name: str, copy: Path
) -> None:
    spoil, reason = SPOILT[name]
    spoil(copy)
    message = refusal(copy)
    assert message.startswith(f"model {copy} cannot be loaded: ")
    assert reason in message
    assert message.endswith("; get all its files from one place, or use another model")


def test_a_tensor_of_another_shape_is_named_with_both_shapes(copy: Path) -> None:
    config(vocab_size=400)(copy)
    assert refusal(copy) == (
        f"model {copy} cannot be loaded: model.embed_tokens.weight is of shape "
        "(352, 32), but config.json asks for (400, 32); get config.json and the "
        "*.safetensors files again, from one place"
    )


def test_a_model_without_layers_is_refused(copy: Path) -> None:
    config(num_hidden_layers=0)(copy)
    assert refusal(copy) == "this llama model has no layers; download its files again"


@pytest.mark.parametrize("end", ["x", [2, "x"], 1.5])
def test_an_end_token_that_is_no_number_is_refused(end: Any, copy: Path) -> None:
    fields("generation_config.json", eos_token_id=end)(copy)
    wrong = end[1] if isinstance(end, list) else end
    assert refusal(copy) == (
        f"eos_token_id of the generation settings is {wrong!r}, but it must be the "
        "number of a token; fix generation_config.json"
    )


def test_a_model_without_generation_settings_takes_the_tokenizers_end(
    copy: Path,
) -> None:
    (copy / "generation_config.json").unlink()
    assert loaded(copy).tokens.end_ids == {2}


# --- tokenizers ---


def in_tokenizer(change: Callable[[dict[str, Any]], Any]) -> Spoil:
    """Return what changes `tokenizer.json`."""

    def spoil(folder: Path) -> None:
        path = folder / "tokenizer.json"
        table = json.loads(path.read_text("utf-8"))
        change(table)
        path.write_text(json.dumps(table), "utf-8")

    return spoil


def tokenizer(**changes: Any) -> Spoil:
    """Return what changes fields of `tokenizer_config.json`."""
    return fields("tokenizer_config.json", **changes)


SPOILT_TOKENIZERS: dict[str, tuple[Spoil, str]] = {
    "a list": (content("tokenizer.json", "[]"), "cannot be interpreted"),
    "null": (content("tokenizer.json", "null"), "no attribute 'pop'"),
    "an object": (content("tokenizer.json", "{}"), "there is no 'added_tokens'"),
    "an unknown kind": (
        in_tokenizer(lambda t: t["model"].update(type="Nope")),
        "did not match any variant",
    ),
    "no vocabulary": (
        in_tokenizer(lambda t: t["model"].pop("vocab")),
        "Missing vocab/merges",
    ),
    "a strange merge": (
        in_tokenizer(lambda t: t["model"].update(merges=[["zz", "yy"]])),
        "out of vocabulary",
    ),
    "settings as a list": (content("tokenizer_config.json", "[]"), "no attribute"),
    "a class as a number": (tokenizer(tokenizer_class=3), "no attribute"),
    "an end as a number": (tokenizer(eos_token=3), "has to be either str or Added"),
    "a length as text": (tokenizer(model_max_length="x"), "not supported between"),
    "templates as numbers": (tokenizer(chat_template=[1]), "not subscriptable"),
    "a template of bytes": (content("chat_template.jinja", b"\xff"), "can't decode"),
    "special tokens cut": (content("special_tokens_map.json", "{"), "enclosed in"),
}


@pytest.mark.newest
@pytest.mark.parametrize("name", SPOILT_TOKENIZERS)
def test_whatever_is_raised_over_a_tokenizer_is_one_line(name: str, copy: Path) -> None:
    spoil, reason = SPOILT_TOKENIZERS[name]
    if name == "templates as numbers":
        (copy / "chat_template.jinja").unlink()
    spoil(copy)
    message = refusal(copy)
    assert message.startswith(f"the tokenizer of {copy} cannot be loaded: ")
    assert reason in message
    assert message.endswith("; get its tokenizer files again")


def test_a_tokenizer_that_needs_a_missing_library_says_which(copy: Path) -> None:
    gone("tokenizer.json", tokenizer(tokenizer_class="CpmAntTokenizer"))(copy)
    message = refusal(copy)
    assert "CpmAntTokenizer requires the rjieba library but it was not found" in message
    assert "get its tokenizer files again" not in message


@pytest.mark.newest
def test_a_tokenizer_without_its_vocabulary_is_found_out(copy: Path) -> None:
    """One is made of what is there, and it reads every text as one token."""
    (copy / "tokenizer.json").unlink()
    tokenizer(tokenizer_class="GPT2Tokenizer")(copy)
    content("vocab.json", '{"a": 0}')(copy)
    content("merges.txt", "")(copy)
    assert "so it lacks its vocabulary; get its tokenizer files" in refusal(copy)


# --- adapters ---


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ('{"peft_type": "LORA", "bias": "x"}', "Requested bias: x"),
        ('{"peft_type": "LORA", "target_modules": ["none"]}', "{'none'} not found"),
    ],
)
def test_whatever_is_raised_over_an_adapter_is_one_line(
    written: str, reason: str, tiny_llama: Path, tmp_path: Path
) -> None:
    adapter = tmp_path / "adapter"
    learning(tiny_llama).save_adapter(adapter)
    (adapter / "adapter_config.json").write_text(written, "utf-8")
    message = refusal(tiny_llama, adapter)
    assert message.startswith(f"adapter {adapter} does not fit this model")
    assert reason in message


# --- the doorway itself ---


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("a.\nb"), "a"),
        (ValueError("field 'x':\n    wrong"), "field 'x': wrong"),
        (ValueError("\n a \n"), "a"),
        (ValueError("one after another..."), "one after another..."),
        (KeyError("x"), "there is no 'x'"),
        (TypeError(), "TypeError"),
    ],
)
def test_an_errors_first_full_line_is_told(error: Exception, line: str) -> None:
    assert full_line(error) == line


def test_a_fault_of_our_own_is_no_fault_of_a_file() -> None:
    with pytest.raises(ZeroDivisionError), refusing("x", faults=(OSError,)):
        _ = 1 / 0
    with pytest.raises(ModelError, match=r"^already said$"), refusing("x", "y"):
        raise ModelError("already said")


def test_the_weights_are_as_they_were(copy: Path) -> None:
    """The copy loads when nothing is spoilt, so the cases above test their spoiling."""
    assert loaded(copy).facts.num_parameters == sum(
        weight.numel() for weight in load_file(copy / WEIGHTS).values()
    )
