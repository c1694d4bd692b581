"""Test vLLM on this machine with a tiny random model and an adapter.

`python -m neuron_opsd.models.vllm.trial` prints JSON. An incompatible library kills its
process.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Final

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from neuron_opsd.config.tables import load_config
from neuron_opsd.models.hf import HFModel
from neuron_opsd.models.learner import HFLearner
from neuron_opsd.models.load import learner_of, load_answering
from neuron_opsd.models.roles import Sampling
from neuron_opsd.models.vllm.library import library
from neuron_opsd.records import Completion, TokenIds

VOCABULARY: Final = 64
SEEDS: Final = tuple(range(8))
LENGTH: Final = 24


@dataclass(frozen=True, slots=True)
class Trial:
    """vLLM's answers compared with transformers' computation."""

    version: str
    precision: str
    gap: float
    """Mean distance from the adapted model's log-probabilities, in nats."""
    from_base: float
    """The same from the unadapted model."""


def tiny_model(folder: Path) -> None:
    """Write a two-layer model with random weights, and a tokenizer."""
    words = {"<unk>": 0, "</s>": 1} | {f"word{n}": n for n in range(2, VOCABULARY)}
    split = Tokenizer(WordLevel(words, unk_token="<unk>"))
    split.pre_tokenizer = Whitespace()
    named = {"eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=split, **named).save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=512,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)


def moved(learner: HFLearner) -> None:
    """Give a no-op adapter values that change the model."""
    state = learner.state()
    source = torch.Generator().manual_seed(0)
    for name, value in state.items():
        if "lora_B" in name:
            value += 0.1 * torch.randn(value.shape, generator=source)
    learner.load_state(state)


def distance(model: HFModel, prompt: TokenIds, drawn: list[Completion]) -> float:
    """Return sampled log-probabilities' distance from a model's, in nats per token."""
    columns = tuple(range(VOCABULARY))
    apart = []
    for completion in drawn:
        ids = completion.token_ids
        wanted = [[columns] * len(ids) + [()]]
        (rows,) = model.logits_at([(prompt, ids)], wanted)
        known = torch.from_numpy(np.stack(rows[: len(ids)])).log_softmax(-1)
        own = known.gather(-1, torch.tensor(ids)[:, None])[:, 0]
        apart.append(float((own - torch.tensor(completion.logprobs)).abs().mean()))
    return fmean(apart)


def tried(folder: Path) -> Trial:
    """Sample from an adapted model with vLLM and compare log-probabilities."""
    tiny_model(folder)
    named = [f"model.name={folder}", "engine.rollouts=vllm", "distill.lora_rank=8"]
    config = load_config(None, named)
    model = load_answering(config)
    learner = learner_of(model, config.distill, 0)
    moved(learner)
    prompt = tuple(range(2, 20))
    (drawn,) = learner.sample([prompt], [SEEDS], Sampling(1.0, max_new_tokens=LENGTH))
    return Trial(
        version=str(library().__version__),
        precision=model.facts.compute,
        gap=distance(learner, prompt, drawn),
        from_base=distance(model, prompt, drawn),
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="neuron-opsd-trial-") as scratch:
        sys.stdout.write(json.dumps(asdict(tried(Path(scratch)))) + "\n")
