"""Low-rank adapters: make one to train, or read a trained one."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from neuron_opsd.config import DistillConfig
from neuron_opsd.errors import ModelError
from neuron_opsd.models.adapters.low_rank import LowRank
from neuron_opsd.models.adapters.settings import check_settings
from neuron_opsd.models.library_errors import refusing
from neuron_opsd.models.weights.finite import refuse_not_finite
from neuron_opsd.models.weights.shards import ADAPTER_SETTINGS, header_of
from neuron_opsd.seeds import derive_seed

ADAPTER = "default"
"""PEFT's name for our single adapter."""

ADAPTER_WEIGHTS = "adapter_model.safetensors"
EXPERT_LAYERS = {"gate", "gate_proj", "up_proj", "down_proj", "w1", "w2", "w3"}
"""Names that PEFT takes for layers inside experts."""
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def add_adapter(network: Any, tuning: DistillConfig, name: str, seed: int) -> Any:
    """Put a new adapter on a network's linear layers; return the PEFT model.

    `name` is recorded in the adapter's file as its base model.
    """
    settings = LoraConfig(
        r=tuning.lora_rank,
        lora_alpha=tuning.lora_alpha,
        target_modules=targets_of(network),
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
        base_model_name_or_path=name,
    )
    with torch.random.fork_rng(devices=[]), without_future_warnings():
        adapted = get_peft_model(network, settings)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_A" in name:
                # PEFT's initialisation with our own seed.
                own = derive_seed(seed, "adapter", name)
                source = torch.Generator().manual_seed(own)
                values = torch.empty(weight.shape)
                nn.init.kaiming_uniform_(values, a=5**0.5, generator=source)
                weight.copy_(values)
    return adapted


def targets_of(network: Any) -> str | list[str]:
    """Return the adapter's targets: every linear layer.

    Experts stacked in one tensor are left out, since they are not layers.
    """
    stacked = any(
        weight.ndim == 3 and ".experts." in name
        for name, weight in network.named_parameters()
    )
    if not stacked:
        return "all-linear"
    head = network.get_output_embeddings()
    found = {
        name.rpartition(".")[2]
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and module is not head
    }
    return sorted(found - EXPERT_LAYERS)


@dataclass(frozen=True, slots=True, eq=False)
class Adapted:
    """A network with an adapter's full weights, and the adapter's other changes."""

    network: Any
    changes: Mapping[str, LowRank]
    """Keyed by the decoder's linear layers."""
    rest: str
    """First adapter weight that no change covers, or empty."""


def holds_factors_alone(adapter: Path) -> bool:
    """Return whether an adapter's file holds only the factors of changes."""
    weights = adapter / ADAPTER_WEIGHTS
    if not weights.exists():
        return True  # refused when it is read
    with refusing(f"adapter {adapter} cannot be loaded", "download its files again"):
        names = header_of(weights)
    return all(name.endswith((".lora_A.weight", ".lora_B.weight")) for name in names)


def read_adapter(network: Any, adapter: Path) -> Adapted:
    """Read a PEFT adapter's changes, consuming the network.

    The network may be on the meta device.
    """
    weights = adapter / ADAPTER_WEIGHTS
    if not weights.exists():
        raise ModelError(
            f"{adapter} must hold {ADAPTER_WEIGHTS} but has "
            f"{', '.join(pickles_in(adapter)) or 'none'}; pickled weights are never "
            "loaded"
        )
    with refusing(f"adapter {adapter} cannot be loaded", "download its files again"):
        check_settings(adapter, network, rank_of(weights))
    with refusing(f"adapter {adapter} does not fit this model"):
        outlined = network.device.type == "meta"
        with without_future_warnings():
            adapted = PeftModel.from_pretrained(
                network, str(adapter), low_cpu_mem_usage=outlined
            )
        check_weights(adapter, weights, adapted)
        held = get_peft_model_state_dict(adapted, save_embedding_layers=False)
        if outlined:  # PEFT uses the base's device
            held = load_file(weights)
        refuse_not_finite(f"adapter {adapter}", held.items())
    decoder = network.get_decoder()
    with torch.no_grad():
        values = dict(decoder.named_parameters())
        if outlined:
            start = f"base_model.model.{decoder_prefix(network)}"
            values = {
                name.removeprefix(start).removesuffix("weight") + f"{ADAPTER}.weight": t
                for name, t in held.items()
            }
        changes = changes_of(decoder, values)
    factors = tuple(
        f".{name}.lora_{factor}.weight" for name in changes for factor in "AB"
    )
    rest = min((name for name in held if not name.endswith(factors)), default="")
    return Adapted(adapted.unload(), changes, rest)


def decoder_prefix(network: Any) -> str:
    """Return the prefix of parameter names inside a network's decoder."""
    decoder = network.get_decoder()
    name = next(str(n) for n, one in network.named_modules() if one is decoder)
    return f"{name}." if name else ""


def merged(network: Any, adapter: Path) -> Any:
    """Return a network with an already checked adapter merged into it."""
    with without_future_warnings():
        adapted: Any = PeftModel.from_pretrained(network, str(adapter))
    return adapted.merge_and_unload().eval()


def check_weights(adapter: Path, weights: Path, adapted: Any) -> None:
    """Refuse unknown or missing weights, and changes of tied embeddings."""
    with safe_open(weights, "pt") as stored:
        found = set(stored.keys())
    expected = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    # PEFT also loads embeddings stored whole.
    if left := found - expected - set(adapted.state_dict()):
        raise ModelError(
            f"adapter {adapter} does not fit this model, which has no place for "
            f"{min(left)}"
        )
    if missing := expected - found:
        raise ModelError(
            f"adapter {adapter} is incomplete: it lacks {min(missing)}, which its "
            f"{ADAPTER_SETTINGS} asks for"
        )
    refuse_tied(adapter, adapted)


def refuse_tied(adapter: Path, adapted: Any) -> None:
    """Refuse a changed embedding or head if the two are tied."""
    network = adapted.get_base_model()
    if not network.config.get_text_config().tie_word_embeddings:
        return
    ends = {
        "embedding": network.get_input_embeddings(),
        "head": network.get_output_embeddings(),
    }
    for name, module in ends.items():
        if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper):
            raise ModelError(
                f"adapter {adapter} changes the {name}, which this model ties to its "
                f"{'head' if name == 'embedding' else 'embedding'}: both would change; "
                "load the model with tie_word_embeddings=False in transformers, save "
                "that and name it, or train without lm_head and embed_tokens"
            )


def rank_of(weights: Path) -> int:
    """Return the largest rank among an adapter's weights."""
    factors = "lora_A", "lora_embedding_A"
    held = header_of(weights).items()
    ranks = [e["shape"][0] for name, e in held if any(f in name for f in factors)]
    return max(ranks, default=0)


def changes_of(decoder: nn.Module, values: Mapping[str, Tensor]) -> dict[str, LowRank]:
    """Return an adapter's changes, keyed by layer."""
    return {
        name: LowRank(
            values[f"{name}.lora_A.{ADAPTER}.weight"],
            values[f"{name}.lora_B.{ADAPTER}.weight"] * module.scaling[ADAPTER],
        )
        for name, module in decoder.named_modules()
        if isinstance(module, LoraLayer) and ADAPTER in module.lora_A
    }


@contextmanager
def without_future_warnings() -> Iterator[None]:
    """Silence warnings that PEFT and transformers raise about each other."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        # Weights missing from the file are refused by name afterwards.
        warnings.filterwarnings("ignore", category=UserWarning, module="peft")
        # PEFT looks for experts in families that have none.
        warnings.filterwarnings("ignore", category=RuntimeWarning, module="peft")
        yield


def pickles_in(folder: Path) -> list[str]:
    """Return the names of pickled weights in a folder, sorted."""
    return sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))


def sort_targets(path: Path) -> None:
    """Sort the adapter's target modules, which PEFT writes in any order."""
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings["target_modules"] = sorted(settings["target_modules"])
    path.write_text(json.dumps(settings, indent=2, sort_keys=True), encoding="utf-8")
