"""Neuron sets of completions: batches change nothing, and loops agree."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from neuron_opsd.config import NeuronsConfig
from neuron_opsd.config.tables import load_config
from neuron_opsd.errors import ConfigError, DataError
from neuron_opsd.models.hf import HFModel
from neuron_opsd.models.load import load_model
from neuron_opsd.records import Completion, NeuronSet, Pair
from neuron_opsd.stages.capture import capture_neurons, lacks_span, pair_of, sizes_of
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
        assert entry.neuron_count is not None
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


def by_loops(scores: Tensor, rule: str, count: int) -> dict[int, float]:
    """Return the counted neurons of ``(L, T, F)`` and their scores, by loops."""
    num_layers, num_tokens, width = scores.shape
    entries = [
        (score, layer, token, layer * width + i)
        for layer, rows in enumerate(scores.tolist())
        for token, row in enumerate(rows)
        for i, score in enumerate(row)
    ]
    entries.sort(key=lambda entry: (-entry[0], entry[3]))
    axis, size = (1, num_layers) if rule == "flat" else (2, num_tokens)
    best: dict[int, float] = {}
    for place in range(size):
        for score, *_, neuron in [e for e in entries if e[axis] == place][:count]:
            best[neuron] = max(score, best.get(neuron, score))
    return best


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
@pytest.mark.parametrize("value", ["gate", "gated"])
@pytest.mark.parametrize("rule", ["flat", "per-token"])
def test_a_set_is_what_loops_over_layers_and_tokens_find(
    tiny_llama: Path, compute: str, value: Literal["gate", "gated"], rule: str
) -> None:
    assignments = [f"model.name={tiny_llama}", f"model.compute={compute}"]
    model = load_model(load_config(None, assignments).model)
    assert model.facts.compute == compute
    config = settings(rule=rule, value=value, per_layer=6, keep=8)
    (found,) = capture_neurons(model, ["q"], [PAIRS[2]], config, 4096)
    tables: list[Tensor] = []
    model.capture([PAIRS[2]], value, lambda _, scores: tables.append(scores.clone()))
    assert {table.shape for table in tables} == {(6, model.facts.num_neurons)}
    best = by_loops(torch.stack(tables), rule, 6 if rule == "flat" else 8)
    assert found.neuron_count == len(best)
    strongest = sorted(best, key=lambda i: (-best[i], i))[:8]
    kept = sorted(i for i in strongest if best[i] > 0)
    assert found.neuron_ids.tolist() == kept
    assert found.scores.tolist() == [best[i] for i in kept]


# --- spans ---

WRITTEN = "<think>\nno, yes \u2014 \U0001f914 it is\n</think>\n\nYes, \u00e9."


def thought(text: str = WRITTEN, mark: str = "</think>", **fields: Any) -> Completion:
    """Return the completion that a scripted model, a token a byte, writes."""
    start = text.index(mark) + len(mark) if mark else 0
    ids = tuple(f" {text}\n".encode())
    plain = Completion(ids, text, finished=True, logprob=0.0, entropy=0.0)
    return replace(plain, final_start=start, **fields)


def spanned(
    completion: Completion, span: str, first_tokens: int = 0
) -> tuple[bytes, bytes]:
    """Return what joins the prompt and what counts, as bytes."""
    prompt, told = (1, 2), settings(span=span, first_tokens=first_tokens)
    pair = pair_of(ScriptedModel({}), prompt, completion, told)
    assert pair[0][:2] == prompt
    assert pair[0][2:] + pair[1] == completion.token_ids[: len(pair[0] + pair[1]) - 2]
    return bytes(pair[0][2:]), bytes(pair[1])


def test_a_span_begins_at_the_token_that_begins_the_answer() -> None:
    whole = f" {WRITTEN}\n".encode()
    place = whole.index(b"Yes,")
    assert spanned(thought(), "completion") == (b"", whole)
    assert spanned(thought(), "reasoning") == (b"", whole[:place])
    assert spanned(thought(), "answer") == (whole[:place], whole[place:])


def test_only_the_first_tokens_of_a_span_count() -> None:
    whole = f" {WRITTEN}\n".encode()
    place = whole.index(b"Yes,")
    assert spanned(thought(), "completion", 5) == (b"", whole[:5])
    assert spanned(thought(), "reasoning", 5) == (b"", whole[:5])
    assert spanned(thought(), "answer", 3) == (whole[:place], b"Yes")
    assert spanned(thought(), "answer", 999) == (whole[:place], whole[place:])
    alone = thought(mark="")
    assert spanned(alone, "reasoning", 4) == (b"", whole[:4])


def test_a_first_character_of_many_tokens_begins_with_its_last() -> None:
    # Only the last byte brings it, and no part of it stands for the whole.
    text = "a</think>\u00e9"
    before, after = spanned(thought(text), "answer")
    assert (before, after) == (" a</think>\u00e9".encode()[:-1], b"\xa9\n")


@pytest.mark.parametrize(
    ("completion", "span", "lacks"),
    [
        pytest.param(thought(mark=""), "answer", False, id="no-reasoning-answers"),
        pytest.param(thought(mark=""), "reasoning", True, id="no-reasoning"),
        pytest.param(replace(thought(), final_start=None), "answer", True, id="open"),
        pytest.param(
            replace(thought(), final_start=None), "reasoning", False, id="open-reasons"
        ),
        pytest.param(thought("a</think>"), "answer", True, id="closed-without-answer"),
        pytest.param(thought("a</think>"), "reasoning", False, id="closed-reasons"),
    ],
)
def test_a_completion_without_the_span_counts_as_a_whole(
    completion: Completion, span: str, lacks: bool
) -> None:
    assert lacks_span(completion, settings(span=span)) == lacks
    assert spanned(completion, span) == (b"", bytes(completion.token_ids))


def test_tokens_that_do_not_spell_the_text_are_refused() -> None:
    other = replace(thought(), token_ids=tuple(b"something else"))
    with pytest.raises(DataError, match="do not spell its text"):
        spanned(other, "answer")


def test_the_spans_of_a_real_tokenizer_meet(model: HFModel) -> None:
    text = "I think: 2 and 2\nmore</think>\n\nThe answer is 4."
    (_, ids) = model.tokens.encode_rendered("", text)
    completion = replace(thought(), token_ids=ids, text=model.decode(ids))
    start = completion.text.index("</think>") + len("</think>")
    completion = replace(completion, final_start=start)
    _, reasoning = pair_of(model, (), completion, settings(span="reasoning"))
    before, answer = pair_of(model, (7,), completion, settings(span="answer"))
    assert reasoning + answer == ids
    assert before == (7, *reasoning)
    assert model.decode(answer) == "The answer is 4."
    assert "The" not in model.decode(reasoning)


def keep(found: list[Tensor], layer: int, scores: Tensor) -> None:
    del layer
    found.append(scores.clone())


def test_the_answer_is_scored_as_it_is_within_the_whole(model: HFModel) -> None:
    prompt, ids = PAIRS[2]
    tables: list[list[Tensor]] = []
    for pair in ((prompt, ids), (prompt + ids[:4], ids[4:])):
        found: list[Tensor] = []
        model.capture([pair], "gate", partial(keep, found))
        tables.append(found)
    for whole, answer in zip(*tables, strict=True):
        np.testing.assert_allclose(whole[4:], answer, rtol=1e-4, atol=1e-6)


# --- settings ---


def test_the_rule_that_gave_all_one_count_is_refused_with_what_to_do() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, ["neurons.rule=per-layer"])
    assert str(caught.value) == (
        "neurons.rule is 'per-layer', but this rule was removed, since it gave every "
        "question the same count; use flat, on long completions with "
        "neurons.chunk_tokens"
    )


@pytest.mark.parametrize("rule", ["per-token", "neufs"])
def test_chunks_of_a_rule_that_has_none_are_refused(rule: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, ["neurons.chunk_tokens=32", f"neurons.rule={rule}"])
    assert str(caught.value) == (
        f"neurons.chunk_tokens is 32, but the rule {rule} has no chunks; leave it at "
        "0, or set neurons.rule to flat"
    )
    load_config(None, ["neurons.chunk_tokens=0", f"neurons.rule={rule}"])


def test_chunks_reach_the_counter(model: HFModel) -> None:
    config = settings(per_layer=6, keep=8, chunk_tokens=1)
    (found,) = capture_neurons(model, ["q"], [PAIRS[2]], config, 4096)
    (whole,) = capture_neurons(
        model, ["q"], [PAIRS[2]], settings(per_layer=6, keep=8), 4096
    )
    assert (found.neuron_count or 0) > (whole.neuron_count or 0) > 0


def test_a_one_token_answer_has_neurons_but_for_neufs(model: HFModel) -> None:
    one: list[Pair] = [((5, 6, 7), (42,))]
    (flat,) = capture_neurons(model, ["q"], one, NeuronsConfig(), 4096)
    assert flat.neuron_count
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
