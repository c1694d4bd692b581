"""Loading a model: a folder, a GGUF file or a hub id; never pickle, never its code."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
)
from transformers.utils import logging as transformers_logging

from neuron_opsd.config import DistillConfig, ModelConfig
from neuron_opsd.errors import ModelError, is_out_of_memory
from neuron_opsd.models.adapters import (
    add_adapter,
    with_adapter,
)
from neuron_opsd.models.checkpoints import (
    refuse_mismatched,
    refuse_missing,
    refuse_other_kinds,
    refuse_own_code,
    refuse_quantised,
)
from neuron_opsd.models.faults import first_line, refusing
from neuron_opsd.models.hf import HFModel
from neuron_opsd.models.learner import HFLearner
from neuron_opsd.models.linear import as_linear
from neuron_opsd.models.low_rank import LowRank, added, carry_changes
from neuron_opsd.models.mlps import readable_mlps
from neuron_opsd.models.precision import compute_of
from neuron_opsd.models.protocol import ModelFacts
from neuron_opsd.models.shards import check_weights
from neuron_opsd.models.source import check_source
from neuron_opsd.models.tokens import Tokens, check_tokens
from neuron_opsd.models.trial import tried
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
    found = HFModel(
        model.network, model.tokens, facts, model.mlps, model.tokens_per_batch
    )
    found.room = model.room
    return found


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
    with refusing(
        f"model {config.name} cannot be loaded",
        advice(config) or "get its files again from one place, or use another model",
    ):
        written, _ = PreTrainedConfig.get_config_dict(source, **options)
        refuse_own_code(source, written)
        refuse_quantised(config.name, written)
        check_weights(source, written, options)
        settings = AutoConfig.from_pretrained(source, **options)
        refuse_other_kinds(config.name, settings)
        found: Any = AutoModelForCausalLM.from_pretrained(
            source,
            config=settings,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **options,
        )
    network, report = found
    refuse_mismatched(config.name, report["mismatched_keys"])
    refuse_missing(config.name, report["missing_keys"])
    return on_device(as_linear(network).eval(), device_of(config))


def on_device(network: Any, device: str) -> Any:
    """Move a network to a device.

    Raises:
        ModelError: If there is no such device here, or no room on it.
    """
    try:
        return network.to(device)
    except (RuntimeError, AssertionError) as error:
        if is_out_of_memory(error):
            error.add_note(f"putting the model on device {device}")
            raise
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


def advice(config: ModelConfig) -> str:
    """Say what to do about a hub id that is not in the local cache."""
    if Path(config.name).exists() or config.allow_download:
        return ""
    return (
        "it is no local folder and nothing is downloaded unless "
        "--set model.allow_download=true"
    )


def load_tokens(source: str, config: ModelConfig, network: Any) -> Tokens:
    """Load the tokenizer and find the tokens that end a completion.

    These are what the model's settings and its tokenizer name, and what its chat
    template closes an answer with.

    Raises:
        ModelError: If there is no tokenizer, it names no end token, or is not the
            model's own.
    """
    # The tokenizers library raises a bare Exception over a file that it cannot read.
    with refusing(
        f"the tokenizer of {config.name} cannot be loaded",
        advice(config) or "get its tokenizer files again",
        faults=(Exception,),
    ):
        tokenizer = AutoTokenizer.from_pretrained(source, **hub_options(config))
        ends = named_ends(network, tokenizer)
        found = Tokens(tokenizer, ends, marks_of(config), config.name)
        check_tokens(found)
    ending = found.ending_as_written()
    if not ending.end_ids:
        raise ModelError(f"the tokenizer of {config.name} names no end token")
    return ending


def named_ends(network: Any, tokenizer: Any) -> frozenset[int]:
    """Return the end tokens that a model's settings and its tokenizer name."""
    settings = network.generation_config
    named = None if settings is None else settings.eos_token_id
    ends = named if isinstance(named, list) else [named]
    wrong = [end for end in ends if not isinstance(end, int | None)]
    if wrong:
        raise ModelError(
            f"eos_token_id of the generation settings is {wrong[0]!r}, but it must be "
            "the number of a token; fix generation_config.json"
        )
    found = {*ends, tokenizer.eos_token_id} - {None}
    return frozenset(found)


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
        prints_date=tokens.has_chat_template and tokens.template.prints_date,
        closes_answers=tokens.closing_id is not None,
    )
    model = HFModel(network, tokens, facts, mlps, config.tokens_per_batch)
    facts = replace(facts, shares_prompts=tried(model))
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


def device_of(config: ModelConfig) -> str:
    """Return the device that the settings mean."""
    if config.device != "auto":
        return config.device
    return "cuda" if torch.cuda.is_available() else "cpu"
