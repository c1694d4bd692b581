"""GGUF files, turned once into a plain folder that loads in a moment and can learn.

transformers reads a GGUF file by itself but needs half a minute every time, and what it
returns still counts as quantised. The folder written here holds the same weights as
float32 safetensors, the configuration, and the tokenizer with its chat template.
"""

from __future__ import annotations

import atexit
import errno
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from neuron_opsd.errors import ModelError

MAGIC = b"GGUF"

UNREADABLE = (ValueError, KeyError, IndexError, TypeError, struct.error)
"""What the readers of transformers and gguf raise for a file they cannot use."""


def is_gguf(path: Path) -> bool:
    """Say whether a file begins as GGUF files do."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


@cache
def unpacked(gguf: Path) -> Path:
    """Return a plain folder with the model of a GGUF file, converted when first asked.

    The folder is a temporary one that goes with the process. Whoever loads a file often
    converts it once, with `convert_gguf`, and names the folder.

    Raises:
        ModelError: If transformers cannot read the file.
    """
    folder = TemporaryDirectory(prefix="neuron-opsd-gguf-")
    atexit.register(folder.cleanup)
    convert_gguf(gguf, Path(folder.name))
    return Path(folder.name)


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Write the model of a GGUF file into an existing empty folder.

    Takes about 25 seconds for 135 million parameters, and memory for twice the float32
    weights. Never goes online. The caller commits the folder, so that a killed
    conversion leaves no half-made model behind.

    Args:
        gguf: File of a model whose architecture transformers can read from GGUF.
        folder: Gets `config.json`, `model.safetensors` and the tokenizer's files.

    Raises:
        ModelError: If it is not a GGUF file, or transformers cannot read it.
        OSError: If the disk is full.
    """
    if not is_gguf(gguf):
        raise ModelError(
            f"{gguf} is not a GGUF file: it does not begin with {MAGIC.decode()}; "
            "give a .gguf file or a folder with safetensors"
        )
    with quiet_transformers():
        try:
            model, tokenizer = load_gguf(gguf)
        except UNREADABLE as error:
            reason = str(error).partition("\n")[0]
            raise ModelError(
                f"transformers cannot read {gguf}: {reason}; give another GGUF file "
                "or a folder with safetensors"
            ) from error
        forget_quantisation(model)
        save(model, tokenizer, folder)


def load_gguf(gguf: Path) -> tuple[Any, Any]:
    """Return model and tokenizer of a GGUF file, the weights as float32."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.float32,
        local_files_only=True,
        trust_remote_code=False,
    )
    tokenizer = AutoTokenizer.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        local_files_only=True,
        trust_remote_code=False,
    )
    return model, tokenizer


def forget_quantisation(model: Any) -> None:
    """Make a model read from GGUF an ordinary one, which its weights already are."""
    model.hf_quantizer = None
    model.is_quantized = False
    vars(model.config).pop("quantization_config", None)


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write model and tokenizer as a hub download would have them.

    Raises:
        OSError: If the disk is full, which safetensors reports in an error of its own.
    """
    from safetensors import SafetensorError

    try:
        model.save_pretrained(folder)
    except SafetensorError as error:
        if f"os error {errno.ENOSPC}" in str(error):
            raise OSError(errno.ENOSPC, str(error)) from error
        raise
    tokenizer.save_pretrained(folder)
    # safetensors makes its files readable by their owner alone.
    mode = (folder / "config.json").stat().st_mode
    for path in folder.iterdir():
        path.chmod(mode)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' bars and remarks off the terminal for a while."""
    from transformers.utils import logging

    reader: Any = import_module("transformers.modeling_gguf_pytorch_utils")
    loud = reader.tqdm
    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    # This one bar obeys no setting, and moving stderr would hide the caller's own.
    reader.tqdm = partial(loud, disable=True)
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        reader.tqdm = loud
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
