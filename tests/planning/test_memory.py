"""The memory of training as it is computed, held against what passes really hold."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from benchmarks.live_bytes import peak_bytes
from benchmarks.speed.memory import held_bytes
from counted import saved_bytes
from loaded import learning, model_config, random_pairs
from neuron_opsd.config import Config, DistillConfig
from neuron_opsd.method.fused_loss import HiddenStates
from neuron_opsd.method.losses import distillation_loss
from neuron_opsd.models.config_file import read_outline
from neuron_opsd.models.learner import HFLearner
from neuron_opsd.models.outline import Layer, Outline, Product, outline_of
from neuron_opsd.planning import memory
from neuron_opsd.planning.fitting import ways_of
from neuron_opsd.planning.memory import FLOAT, HALF, Passes, Static, Tuning, Way
from tiny import tiny_model

WIDTH, WIDE, RANK = 128, 384, 16

SIZES: dict[str, Any] = {
    "num_hidden_layers": 3,
    "hidden_size": WIDTH,
    "intermediate_size": WIDE,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 48,
    "max_position_embeddings": 4096,
}
"""Large enough that what a pass keeps is mostly what grows with these."""

NEAR = 0.03
"""Share by which a computed number of bytes may miss the counted one."""

LAYER = Layer(
    products=(
        Product("q_proj", 8, 16, adapted=True),
        Product("down_proj", 32, 8, adapted=True),
    ),
    norms=(8, 16),
    kept=12,
    window=4,
)
SMALL = Outline("small", "llama", 1000, 2, 8, 50, 4, 64, (LAYER, LAYER))
"""Of which everything can be worked out by hand."""


def learner(folder: Path, family: str, compute: str, **tuning: Any) -> HFLearner:
    tiny_model(folder, family, **SIZES)
    usual: dict[str, Any] = {"lora_rank": RANK, "gradient_checkpointing": "off"}
    return learning(folder, on={"compute": compute}, **(usual | tuning))


def way_of(compute: str, **changes: Any) -> Way:
    way = Way(rank=RANK, product=FLOAT if compute == "float32" else HALF)
    return replace(way, **changes)


def saved_a_token(model: HFLearner) -> float:
    """Return how much more a graph keeps for one more token."""
    few, many = (
        saved_bytes(model, random_pairs([(length, length)], model.facts.vocab_size))
        for length in (128, 256)
    )
    return (many - few) / 256


@pytest.mark.parametrize(
    ("file", "compute", "tuning"),
    [
        ("bfloat16", "bfloat16", "lora"),
        ("bfloat16", "float32", "lora"),
        ("float32", "bfloat16", "lora"),
        ("float32", "float32", "lora"),
        ("bfloat16", "float32", "full"),
    ],
)
def test_what_is_held_between_passes_is_what_is_computed(
    tmp_path: Path, file: str, compute: str, tuning: Tuning
) -> None:
    tiny_model(tmp_path, "qwen3", **SIZES)
    network = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=file)
    network.save_pretrained(tmp_path)
    del network
    before = held_bytes("cpu")
    model = learning(tmp_path, on={"compute": compute}, lora_rank=RANK, tuning=tuning)
    for _ in range(2):  # moments are made by the first step
        take_step(model, Passes(32, 32, 16))
        model.step(0.0)
        model.update_teacher(0.01)
    counted = held_bytes("cpu") - before
    outline = read_outline(model_config(tmp_path))
    held = memory.static(outline, way_of(compute, tuning=tuning))
    assert held.kept == pytest.approx(counted, rel=NEAR)


@pytest.mark.parametrize("compute", ["bfloat16", "float32"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "gemma3"])
def test_a_graph_keeps_what_is_computed(
    tmp_path: Path, family: str, compute: str
) -> None:
    model = learner(tmp_path, family, compute)
    outline = outline_of("tiny", model.frozen.network)
    computed = memory.saved(outline, way_of(compute)).total
    assert computed == pytest.approx(saved_a_token(model), rel=NEAR)


def test_a_graph_of_all_weights_keeps_what_is_computed(tmp_path: Path) -> None:
    model = learner(tmp_path, "llama", "float32", tuning="full")
    outline = outline_of("tiny", model.frozen.network)
    computed = memory.saved(outline, way_of("float32", tuning="full")).total
    assert computed == pytest.approx(saved_a_token(model), rel=NEAR)


@pytest.mark.parametrize("compute", ["bfloat16", "float32"])
def test_a_graph_that_runs_again_keeps_the_stream(tmp_path: Path, compute: str) -> None:
    model = learner(tmp_path, "qwen3", compute, gradient_checkpointing="on")
    outline = outline_of("tiny", model.frozen.network)
    computed = memory.saved(outline, way_of(compute, checkpointing=True)).kept
    assert computed == pytest.approx(saved_a_token(model), rel=NEAR)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3"])
def test_a_step_holds_what_is_computed_at_its_fullest(
    tmp_path: Path, family: str, *, checkpointing: bool
) -> None:
    setting = "on" if checkpointing else "off"
    model = learner(tmp_path, family, "bfloat16", gradient_checkpointing=setting)
    outline = outline_of("tiny", model.frozen.network)
    way = way_of("bfloat16", checkpointing=checkpointing)
    few, many = Passes(256, 384, 128), Passes(768, 1152, 384)
    take_step(model, few)
    # What is made once a step, whatever its length, falls out of the difference.
    counted = live_bytes(model, many) - live_bytes(model, few)
    first, second = (memory.peak(outline, way, passes) for passes in (few, many))
    computed = second.total - first.total
    assert computed == pytest.approx(counted, rel=0.06)
    without = computed - (second.working - first.working)
    assert without != pytest.approx(counted, rel=0.06)


def live_bytes(model: HFLearner, passes: Passes) -> int:
    model.drop_gradients()
    return peak_bytes(lambda: take_step(model, passes))


def take_step(model: HFLearner, passes: Passes) -> None:
    """Take the passes of a step, the teacher's first."""
    count = passes.completion
    vocabulary = model.facts.vocab_size
    shown = random_pairs([(passes.teacher - count, count)], vocabulary)
    teacher = model.teacher(shown)
    asked = random_pairs([(passes.student - count, count)], vocabulary)
    distillation_loss(model.student(asked), teacher, DistillConfig()).backward()


@pytest.mark.parametrize("divergence", ["reverse-kl", "forward-kl", "jsd"])
def test_a_loss_holds_as_many_logits_as_is_computed(divergence: str) -> None:
    chunk, vocabulary = 64, 4096
    weight = torch.ones(vocabulary, 8)
    student = HiddenStates(torch.ones(256, 8, requires_grad=True), weight)
    teacher = HiddenStates(torch.ones(256, 8), weight)
    tuning = DistillConfig(divergence=divergence, chunk_positions=chunk)
    (way, *_) = ways_of(Config(distill=tuning))
    counted = peak_bytes(lambda: distillation_loss(student, teacher, tuning).backward())
    tile = FLOAT * chunk * vocabulary
    assert counted == pytest.approx(way.logit_copies * tile, rel=0.1)


@pytest.mark.parametrize(
    "term", ["norm_saved", "product_saved", "queries", "gate_saved"]
)
def test_no_term_of_a_graph_can_be_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, term: str
) -> None:
    model = learner(tmp_path, "qwen3", "bfloat16")
    outline = outline_of("tiny", model.frozen.network)
    monkeypatch.setattr(memory, term, lambda *_: 0)
    computed = memory.saved(outline, way_of("bfloat16")).total
    assert computed != pytest.approx(saved_a_token(model), rel=NEAR)


def test_what_is_held_between_passes_by_hand() -> None:
    numbers = RANK * 2 * ((8 + 16) + (32 + 8))
    found = memory.static(SMALL, Way(rank=RANK))
    assert (found.base, found.rounded) == (2 * 1000, 0)
    assert (found.masters, found.teacher, found.gradients) == (4 * numbers,) * 3
    assert (found.moments, found.factors) == (8 * numbers, 2 * 2 * numbers)
    assert found.columns == 2 * RANK * 2 * (16 + 8)
    assert found.total == 2000 + 24 * numbers + found.columns


def test_weights_that_are_finer_than_products_are_held_twice() -> None:
    single = replace(SMALL, file_bytes=4)
    found = memory.static(single, Way())
    assert (found.base, found.rounded) == (4000, 2 * (2 * 384 + 50 * 8))
    exact = memory.static(SMALL, Way(product=FLOAT))
    assert (exact.base, exact.rounded) == (4000, 0)


def test_a_teacher_without_weights_of_its_own_takes_none() -> None:
    assert memory.static(SMALL, Way(own_teacher=False)).teacher == 0


def test_four_bits_pack_the_matrices_alone() -> None:
    matrices = 2 * (8 * 16 + 32 * 8)
    packed = memory.base_bytes(SMALL, "qlora")
    bits = 4 + 8 / 64 + 32 / (64 * 256)
    assert packed == math.ceil(bits / 8 * matrices) + 2 * (1000 - matrices)


def test_every_part_of_what_is_held_is_in_its_sum() -> None:
    found = Static(*(2 * 10**place for place in range(len(fields(Static)))))
    assert found.total == 22_222_222


def test_a_checkpointed_layer_keeps_its_input_and_one_layer_is_made_again() -> None:
    plain = memory.saved(SMALL, Way())
    kept = memory.saved(SMALL, Way(checkpointing=True))
    assert plain.stream == 0
    assert kept.stream == 2 * FLOAT * 8
    assert plain.layers == 2 * kept.layers


def test_a_cache_holds_every_position_or_the_window() -> None:
    assert memory.cache_bytes(SMALL, 10) == 2 * 2 * 12 * 10
    assert memory.cache_bytes(SMALL, 10, windowed=True) == 2 * 2 * 12 * 4
    assert memory.cache_bytes(SMALL, 3, windowed=True) == 2 * 2 * 12 * 3


def test_a_peak_grows_with_each_kind_of_token() -> None:
    base = Passes(student=100, teacher=100, completion=50)
    least = memory.peak(SMALL, Way(), base).total
    for longer in (
        replace(base, student=200),
        replace(base, teacher=100_000),
        replace(base, completion=60),
    ):
        assert memory.peak(SMALL, Way(), longer).total > least


def test_checkpointing_lowers_a_long_peak_and_full_tuning_raises_the_static() -> None:
    passes = Passes(student=1000, teacher=1000, completion=900)
    plain = memory.peak(SMALL, Way(), passes)
    assert memory.peak(SMALL, Way(checkpointing=True), passes).total < plain.total
    full = memory.static(SMALL, Way(tuning="full"))
    assert full.total == 20 * 1000
    live = memory.static(SMALL, Way(tuning="full", own_teacher=False))
    assert live.total == 16 * 1000
