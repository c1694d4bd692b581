"""Adapters of other trainers: used whole, or refused in one line.

PEFT passes over weights that have no place and leaves at their start those that a file
lacks, and merging a change of a tied head changes the embedding too. Whatever an
adapter asks for beyond that, such as rank-stabilised scaling, DoRA, ranks by layer or
modules kept whole, PEFT does as it says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

from peft import get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from safetensors import safe_open

from neuron_opsd.errors import ModelError
from neuron_opsd.models.adapters.bounds import problem_of
from neuron_opsd.models.library_errors import full_line, shortened
from neuron_opsd.models.weights.shards import ADAPTER_SETTINGS

MOST_BYTES = 1 << 20
"""Of the file of settings; those of an adapter on every layer have a few thousand."""

TASKS = {None, "CAUSAL_LM"}

STARTS = {True, False, "gaussian", "orthogonal", "eva"}
"""Ways to begin an adapter (`init_lora_weights`) that leave the base as it is."""

REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "alora_invocation_tokens": "works only after certain tokens",
        "arrow_config": "chooses among several adapters for each token",
        "kasa_config": "changes the base's weights",
        "layer_replication": "repeats layers of the base",
        "lora_bias": "adds biases that the base has no place for",
        "megatron_config": "is made for Megatron's layers",
        "monteclora_config": "draws its weights anew for each pass",
        "target_parameters": "changes weights that are no layer of their own",
        "trainable_token_indices": "changes single rows of the embedding",
        "use_bdlora": "is split into blocks",
        "use_qalora": "pools its inputs in groups",
        "velora_config": "compresses what it computes",
    }
)
"""Settings that make of an adapter what cannot be added to the base's weights, and
what each does; an adapter that leaves them empty is an ordinary one."""


def check_settings(adapter: Path, network: Any, rank: int) -> None:
    """Refuse an adapter that is no low-rank one, or does what cannot be followed.

    Args:
        adapter: Its folder.
        network: The base.
        rank: The largest of its weights.

    Raises:
        ModelError: In either case, with the setting and its value.
    """
    settings = read_settings(adapter)
    kind = settings.get("peft_type")
    if kind != "LORA":
        refuse(adapter, "peft_type", kind, "only LORA adapters can be used here")
    task = settings.get("task_type")
    if not isinstance(task, str | None) or task not in TASKS:
        refuse(adapter, "task_type", task, "it must be trained as CAUSAL_LM")
    start = settings.get("init_lora_weights", True)
    if not isinstance(start, bool | str) or start not in STARTS:
        refuse(adapter, "init_lora_weights", start, "it changes the base's weights")
    for name, does in REFUSED.items():
        if settings.get(name):
            refuse(adapter, name, settings[name], f"such an adapter {does}")
    problem = problem_of(
        settings,
        rank=rank,
        num_layers=network.config.get_text_config().num_hidden_layers,
        names=[name for name, _ in network.named_modules()],
    )
    if problem:
        refuse(adapter, *problem)


def read_settings(adapter: Path) -> dict[str, Any]:
    """Return what PEFT keeps of an adapter besides its weights.

    Raises:
        ModelError: If it is not there or no JSON object.
    """
    path = adapter / ADAPTER_SETTINGS
    if path.stat().st_size > MOST_BYTES:
        raise ModelError(
            f"{path} has {path.stat().st_size} bytes, more than the {MOST_BYTES} that "
            "settings can need; get the adapter again from a place that you trust"
        )
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read: {full_line(error)}") from error
    if not isinstance(settings, dict):
        raise ModelError(f"{path} holds {type(settings).__name__}, not an object")
    return settings


def refuse(adapter: Path, name: str, value: Any, why: str) -> NoReturn:
    """Refuse an adapter for a setting.

    Raises:
        ModelError: Always.
    """
    shown = shortened(json.dumps(value))
    raise ModelError(
        f"adapter {adapter} sets {name} = {shown}: {why}; merge it into its "
        "base with its own trainer and give the merged model"
    )


def check_weights(adapter: Path, weights: Path, adapted: Any) -> None:
    """Refuse weights without a place, places without weights, and tied embeddings.

    Args:
        adapter: Its folder, for messages.
        weights: Its safetensors.
        adapted: The PEFT model that was loaded from it.

    Raises:
        ModelError: In each case, with the name of the weight.
    """
    with safe_open(weights, "pt") as stored:
        found = set(stored.keys())
    expected = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    # Embeddings may be kept whole beside the low-rank weights; PEFT loads these too.
    left = found - expected - set(adapted.state_dict())
    if left:
        raise ModelError(
            f"adapter {adapter} does not fit this model, which has no place for "
            f"{min(left)}"
        )
    missing = expected - found
    if missing:
        raise ModelError(
            f"adapter {adapter} is not whole: it lacks {min(missing)}, which its "
            f"{ADAPTER_SETTINGS} asks for"
        )
    refuse_tied(adapter, adapted)


def refuse_tied(adapter: Path, adapted: Any) -> None:
    """Refuse a change of the embedding or the head where both are one matrix.

    Raises:
        ModelError: If there is one.
    """
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
