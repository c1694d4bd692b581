"""Measure how much of what was learned the passes without gradient use.

    python benchmarks/kept_share.py                 # the demonstration's model
    python benchmarks/kept_share.py --json --steps 5

A model is trained with the default settings, products in bfloat16, on weights that are
rounded to bfloat16 first, as published ones are. After some steps every adapted linear
layer is given the inputs that the base model's layers have for some texts. With ``W``
the base's matrix and ``s B A`` the adapter, the exact change of its output is
``x (s B A)``, in float32; the change that a pass makes is the layer's output with that
pass's weights less its output with the base's, both as the pass rounds them. The *kept
share* is the projection of the second change on the first, over all layers and inputs:
1 if all of it arrives, whatever is added by rounding, and 0 for the base.

`student` is the pass that writes rollouts, `teacher` the pass that is learned from.
`merged` is a matrix with the change added and then rounded, as it was done before, and
`peft` PEFT's own layer under autocast, which adds a rounded change to a rounded
product; both are the student's.

At the end the adapter is saved and loaded as the model that is tested, and its
next-token distributions are held against those of PEFT's layers over the same rounded
weights: mean KL divergence in nats a token, and beside it that of the base from PEFT's.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src")]

from neuron_opsd.cli.options import prepare_libraries  # noqa: E402
from neuron_opsd.config import ModelConfig  # noqa: E402
from neuron_opsd.config.tables import config_from_table  # noqa: E402
from neuron_opsd.methods.distillation import NeuronOPSD  # noqa: E402
from neuron_opsd.models.adapters.low_rank import DOWN, UP, LowRank  # noqa: E402
from neuron_opsd.models.adapters.reading import without_future_warnings  # noqa: E402
from neuron_opsd.models.hf import HFModel  # noqa: E402
from neuron_opsd.models.learner import HFLearner  # noqa: E402
from neuron_opsd.models.load import learner_of, load_model  # noqa: E402
from neuron_opsd.models.roles import Sampling  # noqa: E402
from neuron_opsd.records import (  # noqa: E402
    Message,
    Pair,
    Prompt,
    Question,
    TrainingExample,
)
from neuron_opsd.stages.training import train  # noqa: E402
from neuron_opsd.storage.download_cache import cache_folder  # noqa: E402

SHOWN: Final = (1, 2, 5, 10, 15, 20)
NUM_QUESTIONS: Final = 32
NUM_SHOWN: Final = 2
"""Demonstrations in a teacher's prompt."""
MAX_NEW_TOKENS: Final = 24
NUM_READ: Final = 8
"""Prompts at whose tokens outputs and distributions are compared."""


@dataclass
class Share:
    """A projection while it is added up."""

    found: float = 0.0
    whole: float = 0.0

    def add(self, change: Tensor, exact: Tensor) -> None:
        """Add the outputs ``(N, O)`` of one layer."""
        self.found += float((change.double() * exact).sum())
        self.whole += float(exact.double().square().sum())

    @property
    def value(self) -> float:
        """The share; 0 where nothing was learned."""
        return self.found / self.whole if self.whole else 0.0


@dataclass
class Row:
    """What was kept after a number of steps."""

    step: int
    shares: dict[str, Share] = field(
        default_factory=lambda: {
            name: Share() for name in ("student", "teacher", "merged", "peft")
        }
    )

    def as_table(self) -> dict[str, float]:
        """Return the row with its values."""
        return {"step": self.step} | {
            name: round(share.value, 4) for name, share in self.shares.items()
        }


def main(argv: Sequence[str] | None = None) -> int:
    """Train, measure, print, and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", type=Path, default=cache_folder() / "model")
    parser.add_argument("--steps", type=int, default=SHOWN[-1], help="to train")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(argv)
    prepare_libraries(allow_download=False)
    with TemporaryDirectory() as folder:
        rounded = round_weights(options.model, Path(folder) / "model")
        report(rounded, Path(folder) / "adapter", options)
    return 0


def report(folder: Path, adapter: Path, options: argparse.Namespace) -> None:
    """Print what is kept by a model of rounded weights."""
    config = config_from_table(
        {
            "model": {"name": str(folder), "compute": "bfloat16", "device": "cpu"},
            "rollouts": {"mode": "free", "max_new_tokens": MAX_NEW_TOKENS},
            "distill": {"steps": options.steps, "micro_batch_size": 16},
        }
    )
    base = load_model(config.model)
    learner = learner_of(base, config.distill, config.seed)
    examples = examples_of(base)
    pairs: list[Pair] = [
        (base.encode(e.teacher_prompt), ()) for e in examples[:NUM_READ]
    ]
    rows = []
    for entry in train(learner, examples, NeuronOPSD(config), config):
        if entry.step + 1 in SHOWN:
            rows.append(kept(learner, pairs, entry.step + 1))
            if not options.json:
                print_row(rows[-1].as_table(), first=len(rows) == 1)
    learner.save_adapter(adapter)
    table = divergences(learner, config.model, adapter, pairs)
    if options.json:
        print(json.dumps({"rows": [row.as_table() for row in rows], "kl": table}))
        return
    print("\nmean KL, nats a token:")
    print("\n".join(f"{value:.2e}  {name}" for name, value in table.items()))


def round_weights(source: Path, target: Path) -> Path:
    """Write a model with its weights rounded to bfloat16, as published ones are."""
    network: Any = AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16)
    network.save_pretrained(target)
    AutoTokenizer.from_pretrained(source).save_pretrained(target)
    return target


def examples_of(base: HFModel) -> list[TrainingExample]:
    """Return questions whose teacher sees others with the model's own answers."""
    source = cache_folder() / "questions" / "arc-easy" / "pool.jsonl"
    with source.open(encoding="utf-8") as file:
        texts = [json.loads(line)["question"] for line in islice(file, NUM_QUESTIONS)]
    asked = [f"Question: {text}\nAnswer:" for text in texts]
    greedy = Sampling(0.0, max_new_tokens=MAX_NEW_TOKENS, stop_at_newline=True)
    prompts = [base.encode(Prompt(text)) for text in asked]
    drawn = base.sample(prompts, [[0]] * len(prompts), greedy)
    turns = [f"{q} {c[0].text}" for q, c in zip(asked, drawn, strict=True)]
    return [
        TrainingExample(
            Question(f"q{i}", (Message("user", texts[i]),)),
            Prompt(asked[i]),
            Prompt("\n\n".join([*others(turns, i), asked[i]])),
        )
        for i in range(len(asked))
    ]


def others(turns: Sequence[str], place: int) -> list[str]:
    """Return the demonstrations of one question: those that follow it."""
    return [turns[(place + k) % len(turns)] for k in range(1, NUM_SHOWN + 1)]


def kept(learner: HFLearner, pairs: Sequence[Pair], step: int) -> Row:
    """Measure what the passes of student and teacher keep at every adapted layer."""
    row = Row(step)
    inputs = inputs_of(learner.frozen, pairs)
    for whose in ("student", "teacher"):
        values = learner.weights if whose == "student" else learner.teacher_weights
        changes = learner._changes({n: v.data for n, v in values.items()})  # noqa: SLF001
        for name, change in changes.items():
            measure_layer(learner, whose, (name, change, inputs[name]), row)
    return row


def measure_layer(
    learner: HFLearner, whose: str, layer: tuple[str, LowRank, Tensor], row: Row
) -> None:
    """Add what passes make of one layer's inputs, relative to each output's size."""
    name, change, states = layer
    module = learner.decoder.get_submodule(name)
    plain = outputs(module, learner.frozen.product_weights().decoder, name, states)
    size = plain.square().mean(dim=-1, keepdim=True).sqrt()
    exact = (states.float() @ change.down.T) @ change.up.T / size

    def add(column: str, found: Tensor) -> None:
        row.shares[column].add((found - plain) / size, exact)

    add(whose, outputs(module, weights_of(learner, whose), name, states))
    if whose == "student":
        layer_below: Any = learner.frozen.decoder.get_submodule(name)
        matrix = layer_below.weight
        merged = {f"{name}.weight": (matrix + change.product).bfloat16()}
        add("merged", outputs(module, merged, name, states))
        theirs = learner.network.get_decoder().get_submodule(name)
        with torch.no_grad(), learner.computing(theirs):
            add("peft", theirs(states).float())


def weights_of(learner: HFLearner, whose: str) -> Mapping[str, Tensor]:
    """Return the weights with which the passes of student or teacher run."""
    return learner._weights_as(whose).decoder  # noqa: SLF001


@torch.no_grad()
def inputs_of(base: HFModel, pairs: Sequence[Pair]) -> dict[str, Tensor]:
    """Return each linear layer's inputs ``(N, K)`` in the base's own pass."""
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_module: nn.Module, given: tuple[Tensor, ...]) -> None:
            seen[name] = given[0].flatten(0, 1).bfloat16()

        return hook

    modules = [
        (name, module)
        for name, module in base.decoder.named_modules()
        if isinstance(module, nn.Linear)
    ]
    handles = [
        module.register_forward_pre_hook(keep(name), prepend=True)
        for name, module in modules
    ]
    base.forward(pairs)
    for handle in handles:
        handle.remove()
    return seen


@torch.no_grad()
def outputs(
    module: nn.Module, weights: Mapping[str, Tensor], name: str, states: Tensor
) -> Tensor:
    """Return what a layer makes of states with the weights of a pass, in float32."""
    own = {
        part: weights[f"{name}.{part}"]
        for part in ("weight", DOWN, UP)
        if f"{name}.{part}" in weights
    }
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result: Tensor = torch.func.functional_call(module, own, (states,))
    return result.float()


def divergences(
    learner: HFLearner, config: ModelConfig, adapter: Path, pairs: Sequence[Pair]
) -> dict[str, float]:
    """Return mean KL divergences of next-token distributions, in nats a token."""
    network: Any = AutoModelForCausalLM.from_pretrained(
        config.name, dtype=torch.float32
    )
    with without_future_warnings():
        theirs = PeftModel.from_pretrained(network, str(adapter)).eval()
    rounded, exact = (peft_logprobs(theirs, pairs, half=half) for half in (True, False))
    base = logprobs(learner.frozen, pairs)
    with theirs.disable_adapter():
        same = peft_logprobs(theirs, pairs, half=True)
    return {
        "tested from PEFT": divergence(
            logprobs(load_model(config, adapter), pairs), rounded
        ),
        "base from PEFT": divergence(base, rounded),
        "base from PEFT without adapter": divergence(base, same),
        "student from PEFT in float32": divergence(logprobs(learner, pairs), exact),
        "PEFT from PEFT in float32": divergence(rounded, exact),
    }


@torch.no_grad()
def peft_logprobs(network: Any, pairs: Sequence[Pair], *, half: bool) -> list[Tensor]:
    """Return each prompt's ``(T, V)`` log-probabilities, the head's in float32."""
    plain = network.get_base_model()
    head = plain.get_output_embeddings().weight
    result = []
    for prompt, _ in pairs:
        ids = torch.tensor([prompt])
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            states = plain.get_decoder()(input_ids=ids).last_hidden_state[0]
        result.append(torch.log_softmax(states.float() @ head.T, dim=-1))
    return result


@torch.no_grad()
def logprobs(model: HFModel, pairs: Sequence[Pair]) -> list[Tensor]:
    """Return the same of a model here."""
    head = model.head().weight
    result = []
    for prompt, _ in pairs:
        states = model.forward([(prompt, ())])[0, : len(prompt)]
        result.append(torch.log_softmax(states.float() @ head.T, dim=-1))
    return result


def divergence(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """Return the mean KL of log-probabilities from others, in nats a token."""
    sums = [
        float((q.exp() * (q - p)).sum()) for p, q in zip(found, wanted, strict=True)
    ]
    return sum(sums) / sum(map(len, wanted))


def print_row(row: Mapping[str, float], *, first: bool) -> None:
    """Print a row, below its heading if it is the first."""
    if first:
        print(" ".join(f"{name:>8}" for name in row))
    print(" ".join(f"{value:>8g}" for value in row.values()), flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
