"""Gated MLPs: found in every family that has them, refused by name where not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, MixtralConfig, Phi3Config

from loaded import plain_network
from neuron_opsd.errors import ModelError
from neuron_opsd.models.forward.layers import find_mlps
from tiny import FAMILIES, NUM_LAYERS, NUM_NEURONS, WIDTH

WANTED = (
    "; neurons are read from gated MLPs with gate_proj, up_proj, down_proj and act_fn, "
    "as in Llama, Qwen 2 and 3, Mistral, Gemma 3 and SmolLM"
)

SMALL: dict[str, Any] = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}


@pytest.fixture
def network(tiny_llama: Path) -> Any:
    """Give a network that a test may break."""
    return plain_network(tiny_llama)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_layer_has_its_own_mlp_in_order(
    family: str, request: pytest.FixtureRequest
) -> None:
    network = plain_network(request.getfixturevalue(f"tiny_{family}"))
    mlps = find_mlps(network)
    assert len(mlps) == NUM_LAYERS
    for mlp, layer in zip(mlps, network.model.layers, strict=True):
        assert mlp.down_proj is layer.mlp.down_proj
        assert mlp.act_fn is layer.mlp.act_fn
        assert mlp.down_proj.weight.shape == (WIDTH, NUM_NEURONS)


def test_gate_is_what_the_activation_gives_and_gated_what_down_proj_takes(
    network: Any,
) -> None:
    (mlp, _), module = find_mlps(network), network.model.layers[0].mlp
    x = torch.randn(1, 3, WIDTH, generator=torch.Generator().manual_seed(0))
    gate = torch.nn.functional.silu(module.gate_proj(x))
    seen: list[Tensor] = []
    for value in ("gate", "gated"):
        handle = mlp.watch(value, seen.append)
        module(x)
        handle.remove()
        module(x)
    assert len(seen) == 2
    torch.testing.assert_close(seen[0], gate)
    torch.testing.assert_close(seen[1], gate * module.up_proj(x))


def test_gpt2_is_refused_by_name(tiny_gpt2: Path) -> None:
    with pytest.raises(ModelError) as error:
        find_mlps(plain_network(tiny_gpt2))
    assert str(error.value) == (
        "a gpt2 model keeps its layers where neurons cannot be read" + WANTED
    )


def test_a_fused_gate_is_refused_by_name() -> None:
    network = AutoModelForCausalLM.from_config(Phi3Config(**SMALL))
    with pytest.raises(ModelError) as error:
        find_mlps(network)
    assert str(error.value) == (
        "layer 0 of this phi3 model has Phi3MLP without gate_proj, up_proj, act_fn"
        + WANTED
    )


def test_a_mixture_of_experts_is_refused_by_name() -> None:
    network = AutoModelForCausalLM.from_config(
        MixtralConfig(**SMALL, num_local_experts=2)
    )
    with pytest.raises(ModelError, match=r"layer 0 of this mixtral .*Mixtral"):
        find_mlps(network)


def test_a_layer_without_mlp_is_refused(network: Any) -> None:
    del network.model.layers[1].mlp
    with pytest.raises(ModelError) as error:
        find_mlps(network)
    assert str(error.value) == (
        "layer 1 of this llama model has no module called mlp without gate_proj, "
        "up_proj, down_proj, act_fn" + WANTED
    )


def test_a_down_projection_that_is_no_plain_matrix_is_refused(network: Any) -> None:
    network.model.layers[1].mlp.down_proj = nn.Bilinear(2, 2, 2)
    with pytest.raises(ModelError) as error:
        find_mlps(network)
    assert str(error.value) == (
        "layer 1 of this llama model has a down_proj of type Bilinear, whose weight "
        "cannot be read" + WANTED
    )
