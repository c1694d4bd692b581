"""Load a model: a folder, GGUF file or hub id; never pickle, never its code."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch

from neuron_opsd.config import Config, DistillConfig, ModelConfig
from neuron_opsd.errors import ConfigError, ModelError
from neuron_opsd.models.adapters.low_rank import added
from neuron_opsd.models.adapters.matrices import Held
from neuron_opsd.models.adapters.reading import (
    add_adapter,
    holds_factors_alone,
    merged,
    read_adapter,
)
from neuron_opsd.models.description import load_tokenizer as load_tokenizer
from neuron_opsd.models.description import quiet, settings_of
from neuron_opsd.models.hf import HFModel as HFModel
from neuron_opsd.models.learner import HFLearner
from neuron_opsd.models.network import loader_of
from neuron_opsd.models.output_rows import Weights as Weights
from neuron_opsd.models.output_rows import output_weights as output_weights
from neuron_opsd.models.probing import tried
from neuron_opsd.models.roles import LanguageModel, ModelFacts
from neuron_opsd.models.room import GB, Room
from neuron_opsd.models.tokenizer.encoding import ModelTokenizer as ModelTokenizer
from neuron_opsd.models.vllm.refusals import check_engine as check_engine
from neuron_opsd.models.vllm.refusals import check_family
from neuron_opsd.models.vllm.sampler import VLLMSampler, vllm_sampler
from neuron_opsd.models.weights.four_bit import NOT_TRAINED, PackedLinear, is_packed
from neuron_opsd.models.weights.four_bit import check_quantization as check_quantization
from neuron_opsd.models.weights.location import source_of
from neuron_opsd.models.weights.refusals import (
    check_training_room as check_training_room,
)
from neuron_opsd.models.weights.shards import ADAPTER_SETTINGS

P = ParamSpec("P")
R = TypeVar("R")


def load_model(
    config: ModelConfig,
    *adapters: Path,
    tokenizer: ModelTokenizer | None = None,
    base: LanguageModel | None = None,
) -> HFModel:
    """Load a frozen model, optionally with what training made.

    Args:
        config: `name` must be a folder in transformers' format, a GGUF file or a hub
            id.
        adapters: Folders written by `Learner.save_adapter`, each a PEFT adapter or a
            whole model; an adapter trained on top of another comes after it.
        tokenizer: What `load_tokenizer` returned for these settings, if already loaded.
        base: What this function returned for these settings without adapters; its
            weights are shared instead of read again.

    Raises:
        ModelError: If the model is missing, is pickled or needs its own code.
    """
    quiet()
    own: list[Path] = []
    for adapter in adapters:
        if not adapter.is_dir():
            raise ModelError(f"adapter folder {adapter} does not exist")
        if (adapter / ADAPTER_SETTINGS).exists():
            own.append(adapter)
        else:
            # Rounding would lose what training changed.
            whole = {"name": str(adapter), "compute": "float32", "quantization": "none"}
            config, tokenizer, base = config.model_copy(update=whole), None, None
            own.clear()
    model = base if isinstance(base, HFModel) else load_base(config, tokenizer)
    for adapter in own:
        model = with_adapter(model, adapter, Room(config.tokens_per_batch))
    return model


def load_base(config: ModelConfig, tokenizer: ModelTokenizer | None) -> HFModel:
    """Load a model without adapters and probe it."""
    tokenizer = tokenizer or load_tokenizer(config)
    load = loader_of(config, tokenizer.facts.compute)
    held = Held(load(), load)
    tokens, room = tokenizer.tokens, Room(config.tokens_per_batch)
    shares = tried(HFModel(held, tokens, tokenizer.facts, room))
    facts = replace(tokenizer.facts, shares_prompts=shares)
    return HFModel(held, tokens, facts, room)


def with_adapter(base: HFModel, adapter: Path, room: Room) -> HFModel:
    """Return a model with an adapter that shares the base's other weights.

    If the adapter changes more than matrices, the weights are copied.
    """
    alone = holds_factors_alone(adapter)
    given = sharing(base.network) if alone else copy.deepcopy(base.network)
    found = read_adapter(given, adapter)
    changes = added(base.changes, found.changes)
    if alone and not found.rest:
        return HFModel(base.held, base.tokens, base.facts, room, changes)
    if found.rest and is_packed(base.network):
        raise ModelError(
            f"adapter {adapter} holds {found.rest}, which changes weights that "
            "model.quantization packs into four bits; set it to none"
        )
    if found.rest and base.facts.compute == "bfloat16":
        raise ModelError(
            f"adapter {adapter} holds {found.rest}, whose change bfloat16 would round "
            "away; set model.compute to float32"
        )
    network = found.network
    if found.rest:
        network, changes = merged(whole(base), adapter), {}
    return HFModel(network, base.tokens, base.facts, room, changes)


def sharing(network: Any) -> Any:
    """Return a second network of new modules over the same weights."""
    states = [m.state for m in network.modules() if isinstance(m, PackedLinear)]
    shared: list[Any] = [*network.parameters(), *network.buffers(), *states]
    return copy.deepcopy(network, {id(tensor): tensor for tensor in shared})


def whole(model: HFModel) -> Any:
    """Return a float32 copy of a model's network with its changes merged."""
    network = copy.deepcopy(model.network)
    for weight in network.parameters():
        weight.data = weight.data.float()
    decoder = network.get_decoder()
    with torch.no_grad():
        for name, change in model.changes.items():
            decoder.get_submodule(name).weight.addmm_(change.up, change.down)
    return network


def load_answering(
    config: Config,
    *adapters: Path,
    tokenizer: ModelTokenizer | None = None,
    base: LanguageModel | None = None,
) -> HFModel:
    """Load a model as `load_model` does, with the engine for free sampling.

    Raises:
        ModelError: If the engine does not support the model.
    """
    if config.engine.rollouts == "vllm":
        written = settings_of(config.model, source_of(config.model))
        check_family(config.model.name, written.architectures or [])
    model = load_model(config.model, *adapters, tokenizer=tokenizer, base=base)
    model.room.memory = round(config.engine.decoding_memory * GB)
    if config.engine.rollouts == "vllm":
        sampler = vllm_sampler(config, model.facts, model.tokens, adapters)
        if not (isinstance(base, HFModel) and base.network is model.network):
            sampler.give_way(model.network)
        model.sampler = sampler
    return model


def learner_of(base: LanguageModel, tuning: DistillConfig, seed: int) -> HFLearner:
    """Return a learner that starts from a model, which itself never changes.

    With an adapter both share the frozen weights; `full` copies all of them to float32,
    since rounding would lose most of a step. The model must come from `load_model`;
    `full` drops its weights and reads them again when needed.

    Raises:
        ModelError: If memory has no room for `full` tuning.
    """
    if isinstance(base, RemoteModel):
        base = base.here()
    if not isinstance(base, HFModel):
        raise TypeError(f"cannot train {type(base).__name__}; give a loaded model")
    if tuning.tuning == "lora":
        network = sharing(base.network)
        trained: Any = add_adapter(network, tuning, network.name_or_path, seed)
    else:
        if is_packed(base.network):
            raise ConfigError(NOT_TRAINED)
        check_training_room(base.facts, tuning)
        base = base.in_float32()
        network = trained = whole(base)
        network.requires_grad_(True)  # noqa: FBT003
    learner = HFLearner(base, network, trained, tuning)
    if tuning.tuning == "full" and base.sampler is None:
        base.held.drop()
    if isinstance(base.sampler, VLLMSampler):
        sampler = base.sampler.following(learner.save_adapter, tuning.lora_rank)
        sampler.give_way(learner.network)
        learner.sampler = sampler
    return learner


def asked_here(
    method: Callable[Concatenate[HFModel, P], R],
) -> Callable[Concatenate[RemoteModel, P], R]:
    """Return a method that loads the model in this process and calls it."""

    @wraps(method)
    def ask(remote: RemoteModel, /, *args: P.args, **kwargs: P.kwargs) -> R:
        found: R = getattr(remote.here(), method.__name__)(*args, **kwargs)
        return found

    return ask


class RemoteModel(ModelTokenizer):
    """A `LanguageModel` in other processes, loaded here on demand.

    Workers answer questions in chunks; calling the model itself loads it here first.
    """

    sample = asked_here(HFModel.sample)
    logits_at = asked_here(HFModel.logits_at)
    divergences = asked_here(HFModel.divergences)
    logprobs = asked_here(HFModel.logprobs)
    capture = asked_here(HFModel.capture)
    mean_states = asked_here(HFModel.mean_states)

    def __init__(
        self,
        tokenizer: ModelTokenizer,
        facts: ModelFacts,
        room: Room,
        recipe: Callable[[], HFModel],
        load: Callable[[], HFModel],
    ) -> None:
        """Take the workers' recipe, and this process's loader."""
        super().__init__(tokenizer.tokens, facts)
        self.room = room
        self.recipe = recipe
        self._load = load
        self._here: HFModel | None = None

    def here(self) -> HFModel:
        """Return the model itself, loaded once."""
        if self._here is None:
            self._here = self._load()
            self._here.room.told = self.room.told
            self._here.room.tokens = self.room.tokens
        return self._here

    def release(self) -> None:
        """Free the weights here until they are needed again."""
        self._here = None
