"""Which neurons pushed a completion: ours, the bare forward, and the NeuFS code."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.speed.job import Facts, Job, Turns
from benchmarks.speed.rollouts import load_network, load_tokenizer, model_settings
from neuron_opsd.config import NeuronsConfig
from neuron_opsd.method.neurons import scaled_sizes
from neuron_opsd.models.load import load_model
from neuron_opsd.models.room import batches
from neuron_opsd.records import Pair, TokenIds
from neuron_opsd.stages.capture import capture_neurons
from neuron_opsd.storage.codecs import NEURONS

NEUFS_BATCH = 4
"""Completions that the NeuFS code takes at a time unless it is told otherwise."""


def pairs_of(job: Job) -> list[Pair]:
    """Return every prompt with its one completion."""
    return [
        (tuple(prompt), tuple(group[0]))
        for prompt, group in zip(job.work.prompts, job.work.completions, strict=True)
    ]


def ours(job: Job, turns: Turns) -> None:
    """Serve `capture_neurons` and the file that it becomes."""
    settings = model_settings(job)
    model = load_model(settings)
    pairs = pairs_of(job)
    ids = [f"question-{i}" for i in range(len(pairs))]
    neurons = NeuronsConfig(rule=job.options.get("rule", "flat"))
    with TemporaryDirectory() as folder:
        file = Path(folder) / "neurons.parquet"

        def capture() -> Facts:
            sets = capture_neurons(
                model, ids, pairs, neurons, settings.tokens_per_batch
            )
            NEURONS.save(sets, file)
            return {"amount": len(pairs), "stored": file.stat().st_size}

        turns.repeat(capture)


def bare(job: Job, turns: Turns) -> None:
    """Serve our forward pass of the same batches, with one logit per pair."""
    model = load_model(model_settings(job))
    pairs = pairs_of(job)
    columns: list[list[TokenIds]] = [
        [*[() for _ in completion], (0,)] for _, completion in pairs
    ]

    def forward() -> Facts:
        model.logits_at(pairs, columns)
        return {"amount": len(pairs)}

    turns.repeat(forward)


def bare_transformers(job: Job, turns: Turns) -> None:
    """Serve the library's forward pass of the same batches, without logits."""
    decoder = load_network(job).get_decoder()
    pairs = pairs_of(job)
    size = model_settings(job).tokens_per_batch

    def forward() -> Facts:
        for batch in batches(pairs, size):
            ids, _ = right_padded([pairs[i] for i in batch])
            decoder(input_ids=ids.to(job.device), use_cache=False)
        return {"amount": len(pairs)}

    with torch.inference_mode():
        turns.repeat(forward)


def right_padded(pairs: list[Pair]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids and attention mask of pairs padded on the right."""
    sequences = [torch.tensor(prompt + completion) for prompt, completion in pairs]
    masks = [torch.ones_like(sequence) for sequence in sequences]
    pad = torch.nn.utils.rnn.pad_sequence
    return pad(sequences, batch_first=True), pad(masks, batch_first=True)


def neufs(job: Job, turns: Turns) -> None:
    """Serve the NeuFS code's extraction, which ends with a file of JSON lines.

    Its selection would still have to read these to know the sets; that is not timed.
    """
    sys.path.insert(0, job.neufs)
    collect = import_module("neufs.collect")
    network = load_network(job)
    pairs = pairs_of(job)
    config = network.config
    layers = config.num_hidden_layers
    sizes = scaled_sizes(layers, config.intermediate_size, per_layer=0, keep=0)
    collector = collect.NeuronActivationCollector(
        network, load_tokenizer(job), [""], sizes.per_layer
    )
    collated = [
        collate(pairs[start : start + NEUFS_BATCH])
        for start in range(0, len(pairs), NEUFS_BATCH)
    ]
    with TemporaryDirectory() as folder:
        output = Path(folder) / "neurons.jsonl"

        def extract() -> Facts:
            collector.run(collated, single, str(output), batch_size=1)
            return {"amount": len(pairs), "stored": output.stat().st_size}

        turns.repeat(extract)


def single(batches_of_one: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the batch that was collated already."""
    (batch,) = batches_of_one
    return batch


def collate(pairs: list[Pair]) -> dict[str, Any]:
    """Return a batch in the form of NeuFS, each completion its only candidate."""
    ids, mask = right_padded(pairs)
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "candidate_index": [(i, 0) for i in range(len(pairs))],
        "answer_range": [(len(p), len(p) + len(c)) for p, c in pairs],
        "labels": [""] * len(pairs),
        "messages": [""] * len(pairs),
    }
