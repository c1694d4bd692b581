"""Asking a model questions: seeds, order, blocks, choices and reading."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from neuron_opsd.config import Config
from neuron_opsd.config.tables import load_config
from neuron_opsd.errors import DataError
from neuron_opsd.models.decoding.choices import choice_logprobs
from neuron_opsd.models.hf import HFModel
from neuron_opsd.models.load import load_model
from neuron_opsd.records import Message, Pair, Question, Rollout
from neuron_opsd.seeds import derive_seed
from neuron_opsd.stages.rollouts import (
    Draw,
    PromptedQuestion,
    ask,
    complete,
    sample_rollouts,
    sampling_of,
    scored_choices,
    top_share,
)
from resolved import sampled_among_choices, written_freely
from scripted import ScriptedModel

PLAIN = load_config(None, ["prompts.form=plain", "model.compute=float32"])
SAMPLED = [(0.6, 4)]


def question(name: str, text: str, *choices: str) -> Question:
    """Return a question."""
    return Question(name, (Message("user", text),), choices)


SKY = question("sky", "What colour is the sky?", "blue", "grey")
SEA = question("sea", "How deep is the sea?")
GRASS = question("grass", "What colour is grass?", "green", "dark green", "red")


def scripted() -> ScriptedModel:
    return ScriptedModel(
        {"sky": ["blue", "grey", "blue"], "sea": ["very deep"], "grass": ["green"]}
    )


def config_of(*assignments: str) -> Config:
    return load_config(
        None, ["prompts.form=plain", "model.compute=float32", *assignments]
    )


def asked_freely(*questions: Question) -> list[PromptedQuestion]:
    return ask(questions, written_freely(PLAIN))


@pytest.fixture(scope="module")
def model(tiny_llama_plain: Path) -> HFModel:
    config = load_config(None, [f"model.name={tiny_llama_plain}"])
    small = config.model.model_copy(update={"compute": "float32"})
    return load_model(small)


def test_a_question_is_asked_as_the_student_is() -> None:
    (free, chosen) = ask([SEA, SKY], sampled_among_choices(PLAIN))
    assert free.prompt.text == "Question: How deep is the sea?\nAnswer:"
    assert free.written == ()
    assert chosen.written == ("blue", "grey")
    assert asked_freely(SKY)[0].written == ()


def test_letters_are_what_is_written_where_the_prompt_lists_letters() -> None:
    config = config_of("prompts.list_choices=letters")
    (asked,) = ask([GRASS], sampled_among_choices(config))
    assert asked.written == ("A", "B", "C")
    assert "B. dark green" in asked.prompt.text


def test_rollouts_come_question_by_question_and_draw_by_draw() -> None:
    draws = [(0.6, 2), (0.0, 1)]
    found = sample_rollouts(scripted(), asked_freely(SKY, SEA), PLAIN, "x", draws)
    assert [(r.question_id, r.index, r.temperature, r.answer) for r in found] == [
        ("sky", 0, 0.6, "blue"),
        ("sky", 1, 0.6, "grey"),
        ("sky", 0, 0.0, "blue"),
        ("sea", 0, 0.6, "very deep"),
        ("sea", 1, 0.6, "very deep"),
        ("sea", 0, 0.0, "very deep"),
    ]


def test_every_draw_has_a_seed_of_its_purpose_question_and_place() -> None:
    model = scripted()
    config = PLAIN.model_copy(update={"seed": 7})
    sample_rollouts(model, asked_freely(SKY, SEA), config, "test exam", [(0.6, 2)])
    seeds = {prompt: row for prompt, row, _ in model.asked}
    assert seeds["Question: How deep is the sea?\nAnswer:"] == (
        derive_seed(7, "test exam", "sea", 0),
        derive_seed(7, "test exam", "sea", 1),
    )
    assert len({seed for row in seeds.values() for seed in row}) == 4


def test_what_is_cut_or_unreadable_has_no_answer() -> None:
    model = ScriptedModel({"sky": ["...", "blue"]})
    found = sample_rollouts(model, asked_freely(SKY), PLAIN, "x", [(0.6, 2)])
    assert [r.answer for r in found] == [None, "blue"]
    config = config_of("rollouts.max_new_tokens=3")
    asked = ask([SEA], written_freely(config))
    (cut,) = sample_rollouts(scripted(), asked, config, "x", [(0.6, 1)])
    assert (cut.completion.text, cut.completion.finished) == ("ve", False)


def test_sampling_follows_the_settings() -> None:
    config = config_of("rollouts.top_p=0.5", "rollouts.max_new_tokens=9")
    sampling = sampling_of(config, 0.3)
    assert (sampling.temperature, sampling.top_p, sampling.max_new_tokens) == (
        0.3,
        0.5,
        9,
    )
    assert sampling.stop_at_newline
    chat = load_config(None, ["prompts.form=chat"])
    assert not sampling_of(chat, 0.3).stop_at_newline


def test_a_question_is_asked_once_it_is_known_how_it_is_answered() -> None:
    with pytest.raises(ValueError, match=r"rollouts\.mode is auto; resolve"):
        ask([GRASS], PLAIN)


def test_a_draw_among_choices_is_always_one_of_them() -> None:
    (asked,) = ask([GRASS], sampled_among_choices(PLAIN))
    found = sample_rollouts(scripted(), [asked], PLAIN, "x", [(10.0, 200)])
    texts = {r.completion.text for r in found}
    assert texts == {"green", "dark green", "red"}
    for rollout in found:
        assert rollout.answer == rollout.completion.text
        assert rollout.completion.finished
        tokens = f" {rollout.completion.text}\n".encode()
        assert rollout.completion.token_ids == tuple(tokens)


def test_letters_are_read_as_the_choices_they_stand_for() -> None:
    config = config_of("prompts.list_choices=letters")
    model = ScriptedModel({"grass": ["B"]})
    asked = ask([GRASS], sampled_among_choices(config))
    found = sample_rollouts(model, asked, config, "x", [(0.0, 1)])
    assert [(r.completion.text, r.answer) for r in found] == [("B", "dark green")]


def test_a_greedy_draw_takes_the_most_probable_choice() -> None:
    (asked,) = ask([SKY], sampled_among_choices(PLAIN))
    found = sample_rollouts(scripted(), [asked], PLAIN, "x", [(0.0, 3)])
    assert [r.answer for r in found] == ["blue"] * 3
    assert found[0].completion.logprob == found[0].completion.entropy == 0.0


def test_choices_are_drawn_with_the_odds_of_their_tokens() -> None:
    # Scripted odds are 2 to 1, so 1 in 3 draws of 9,000 says grey. Each seed draws
    # independently: a deviation of 6.2 standard deviations of a binomial has a chance
    # below 1e-9, by the normal bound.
    config = config_of("rollouts.temperature=1.0")
    (asked,) = ask([SKY], sampled_among_choices(config))
    found = sample_rollouts(scripted(), [asked], config, "x", [(1.0, 9000)])
    grey = Counter(r.answer for r in found)["grey"]
    assert abs(grey - 3000) < 6.2 * (9000 * 2 / 9) ** 0.5


def test_entropy_of_a_choice_is_per_token() -> None:
    (asked,) = ask([SKY], sampled_among_choices(PLAIN))
    found = sample_rollouts(scripted(), [asked], PLAIN, "x", [(1.0, 8)])
    p = np.array([2 / 3, 1 / 3])
    spread = float(-(p * np.log(p)).sum())
    for rollout in found:
        # " blue\n" and " grey\n" have six tokens each.
        assert rollout.completion.entropy == pytest.approx(spread / 6)
        share = {"blue": 2 / 3, "grey": 1 / 3}[rollout.completion.text]
        assert rollout.completion.logprob == pytest.approx(np.log(share))


def test_questions_with_and_without_choices_are_asked_together() -> None:
    asked = ask([SEA, SKY, GRASS], sampled_among_choices(PLAIN))
    found = sample_rollouts(scripted(), asked, PLAIN, "x", [(0.6, 1)])
    assert [r.question_id for r in found] == ["sea", "sky", "grass"]
    assert found[0].answer == "very deep"
    assert found[2].answer in GRASS.choices


def test_choices_that_tokenise_alike_name_their_question(model: HFModel) -> None:
    twins = question("twins", "Which sky?", "deep  blue", "deep blue")
    asked = ask([SKY, twins], sampled_among_choices(PLAIN))
    with pytest.raises(DataError, match="question twins: the choices 'deep  blue' and"):
        sample_rollouts(model, asked, PLAIN, "x", SAMPLED)


QUESTIONS = [
    question(
        f"q{n}", f"Is {n} odd{' or even' * (n % 3)}?", *("odd", "even")[: 2 * (n % 2)]
    )
    for n in range(9)
]


def content(rollouts: Sequence[Rollout]) -> dict[str, list[tuple[object, ...]]]:
    """Return what is promised to be the same, by question."""
    found: dict[str, list[tuple[object, ...]]] = {}
    for r in rollouts:
        entry = (r.index, r.temperature, r.completion.token_ids, r.answer)
        found.setdefault(r.question_id, []).append(entry)
    return found


@pytest.mark.parametrize("mode", [written_freely, sampled_among_choices])
def test_neither_block_nor_order_changes_a_token(
    model: HFModel, mode: Callable[[Config], Config]
) -> None:
    config = config_of("rollouts.max_new_tokens=6")
    asked = ask(QUESTIONS, mode(config))
    draws = [(0.8, 3), (0.0, 1)]
    whole = sample_rollouts(model, asked, config, "rollout", draws)
    reordered = sample_rollouts(model, asked[::-1], config, "rollout", draws)
    assert content(reordered) == content(whole)
    for size in (1, 2, 4):
        blocks = [
            rollout
            for start in range(0, len(asked), size)
            for rollout in sample_rollouts(
                model, asked[start : start + size], config, "rollout", draws
            )
        ]
        assert content(blocks) == content(whole)
        for one, other in zip(blocks, whole, strict=True):
            assert one.completion.logprob == pytest.approx(
                other.completion.logprob, abs=1e-4
            )


def test_more_samples_begin_with_the_fewer(model: HFModel) -> None:
    config = config_of("rollouts.max_new_tokens=6")
    asked = ask(QUESTIONS[:3], written_freely(config))
    few = sample_rollouts(model, asked, config, "rollout", [(0.8, 2)])
    many = sample_rollouts(model, asked, config, "rollout", [(0.8, 5)])
    for name, drawn in content(few).items():
        assert content(many)[name][:2] == drawn


def test_another_seed_or_stage_draws_anew(model: HFModel) -> None:
    config = config_of("rollouts.max_new_tokens=6")
    asked = ask(QUESTIONS[:3], written_freely(config))
    first = content(sample_rollouts(model, asked, config, "rollout", SAMPLED))
    other = config.model_copy(update={"seed": 1})
    assert content(sample_rollouts(model, asked, other, "rollout", SAMPLED)) != first
    assert content(sample_rollouts(model, asked, config, "own", SAMPLED)) != first
    assert content(sample_rollouts(model, asked, config, "rollout", SAMPLED)) == first


def test_choices_are_scored_once_for_all_draws(
    model: HFModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of()
    asked = ask(QUESTIONS[:3], sampled_among_choices(config))
    both = sample_rollouts(model, asked, config, "rollout", [(0.6, 4), (0.0, 1)])
    alone = sample_rollouts(model, asked, config, "rollout", [(0.0, 1)])
    assert content([r for r in both if r.temperature == 0.0]) == content(alone)
    passes: list[int] = []
    forward = model.forward

    def counted(pairs: Sequence[Pair]) -> Tensor:
        passes.append(len(pairs))
        return forward(pairs)

    monkeypatch.setattr(model, "forward", counted)
    sample_rollouts(model, asked, config, "rollout", [(0.6, 4), (0.0, 1)])
    of_both = list(passes)
    passes.clear()
    sample_rollouts(model, asked, config, "rollout", [(0.0, 1)])
    assert of_both == passes


def test_training_draws_among_choices_follow_their_exact_odds(model: HFModel) -> None:
    config = config_of()
    asked = ask([GRASS], sampled_among_choices(config))
    (scores,) = scored_choices(model, asked)
    odds = np.exp(choice_logprobs(scores, 1.0))
    count = 6000
    seeds = [[derive_seed("draw", k) for k in range(count)]]
    ((drawn,),) = complete(model, asked, [Draw(sampling_of(config, 1.0), seeds)])
    counted = Counter(c.text for c in drawn)
    for choice, share in zip(GRASS.choices, odds, strict=True):
        # 6.4 standard deviations, three choices: a false alarm below 1e-9.
        spread = (count * share * (1 - share)) ** 0.5
        assert abs(counted[choice] - count * share) < 6.4 * spread


@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1))
def test_the_top_share_is_that_of_the_most_frequent_text(texts: list[str]) -> None:
    text, share = top_share(texts)
    counts = Counter(texts)
    assert share == max(counts.values()) / len(texts)
    earliest = min(texts.index(t) for t, n in counts.items() if n == counts[text])
    assert texts[earliest] == text


def test_nothing_has_no_top_share() -> None:
    assert top_share([]) == ("", 0.0)
