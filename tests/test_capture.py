"""Neuron sets of completions: batches change nothing, and loops agree."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from neuron_opsd.config import NeuronsConfig
from neuron_opsd.models.hf import HFModel
from neuron_opsd.models.load import load_model
from neuron_opsd.models.protocol import Pair
from neuron_opsd.records import NeuronSet
from neuron_opsd.settings import load_config
from neuron_opsd.stages.capture import capture_neurons, sizes_of
from scripted import FACTS, ScriptedModel

RULES = get_args(NeuronsConfig.model_fields["rule"].annotation)

PAIRS: list[Pair] = [
    (tuple(range(5, 5 + 3 * n)), tuple(range(40 + n, 40 + n + length)))
    for n, length in ((1, 1), (4, 3), (2, 6), (3, 2), (1, 4))
]
IDS = [f"q{n}" for n in range(len(PAIRS))]


@pytest.fixture(scope="module")
def model(tiny_llama: Path) -> HFModel:
    config = load_config(None, [f"model.name={tiny_llama}", "model.compute=float32"])
    return load_model(config.model)


def settings(**fields: object) -> NeuronsConfig:
    return NeuronsConfig.model_validate(fields)


def same(one: NeuronSet, other: NeuronSet) -> bool:
    """Say whether two sets are equal, their scores up to rounding."""
    return (
        (one.question_id, one.neuron_count, one.num_tokens)
        == (other.question_id, other.neuron_count, other.num_tokens)
        and np.array_equal(one.neuron_ids, other.neuron_ids)
        and np.allclose(one.scores, other.scores, rtol=1e-4, atol=1e-6)
    )


def test_sizes_scale_with_the_model() -> None:
    # 2,000 of 9,728 of 8 neurons a layer; 5,000 of 36 x 9,728 of 2 x 8.
    sizes = sizes_of(NeuronsConfig(), FACTS)
    assert (sizes.per_layer, sizes.keep) == (2, 1)
    sizes = sizes_of(settings(per_layer=5, keep=7), FACTS)
    assert (sizes.per_layer, sizes.keep) == (5, 7)


def test_sets_come_in_the_order_asked_for_with_their_lengths(model: HFModel) -> None:
    found = capture_neurons(model, IDS, PAIRS, NeuronsConfig(), 4096)
    assert [entry.question_id for entry in found] == IDS
    assert [entry.num_tokens for entry in found] == [1, 3, 6, 2, 4]
    for entry in found:
        assert entry.neuron_ids.dtype == np.uint32
        assert entry.scores.dtype == np.float32
        assert np.all(np.diff(entry.neuron_ids.astype(np.int64)) > 0)
        assert len(entry.scores) == len(entry.neuron_ids)
        assert np.all(entry.scores > 0)
        assert entry.neuron_count >= len(entry.neuron_ids)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("value", ["gate", "gated"])
def test_neither_batch_nor_order_changes_a_set(
    model: HFModel, rule: str, value: str
) -> None:
    config = settings(rule=rule, value=value, per_layer=9, keep=12)
    whole = capture_neurons(model, IDS, PAIRS, config, 4096)
    alone = capture_neurons(model, IDS, PAIRS, config, 1)
    turned = capture_neurons(model, IDS[::-1], PAIRS[::-1], config, 30)[::-1]
    for one, two, three in zip(whole, alone, turned, strict=True):
        assert same(one, two)
        assert same(one, three)


@pytest.mark.parametrize("value", ["gate", "gated"])
def test_a_set_is_what_loops_over_layers_and_tokens_find(
    model: HFModel, value: str
) -> None:
    config = settings(rule="per-layer", value=value, per_layer=6, keep=8)
    pair = PAIRS[2]
    (found,) = capture_neurons(model, ["q"], [pair], config, 4096)
    best: dict[int, float] = {}

    def consume(layer: int, scores: object) -> None:
        table = np.asarray(scores)
        assert table.shape == (6, model.facts.num_neurons)
        top = {
            i: max(float(row[i]) for row in table)
            for i in range(model.facts.num_neurons)
        }
        for i in sorted(top, key=lambda i: -top[i])[:6]:
            best[layer * model.facts.num_neurons + i] = top[i]

    model.capture([pair], config.value, consume)
    assert found.neuron_count == len(best) == 12
    strongest = sorted(best, key=lambda i: -best[i])[:8]
    assert found.neuron_ids.tolist() == sorted(i for i in strongest if best[i] > 0)


def test_a_one_token_answer_has_neurons_but_for_neufs(model: HFModel) -> None:
    one: list[Pair] = [((5, 6, 7), (42,))]
    (flat,) = capture_neurons(model, ["q"], one, NeuronsConfig(), 4096)
    assert flat.neuron_count > 0
    (neufs,) = capture_neurons(model, ["q"], one, settings(rule="neufs"), 4096)
    assert neufs.neuron_count == 0


def test_projections_are_halved_for_neufs_alone() -> None:
    asked: list[bool] = []

    class Watched(ScriptedModel):
        def capture(self, *args: object, **named: object) -> None:
            asked.append(bool(named["half_projections"]))
            super().capture(*args, **named)  # type: ignore[arg-type]

    for rule in RULES:
        capture_neurons(Watched({}), ["q"], [((1,), (2, 3))], settings(rule=rule), 99)
    assert asked == [rule == "neufs" for rule in RULES]
