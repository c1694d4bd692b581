"""Models some of whose layers remember by a state instead of keys and values.

Their free answers go over transformers' own cache, and must be what whole passes over
the same tokens give. Families whose cache does not do that are refused when they load.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from loaded import learning, loaded, plain_logits, random_pairs
from neuron_opsd.config import ModelConfig
from neuron_opsd.errors import ModelError
from neuron_opsd.models.decoding.library_cache import CachedRows
from neuron_opsd.models.hf import HFModel
from neuron_opsd.models.load import load_model
from neuron_opsd.models.probing import check_library_cache, check_order, tried
from neuron_opsd.models.roles import Sampling
from neuron_opsd.models.tokenizer.encoding import Tokens
from tiny import NUM_NEURONS, WIDTH, fill, tiny_tokenizer

LINEAR: dict[str, Any] = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_conv_kernel_dim": 4,
    "layer_types": ["linear_attention", "full_attention"],
}
HYBRID: dict[str, dict[str, Any]] = {
    "qwen3_5_text": LINEAR,
    "qwen3_next": LINEAR | {"num_experts": 0, "mlp_only_layers": [0, 1]},
    "olmo_hybrid": LINEAR,
}
"""Families with gated MLPs, and what makes them hybrid."""

# Longer than the pieces of 64 tokens in which linear attention reads, and shorter.
LENGTHS = [(5, 3), (90, 3), (70, 4)]


def hybrid(folder: Path, family: str, **fields: Any) -> Path:
    """Write a tiny model of a hybrid family with random weights."""
    tokenizer = tiny_tokenizer()
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": NUM_NEURONS,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 1024,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = AutoConfig.for_model(family, **(sizes | fields))
    # `fill` leaves what is no matrix as the family's own code draws it.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
    fill(model, 0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


OLMO = pytest.param("olmo_hybrid", marks=pytest.mark.newest)
"""Cannot be run with transformers 5.14, whose cache lacks what its masks ask for."""


@pytest.fixture(scope="module", params=["qwen3_5_text", "qwen3_next", OLMO])
def folder(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Path:
    """Give a model folder of every hybrid family."""
    where = tmp_path_factory.mktemp("hybrid")
    return hybrid(where, request.param, **HYBRID[request.param])


@pytest.fixture(scope="module")
def model(folder: Path) -> HFModel:
    """Give the model behind the doorway."""
    return loaded(folder)


def test_a_hybrid_model_decodes_over_transformers_own_cache(model: HFModel) -> None:
    assert not model.facts.shares_prompts


def test_what_it_writes_greedily_is_what_whole_passes_prefer(model: HFModel) -> None:
    """Several samples of prompts of unlike length stand beside each other."""
    prompts = [prompt for prompt, _ in random_pairs(LENGTHS, 300)]
    seeds = [[1, 2], [3], [4, 5, 6]]
    groups = model.sample(prompts, seeds, Sampling(temperature=0.0, max_new_tokens=20))
    for prompt, group in zip(prompts, groups, strict=True):
        assert len({completion.token_ids for completion in group}) == 1
        written = group[0].token_ids
        logits = plain_logits(model.network, prompt + written)[len(prompt) - 1 : -1]
        chosen = logits.gather(1, torch.tensor(written)[:, None])[:, 0]
        assert (logits.max(dim=1).values - chosen).max() < 1e-4


def test_its_samples_have_the_probabilities_of_whole_passes(model: HFModel) -> None:
    """Rows leave the batch as completions end, and each state must follow its row."""
    prompts = [prompt for prompt, _ in random_pairs(LENGTHS, 300, seed=1)]
    seeds = [[1, 2, 3, 4], [5, 6, 7], [8, 9]]
    often = Tokens(model.tokens.tokenizer, frozenset(range(0, 352, 9)))
    ending = HFModel(model.network, often, model.facts, model.room)
    groups = ending.sample(prompts, seeds, Sampling(temperature=1.0, max_new_tokens=40))
    lengths = set()
    for prompt, group in zip(prompts, groups, strict=True):
        assert len({completion.token_ids for completion in group}) > 1
        for completion in group:
            written = completion.token_ids
            logits = plain_logits(model.network, prompt + written)[len(prompt) - 1 : -1]
            logprobs = logits.log_softmax(dim=-1)
            own = logprobs.gather(1, torch.tensor(written)[:, None]).sum()
            assert completion.logprob == pytest.approx(own.item(), abs=1e-3)
            lengths.add(len(written))
    assert len(lengths) > 3


def test_its_neurons_are_read_and_a_step_moves_it(folder: Path) -> None:
    learner = learning(folder)
    pairs = random_pairs(LENGTHS, 300)
    seen: list[tuple[int, tuple[int, ...]]] = []
    learner.frozen.capture(
        pairs, "gate", lambda layer, scores: seen.append((layer, tuple(scores.shape)))
    )
    assert seen == [(0, (10, NUM_NEURONS)), (1, (10, NUM_NEURONS))]
    before = learner.reference(pairs).hidden
    learner.student(pairs).hidden.square().mean().backward()
    assert learner.step(1e-2) > 0
    learner.student(pairs).hidden.square().mean().backward()
    learner.step(1e-2)
    assert (learner.student(pairs).hidden - before).abs().max() > 1e-4


def test_it_also_samples_in_bfloat16(folder: Path) -> None:
    config = ModelConfig(name=str(folder), device="cpu", compute="bfloat16")
    model = load_model(config)
    prompts = [prompt for prompt, _ in random_pairs(LENGTHS, 300)]
    sampling = Sampling(temperature=1.0, max_new_tokens=5)
    groups = model.sample(prompts, [[1, 2], [3], [4]], sampling)
    assert [len(group) for group in groups] == [2, 1, 1]


# --- what is refused ---


def test_a_model_that_loses_its_state_between_tokens_is_refused(tmp_path: Path) -> None:
    """RWKV takes its state in a way of its own and begins anew at every token."""
    folder = hybrid(tmp_path / "rwkv", "rwkv")
    network = AutoModelForCausalLM.from_pretrained(folder).eval()
    base = loaded(hybrid(tmp_path / "base", "qwen3_5_text", **LINEAR))
    model = HFModel(network, base.tokens, base.facts, base.room)
    with pytest.raises(ModelError, match="writes other tokens over its cache than"):
        tried(model)


@pytest.mark.parametrize("lost", ["rows", "state"])
def test_states_that_do_not_follow_their_rows_are_found_out(
    lost: str, model: HFModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    select = CachedRows.select

    def wrong(state: CachedRows, rows: Sequence[int]) -> None:
        select(state, rows)
        if lost == "rows":
            state.cache.reorder_cache(torch.zeros(len(rows), dtype=torch.long))
        else:
            for layer in state.cache.layers:
                layer.reset()

    check_library_cache(model)
    monkeypatch.setattr(CachedRows, "select", wrong)
    with pytest.raises(ModelError, match="writes other tokens over its cache than"):
        check_library_cache(model)


def test_a_model_that_looks_ahead_is_refused(tmp_path: Path) -> None:
    base = loaded(hybrid(tmp_path / "base", "qwen3_5_text", **LINEAR))
    check_order(base)
    config = AutoConfig.for_model(
        "bert",
        vocab_size=base.facts.vocab_size,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    network = AutoModelForCausalLM.from_config(config).eval()
    fill(network, 0)
    model = HFModel(network, base.tokens, base.facts, base.room)
    with pytest.raises(ModelError, match="looks ahead at later tokens"):
        check_order(model)


def test_whatever_a_family_raises_on_first_steps_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = loaded(hybrid(tmp_path / "base", "qwen3_5_text", **LINEAR))

    def refuse(**_: Any) -> Any:
        raise ValueError("this family uses a cache of its own.\nMore on that.")

    monkeypatch.setattr(base.decoder, "forward", refuse)
    with pytest.raises(ModelError) as error:
        tried(base)
    assert str(error.value) == (
        "a qwen3_5_text model cannot be run here: this family uses a cache of its own; "
        "use a model of another family"
    )
