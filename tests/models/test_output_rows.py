"""What a neuron's output row favours, against the product written out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from loaded import learning, loaded, plain_network
from neuron_opsd.errors import ModelError
from neuron_opsd.models import output_rows
from neuron_opsd.models.output_rows import output_weights
from tiny import FAMILIES, NUM_LAYERS, NUM_NEURONS

NEURONS = [(1, 63), (0, 5), (1, 0), (0, 5)]


@pytest.fixture(params=FAMILIES)
def folder(request: pytest.FixtureRequest) -> Path:
    """Give a tiny model of each family."""
    found: Path = request.getfixturevalue(f"tiny_{request.param}")
    return found


def test_tokens_are_those_of_the_row_times_the_unembedding(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_rows, "TOKENS_AT_ONCE", 17)
    model, network = loaded(folder), plain_network(folder)
    known = len(model.tokens.tokenizer)
    unembedding = network.get_output_embeddings().weight.detach()[:known]
    found = output_weights(model, NEURONS, 6)
    for (layer, neuron), own in zip(NEURONS, found, strict=True):
        down = network.get_decoder().layers[layer].mlp.down_proj.weight.detach()
        exact = unembedding @ down[:, neuron]
        for ends, sign in ((own.favoured, 1), (own.opposed, -1)):
            values, tokens = (sign * exact).topk(6)
            assert [token for token, _ in ends] == tokens.tolist()
            weights = torch.tensor([weight for _, weight in ends])
            torch.testing.assert_close(weights, sign * values, rtol=1e-5, atol=1e-6)
    assert found[1] == found[3]
    assert found[0] != found[1]


def test_an_adapter_changes_the_row(tiny_llama: Path, tmp_path: Path) -> None:
    learner = learning(tiny_llama)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in learner.weights.items():
            if "lora_B" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator))
    learner.save_adapter(tmp_path)
    (plain,) = output_weights(loaded(tiny_llama), [(0, 3)], 4)
    trained = loaded(tiny_llama, tmp_path)
    (own,) = output_weights(trained, [(0, 3)], 4)
    down = trained.weight_of(trained.mlps[0].down_proj)()[:, 3]
    exact = trained.head().weight.float() @ down
    token, added = own.favoured[0]
    assert token == int(exact.argmax())
    assert added == pytest.approx(float(exact.max()))
    assert own != plain


def test_a_model_without_readable_neurons_is_refused(tiny_gpt2: Path) -> None:
    with pytest.raises(ModelError, match="gated MLPs"):
        output_weights(loaded(tiny_gpt2), [(0, 0)], 3)
    assert output_weights(loaded(tiny_gpt2), [], 3) == []


def test_every_neuron_of_the_model_has_a_row(tiny_llama: Path) -> None:
    places = [(i, n) for i in range(NUM_LAYERS) for n in range(NUM_NEURONS)]
    found = output_weights(loaded(tiny_llama), places, 1)
    assert len(found) == NUM_LAYERS * NUM_NEURONS
    assert all(one.favoured[0][1] > one.opposed[0][1] for one in found)
