"""Free sampling: ours, `transformers` generate, and llama.cpp."""

from __future__ import annotations

from importlib import import_module
from itertools import count
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.speed.job import Facts, Job, Turns
from neuron_opsd.config import ModelConfig
from neuron_opsd.models.load import load_model
from neuron_opsd.models.roles import Sampling
from neuron_opsd.models.tokenizer.encoding import Tokens
from neuron_opsd.seeds import derive_seed

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def model_settings(job: Job) -> ModelConfig:
    """Return how our own systems load the model."""
    compute = job.options.get("compute", job.options["precision"])
    return ModelConfig(name=job.model, device=job.device, compute=compute)


def ours(job: Job, turns: Turns) -> None:
    """Serve `LanguageModel.sample`, all questions and samples in one call."""
    model = load_model(model_settings(job))
    # Without an end every completion has the same length, as for the peers.
    model.tokens = Tokens(model.tokens.tokenizer, frozenset())
    sampling = Sampling(temperature=1.0, max_new_tokens=job.work.new_tokens)
    prompts = [tuple(prompt) for prompt in job.work.prompts]
    samples = range(job.work.num_samples)
    numbers = count()

    def draw() -> Facts:
        number = next(numbers)
        seeds = [
            [derive_seed(number, i, k) for k in samples] for i in range(len(prompts))
        ]
        rows = model.sample(prompts, seeds, sampling)
        return {"amount": sum(len(one.token_ids) for row in rows for one in row)}

    turns.repeat(draw)


def transformers_generate(job: Job, turns: Turns) -> None:
    """Serve `generate(num_return_sequences=...)`, in one call or one per question."""
    network = load_network(job)
    together = job.options["together"]
    prompts = job.work.prompts
    groups = [prompts] if together else [[prompt] for prompt in prompts]
    batches = [left_padded(group, job.device) for group in groups]

    def draw() -> Facts:
        amount = 0
        for ids, mask in batches:
            made = network.generate(
                input_ids=ids,
                attention_mask=mask,
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                num_return_sequences=job.work.num_samples,
                min_new_tokens=job.work.new_tokens,
                max_new_tokens=job.work.new_tokens,
                pad_token_id=0,
            )
            amount += made.shape[0] * (made.shape[1] - ids.shape[1])
        return {"amount": amount}

    turns.repeat(draw)


def load_network(job: Job) -> Any:
    """Load a model as `transformers` does, its weights in the wanted precision."""
    network: Any = AutoModelForCausalLM.from_pretrained(
        job.model, dtype=DTYPES[job.options["precision"]]
    )
    return network.eval().to(job.device)


def left_padded(
    prompts: list[list[int]], device: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids and attention mask of prompts padded on the left."""
    longest = max(map(len, prompts))
    ids = [[0] * (longest - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def load_tokenizer(job: Job) -> Any:
    """Load the model's tokenizer, padding on the left as generation needs it."""
    return AutoTokenizer.from_pretrained(job.model, padding_side="left")


def llama_cpp(job: Job, turns: Turns) -> None:
    """Serve llama.cpp, every sample a slot of its own, prompts read once."""
    xllamacpp = import_module("xllamacpp")
    work = job.work
    num_slots = len(work.prompts) * work.num_samples
    longest = max(map(len, work.prompts)) + work.new_tokens
    params = xllamacpp.CommonParams()
    params.model.path = job.gguf
    params.n_parallel = num_slots
    # Slots of their own were faster than one memory for all. Each is a multiple of 32.
    params.kv_unified = False
    params.n_ctx = num_slots * (longest // 32 + 1) * 32
    params.n_gpu_layers = 0 if job.device == "cpu" else 999
    params.cache_ram_mib = 0
    params.cpuparams.n_threads = job.threads
    params.cpuparams_batch.n_threads = job.threads
    params.verbosity = -1
    server = xllamacpp.Server(params)
    numbers = count()

    def draw() -> Facts:
        answer = server.handle_completions(
            {
                "prompt": work.prompts,
                "n": work.num_samples,
                "n_predict": work.new_tokens,
                "temperature": 1.0,
                "top_k": job.options["top_k"],
                "samplers": ["top_k", "temperature"]
                if job.options["top_k"]
                else ["temperature"],
                "ignore_eos": True,
                "cache_prompt": False,
                "seed": next(numbers),
            }
        )
        full = [c for c in answer["choices"] if c["finish_reason"] == "length"]
        return {"amount": len(full) * work.new_tokens}

    turns.repeat(draw)
