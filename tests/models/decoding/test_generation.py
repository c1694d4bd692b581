"""Sampling: equal to drawing token by token with full passes, however it is batched.

Axes: B rows, T positions, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
import torch

from loaded import loaded, plain_logits, plain_network, random_pairs
from neuron_opsd.errors import ModelError
from neuron_opsd.models.decoding import paged_memory, scheduling
from neuron_opsd.models.decoding.growing import Growing, completed, ending_of
from neuron_opsd.models.decoding.layout import Layouts
from neuron_opsd.models.decoding.pages import PAGES
from neuron_opsd.models.decoding.scheduling import Schedule
from neuron_opsd.models.forward.attention import MIN_ROWS, Whole, attention
from neuron_opsd.models.hf import HFModel
from neuron_opsd.models.roles import Sampling
from neuron_opsd.records import Completion, TokenIds
from neuron_opsd.seeds import derive_seed, uniforms
from tiny import FAMILIES, tiny_model

SAMPLING: Final = Sampling(temperature=0.9, top_p=0.97, max_new_tokens=12)
PROMPT_LENGTHS: Final = (6, 3, 9, 3)


@pytest.fixture(params=FAMILIES)
def folder(request: pytest.FixtureRequest) -> Path:
    """Give a tiny model of each family."""
    found: Path = request.getfixturevalue(f"tiny_{request.param}")
    return found


def prompts_for(model: HFModel) -> list[TokenIds]:
    lengths = [(length, 0) for length in PROMPT_LENGTHS]
    return [prompt for prompt, _ in random_pairs(lengths, model.facts.vocab_size)]


def seeds_for(prompts: Sequence[TokenIds], count: int = 3) -> list[list[int]]:
    return [[derive_seed(i, k) for k in range(count)] for i in range(len(prompts))]


def likelier_end(model: HFModel, network: Any = None) -> None:
    """Make the end token likely, so that completions end at various lengths."""
    (end,) = model.tokens.end_ids
    for changed in [model.network, *([] if network is None else [network])]:
        weight = changed.get_output_embeddings().weight
        with torch.no_grad():
            weight[end] = weight[:60].mean(dim=0) * 40


def slow_sample(
    network: Any, prompt: TokenIds, seed: int, sampling: Sampling, ends: frozenset[int]
) -> tuple[TokenIds, float, float]:
    """Draw token by token; each time run the whole text and list all probabilities.

    Returns:
        Tokens, log-probability of all and mean entropy.
    """
    numbers = uniforms(seed, sampling.max_new_tokens)
    ids: list[int] = []
    logprob = entropy = 0.0
    for t in range(sampling.max_new_tokens):
        logits = plain_logits(network, prompt + tuple(ids))[-1].double()
        shares = (logits / sampling.temperature).softmax(-1).tolist()
        kept: list[tuple[float, int]] = []
        for share, token in sorted((-share, i) for i, share in enumerate(shares)):
            if sum(p for p, _ in kept) < sampling.top_p:
                kept.append((-share, token))
        total = sum(p for p, _ in kept)
        target, passed = numbers[t] * total, 0.0
        for p, token in sorted(kept, key=lambda entry: entry[1]):
            passed += p
            if passed > target:
                ids.append(token)
                logprob += math.log(p / total)
                break
        entropy -= sum(p / total * math.log(p / total) for p, _ in kept)
        if ids[-1] in ends:
            break
    return tuple(ids), logprob, entropy / len(ids)


def assert_equals_slow_sampling(folder: Path) -> None:
    model, network = loaded(folder), plain_network(folder)
    likelier_end(model, network)
    prompts = prompts_for(model)
    seeds = seeds_for(prompts)
    ends = model.tokens.end_ids
    found = model.sample(prompts, seeds, SAMPLING)
    lengths = set()
    for prompt, row, completions in zip(prompts, seeds, found, strict=True):
        for seed, completion in zip(row, completions, strict=True):
            ids, logprob, entropy = slow_sample(network, prompt, seed, SAMPLING, ends)
            assert completion.token_ids == ids
            assert completion.finished == (ids[-1] in ends)
            assert completion.logprob == pytest.approx(logprob, abs=1e-3)
            assert completion.entropy == pytest.approx(entropy, abs=1e-3)
            assert completion.text == model.decode(ids)
            lengths.add(len(ids))
    assert len(lengths) > 1, "every completion has the same length; nothing was shown"


def test_samples_equal_those_drawn_with_full_forward_passes(folder: Path) -> None:
    assert_equals_slow_sampling(folder)


@pytest.mark.parametrize("family", ["mistral", "gemma3"])
def test_a_window_of_attention_shorter_than_the_prompt_is_kept(
    family: str, tmp_path: Path
) -> None:
    assert_equals_slow_sampling(tiny_model(tmp_path / "m", family, sliding_window=4))


def test_greedy_sampling_takes_the_most_probable_token(tiny_llama: Path) -> None:
    model, network = loaded(tiny_llama), plain_network(tiny_llama)
    prompts = prompts_for(model)
    greedy = Sampling(temperature=0.0, max_new_tokens=6)
    found = model.sample(prompts, [[1, 2]] * len(prompts), greedy)
    for prompt, (first, second) in zip(prompts, found, strict=True):
        assert first == second
        assert first.logprob == first.entropy == 0.0
        ids = prompt
        for token in first.token_ids:
            assert token == plain_logits(network, ids)[-1].argmax().item()
            ids = (*ids, token)


# --- what may not change anything ---


@pytest.mark.parametrize("tokens_per_batch", [1, 5, 9, 4096])
def test_samples_do_not_hang_on_the_batch(
    tiny_llama: Path, tokens_per_batch: int
) -> None:
    model = loaded(tiny_llama, tokens_per_batch=tokens_per_batch)
    likelier_end(model)
    prompts = prompts_for(model)
    seeds = seeds_for(prompts)
    together = tokens_of(model.sample(prompts, seeds, SAMPLING))
    one_by_one = [
        [tokens_of(model.sample([prompt], [[seed]], SAMPLING))[0][0] for seed in row]
        for prompt, row in zip(prompts, seeds, strict=True)
    ]
    assert together == one_by_one
    backwards = model.sample(
        prompts[::-1], [row[::-1] for row in seeds[::-1]], SAMPLING
    )
    assert together == [row[::-1] for row in tokens_of(backwards)[::-1]]


def tokens_of(rows: Sequence[Sequence[Completion]]) -> list[list[TokenIds]]:
    return [[completion.token_ids for completion in row] for row in rows]


def test_equal_seeds_draw_alike_and_others_do_not(tiny_llama: Path) -> None:
    model = loaded(tiny_llama)
    (prompt, *_) = prompts_for(model)
    found = model.sample([prompt, prompt], [[7, 8, 7], [8]], SAMPLING)
    first, other, again = found[0]
    assert first == again
    assert found[1][0].token_ids == other.token_ids
    assert first.token_ids != other.token_ids


def test_nothing_asked_is_nothing_drawn(tiny_llama: Path) -> None:
    assert loaded(tiny_llama).sample([], [], SAMPLING) == []


# --- what it costs ---


@contextmanager
def counted(model: HFModel) -> Iterator[list[tuple[int, int]]]:
    """Note rows and positions of every forward pass inside."""
    shapes: list[tuple[int, int]] = []

    def note(_module: Any, _given: Any, named: dict[str, Any]) -> None:
        rows, positions = named["input_ids"].shape
        shapes.append((rows, positions))

    handle = model.decoder.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield shapes
    finally:
        handle.remove()


def test_samples_of_a_prompt_share_its_prefill(tiny_llama: Path) -> None:
    model = loaded(tiny_llama)
    prompts = prompts_for(model)
    sampling = Sampling(temperature=1.0, max_new_tokens=5)
    with counted(model) as shapes:
        found = model.sample(prompts, seeds_for(prompts, 8), sampling)
    first, *later = shapes
    assert first == (len(prompts), max(PROMPT_LENGTHS))
    assert len(later) <= 4
    # Every later pass holds one position of every row that goes on, and of no other.
    lengths = [len(completion.token_ids) for row in found for completion in row]
    growing = [sum(length > t for length in lengths) for t in range(1, max(lengths))]
    assert later == [(max(MIN_ROWS, count), 1) for count in growing]


def test_the_last_token_costs_no_forward_pass(tiny_llama: Path) -> None:
    model = loaded(tiny_llama)
    prompts = prompts_for(model)
    with counted(model) as shapes:
        model.sample(prompts, seeds_for(prompts), Sampling(1.0, max_new_tokens=1))
    assert len(shapes) == 1


# --- a fast path beside its slow twin ---


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
def test_tokens_are_the_same_at_any_batch_size(tiny_llama: Path, compute: str) -> None:
    model = loaded(tiny_llama, compute=compute)
    likelier_end(model)
    lengths = [(length, 0) for length in (3, 40, 17, 16, 9, 25, 33, 5, 21, 12, 8, 30)]
    prompts = [prompt for prompt, _ in random_pairs(lengths, model.facts.vocab_size)]
    sampling = Sampling(temperature=1.0, max_new_tokens=40)
    seeds = seeds_for(prompts, 8)
    together = model.sample(prompts, seeds, sampling)
    for i in (0, 1, 7):
        alone = model.sample([prompts[i]], [seeds[i][:1]], sampling)
        assert tokens_of(alone) == tokens_of([together[i][:1]])
    some = model.sample(prompts[3:6], [row[2:7] for row in seeds[3:6]], sampling)
    assert tokens_of(some) == tokens_of([row[2:7] for row in together[3:6]])


@pytest.mark.parametrize("rows", [1, 5, 8])
def test_the_place_of_a_sample_that_ended_goes_to_another(
    tiny_llama: Path, rows: int
) -> None:
    model = loaded(tiny_llama)
    likelier_end(model)
    prompts = prompts_for(model) * 4
    longer = Sampling(temperature=0.9, max_new_tokens=40)
    seeds = seeds_for(prompts, 2)
    wide = model.sample(prompts, seeds, longer)
    model.room.rows = rows
    with counted(model) as shapes:
        narrow = model.sample(prompts, seeds, longer)
    assert tokens_of(narrow) == tokens_of(wide)
    steps = sum(positions == 1 for _, positions in shapes)
    # Nobody waits for the longest of a group.
    written = sum(len(c.token_ids) - 1 for row in wide for c in row)
    assert steps < written / rows + 40


PAGE_BYTES: Final = 2 * 2 * 2 * 8 * 4 * 8
"""Eight positions of a tiny model: keys and values, layers, heads, width, float32."""


@pytest.mark.parametrize("pages", [7, 9, 14, 23])
def test_samples_that_are_put_back_are_written_again_bit_for_bit(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, pages: int
) -> None:
    monkeypatch.setitem(PAGES, "cpu", 8)
    model = loaded(tiny_llama)
    likelier_end(model)
    prompts = prompts_for(model) * 3
    longer = Sampling(temperature=0.9, max_new_tokens=40)
    seeds = seeds_for(prompts, 3)
    wide = model.sample(prompts, seeds, longer)
    assert max(len(c.token_ids) for row in wide for c in row) == 40
    put_back: list[int] = []
    grow, moves = Schedule.grow, []
    pack = Schedule.pack

    def note(schedule: Schedule) -> list[int]:
        found = grow(schedule)
        put_back.extend(found)
        return found

    def note_moves(schedule: Schedule) -> Any:
        found = pack(schedule)
        moves.extend(found)
        return found

    monkeypatch.setattr(Schedule, "grow", note)
    monkeypatch.setattr(Schedule, "pack", note_moves)
    monkeypatch.setattr(scheduling, "SPREAD", 1)
    # Samples are taken to be short, so that too many are let in.
    monkeypatch.setattr(Schedule, "expected_length", lambda _: 1)
    model.room.memory = pages * PAGE_BYTES
    narrow = model.sample(prompts, seeds, longer)
    assert narrow == wide  # log-probabilities included
    assert put_back
    assert moves


def test_both_ways_of_decoding_draw_the_same(folder: Path) -> None:
    model = loaded(folder)
    likelier_end(model)
    prompts = prompts_for(model)
    seeds = seeds_for(prompts)
    assert model.facts.shares_prompts
    fast = model.sample(prompts, seeds, SAMPLING)
    model.facts = replace(model.facts, shares_prompts=False)
    plain = model.sample(prompts, seeds, SAMPLING)
    assert tokens_of(fast) == tokens_of(plain)


def test_a_model_that_is_decoded_otherwise_steps_back_to_the_plain_way(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = loaded(tiny_llama)
    prompts = prompts_for(right)
    wanted = right.sample(prompts, seeds_for(prompts), SAMPLING)

    of_step = Layouts.of_step

    def a_place_too_far(layouts: Layouts, *given: Any) -> Any:
        shape, numbers = of_step(layouts, *given)
        numbers[shape.rows : 2 * shape.rows] += 1
        return shape, numbers

    monkeypatch.setattr(Layouts, "of_step", a_place_too_far)
    model = loaded(tiny_llama)
    assert not model.facts.shares_prompts
    assert tokens_of(model.sample(prompts, seeds_for(prompts), SAMPLING)) == tokens_of(
        wanted
    )


def test_attention_that_cannot_be_followed_is_refused() -> None:
    nothing = torch.zeros(1)
    with pytest.raises(ModelError, match="attention with softcap"):
        attention(
            torch.nn.Identity(),
            nothing,
            nothing,
            nothing,
            None,
            scaling=1.0,
            attending=Whole(),
            softcap=30.0,
        )


# --- how a completion ends ---


def test_a_completion_that_reaches_the_longest_length_is_not_finished(
    tiny_llama: Path,
) -> None:
    model = loaded(tiny_llama)
    prompts = prompts_for(model)
    found = model.sample(prompts, seeds_for(prompts), Sampling(0.5, max_new_tokens=2))
    cut = [c for row in found for c in row if not c.finished]
    assert cut
    for completion in cut:
        assert len(completion.token_ids) == 2
        assert not set(completion.token_ids) & model.tokens.end_ids


def test_an_end_token_on_the_last_place_finishes(tiny_llama: Path) -> None:
    model = loaded(tiny_llama)
    likelier_end(model)
    prompts = prompts_for(model)
    found = model.sample(prompts, seeds_for(prompts, 8), SAMPLING)
    ended = next(c for row in found for c in row if c.finished)
    (place,) = [
        (i, k) for i, row in enumerate(found) for k, c in enumerate(row) if c is ended
    ]
    seed = seeds_for(prompts, 8)[place[0]][place[1]]
    exact = Sampling(0.9, 0.97, max_new_tokens=len(ended.token_ids))
    ((again,),) = model.sample([prompts[place[0]]], [[seed]], exact)
    assert again.finished
    assert again.token_ids == ended.token_ids


def test_the_end_token_belongs_to_the_completion_and_not_to_its_text(
    tiny_llama: Path,
) -> None:
    model = loaded(tiny_llama)
    likelier_end(model)
    prompts = prompts_for(model)
    found = model.sample(prompts, seeds_for(prompts, 8), SAMPLING)
    ended = [c for row in found for c in row if c.finished]
    assert ended
    for completion in ended:
        *before, last = completion.token_ids
        assert last in model.tokens.end_ids
        assert not set(before) & model.tokens.end_ids
        assert completion.text == model.decode(tuple(before))
        assert "<|im_end|>" not in completion.text


def test_a_line_break_ends_a_plain_completion_and_changes_nothing_before(
    tiny_llama_plain: Path,
) -> None:
    model = loaded(tiny_llama_plain)
    prompts = prompts_for(model)[:2]
    seeds = seeds_for(prompts, 20)
    free = Sampling(temperature=2.0, max_new_tokens=60)
    line = Sampling(temperature=2.0, max_new_tokens=60, stop_at_newline=True)
    breaks = model.tokens.newline_ids | model.tokens.end_ids
    stopped = 0
    for whole_row, cut_row in zip(
        model.sample(prompts, seeds, free),
        model.sample(prompts, seeds, line),
        strict=True,
    ):
        for whole, cut in zip(whole_row, cut_row, strict=True):
            ends = [t for t, i in enumerate(whole.token_ids) if i in breaks]
            upto = ends[0] + 1 if ends else len(whole.token_ids)
            assert cut.token_ids == whole.token_ids[:upto]
            assert cut.finished == bool(ends)
            assert "\n" not in cut.text
            stopped += len(cut.token_ids) < len(whole.token_ids)
    assert stopped > 0


def test_text_before_the_line_break_of_its_token_belongs_to_the_answer(
    tiny_llama_plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loaded(tiny_llama_plain)
    (yes,) = model.tokens.tokenizer("y", add_special_tokens=False).input_ids
    (stop,) = model.tokens.tokenizer(".", add_special_tokens=False).input_ids
    texts = {yes: "y", stop: ".\n"}
    monkeypatch.setattr(
        model.tokens, "decode", lambda ids: "".join(texts[i] for i in ids).strip()
    )
    row = Growing((0, 0), [0.0, 0.0], [yes, stop], -1.0, 3.0, finished=True)
    ending = ending_of(model.tokens, Sampling(1.0, stop_at_newline=True))
    found = completed(ending, row, opened=False)
    assert found == Completion((yes, stop), "y.", True, -1.0, 1.5)  # noqa: FBT003


def test_an_end_token_alone_is_an_empty_answer(tiny_llama: Path) -> None:
    model = loaded(tiny_llama)
    (end,) = model.tokens.end_ids
    row = Growing((0, 0), [0.0], [end], -0.5, 0.25, finished=True)
    found = completed(ending_of(model.tokens, Sampling(1.0)), row, opened=False)
    assert (found.text, found.token_ids) == ("", (end,))


def test_keys_and_values_of_other_types_are_kept_in_one(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on an accelerator, where autocast rounds values and not keys.
    monkeypatch.setattr(paged_memory, "kept_type", lambda _keys, values: values.dtype)
    model = loaded(tiny_llama, compute="bfloat16")
    assert model.facts.shares_prompts
    prompts = prompts_for(model)
    found = model.sample(prompts, seeds_for(prompts), Sampling(1.0, max_new_tokens=4))
    assert all(c.token_ids for row in found for c in row)


@pytest.mark.gpu
@pytest.mark.parametrize("top_p", [0.95, 1.0])
def test_the_accelerator_writes_in_half_precision(folder: Path, top_p: float) -> None:
    model = loaded(folder, device="cuda", compute="bfloat16")
    prompts = prompts_for(model)
    sampling = Sampling(temperature=0.9, max_new_tokens=4, top_p=top_p)
    found = model.sample(prompts, seeds_for(prompts), sampling)
    assert all(c.token_ids for row in found for c in row)


@pytest.mark.gpu
def test_the_accelerator_draws_what_the_processor_draws(folder: Path) -> None:
    here, there = loaded(folder), loaded(folder, device="cuda")
    prompts = prompts_for(here)
    seeds = seeds_for(prompts)
    short = Sampling(temperature=0.9, max_new_tokens=4)
    assert tokens_of(here.sample(prompts, seeds, short)) == tokens_of(
        there.sample(prompts, seeds, short)
    )
