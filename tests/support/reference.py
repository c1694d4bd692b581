"""A gated transformer written out from its formulas, with no module of a library.

It reads weights by name and runs one sequence, so what it gives can be set against what
the package reads off inside transformers. Short sequences only: no sliding window.

Axes: T positions, H heads, D residual width, F neurons of one layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from neuron_opsd.records import TokenIds

Weights = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """What a forward pass went through."""

    gates: list[Tensor]
    """Per layer ``(T, F)``: what the activation function gave."""
    ups: list[Tensor]
    """Per layer ``(T, F)``: what the gate was multiplied with."""
    states: Tensor
    """``(T, D)`` after the final norm."""


def trace(network: Any, token_ids: TokenIds) -> Trace:
    """Run one sequence through the formulas of a network's family."""
    config, weights = network.config, network.state_dict()
    gemma = config.model_type.startswith("gemma")
    x = weights["model.embed_tokens.weight"][list(token_ids)]
    if gemma:
        x = x * config.hidden_size**0.5
    gates, ups = [], []
    for layer in range(config.num_hidden_layers):
        own = below(weights, f"model.layers.{layer}")
        attended = attention(norm(x, own, "input_layernorm", config), own, config)
        if gemma:
            attended = norm(attended, own, "post_attention_layernorm", config)
        x = x + attended
        before = "pre_feedforward_layernorm" if gemma else "post_attention_layernorm"
        h = norm(x, own, before, config)
        gates.append(activation(linear(h, own, "mlp.gate_proj"), gemma=gemma))
        ups.append(linear(h, own, "mlp.up_proj"))
        out = linear(gates[-1] * ups[-1], own, "mlp.down_proj")
        if gemma:
            out = norm(out, own, "post_feedforward_layernorm", config)
        x = x + out
    return Trace(gates, ups, norm(x, below(weights, "model"), "norm", config))


def below(weights: Weights, prefix: str) -> Weights:
    """Return the weights whose name begins with a prefix, without it."""
    return {
        name.removeprefix(f"{prefix}."): weight
        for name, weight in weights.items()
        if name.startswith(f"{prefix}.")
    }


def norm(x: Tensor, weights: Weights, name: str, config: Any) -> Tensor:
    """Divide by the root mean square; Gemma's weight counts from 1."""
    scale = weights[f"{name}.weight"]
    if config.model_type.startswith("gemma"):
        scale = 1.0 + scale
    size: Tensor = (x.pow(2).mean(-1, keepdim=True) + config.rms_norm_eps).sqrt()
    return x / size * scale


def linear(x: Tensor, weights: Weights, name: str) -> Tensor:
    """Multiply with a matrix and add its bias, where there is one."""
    return x @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", 0.0)


def activation(x: Tensor, *, gemma: bool) -> Tensor:
    """Return SiLU, or Gemma's approximate GELU."""
    return functional.gelu(x, approximate="tanh") if gemma else x * torch.sigmoid(x)


def attention(x: Tensor, weights: Weights, config: Any) -> Tensor:
    """Let every position look at itself and those before it."""
    width = config.head_dim
    num_heads, num_shared = config.num_attention_heads, config.num_key_value_heads
    q, k, v = (
        linear(x, weights, f"self_attn.{name}_proj").view(len(x), -1, width)
        for name in "qkv"
    )
    if "self_attn.q_norm.weight" in weights:
        q = norm(q, weights, "self_attn.q_norm", config)
        k = norm(k, weights, "self_attn.k_norm", config)
    q, k = rotated(q, rope_base(config)), rotated(k, rope_base(config))
    scale = config.to_dict().get("query_pre_attn_scalar", width) ** -0.5
    mixed = []
    for head in range(num_heads):
        shared = head * num_shared // num_heads
        scores = q[:, head] @ k[:, shared].T * scale
        later = torch.ones_like(scores).triu(1).bool()
        mixed.append(scores.masked_fill(later, -torch.inf).softmax(-1) @ v[:, shared])
    return linear(torch.cat(mixed, dim=-1), weights, "self_attn.o_proj")


def rope_base(config: Any) -> float:
    """Return the base of the rotation; both layers of a tiny Gemma 3 are local."""
    rope = config.rope_parameters
    return float(rope.get("sliding_attention", rope)["rope_theta"])


def rotated(x: Tensor, base: float) -> Tensor:
    """Turn pairs of coordinates of ``(T, H, width)`` by angles that grow with T."""
    half = x.shape[-1] // 2
    rates = base ** (-torch.arange(half) / half)
    angles = torch.outer(torch.arange(len(x)), rates).unsqueeze(1)
    a, b = x[..., :half], x[..., half:]
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)
