"""Count the bytes that training holds at the shapes of Qwen3-4B and Qwen3-8B.

    python -m benchmarks.training_memory --tuning lora

Nothing is estimated: files of random bfloat16 weights with one layer and with two, and
with few tokens and with more, go through our own loading, a learner and one step of it.
Then every tensor of the process is counted, its memory once. What a layer and a token
of the vocabulary add is the difference, and the rest is multiplication: 36 layers and
151,936 tokens. A processor is enough.

*Static* bytes are those between passes: frozen weights, what is trained, its gradient
and moments, and the teacher's. What a pass keeps for its backward pass comes on top.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, Qwen3Config

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests" / "support")]

from neuron_opsd.config import DistillConfig, ModelConfig  # noqa: E402
from neuron_opsd.models.load import learner_of, load_model  # noqa: E402
from tiny import tiny_tokenizer  # noqa: E402

SHAPES: Final[dict[str, dict[str, Any]]] = {
    "Qwen3-4B": {
        "hidden_size": 2560,
        "intermediate_size": 9728,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "tie_word_embeddings": True,
    },
    "Qwen3-8B": {
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "tie_word_embeddings": False,
    },
}
LAYERS: Final = 36
VOCABULARY: Final = 151_936
FEW: Final = 1024
"""Tokens of the vocabulary of a model that is counted."""

TUNINGS: Final[dict[str, dict[str, Any]]] = {
    "lora": {"tuning": "lora"},
    "full, ema teacher": {"tuning": "full", "teacher": "ema"},
    "full, live teacher": {"tuning": "full", "teacher": "live"},
    "qlora": {"tuning": "lora"},
}
BARS: Final = {"lora": 2.3, "full, live teacher": 16.0}
"""Static bytes a parameter, adapters apart, that a tuning may take."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Of one model, or of one layer or token of it."""

    parameters: float
    held: float
    """Bytes of all tensors."""
    trained: float
    """Of them what an adapter takes: itself, gradient, moments and its teacher."""

    def __sub__(self, other: Counts) -> Counts:
        """Return what one has more than another."""
        return Counts(
            self.parameters - other.parameters,
            self.held - other.held,
            self.trained - other.trained,
        )

    def plus(self, other: Counts, times: float) -> Counts:
        """Return these and a number of others."""
        return Counts(
            self.parameters + times * other.parameters,
            self.held + times * other.held,
            self.trained + times * other.trained,
        )


def tensors_of_process() -> Iterator[Tensor]:
    """Yield every tensor that is held, gradients too."""
    for found in gc.get_objects():
        if issubclass(type(found), Tensor):
            yield found
            if found.is_leaf and found.grad is not None:
                yield found.grad


def storages(tensors: Iterator[Tensor] | Sequence[Tensor]) -> dict[int, int]:
    """Return the bytes of each memory that tensors lie in, by its address."""
    return {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in tensors
        if tensor.device.type != "meta"
    }


def held_by(work: Callable[[], Any]) -> tuple[Any, int]:
    """Return what work returns, and the bytes of the tensors held since."""
    gc.collect()
    before = storages(tensors_of_process())
    made = work()
    gc.collect()
    after = storages(tensors_of_process())
    return made, sum(size for at, size in after.items() if at not in before)


def write_model(folder: Path, shape: str, layers: int, vocabulary: int) -> None:
    """Write a model of random weights in bfloat16, and a tokenizer."""
    tokenizer = tiny_tokenizer()
    config = Qwen3Config(
        **SHAPES[shape],
        num_hidden_layers=layers,
        vocab_size=vocabulary,
        max_position_embeddings=4096,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    network = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def counts_of(shape: str, tuning: str, layers: int, vocabulary: int) -> Counts:
    """Count what a model holds after a step of training."""
    settings = DistillConfig(**TUNINGS[tuning])
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder), shape, layers, vocabulary)
        config = ModelConfig(
            name=folder,
            device="cpu",
            compute="bfloat16",
            quantization="nf4" if tuning == "qlora" else "none",
        )

        def train() -> Any:
            model = load_model(config)
            learner = learner_of(model, settings, seed=0)
            pairs = [((1, 2, 3, 4), (5, 6, 7, 8))]
            learner.teacher(pairs)
            learner.student(pairs).hidden.square().sum().backward()
            learner.step(1e-5)
            learner.student(pairs).hidden.square().sum().backward()
            return model, learner

        (model, learner), held = held_by(train)
    trained = 0
    if settings.tuning == "lora":
        ranks = [weight.numel() for weight in learner.weights.values()]
        trained = 5 * 4 * sum(ranks)  # with gradient, two moments and teacher
    return Counts(model.facts.num_parameters, held, trained)


def scaled(shape: str, tuning: str) -> Counts:
    """Return what a model of all layers and tokens holds."""
    one = counts_of(shape, tuning, 1, FEW)
    layer = counts_of(shape, tuning, 2, FEW) - one
    more = counts_of(shape, tuning, 1, 2 * FEW) - one
    whole = one.plus(layer, LAYERS - 1)
    return whole.plus(more, (VOCABULARY - FEW) / FEW)


def static_rows(shapes: Sequence[str], tunings: Sequence[str]) -> Iterator[str]:
    """Yield the table of static bytes, a line at a time."""
    yield (
        "| model | tuning | parameters | static, adapters apart "
        "| bytes a parameter | adapters and their training | at most | verdict |"
    )
    yield "|---|---|--:|--:|--:|--:|--:|---|"
    for shape in shapes:
        for tuning in tunings:
            found = scaled(shape, tuning)
            rest = found.held - found.trained
            each = rest / found.parameters
            bar = BARS.get(tuning)
            verdict = (
                "" if bar is None else "reached" if round(each, 2) <= bar else "short"
            )
            cells = [
                shape,
                tuning,
                f"{found.parameters / 1e9:.2f} B",
                f"{rest / 1e9:.2f} GB",
                f"{each:.2f}",
                f"{found.trained / 1e9:.2f} GB",
                "" if bar is None else f"{bar:g}",
                verdict,
            ]
            yield f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=[*SHAPES])
    parser.add_argument("--tuning", nargs="+", choices=TUNINGS, default=[*TUNINGS])
    args = parser.parse_args()
    for line in static_rows(args.shapes, args.tuning):
        print(line, flush=True)


if __name__ == "__main__":
    main()
