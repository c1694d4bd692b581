"""The doorway to a frozen model, against transformers and against formulas by loops.

Axes: T positions, N completion tokens, L layers, F neurons of one layer, D residual
width, V vocabulary.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pytest
import torch
from torch import Tensor

from loaded import loaded, plain_logits, plain_network, random_pairs
from neuron_opsd.config import NeuronsConfig
from neuron_opsd.method.neurons import NeuronCounter, Rule, Sizes
from neuron_opsd.models.forward.attention import padded
from neuron_opsd.models.hf import HFModel, predicting_positions
from neuron_opsd.models.roles import NeuronValue
from neuron_opsd.records import Message, Pair, Prompt, TokenIds
from neuron_opsd.stages.capture import capture_neurons
from reference import trace
from tiny import FAMILIES, NUM_LAYERS, NUM_NEURONS, WIDTH, tiny_model

LENGTHS: Final = [(5, 4), (1, 1), (9, 3), (2, 6), (7, 1)]
"""Prompt and completion lengths that pad in several ways, one of a single token."""

CAP = 3.0

VALUES: Final[tuple[NeuronValue, ...]] = ("gate", "gated")
RULES: Final[tuple[Rule, ...]] = ("flat", "per-token", "neufs")


@pytest.fixture(params=FAMILIES)
def folder(request: pytest.FixtureRequest) -> Path:
    """Give a tiny model of each family."""
    found: Path = request.getfixturevalue(f"tiny_{request.param}")
    return found


def pairs_for(model: HFModel) -> list[Pair]:
    return random_pairs(LENGTHS, model.facts.vocab_size)


# --- logits and states ---


def every_logit(model: HFModel, pairs: list[Pair]) -> list[Tensor]:
    """Return, through `logits_at`, ``(completion + 1, V)`` for every pair."""
    everything = tuple(range(model.facts.vocab_size))
    columns = [[everything] * (len(completion) + 1) for _, completion in pairs]
    found = model.logits_at(pairs, columns)
    return [torch.from_numpy(np.stack(rows)) for rows in found]


def assert_logits_are_those_of_transformers(folder: Path) -> None:
    model, network = loaded(folder), plain_network(folder)
    pairs = pairs_for(model)
    for (prompt, completion), found in zip(
        pairs, every_logit(model, pairs), strict=True
    ):
        exact = plain_logits(network, prompt + completion)[len(prompt) - 1 :]
        torch.testing.assert_close(found, exact, rtol=1e-5, atol=1e-5)


def test_logits_are_those_of_transformers(folder: Path) -> None:
    assert_logits_are_those_of_transformers(folder)


def test_a_softcap_is_applied(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "m", "gemma3", final_logit_softcapping=CAP)
    assert loaded(folder).head().softcap == CAP
    assert_logits_are_those_of_transformers(folder)


def test_a_window_of_attention_is_kept(tmp_path: Path) -> None:
    for family in ("mistral", "gemma3"):
        folder = tiny_model(tmp_path / family, family, sliding_window=4)
        assert_logits_are_those_of_transformers(folder)


def test_states_are_those_of_the_formulas(folder: Path) -> None:
    model, network = loaded(folder), plain_network(folder)
    pairs = pairs_for(model)
    with torch.no_grad():
        states = model.states(pairs).split([len(c) for _, c in pairs])
    for (prompt, completion), found in zip(pairs, states, strict=True):
        exact = trace(network, prompt + completion).states[len(prompt) - 1 : -1]
        torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-4)


def test_padding_changes_nothing(folder: Path) -> None:
    model = loaded(folder)
    pairs = pairs_for(model)
    with torch.no_grad():
        together = model.states(pairs, after=1).split([len(c) + 1 for _, c in pairs])
        for pair, found in zip(pairs, together, strict=True):
            alone = model.states([pair], after=1)
            torch.testing.assert_close(found, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tokens_per_batch", [1, 12, 25, 4096])
def test_logits_do_not_hang_on_how_pairs_are_batched(
    tiny_llama: Path, tokens_per_batch: int
) -> None:
    pairs = pairs_for(loaded(tiny_llama))
    whole = every_logit(loaded(tiny_llama), pairs)
    model = loaded(tiny_llama, tokens_per_batch=tokens_per_batch)
    torch.testing.assert_close(every_logit(model, pairs), whole, rtol=1e-5, atol=1e-5)


def test_logits_come_in_the_shape_of_the_columns(tiny_llama: Path) -> None:
    model = loaded(tiny_llama)
    pairs = random_pairs([(3, 2), (4, 0)], model.facts.vocab_size)
    columns: list[list[TokenIds]] = [[(7, 5), (), (9,)], [(1, 1, 2)]]
    found = model.logits_at(pairs, columns)
    assert [[row.shape for row in rows] for rows in found] == [
        [(2,), (0,), (1,)],
        [(3,)],
    ]
    assert all(row.dtype == np.float32 for rows in found for row in rows)
    full = every_logit(model, pairs)
    assert found[0][0].tolist() == pytest.approx(full[0][0, [7, 5]].tolist(), abs=1e-5)
    assert found[0][2].tolist() == pytest.approx(full[0][2, [9]].tolist(), abs=1e-5)
    assert found[1][0].tolist() == pytest.approx(full[1][0, [1, 1, 2]].tolist())
    assert model.logits_at([], []) == []


def test_divergences_are_those_of_the_whole_vocabulary(tiny_llama: Path) -> None:
    model = loaded(tiny_llama)
    own: list[Pair] = [((1, 2, 3), (5, 6, 7)), ((4, 5), (8, 9))]
    other: list[Pair] = [((3, 3, 3, 3), (5, 6, 7)), ((4, 5), (8, 9))]
    found = model.divergences(own, other)
    for value, one, two in zip(
        found, every_logit(model, own), every_logit(model, other), strict=True
    ):
        # The last row is what would come after the completion.
        log_p, log_q = (rows[:-1].log_softmax(-1) for rows in (one, two))
        expected = (log_p.exp() * (log_p - log_q)).sum(-1).mean().item()
        assert value == pytest.approx(expected, abs=1e-6)
    assert found[0] > 1e-5
    assert found[1] == 0.0


def test_logprobs_are_sums_over_the_completions_tokens(folder: Path) -> None:
    model = loaded(folder)
    pairs = pairs_for(model)
    for value, (_, completion), rows in zip(
        model.logprobs(pairs), pairs, every_logit(model, pairs), strict=True
    ):
        log_p = rows[:-1].log_softmax(-1)
        expected = sum(log_p[t, token].item() for t, token in enumerate(completion))
        assert value == pytest.approx(expected, abs=1e-4)


def test_logprobs_of_long_completions_are_read_out_in_parts(tiny_llama: Path) -> None:
    model = loaded(tiny_llama)
    long = tuple(range(5, 300))
    whole = model.logprobs([((1, 2), long)])[0]
    first, last = long[:140], long[140:]
    parts = model.logprobs([((1, 2), first), ((1, 2, *first), last)])
    assert whole == pytest.approx(sum(parts), abs=1e-3)


def test_positions_that_predict_stand_one_before_their_tokens() -> None:
    pairs: list[Pair] = [((5, 6, 7), (8, 9)), ((5,), (6,))]
    ids = padded([prompt + completion for prompt, completion in pairs])
    assert ids.tolist() == [[5, 6, 7, 8, 9, 0, 0, 0], [5, 6] + [0] * 6]
    rows, columns = predicting_positions(pairs, after=0)
    assert (rows.tolist(), columns.tolist()) == ([0, 0, 1], [2, 3, 0])
    rows, columns = predicting_positions(pairs, after=1)
    assert (rows.tolist(), columns.tolist()) == ([0, 0, 0, 1, 1], [2, 3, 4, 0, 1])


# --- contribution scores ---


def captured(
    model: HFModel, pairs: list[Pair], value: NeuronValue, *, half: bool = False
) -> Tensor:
    """Return ``(L, N, F)`` as the model hands it on."""
    layers: list[Tensor] = []

    def consume(layer: int, scores: Tensor) -> None:
        assert layer == len(layers)
        layers.append(scores)

    model.capture(pairs, value, consume, half_projections=half)
    return torch.stack(layers)


def scores_by_loops(
    folder: Path, pair: Pair, value: NeuronValue, *, half: bool = False
) -> Tensor:
    """Return ``(L, T, F)``: activation times projection, one neuron at a time."""
    network = plain_network(folder)
    weights = network.state_dict()
    unembedding = network.get_output_embeddings().weight.detach()
    prompt, completion = pair
    seen = trace(network, prompt + completion)
    scores = torch.empty(NUM_LAYERS, len(completion), NUM_NEURONS)
    for layer in range(NUM_LAYERS):
        down = weights[f"model.layers.{layer}.mlp.down_proj.weight"]
        for t, token in enumerate(completion):
            before = len(prompt) + t - 1
            for i in range(NUM_NEURONS):
                activation = seen.gates[layer][before, i]
                if value == "gated":
                    activation = activation * seen.ups[layer][before, i]
                projection = torch.dot(down[:, i], unembedding[token])
                if half:
                    projection = projection.half().float()
                scores[layer, t, i] = activation * projection
    return scores


@pytest.mark.parametrize("value", VALUES)
def test_contributions_are_activation_times_projection(
    folder: Path, value: NeuronValue
) -> None:
    model = loaded(folder)
    pairs = pairs_for(model)[:3]
    found = captured(model, pairs, value)
    assert found.shape == (NUM_LAYERS, 4 + 1 + 3, NUM_NEURONS)
    exact = torch.cat([scores_by_loops(folder, pair, value) for pair in pairs], dim=1)
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-5)


def test_neufs_projections_are_rounded_to_half_precision(tiny_llama: Path) -> None:
    model = loaded(tiny_llama)
    (pair,) = random_pairs([(4, 5)], model.facts.vocab_size)
    found = captured(model, [pair], "gate", half=True)
    exact = scores_by_loops(tiny_llama, pair, "gate", half=True)
    plain = scores_by_loops(tiny_llama, pair, "gate")
    assert (exact - plain).abs().max() > 1e-5
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=2e-5)


def sets_by_loops(scores: Tensor, rule: Rule, sizes: Sizes) -> tuple[int, list[int]]:
    """Return the size of the counted set and the ids kept, by the rule's definition."""
    num_layers, num_tokens, num_neurons = scores.shape
    everything = [
        (scores[layer, t, i].item(), t, layer * num_neurons + i, layer)
        for layer in range(num_layers)
        for t in range(num_tokens)
        for i in range(num_neurons)
    ]
    ranked = sorted(everything, reverse=True)
    if rule == "per-token":
        groups = [[e for e in ranked if e[1] == t] for t in range(num_tokens)]
        kept = [e for group in groups for e in group[: sizes.keep]]
    else:
        groups = [[e for e in ranked if e[3] == layer] for layer in range(num_layers)]
        kept = [e for group in groups for e in group[: sizes.per_layer]]
    if rule == "neufs":
        last = max(t for _, t, _, _ in kept)
        kept = [e for e in kept if e[1] < last]
    best = {neuron: score for score, _, neuron, _ in sorted(kept)}
    strongest = sorted(best, key=lambda neuron: -best[neuron])[: sizes.keep]
    return len(best), sorted(neuron for neuron in strongest if best[neuron] > 0)


@pytest.mark.parametrize("value", VALUES)
def test_neuron_sets_from_end_to_end_equal_those_by_loops(
    folder: Path, value: NeuronValue
) -> None:
    model = loaded(folder)
    pairs = pairs_for(model)
    for rule in RULES:
        sizes = Sizes(per_layer=20, keep=15)
        counter = NeuronCounter([len(c) for _, c in pairs], rule, sizes)
        half = rule == "neufs"
        model.capture(pairs, value, counter.add, half_projections=half)
        for pair, found in zip(pairs, counter.finish(), strict=True):
            scores = scores_by_loops(folder, pair, value, half=half)
            count, ids = sets_by_loops(scores, rule, sizes)
            assert found.neuron_count == count
            assert found.neuron_ids.tolist() == ids
            assert found.neuron_ids.dtype == np.uint32


def test_a_one_token_completion_has_neurons_but_none_under_neufs(
    tiny_llama: Path,
) -> None:
    model = loaded(tiny_llama)
    pair = random_pairs([(6, 1)], model.facts.vocab_size)
    flat, neufs = (
        capture_neurons(model, ["q"], pair, NeuronsConfig(rule=rule), 4096)[0]
        for rule in ("flat", "neufs")
    )
    # 2000 * 64 / 9728 = 13 of each layer's 64, all distinct as there is one token.
    assert flat.neuron_count == 26
    assert 0 < len(flat.neuron_ids) <= 2
    assert (neufs.neuron_count, neufs.neuron_ids.size) == (0, 0)


@pytest.mark.parametrize("rule", RULES)
def test_sets_do_not_hang_on_the_batch(folder: Path, rule: Rule) -> None:
    model = loaded(folder)
    pairs = pairs_for(model)
    names = [f"q{i}" for i in range(len(pairs))]
    config = NeuronsConfig(rule=rule, per_layer=20, keep=30)
    whole = capture_neurons(model, names, pairs, config, 4096)
    for tokens_per_batch in (1, 20):
        parts = capture_neurons(
            model, names[::-1], pairs[::-1], config, tokens_per_batch
        )
        for a, b in zip(whole, parts[::-1], strict=True):
            assert (a.question_id, a.neuron_count) == (b.question_id, b.neuron_count)
            assert a.neuron_ids.tolist() == b.neuron_ids.tolist()
            np.testing.assert_allclose(a.scores, b.scores, rtol=1e-4, atol=1e-6)


def test_no_hook_outlives_a_capture(tiny_llama: Path) -> None:
    model = loaded(tiny_llama)
    (pair,) = random_pairs([(3, 2)], model.facts.vocab_size)

    def fail(layer: int, scores: Tensor) -> None:
        raise RuntimeError(f"layer {layer} of {tuple(scores.shape)} was not wanted")

    for value in VALUES:
        with pytest.raises(RuntimeError, match=r"layer 0 of \(2, 64\)"):
            model.capture([pair], value, fail)
    assert captured(model, [pair], "gate").shape == (NUM_LAYERS, 2, NUM_NEURONS)
    assert every_logit(model, [pair])[0].shape == (3, model.facts.vocab_size)


# --- the rest of the doorway ---


def test_facts_say_what_the_model_is(tiny_qwen3: Path) -> None:
    model, network = loaded(tiny_qwen3), plain_network(tiny_qwen3)
    facts = model.facts
    assert facts.family == "qwen3"
    assert (facts.num_layers, facts.num_neurons) == (NUM_LAYERS, NUM_NEURONS)
    assert facts.width == WIDTH
    assert facts.vocab_size == network.get_output_embeddings().weight.shape[0]
    assert facts.num_parameters == sum(p.numel() for p in network.parameters())
    assert facts.max_positions == 1024
    assert (facts.device, facts.compute) == ("cpu", "float32")
    assert facts.has_chat_template


def test_a_tied_head_counts_once(tiny_llama: Path, tiny_mistral: Path) -> None:
    tied, untied = (loaded(f).facts for f in (tiny_llama, tiny_mistral))
    assert untied.num_parameters - tied.num_parameters == tied.vocab_size * WIDTH


def test_the_model_speaks_through_its_tokens(tiny_llama: Path) -> None:
    model = loaded(tiny_llama)
    prompt = Prompt(messages=(Message("user", "Which gas?"),))
    assert model.encode(prompt) == model.tokens.encode(prompt)
    answer = model.encode_answer(prompt, "oxygen")
    assert answer[-1] in model.tokens.end_ids
    assert model.decode(answer) == "oxygen"


def test_half_precision_products_come_close_to_float32(folder: Path) -> None:
    full, half = loaded(folder), loaded(folder, compute="bfloat16")
    assert half.facts.compute == "bfloat16"
    pairs = pairs_for(full)
    exact, found = (torch.cat(every_logit(m, pairs)) for m in (full, half))
    assert 0 < (found - exact).std() < 0.03 * exact.std()
    scores, wanted = (captured(m, pairs, "gated") for m in (half, full))
    assert scores.dtype == torch.float32
    assert 0 < (scores - wanted).std() < 0.03 * wanted.std()


@pytest.mark.gpu
def test_the_accelerator_agrees_with_the_processor(folder: Path) -> None:
    here, there = loaded(folder), loaded(folder, device="cuda")
    pairs = pairs_for(here)
    for a, b in zip(every_logit(here, pairs), every_logit(there, pairs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
    scores = captured(there, pairs, "gate").cpu()
    torch.testing.assert_close(
        scores, captured(here, pairs, "gate"), rtol=1e-3, atol=1e-3
    )
