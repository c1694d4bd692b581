"""The page: what it says, that it is sound HTML, and that no text can break it."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest

from neuron_opsd.config import Config, DistillConfig
from neuron_opsd.config.tables import config_from_table
from neuron_opsd.method.calibration import METRICS
from neuron_opsd.method.contexts import CONTEXT_RULES, SHOWN_ANSWERS
from neuron_opsd.method.selection import LEFT_OUT, SELECTION_RULES
from neuron_opsd.records import SelectionEntry
from neuron_opsd.records.scores import Interval
from neuron_opsd.report.card import render_card
from neuron_opsd.report.condense import measured, num_levels, pool_summary
from neuron_opsd.report.measures import METRIC_KINDS
from neuron_opsd.report.run_page import (
    NEURON_RULES,
    method_notes,
    render_page,
    selection_facts,
)
from neuron_opsd.results.run import AnswerCount, ReportData
from neuron_opsd.stages.scoring import summarise
from pages import HOSTILE, check_inert, check_links, read
from report_examples import example_pool, example_report, example_scores

FREE_KEYS = {"versions", "data_hashes"}


def poisoned(value: Any, *, keys: bool = False) -> Any:
    """Return a copy in which every text is hostile, settings excepted."""
    if isinstance(value, str):
        return HOSTILE
    if isinstance(value, Mapping):
        return {
            f"{HOSTILE}{place}" if keys else key: poisoned(one)
            for place, (key, one) in enumerate(value.items())
        }
    if isinstance(value, tuple):
        return tuple(map(poisoned, value))
    if is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: getattr(value, field.name) for field in fields(value)}
        return replace(
            value,
            **{
                name: poisoned(part, keys=name in FREE_KEYS)
                for name, part in parts.items()
                if name != "config"
            },
        )
    return value


def blank(value: Any) -> Any:
    """Return a copy in which every number is not a number."""
    if isinstance(value, float):
        return math.nan
    if isinstance(value, Interval):
        return Interval(math.nan, math.nan, math.nan)
    if isinstance(value, Mapping):
        return {key: blank(one) for key, one in value.items()}
    if isinstance(value, tuple):
        return tuple(map(blank, value))
    if is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: getattr(value, field.name) for field in fields(value)}
        # Curves hold finite points alone.
        kept = ("config", "agreement", "bubbles", "tenths", "losses", "entropies")
        return replace(
            value, **{n: blank(p) for n, p in parts.items() if n not in kept}
        )
    return value


def empty_report() -> ReportData:
    """Return a report of a run that did next to nothing."""
    data = example_report()
    return ReportData(
        title="nothing",
        model=data.model,
        config=Config(),
        pool_size=0,
        num_selected=0,
        tests=(),
    )


@pytest.fixture(scope="module")
def page() -> str:
    return render_page(example_report())


def test_the_page_says_what_matters(page: str) -> None:
    text = read(page).text
    for words in (
        "On sst2 (in-domain) the model got better",
        "no difference seen",
        "got worse",
        "75.1 %",
        "net of form-only training",
        "Teacher's prompt",
        "no answer could be read",
        "contexts.answer",
        "The teacher gives one answer to 61 %",
        "share of the top answer: 0.830, limit 0.800",
        "4 min 32 s",
        "one of the 316 strongest pairs",
        "neuron-opsd run --model smollm2",
        "60303ae2",
    ):
        assert words in text


def test_tables_set_off_totals_and_words(page: str) -> None:
    assert page.count('<tr class="total">') == 1
    assert '<tr class="total"><th scope="row">all stages</th>' in page
    assert '<td class="text"><span class="said better">got better</span></td>' in page
    assert '<td class="key">78.3 %</td>' in page


def test_the_page_is_sound_html(page: str) -> None:
    check_links(page)


def test_the_page_loads_nothing_and_runs_nothing(page: str) -> None:
    check_inert(page)


def test_the_policy_allows_this_style_sheet_and_no_other(page: str) -> None:
    match = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert match is not None
    digest = base64.b64encode(hashlib.sha256(match[1].encode()).digest()).decode()
    (policy,) = [v for v in read(page).values("content") if "default-src" in v]
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}'; ")
    assert "unsafe" not in policy


def test_every_drawing_is_announced_or_hidden(page: str) -> None:
    for opening in re.findall(r"<svg[^>]*>.{0,40}", page):
        assert 'aria-hidden="true"' in opening or (
            'role="img"' in opening and "><title>" in opening
        )


def test_equal_data_give_equal_bytes(page: str) -> None:
    assert render_page(example_report()) == page


def test_hostile_text_in_every_field_stays_text() -> None:
    data = poisoned(example_report())
    bad = replace(data, config=hostile_config())
    page = render_page(bad)
    page.encode("utf-8")
    reader = read(page)
    assert reader.tags == read(render_page(example_report())).tags
    assert not [name for _, name, _ in reader.attributes if name.startswith("on")]
    assert not reader.values("src")
    assert "7*7" in reader.text
    assert "[U+001B][31m[U+0000][U+202E][U+2066][U+D800]" in reader.text
    assert not set(page) & {"\x1b", "\x00", "\u202e", "\u2066", "\ud800"}


def hostile_config() -> Config:
    """Return settings whose free texts are hostile."""
    text = HOSTILE.replace("\ud800", "")
    prompts = {"system": text, "instruction": text, "question_label": text}
    return config_from_table({"model": {"name": text}, "prompts": prompts})


def test_a_page_with_long_prompts_stays_below_a_megabyte() -> None:
    data = example_report()
    shot = "Review: a film, with some words about it & what it is <not>.\n"
    cases = tuple(
        replace(
            case,
            teacher_prompt=shot * 1000,
            rollouts_after=tuple(AnswerCount(f"a{i}", 1, shot * 500) for i in range(8)),
        )
        for case in data.cases
    )
    page = render_page(replace(data, cases=cases))
    assert len(page.encode()) < 1_000_000
    assert "more characters]" in page


def test_numbers_that_are_not_numbers_are_dashes() -> None:
    text = read(render_page(blank(example_report()))).text
    assert not re.search(r"\bnan\b", text)
    assert "the accuracy was not measured" in text


def test_a_run_that_did_nothing_still_has_a_page() -> None:
    text = read(render_page(empty_report())).text
    assert "No test set was given" in text
    assert "All settings are the defaults." in text


@pytest.mark.parametrize("rule", NEURON_RULES)
@pytest.mark.parametrize("answer", SHOWN_ANSWERS)
@pytest.mark.parametrize("selection", SELECTION_RULES)
@pytest.mark.parametrize("shown", CONTEXT_RULES)
def test_every_choice_is_told_in_words(
    rule: str, answer: str, selection: str, shown: str
) -> None:
    config = config_from_table(
        {
            "neurons": {"rule": rule},
            "contexts": {"answer": answer, "rule": shown},
            "selection": {"rule": selection},
        }
    )
    notes = dict(method_notes(replace(example_report(), config=config)))
    assert SHOWN_ANSWERS[answer].shown in notes["Demonstrations"]
    assert CONTEXT_RULES[shown].help in notes["Demonstrations"]
    assert SELECTION_RULES[selection].help in notes["Selection"]
    assert "{" not in "".join(notes.values())


@pytest.mark.parametrize(
    ("settings", "seen"),
    [
        ({}, "over the full vocabulary at every token"),
        ({"top_k": 100}, "over the teacher's 100 likeliest tokens and all others at"),
        ({"entry_clip": 0.05}, "vocabulary, at most 0.05 nats from each, at every"),
    ],
)
def test_the_notes_say_what_a_divergence_sees(
    settings: dict[str, Any], seen: str
) -> None:
    config = Config(distill=DistillConfig(**settings))
    notes = dict(method_notes(replace(example_report(), config=config)))
    assert seen in notes["Training"]


def test_a_balanced_selection_is_told() -> None:
    config = config_from_table({"selection": {"balance": True}})
    notes = dict(method_notes(replace(empty_report(), config=config)))
    assert "separately for each own answer" in notes["Selection"]


def test_the_notes_follow_the_settings() -> None:
    config = config_from_table({"contexts": {"num_demonstrations": 0}})
    notes = dict(method_notes(replace(empty_report(), config=config)))
    assert notes["Demonstrations"] == "No demonstrations were shown in training."
    assert "(scaled to the model)" in notes["Neurons"]


def test_a_method_that_shows_nothing_is_not_said_to_have_shown_demonstrations() -> None:
    data = replace(example_report(), reads_contexts=False)
    assert data.config.contexts.num_demonstrations
    notes = dict(method_notes(data))
    assert notes["Demonstrations"] == "No demonstrations were shown in training."
    assert "other questions" not in render_card(data, "a/b")


@pytest.mark.parametrize(
    ("neurons", "said"),
    [
        ({"chunk_tokens": 1024}, "of its layer and of each 1,024 tokens. The"),
        ({"span": "answer"}, "Only the tokens of the final answer after the reasoning"),
        ({"span": "reasoning"}, "Only the tokens of the reasoning count."),
        ({"first_tokens": 2048}, "Of longer spans only the first 2,048 tokens count."),
    ],
)
def test_chunks_and_spans_are_told(neurons: dict[str, Any], said: str) -> None:
    config = config_from_table({"neurons": neurons})
    notes = dict(method_notes(replace(empty_report(), config=config)))
    assert said in notes["Neurons"]
    plain = dict(method_notes(replace(empty_report(), config=Config())))
    assert said not in plain["Neurons"]


def test_what_was_left_out_of_the_selection_is_told_and_counted() -> None:
    data = example_report()
    label = "not selected, own completion cut or unread"
    assert label not in dict(selection_facts(data))
    entry = SelectionEntry("x", 5, 9, kept=False, reason=f"{LEFT_OUT}cut")
    selection, votes = example_pool()
    more = replace(data, pool=pool_summary((*selection, entry, entry), votes))
    assert dict(selection_facts(more))[label] == "2"
    notes = dict(method_notes(replace(data, config=Config())))
    assert "cut or has no readable answer were left out" in notes["Selection"]
    config = config_from_table({"selection": {"include_unread": True}})
    notes = dict(method_notes(replace(data, config=config)))
    assert "left out" not in notes["Selection"]


def test_what_a_rule_knows_nothing_of_is_told_where_there_is_such_a_thing() -> None:
    data, (selection, votes) = example_report(), example_pool()
    config = config_from_table({"selection": {"rule": "belief-shift"}})
    entry = SelectionEntry("x", 5, 9, kept=False, reason=f"{LEFT_OUT}no sample")
    pool = pool_summary((*selection, entry), votes)
    shifted = replace(data, config=config, pool=pool)
    label = "not selected, own completion cut or unread, or unknown to the rule"
    assert dict(selection_facts(shifted))[label] == "1"
    notes = dict(method_notes(shifted))
    assert "left out where none of its samples holds an answer" in notes["Selection"]
    assert "those whose answer the demonstrations change most" in notes["Selection"]


def test_a_page_has_no_calibration_where_questions_were_asked_once() -> None:
    data, selection, votes = example_report(), *example_pool()
    once = {name: replace(vote, num_rollouts=1) for name, vote in votes.items()}
    pool = pool_summary(selection, once)
    assert (pool.neurons, pool.correlation, pool.bubbles) == (None, None, ())
    assert {share.agreement for share in pool.shares} == {None}

    own = next(test for test in data.tests if test.in_domain)
    own_score = replace(example_scores(own.name, 0.7, 2.0)[0], agreement=1.0)
    scores = [replace(own_score, num_rollouts=1, num_correct=1)] * 3
    result = summarise(own.name, scores, data.config.evaluation)
    tested = measured(result, 15, num_levels([1]))
    assert (tested.bins, tested.agreement) == ((), ())
    unknown = Interval(math.nan, math.nan, math.nan)
    asked_once = replace(
        own, before=tested, after=tested, delta={**own.delta, "ece": unknown}
    )
    config = data.config.changed(evaluation={"num_samples": 1})
    page = render_page(replace(data, config=config, pool=pool, tests=(asked_once,)))
    assert "was not measured (one answer to a question has no vote)" in page
    assert "Each test question was answered once" in page
    assert "When its 1 answers agree" not in page
    assert "lower is better (one answer to a question has no vote)" in page


def test_every_metric_that_is_measured_has_a_name_on_the_page() -> None:
    assert {kind.name for kind in METRIC_KINDS} == set(METRICS)
