"""Loading a model: a folder, a GGUF file or a hub id; never pickle, never its code."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from neuron_opsd.config import Config, DistillConfig, ModelConfig
from neuron_opsd.errors import ModelError, is_out_of_memory
from neuron_opsd.models.adapters.low_rank import LowRank, added, carry_changes
from neuron_opsd.models.adapters.reading import add_adapter, with_adapter
from neuron_opsd.models.description import load_tokenizer as load_tokenizer
from neuron_opsd.models.description import loading, quiet, settings_of
from neuron_opsd.models.forward.layers import as_linear, readable_mlps
from neuron_opsd.models.hf import HFModel as HFModel
from neuron_opsd.models.learner import HFLearner
from neuron_opsd.models.library_errors import full_line
from neuron_opsd.models.probing import tried
from neuron_opsd.models.remote import RemoteModel as RemoteModel
from neuron_opsd.models.roles import LanguageModel
from neuron_opsd.models.room import GB, Room
from neuron_opsd.models.tokenizer.encoding import ModelTokenizer as ModelTokenizer
from neuron_opsd.models.vllm.refusals import check_engine as check_engine
from neuron_opsd.models.vllm.refusals import check_family
from neuron_opsd.models.vllm.sampler import VLLMSampler, vllm_sampler
from neuron_opsd.models.weights.finite import refuse_not_finite
from neuron_opsd.models.weights.location import source_of
from neuron_opsd.models.weights.precision import device_of
from neuron_opsd.models.weights.refusals import refuse_reported
from neuron_opsd.models.weights.shards import ADAPTER_SETTINGS


def load_model(
    config: ModelConfig, *adapters: Path, tokenizer: ModelTokenizer | None = None
) -> HFModel:
    """Load a frozen model, with what training made if that is given.

    Args:
        config: `name` must be a folder in transformers' form or a hub id.
        adapters: What `Learner.save_adapter` wrote, each a PEFT adapter or a whole
            model; one that was trained on top of another comes after it.
        tokenizer: What `load_tokenizer` returned for these settings, if it was asked.

    Raises:
        ModelError: If the model is missing, is pickled or needs its own code.
    """
    quiet()
    merged: list[Path] = []
    for adapter in adapters:
        if not adapter.is_dir():
            raise ModelError(f"adapter folder {adapter} does not exist")
        if (adapter / ADAPTER_SETTINGS).exists():
            merged.append(adapter)
        else:
            # Rounded, it would lose what training changed.
            whole = {"name": str(adapter), "compute": "float32"}
            config, tokenizer = config.model_copy(update=whole), None
            merged.clear()
    tokenizer = tokenizer or load_tokenizer(config)
    network = load_network(config)
    changes: dict[str, LowRank] = {}
    for adapter in merged:
        adapted = with_adapter(network, adapter)
        if adapted.rest and tokenizer.facts.compute == "bfloat16":
            raise ModelError(
                f"adapter {adapter} holds {adapted.rest}, whose change bfloat16 would "
                "round away; set model.compute to float32"
            )
        network, changes = adapted.network, added(changes, adapted.changes)
    carry_changes(network.get_decoder())
    mlps, _ = readable_mlps(network)
    tokens, room = tokenizer.tokens, Room(config.tokens_per_batch)
    shares = tried(HFModel(network, tokens, tokenizer.facts, mlps, room))
    facts = replace(tokenizer.facts, shares_prompts=shares)
    return HFModel(network, tokens, facts, mlps, room, changes)


def load_answering(
    config: Config, *adapters: Path, tokenizer: ModelTokenizer | None = None
) -> HFModel:
    """Load what `load_model` loads, with the engine that writes its free answers.

    Raises:
        ModelError: If the engine does not know such a model.
    """
    if config.engine.rollouts == "vllm":
        written = settings_of(config.model, source_of(config.model))
        check_family(config, written.architectures or [])
    model = load_model(config.model, *adapters, tokenizer=tokenizer)
    model.room.memory = round(config.engine.decoding_memory * GB)
    if config.engine.rollouts == "vllm":
        sampler = vllm_sampler(config, model.facts, model.tokens, adapters)
        sampler.give_way(model.network)
        model.sampler = sampler
    return model


def follow(learner: HFLearner, base: HFModel, rank: int) -> None:
    """Have the engine of a model answer with the adapter that a learner trains."""
    if isinstance(base.sampler, VLLMSampler):
        sampler = base.sampler.following(learner.save_adapter, rank)
        sampler.give_way(learner.network)
        learner.sampler = sampler


def learner_of(base: LanguageModel, tuning: DistillConfig, seed: int) -> HFLearner:
    """Return a learner that begins as a model is, which itself never changes.

    Under an adapter both share the frozen weights; `full` takes a copy of all and
    computes in float32, since rounded weights would lose most of a step. The model must
    be one that `load_model` returned.
    """
    if isinstance(base, RemoteModel):
        base = base.here()
    if not isinstance(base, HFModel):
        raise TypeError(f"cannot train {type(base).__name__}; give a loaded model")
    if tuning.tuning == "lora":
        # A second network of the same modules over the very same weights.
        shared = [*base.network.parameters(), *base.network.buffers()]
        network = copy.deepcopy(base.network, {id(tensor): tensor for tensor in shared})
        trained: Any = add_adapter(network, tuning, network.name_or_path, seed)
    else:
        base = base.in_float32()
        network = trained = copy.deepcopy(base.network)
        network.requires_grad_(True)  # noqa: FBT003
    learner = HFLearner(
        base,
        network,
        trained,
        weight_decay=tuning.weight_decay,
        max_grad_norm=tuning.max_grad_norm,
        checkpointing=tuning.gradient_checkpointing,
    )
    follow(learner, base, tuning.lora_rank)
    return learner


def load_network(config: ModelConfig) -> Any:
    """Load the weights in float32."""
    source = source_of(config)
    settings = settings_of(config, source)
    with loading(config):
        found: Any = AutoModelForCausalLM.from_pretrained(
            source.place,
            config=settings,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **source.options,
        )
    network, report = found
    refuse_reported(config.name, report)
    placed = on_device(as_linear(network).eval(), device_of(config))
    refuse_not_finite(f"model {config.name}", placed.named_parameters())
    return placed


def on_device(network: Any, device: str) -> Any:
    """Move a network to a device, or say in one line why it cannot be."""
    try:
        return network.to(device)
    except (RuntimeError, AssertionError) as error:
        if is_out_of_memory(error):
            error.add_note(f"putting the model on device {device}")
            raise
        raise ModelError(
            f"the model cannot be put on device {device}: {full_line(error)}; set "
            "model.device to auto or cpu"
        ) from error
