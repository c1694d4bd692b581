"""The page of a probe: what it says, that it is sound, that no text breaks it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest

from neuron_opsd.records.scores import Interval
from neuron_opsd.report.probe_page import (
    HEARD,
    LABELLED,
    MEASURES,
    UNLABELLED,
    accuracy_plot,
    context_table,
    outcome,
    pair_table,
    render_probe,
    score_plot,
    selection_plot,
)
from neuron_opsd.results import probe
from neuron_opsd.results.probe import (
    ContextResult,
    PairResult,
    ProbeData,
    Recommendation,
    SelectionResult,
    Skipped,
    Validity,
)
from pages import HOSTILE, check_inert, check_links, read


def interval(value: float, half: float = 0.05) -> Interval:
    return Interval(value, value - half, value + half)


def measures(start: float, *, labelled: bool) -> dict[str, Interval]:
    """Return every measure of a teacher, moved a little."""
    with_gold = {probe.ACCURACY, probe.LEAD}
    return {
        name: interval(start + 0.01 * place)
        for place, name in enumerate(MEASURES)
        if labelled or name not in with_gold
    }


def example_probe(*, labelled: bool = True) -> ProbeData:
    """Return a probe of three context rules and two selection rules."""
    rules = {"nearest": 0.5, "words": 0.3, "random": 0.2}
    contexts = tuple(
        ContextResult(
            rule=rule,
            help=f"found by {rule}",
            num_draws=3 if rule == "random" else 1,
            measures=measures(start, labelled=labelled),
            over_student=measures(start - 0.4, labelled=labelled),
            over_random={}
            if rule == "random"
            else measures(start - 0.2, labelled=labelled),
            settings=(f"contexts.rule={rule}",),
        )
        for rule, start in rules.items()
    )
    selections = tuple(
        SelectionResult(
            rule=rule,
            help=f"those that {rule} keeps",
            num_kept=80,
            num_draws=1,
            top_answer_share=0.875,
            measures=measures(0.1, labelled=labelled),
            over_random={},
            settings=(f"selection.rule={rule}",),
        )
        for rule in ("fewest-neurons", "all")
    )
    pairs = tuple(
        PairResult(
            selection=one.rule,
            contexts=two.rule,
            num_questions=25.5,
            score=interval(0.123),
        )
        for one in selections
        for two in contexts
    )
    return ProbeData(
        title="Teachers for science.jsonl",
        model="a-model",
        run="runs/first",
        num_pool=4000,
        num_library=1200,
        num_ranked=1024,
        num_questions=128,
        num_demonstrations=5,
        heard="choices",
        labelled=labelled,
        taught={"contexts.answer": "greedy"},
        base_rule="nearest",
        student=measures(0.4, labelled=labelled),
        contexts=contexts,
        selections=selections,
        pairs=pairs,
        skipped=(Skipped("contexts", "states", "there are none"),),
        recommendation=Recommendation("Take words.", ("contexts.rule=words",), "score"),
        num_resamples=2000,
        command="neuron-opsd probe --pool science.jsonl",
        versions={"python": "3.11"},
        data_hashes={"pool": "ab" * 32},
    )


LIMITED = ("heard", "base_rule", "by", "rule", "selection", "contexts")
"""Fields whose texts are names of ours."""


def poisoned(value: Any, *, keys: bool = False) -> Any:
    """Return a copy in which every text is hostile, names of ours excepted."""
    if isinstance(value, str):
        return HOSTILE
    if isinstance(value, Mapping):
        return {HOSTILE if keys else key: poisoned(one) for key, one in value.items()}
    if isinstance(value, tuple):
        return tuple(map(poisoned, value))
    if is_dataclass(value) and not isinstance(value, type):
        parts = {f.name: getattr(value, f.name) for f in fields(value)}
        free = ("versions", "data_hashes")
        return replace(
            value,
            **{
                name: part
                if name in LIMITED and isinstance(part, str)
                else poisoned(part, keys=name in free)
                for name, part in parts.items()
            },
        )
    return value


def test_the_page_says_what_was_found_and_by_what() -> None:
    page = render_probe(example_probe())
    seen = read(page)
    for said in ("Take words.", "--set contexts.rule=words", LABELLED):
        assert said in seen.text
    assert "128 questions asked of 4,000 in the pool" in seen.text
    assert "1,200 answered" in seen.text
    assert "answers of run runs/first" in seen.text
    assert "Not tried: contexts.rule=states, since there are none." in seen.text
    assert HEARD["choices"] in seen.text
    assert "87.5 %" in seen.text
    check_inert(page)
    check_links(page)


def test_without_answers_the_page_says_so_and_has_no_accuracy() -> None:
    data = example_probe(labelled=False)
    page = read(render_probe(data))
    assert UNLABELLED in page.text
    assert LABELLED not in page.text
    assert not accuracy_plot(data)
    headings = [column.heading for column in context_table(data).columns]
    assert "accuracy" not in headings
    assert UNLABELLED in outcome(data)


def test_a_score_that_nobody_measured_is_called_that() -> None:
    page = read(render_probe(example_probe()))
    assert "has not been measured yet, so nothing is recommended by it" in page.text


@pytest.mark.parametrize(
    ("low", "said"), [(0.1, "was +0.40 (+0.10 to +0.70)."), (-0.1, "was not seen to")]
)
def test_the_page_says_how_well_the_score_predicted(low: float, said: str) -> None:
    found = Validity(Interval(0.4, low, 0.7), 14, 5, "a-model", "python script.py")
    page = read(render_probe(replace(example_probe(), validity=found)))
    assert said in page.text
    assert "14 arms of 5 sources (a-model)" in page.text
    assert "python script.py" in page.text
    assert "not been measured yet" not in page.text


def test_without_a_recommendation_there_is_nothing_to_paste() -> None:
    data = replace(example_probe(), recommendation=Recommendation("No rule."))
    page = read(render_probe(data))
    assert "Nothing is recommended" in page.text
    assert "Give the run these settings" not in page.text


def test_the_forest_plot_has_the_best_teacher_first() -> None:
    data = example_probe()
    drawn = str(accuracy_plot(data))
    places = [drawn.index(f">{one.rule}<") for one in data.contexts]
    assert places == sorted(places)
    turned = replace(data, contexts=data.contexts[::-1])
    assert str(accuracy_plot(turned)) == drawn
    assert "+10.0 (+5.0 to +15.0)" in drawn  # .5 less .4, in points
    assert "+30.0 (+25.0 to +35.0)" in drawn  # .5 less .2


def test_equal_data_give_equal_pages() -> None:
    assert render_probe(example_probe()) == render_probe(example_probe())


def test_numbers_that_do_not_exist_are_dashes_and_not_drawn() -> None:
    nan = Interval(math.nan, math.nan, math.nan)

    def lost(found: Mapping[str, Interval]) -> dict[str, Interval]:
        return dict.fromkeys(found, nan)

    data = example_probe()
    contexts = tuple(
        replace(
            one,
            measures=lost(one.measures),
            over_student=lost(one.over_student),
            over_random=lost(one.over_random),
        )
        for one in data.contexts
    )
    selections = tuple(
        replace(one, measures=lost(one.measures)) for one in data.selections
    )
    pairs = tuple(replace(one, score=nan) for one in data.pairs)
    data = replace(
        data,
        contexts=contexts,
        selections=selections,
        pairs=pairs,
        student=lost(data.student),
    )
    assert not any((accuracy_plot(data), score_plot(data), selection_plot(data)))
    page = read(render_probe(data))
    assert "nan" not in page.text.lower()


def test_a_probe_of_few_rules_has_a_page_too() -> None:
    data = example_probe()
    data = replace(data, selections=(), pairs=(), skipped=(), run="")
    page = read(render_probe(data))
    assert "No selection rule was tried." in page.text
    assert pair_table(data) is None


def test_hostile_text_stays_text() -> None:
    page = read(render_probe(poisoned(example_probe())))
    assert not page.tags & {"script", "img", "iframe", "object", "embed", "form"}
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert "<script>alert(1)</script>" in page.text


def test_the_example_has_every_field_of_the_record() -> None:
    data = example_probe()
    assert is_dataclass(data)
    named = {field.name for field in fields(data)}
    assert named >= {"contexts", "selections", "pairs", "validity"}
    assert all(getattr(data, name) not in (None, ()) for name in named)
