"""Loading a model: a folder, a GGUF file or a hub id; never pickle, never its code."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
)
from transformers.utils import logging as transformers_logging

from neuron_opsd.config import DistillConfig, ModelConfig
from neuron_opsd.errors import ModelError
from neuron_opsd.method.divergence import capped
from neuron_opsd.models.adapters import (
    add_adapter,
    first_line,
    with_adapter,
)
from neuron_opsd.models.generation import decodes_alike
from neuron_opsd.models.hf import HFModel
from neuron_opsd.models.learner import HFLearner
from neuron_opsd.models.linear import as_linear
from neuron_opsd.models.low_rank import LowRank, added, carry_changes
from neuron_opsd.models.mlps import readable_mlps
from neuron_opsd.models.precision import compute_of
from neuron_opsd.models.protocol import ModelFacts
from neuron_opsd.models.source import check_source
from neuron_opsd.models.tokens import Tokens
from neuron_opsd.reasoning import Marks


def load_model(config: ModelConfig, *adapters: Path) -> HFModel:
    """Load a frozen model, with what training made if that is given.

    Args:
        config: `name` must be a folder in transformers' form or a hub id.
        adapters: What `Learner.save_adapter` wrote, each a PEFT adapter or a whole
            model; one that was trained on top of another comes after it.

    Raises:
        ModelError: If the model is missing, is pickled or needs its own code.
    """
    quiet()
    merged: list[Path] = []
    for adapter in adapters:
        if not adapter.is_dir():
            raise ModelError(f"adapter folder {adapter} does not exist")
        if (adapter / "adapter_config.json").exists():
            merged.append(adapter)
        else:
            # Rounded, it would lose what training changed.
            whole = {"name": str(adapter), "compute": "float32"}
            config = config.model_copy(update=whole)
            merged.clear()
    source = check_source(config)
    network = load_network(source, config)
    changes: dict[str, LowRank] = {}
    for adapter in merged:
        adapted = with_adapter(network, adapter)
        refuse_rounding(adapter, adapted.rest, config)
        network, changes = adapted.network, added(changes, adapted.changes)
    return wrap(network, source, config, changes)


def load_learner(config: ModelConfig, tuning: DistillConfig, seed: int) -> HFLearner:
    """Load a model with something to train: a new adapter, or all its weights."""
    return learner_of(load_model(config), tuning, seed)


def learner_of(base: HFModel, tuning: DistillConfig, seed: int) -> HFLearner:
    """Return a learner that begins as a model is, which itself never changes.

    Under an adapter both share the frozen weights; `full` takes a copy of all and
    computes in float32, since rounded weights would lose most of a step.
    """
    if tuning.tuning == "lora":
        network = twin(base.network)
        trained: Any = add_adapter(network, tuning, network.name_or_path, seed)
    else:
        base = in_float32(base)
        network = trained = copy.deepcopy(base.network)
        network.requires_grad_(True)  # noqa: FBT003
    return HFLearner(
        base,
        network,
        trained,
        weight_decay=tuning.weight_decay,
        max_grad_norm=tuning.max_grad_norm,
    )


def in_float32(model: HFModel) -> HFModel:
    """Return a model of the same weights whose products are not rounded."""
    facts = replace(model.facts, compute="float32")
    return HFModel(
        model.network, model.tokens, facts, model.mlps, model.tokens_per_batch
    )


def twin(network: Any) -> Any:
    """Return a second network of the same modules over the very same weights."""
    shared = [*network.parameters(), *network.buffers()]
    return copy.deepcopy(network, {id(tensor): tensor for tensor in shared})


def quiet() -> None:
    """Keep transformers' own bars and hints off the terminal."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def refuse_rounding(adapter: Path, rest: str, config: ModelConfig) -> None:
    """Refuse an adapter whose changes cannot stand beside rounded matrices.

    Args:
        adapter: Its folder.
        rest: A weight of it that is no factor of a linear layer of the decoder; empty
            where there is none.
        config: Settings of the model below.

    Raises:
        ModelError: If there is one, and products are in bfloat16.
    """
    if rest and compute_of(config, device_of(config)) == "bfloat16":
        raise ModelError(
            f"adapter {adapter} holds {rest}, whose change bfloat16 would round away; "
            "set model.compute to float32"
        )


def load_network(source: str, config: ModelConfig) -> Any:
    """Load the weights in float32.

    Raises:
        ModelError: If transformers cannot.
    """
    options = hub_options(config)
    try:
        written, _ = PreTrainedConfig.get_config_dict(source, **options)
        refuse_own_code(source, written)
        found: Any = AutoModelForCausalLM.from_pretrained(
            source,
            config=AutoConfig.from_pretrained(source, **options),
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            **options,
        )
    except ModelError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"model {config.name} cannot be loaded: {first_line(error)}{advice(config)}"
        ) from error
    network, report = found
    refuse_missing(config.name, report["missing_keys"])
    return on_device(as_linear(network).eval(), device_of(config))


def refuse_missing(name: str, missing: set[str]) -> None:
    """Refuse weights of which some are missing; these would be random numbers.

    Raises:
        ModelError: If there are any.
    """
    if missing:
        raise ModelError(
            f"model {name} has no weights for {len(missing)} of its tensors, first "
            f"{min(missing)}; get its *.safetensors files again"
        )


def on_device(network: Any, device: str) -> Any:
    """Move a network to a device.

    Raises:
        ModelError: If there is no such device here, or no room on it.
    """
    try:
        return network.to(device)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(
            f"the model cannot be put on device {device}: {first_line(error)}; set "
            "model.device to auto or cpu"
        ) from error


def hub_options(config: ModelConfig) -> dict[str, Any]:
    """Return what every call that may reach the hub is told."""
    return {
        "revision": config.revision,
        "local_files_only": not config.allow_download,
        "trust_remote_code": False,
    }


def refuse_own_code(source: str, settings: Mapping[str, Any]) -> None:
    """Refuse a model that brings code to be run.

    Raises:
        ModelError: If it does.
    """
    if settings.get("auto_map"):
        raise ModelError(
            f"{source} asks to run code of its own (auto_map in config.json), which is "
            "never done here; use a model of a family that transformers knows"
        )


def advice(config: ModelConfig) -> str:
    """Say what to do about a hub id that is not in the local cache."""
    if Path(config.name).exists() or config.allow_download:
        return ""
    return (
        "; it is no local folder and nothing is downloaded unless "
        "--set model.allow_download=true"
    )


def load_tokens(source: str, config: ModelConfig, network: Any) -> Tokens:
    """Load the tokenizer and find the tokens that end a completion.

    Raises:
        ModelError: If there is no tokenizer or it names no end token.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **hub_options(config))
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"the tokenizer of {config.name} cannot be loaded: {first_line(error)}"
        ) from error
    named = network.generation_config.eos_token_id
    ends = named if isinstance(named, list) else [named]
    end_ids = frozenset(
        int(end) for end in [*ends, tokenizer.eos_token_id] if end is not None
    )
    if not end_ids:
        raise ModelError(f"the tokenizer of {config.name} names no end token")
    return Tokens(tokenizer, end_ids, marks_of(config))


def marks_of(config: ModelConfig) -> tuple[Marks, ...]:
    """Return the marks of reasoning that the settings name, none where they do not.

    Raises:
        ModelError: If they name one of the two alone.
    """
    start, end = config.reasoning_start, config.reasoning_end
    if not start and not end:
        return ()
    if not (start and end) or start == end:
        raise ModelError(
            f"model.reasoning_start is {start!r} and model.reasoning_end {end!r}, but "
            "reasoning has two different marks; give both, or neither for the known "
            "ones"
        )
    return (Marks(start, end),)


def wrap(
    network: Any, source: str, config: ModelConfig, changes: Mapping[str, LowRank]
) -> HFModel:
    """Put a network behind the doorway, with what adapters changed in it."""
    carry_changes(network.get_decoder())
    tokens = load_tokens(source, config, network)
    mlps, why_none = readable_mlps(network)
    head = network.get_output_embeddings().weight
    settings = network.config.get_text_config()
    device = device_of(config)
    facts = ModelFacts(
        name=config.name,
        family=settings.model_type,
        num_parameters=sum(weight.numel() for weight in network.parameters()),
        num_layers=settings.num_hidden_layers,
        num_neurons=mlps[0].down_proj.in_features if mlps else 0,
        width=head.shape[1],
        vocab_size=head.shape[0],
        max_positions=max_positions_of(settings),
        has_chat_template=tokens.has_chat_template,
        device=device,
        compute=compute_of(config, device),
        why_no_neurons=why_none,
    )
    model = HFModel(network, tokens, facts, mlps, config.tokens_per_batch)
    check_logits(model)
    facts = replace(facts, shares_prompts=decodes_alike(model))
    return HFModel(network, tokens, facts, mlps, config.tokens_per_batch, changes)


def max_positions_of(settings: Any) -> int:
    """Return how many positions a model holds.

    Raises:
        ModelError: If its configuration does not say, as Bloom's and MPT's do not.
    """
    found = getattr(settings, "max_position_embeddings", None)
    if not isinstance(found, int):
        raise ModelError(
            f"the configuration of this {settings.model_type} model does not say how "
            "many positions it holds; use a model of another family"
        )
    return found


def check_logits(model: HFModel) -> None:
    """Refuse a model that does more to its logits than unembed and squash them.

    Raises:
        ModelError: If it scales them, as Granite does, or adds something.
    """
    one = torch.zeros(1, 1, dtype=torch.long, device=model.device)
    head = model.student_head()
    with torch.inference_mode():
        own = model.network(input_ids=one).logits[0, 0]
        decoder = model.network.get_decoder()
        states = decoder(input_ids=one, use_cache=False).last_hidden_state
        ours = capped(head.weight @ states[0, 0], head.softcap)
    if (own - ours).abs().max() > 1e-3 * (1.0 + own.abs().max()):
        raise ModelError(
            f"a {model.facts.family} model changes its logits after the unembedding, "
            "which cannot be followed here; use a model of another family"
        )


def device_of(config: ModelConfig) -> str:
    """Return the device that the settings mean."""
    if config.device != "auto":
        return config.device
    return "cuda" if torch.cuda.is_available() else "cpu"
