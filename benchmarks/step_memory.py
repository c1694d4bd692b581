"""Count what a training step holds on two and three layers, and scale it to all.

    python -m benchmarks.step_memory --models Qwen3-4B Qwen3-8B

Layers have the published shapes and random weights, in bfloat16 as files have them; the
vocabulary is small, and the loss is counted at the real one apart. Everything that a
step holds is linear in its tokens and in its layers, so four small steps tell all
larger ones: two numbers of layers at two lengths. What lives between steps is told
apart by `benchmarks.training_memory`.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoTokenizer

from benchmarks.live_bytes import peak_bytes
from benchmarks.scale.models import CONFIGS
from benchmarks.speed.memory import random_pair
from neuron_opsd.config import DistillConfig, ModelConfig
from neuron_opsd.demo.fetch import fetch_demo
from neuron_opsd.method.fused_loss import HiddenStates
from neuron_opsd.method.losses import distillation_loss
from neuron_opsd.models.learner import HFLearner
from neuron_opsd.models.load import learner_of, load_model
from neuron_opsd.progress import Silent
from neuron_opsd.storage.download_cache import cache_folder

LAYERS: Final = (2, 3)
TOKENS: Final = (96, 192)
BESIDE: Final = 16
"""Tokens of a prompt, in passes whose other tokens are a completion."""

SMALL: Final = 4096
"""Entries of the vocabulary while layers are counted."""

COMPLETION: Final = 8192
PROMPT, TEACHER_PROMPT = 256, 4096
STUDENT: Final = PROMPT + COMPLETION
TEACHER: Final = TEACHER_PROMPT + COMPLETION

BAR: Final = 0.45
"""MB a saved token of the smallest model, with checkpointing."""

ROOM: Final = 24.0
"""GB in which that model's step is to fit."""

Count: TypeAlias = Callable[[HFLearner, int], int]
"""Returns bytes of one learner at a number of tokens."""


@dataclass(frozen=True, slots=True)
class Linear:
    """Bytes at each number of layers and tokens that was counted."""

    counted: Mapping[tuple[int, int], int]

    def at(self, layers: int, tokens: int) -> float:
        """Return the bytes at other numbers."""
        ends = [self.line(count, tokens) for count in LAYERS]
        return ends[0] + (layers - LAYERS[0]) * (ends[1] - ends[0])

    def line(self, layers: int, tokens: int) -> float:
        """Return the bytes at other tokens."""
        first, last = (self.counted[layers, length] for length in TOKENS)
        each = (last - first) / (TOKENS[1] - TOKENS[0])
        return first + (tokens - TOKENS[0]) * each

    def per_token(self, layers: int) -> float:
        """Return the bytes that a token adds."""
        return self.at(layers, 1) - self.at(layers, 0)


def num_saved(learner: HFLearner, tokens: int) -> int:
    """Return the bytes that a student's graph keeps, without any weight."""
    pairs = [pair_of(learner, tokens)]
    learner.student(pairs)  # weights for products live on
    before = held()
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in before:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # itself, it would hold the graph that holds it

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        states = learner.student(pairs)
        del states
    return sum(kept.values())


def held() -> dict[int, int]:
    """Return the place and the bytes of the memory of all tensors that live now."""
    gc.collect()
    things = [thing for thing in gc.get_objects() if issubclass(type(thing), Tensor)]
    memories = [tensor.untyped_storage() for tensor in things if not tensor.is_meta]
    return {memory.data_ptr(): memory.nbytes() for memory in memories}


def student_peak(learner: HFLearner, tokens: int) -> int:
    """Return the most that a student's pass and its gradient hold at once."""

    def work() -> None:
        states = learner.student([pair_of(learner, tokens)]).hidden
        states.mul(1e-3).sum().backward()

    work()  # gradients live on
    return peak_bytes(work)


def teacher_peak(learner: HFLearner, tokens: int) -> int:
    """Return the most that a teacher's pass holds at once."""
    work = partial(learner.teacher, [pair_of(learner, tokens)])
    work()
    return peak_bytes(work)


def standing(learner: HFLearner, tokens: int) -> int:
    """Return what lives between two steps, gradients too."""
    student_peak(learner, tokens)
    learner.step(0.0)
    student_peak(learner, tokens)
    return sum(held().values())


def pair_of(learner: HFLearner, tokens: int) -> Any:
    """Return a prompt and a completion of so many tokens together."""
    return random_pair(BESIDE, tokens - BESIDE, learner.facts.vocab_size)


COUNTS: Final[Mapping[str, tuple[str, Count]]] = {
    "saved": ("off", num_saved),
    "saved again": ("on", num_saved),
    "student": ("on", student_peak),
    "teacher": ("on", teacher_peak),
    "standing": ("on", standing),
}
"""What is counted, and with which `distill.gradient_checkpointing`."""


def counted(name: str, tokenizer: Path) -> dict[str, Linear]:
    """Return all that is counted of a model."""
    found: dict[str, dict[tuple[int, int], int]] = {key: {} for key in COUNTS}
    for layers in LAYERS:
        with TemporaryDirectory() as folder:
            write_model(name, layers, tokenizer, Path(folder))
            for key, (setting, count) in COUNTS.items():
                learner = learner_with(Path(folder), setting)
                for tokens in TOKENS:
                    found[key][layers, tokens] = count(learner, tokens)
                del learner
                gc.collect()
    return {key: Linear(values) for key, values in found.items()}


def write_model(name: str, layers: int, tokenizer: Path, folder: Path) -> None:
    """Write a few layers of a published shape with random weights."""
    sizes = {"num_hidden_layers": layers, "vocab_size": SMALL}
    table = {**CONFIGS[name], **sizes, "bos_token_id": 0, "eos_token_id": 0}
    settings = CONFIG_MAPPING[table["model_type"]].from_dict(table)
    network = AutoModelForCausalLM.from_config(settings, dtype=torch.bfloat16)
    network.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder)


def learner_with(folder: Path, setting: Any) -> HFLearner:
    """Return a student that trains an adapter of the default rank."""
    gc.collect()
    model = ModelConfig(name=str(folder), device="cpu", compute="bfloat16")
    return learner_of(
        load_model(model), DistillConfig(gradient_checkpointing=setting), 0
    )


def loss_peak(vocabulary: int) -> int:
    """Return the most that the loss holds besides states, which are narrow here."""
    tuning, width = DistillConfig(), 16
    count = 2 * tuning.chunk_positions
    head = torch.randn(vocabulary, width)
    student, teacher = (HiddenStates(torch.randn(count, width), head) for _ in "st")
    return peak_bytes(lambda: distillation_loss(student, teacher, tuning, None))


def sum_of(name: str, found: Mapping[str, Linear]) -> dict[str, float]:
    """Return the bytes of one completion's step, by what holds them."""
    sizes = CONFIGS[name]
    layers, width = sizes["num_hidden_layers"], sizes["hidden_size"]
    matrices = 1 if sizes["tie_word_embeddings"] else 2
    ends = matrices * (sizes["vocab_size"] - SMALL) * width * 2
    saved = found["saved again"].at(layers, STUDENT)
    return {
        "weights, adapter, optimiser, gradients": ends
        + found["standing"].at(layers, TOKENS[0]),
        "the student's graph": saved,
        "one layer again": found["student"].at(layers, STUDENT) - saved,
        "the teacher's pass": found["teacher"].at(layers, TEACHER),
        "logits": float(loss_peak(sizes["vocab_size"])),
    }


def tell(name: str, found: Mapping[str, Linear]) -> tuple[float, float]:
    """Print a model's tables; return its MB a saved token, and GB in all."""
    layers = CONFIGS[name]["num_hidden_layers"]
    print(f"\n| {name}, {layers} layers | MB a token |\n|---|---|")
    saved = {}
    for title, key in (("off", "saved"), ("on", "saved again")):
        saved[key] = found[key].per_token(layers) / 1e6
        print(f"| saved, checkpointing {title} | {saved[key]:.3f} |")
    for title, key in (("student, both passes", "student"), ("teacher", "teacher")):
        print(f"| at most, {title} | {found[key].per_token(layers) / 1e6:.3f} |")
    terms = sum_of(name, found)
    print(f"\n| {name}: a completion of {COMPLETION:,} tokens | GB |\n|---|---|")
    for title, count in terms.items():
        print(f"| {title} | {count / 1e9:.2f} |")
    total = sum(terms.values()) / 1e9
    print(f"| sum, as if all were held at once | {total:.2f} |", flush=True)
    return saved["saved again"], total


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables of some models; the first one is held to the bars."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--models", nargs="+", choices=CONFIGS, default=["Qwen3-4B"])
    parser.add_argument("--tokenizer", type=Path, help="folder; the demo's by default")
    options = parser.parse_args(argv)
    tokenizer = options.tokenizer or fetch_demo(cache_folder(), Silent(), []).model
    results = [tell(name, counted(name, tokenizer)) for name in options.models]
    saved, total = results[0]
    reached = saved <= BAR and total <= ROOM
    print(f"\nBars: {BAR} MB a saved token, {ROOM:.0f} GB: {reached=}")
    return 0 if reached else 1


if __name__ == "__main__":
    raise SystemExit(main())
