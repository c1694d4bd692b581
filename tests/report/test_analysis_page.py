"""The page of an analysis: what it says, that it is sound, that no text breaks it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from neuron_opsd.records import TeacherCheck
from neuron_opsd.records.scores import Interval
from neuron_opsd.report.analysis_page import (
    bins_chart,
    correlations_chart,
    outcome,
    remainder,
    render_analysis,
    rivals_chart,
)
from neuron_opsd.report.analysis_tables import (
    GIVEN,
    LABELS,
    TARGET_HEADINGS,
    VOTES,
    area_tables,
    between_table,
    compared,
    correlation_rows,
    group_table,
)
from neuron_opsd.results.analysis import (
    ACCURACY,
    AGREEMENT,
    CAPTURED,
    GROUPS,
    NEAREST,
    PAIRS,
    RIVALS,
    VOTE,
    AnalysisData,
    BinMean,
    RunAnalysis,
    ShownCase,
    ShownDemonstration,
    area_gain_name,
    area_name,
    correlation_name,
    shared_name,
    vote_name,
)
from pages import HOSTILE, check_inert, check_links, read

LABEL_FREE = ("agreement", "length", "entropy", "unanimity", "answer")


def interval(value: float, half: float = 0.05) -> Interval:
    """Return an interval that reaches `half` to both sides."""
    return Interval(value, value - half, value + half)


def example_measures(shift: float = 0.0) -> dict[str, Interval]:
    """Return every measure, plausible and moved a little."""
    found = {
        correlation_name(kind, target): interval(-0.2 + shift)
        for kind in ("pearson", "spearman")
        for target in TARGET_HEADINGS
    }
    for target in (ACCURACY, CAPTURED):
        found[correlation_name("partial", target)] = interval(-0.02 + shift)
        found[correlation_name("partial_ranks", target)] = interval(-0.01 + shift)
    for target in (CAPTURED, VOTE):
        for place, name in enumerate(RIVALS):
            area = 0.6 + 0.02 * place + shift
            found[area_name(target, name)] = interval(area)
            if name != "count":
                gain = interval(0.6 + shift - area, 0.03)
                found[area_gain_name(target, name)] = gain
    for group in GROUPS:
        for place, measure in enumerate({**LABELS, **VOTES}):
            found[vote_name(group, measure)] = interval(0.4 + 0.05 * place + shift)
    for what in ("gold", "answer"):
        found[shared_name(what, "demonstrations")] = interval(0.6)
        found[shared_name(what, "random")] = interval(0.5)
        found[shared_name(what, "excess")] = interval(0.1)
    return found | {PAIRS: interval(0.7, 0.01), NEAREST: interval(0.5, 0.01)}


def example_bins(start: float) -> tuple[BinMean, ...]:
    """Return ten bins whose means fall."""
    return tuple(
        BinMean(
            low=900.0 + 10 * place,
            high=909.0 + 10 * place,
            center=904.5 + 10 * place,
            num_questions=40,
            mean=interval(start - 0.03 * place),
        )
        for place in range(10)
    )


def example_case(number: int) -> ShownCase:
    """Return a selected question with two demonstrations."""
    shown = ShownDemonstration(
        question_id="d1",
        question="Which gas do plants take in?",
        distance=0.512,
        shown="carbon dioxide",
        answer="carbon dioxide",
        correct=True,
        gold="carbon dioxide",
        shares_answer=False,
        shares_gold=False,
    )
    return ShownCase(
        question_id=f"q{number}",
        question=f"What is number {number} of the planets?",
        choices=("Earth", "Mars"),
        reason="812 neurons, place 3 of 400 from the fewest",
        answer="Mars",
        majority="Mars",
        agreement=0.75,
        num_correct=2,
        num_rollouts=8,
        correct=False,
        gold="Earth",
        demonstrations=(shown, replace(shown, answer=None, correct=False)),
    )


TEACHER_CHECK = TeacherCheck(64, 0.71, 0.74, 0.53, 0.41, "Mars", 0.2, 0.2, 0.8)


def example_run(name: str = "science", shift: float = 0.0) -> RunAnalysis:
    """Return a run with true answers."""
    return RunAnalysis(
        name=name,
        model="a-model",
        num_questions=400,
        num_selected=80,
        num_samples=8,
        selection_rule="fewest-neurons",
        contexts_rule="nearest",
        num_demonstrations=5,
        labelled=True,
        with_texts=True,
        captured_greedy=True,
        measures=example_measures(shift),
        bins={ACCURACY: example_bins(0.8), AGREEMENT: example_bins(0.9)},
        teacher_check=TEACHER_CHECK,
        distances_of=400,
        cases=tuple(map(example_case, range(3))),
    )


def unlabelled_run(name: str = "plain") -> RunAnalysis:
    """Return a run without true answers and without the texts of its questions."""
    run = example_run(name)
    kept = {
        key: value
        for key, value in run.measures.items()
        if key in (PAIRS, NEAREST) or set(key.split(".")) & set(LABEL_FREE)
    }
    kept = {key: value for key, value in kept.items() if not key.startswith("auroc")}
    cases = tuple(
        replace(
            case,
            question="",
            choices=(),
            correct=None,
            gold=None,
            num_correct=None,
            demonstrations=tuple(
                replace(one, question="", correct=None, gold=None, shares_gold=None)
                for one in case.demonstrations
            ),
        )
        for case in run.cases
    )
    return replace(
        run,
        labelled=False,
        with_texts=False,
        captured_greedy=False,
        measures=kept,
        bins={AGREEMENT: run.bins[AGREEMENT]},
        teacher_check=None,
        cases=cases,
    )


def example_analysis(*runs: RunAnalysis) -> AnalysisData:
    """Return an analysis of some runs, two with true answers by default."""
    runs = runs or (example_run(), example_run("reviews", 0.1))
    shared = set.intersection(*(set(run.measures) for run in runs))
    overall = {name: runs[0].measures[name] for name in runs[0].measures}
    return AnalysisData(
        title="Neurons and answers",
        runs=runs,
        overall={n: overall[n] for n in overall if n in shared and len(runs) > 1},
        between=((0.7, 0.9), (0.9, 0.7)) if len(runs) == 2 else (),
        num_resamples=2000,
        command="neuron-opsd analyse runs/science",
        versions={"python": "3.11"},
        data_hashes={"science, pool": "60303ae2"},
    )


def poisoned(value: Any, *, keys: bool = False) -> Any:
    """Return a copy in which every text is hostile, names of measures excepted."""
    if isinstance(value, str):
        return HOSTILE
    if isinstance(value, Mapping):
        return {HOSTILE if keys else key: poisoned(one) for key, one in value.items()}
    if isinstance(value, tuple):
        return tuple(map(poisoned, value))
    if is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: getattr(value, field.name) for field in fields(value)}
        free = ("versions", "data_hashes")
        return replace(
            value, **{n: poisoned(p, keys=n in free) for n, p in parts.items()}
        )
    return value


def blank(value: Any) -> Any:
    """Return a copy in which every number is not a number."""
    if isinstance(value, float):
        return math.nan
    if isinstance(value, Mapping):
        return {key: blank(one) for key, one in value.items()}
    if isinstance(value, tuple):
        return tuple(map(blank, value))
    if is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: getattr(value, field.name) for field in fields(value)}
        return replace(value, **{name: blank(part) for name, part in parts.items()})
    return value


@pytest.fixture(scope="module")
def page() -> str:
    return render_analysis(example_analysis())


def test_what_accuracy_hides_stands_where_true_answers_repeat(page: str) -> None:
    text = read(page).text
    assert "Where true answers repeat" in text
    assert "one answer to all" in text
    assert "45.0 %" in text
    hidden = {vote_name(group, "baseline") for group in GROUPS}
    run = example_run()
    kept = {name: one for name, one in run.measures.items() if name not in hidden}
    other = render_analysis(example_analysis(replace(run, measures=kept)))
    assert "Where true answers repeat" not in other


def test_the_page_says_what_matters(page: str) -> None:
    text = read(page).text
    for words in (
        "questions with fewer neurons were answered right more often",
        "Given length, entropy and vote share, no correlation is seen in ranks",
        "divergence of the teacher (smallest), has 0.78",
        "mean of runs",
        "not selected",
        "better than the count",
        "What is number 2 of the planets?",
        "Where the captured answer is greedy",
        "2,000 bootstrap resamples",
        "60303ae2",
    ):
        assert words in text


def test_the_page_is_sound_and_every_section_can_be_reached(page: str) -> None:
    check_links(page)


def test_the_page_loads_nothing_and_runs_nothing(page: str) -> None:
    check_inert(page)


def test_no_text_can_break_the_page() -> None:
    page = render_analysis(poisoned(example_analysis()))
    reader = read(page)
    assert not reader.tags & {"script", "img"}
    assert not [name for _, name, _ in reader.attributes if name.startswith("on")]
    assert "{{ 7*7 }}" in reader.text
    assert "\x1b" not in page
    page.encode()


def test_numbers_that_are_none_are_dashes() -> None:
    text = read(render_analysis(blank(example_analysis()))).text
    assert not re.search(r"\bnan\b", text)
    assert "\N{EM DASH}" in text
    assert "\N{EM DASH} to" not in text


def test_a_run_without_answers_says_so(page: str) -> None:
    plain = render_analysis(example_analysis(unlabelled_run()))
    text = read(plain).text
    assert "No true answers were given, so nothing here says" in text
    assert "Not measured: no true answers were given." in text
    assert "Not measured: the check was off" in text
    assert "Of the captured answer, per token" in text
    assert "right</span>" not in plain
    assert "q2" in text
    both = read(render_analysis(example_analysis(example_run(), unlabelled_run()))).text
    assert "Without true answers: plain." in both
    assert "In run science," in both
    assert "Without true answers" not in read(page).text


def test_a_run_without_demonstrations_has_no_cases() -> None:
    measures = {
        name: one
        for name, one in example_measures().items()
        if not name.startswith("neighbours")
    }
    run = replace(example_run(), cases=(), measures=measures)
    text = read(render_analysis(example_analysis(run))).text
    assert "None: the runs have no demonstrations." in text


@pytest.mark.parametrize(
    ("plain", "partial", "said"),
    [
        (-0.3, -0.2, "fewer neurons still go with right answers in ranks"),
        (0.3, 0.2, "more neurons still go with right answers in ranks"),
        (0.01, math.nan, "nothing could be measured in ranks"),
    ],
)
def test_the_outcome_follows_the_signs(plain: float, partial: float, said: str) -> None:
    measures = example_measures() | {
        correlation_name("spearman", ACCURACY): interval(plain),
        correlation_name("partial_ranks", ACCURACY): interval(partial),
    }
    run = replace(example_run(), measures=measures)
    text = outcome(example_analysis(run))
    assert said in text
    seen = "was not seen to go with right answers" in text
    assert seen == (abs(plain) < 0.05)


def test_rows_end_with_the_mean_of_runs() -> None:
    data = example_analysis()
    rows = correlation_rows(data, GIVEN)
    assert [row.name for row in rows] == ["science", "reviews", "mean of runs"]
    assert [row.total for row in rows] == [False, False, True]
    assert rows[0].cells[0].value == "\N{MINUS SIGN}0.20"
    assert rows[0].cells[0].note == "\N{MINUS SIGN}0.25 to \N{MINUS SIGN}0.15"
    votes = group_table(data, "Votes", VOTES)
    assert votes is not None
    assert len(votes.groups[0].rows) == 9
    assert [name for name, _ in area_tables(data)] == [
        "mean of runs",
        "science",
        "reviews",
    ]


def test_a_difference_is_said_where_its_interval_is_clear_of_zero() -> None:
    assert compared(interval(0.2)) == "the count is better"
    assert compared(interval(-0.2)) == "better than the count"
    assert compared(interval(0.01)) == "no difference seen"
    assert compared(None) == ""
    assert compared(Interval(math.nan, math.nan, math.nan)) == "not measured"


def test_what_is_left_of_a_correlation_is_no_more_than_was_seen() -> None:
    plain, other, none = interval(-0.3), interval(0.3), interval(0.01)
    assert remainder(plain, plain).startswith("fewer neurons still go with")
    assert remainder(plain, other).startswith("fewer neurons go with")
    assert remainder(plain, none).startswith("fewer neurons go with")
    assert remainder(none, plain).startswith("no correlation is seen")


def test_runs_that_cannot_be_compared_have_no_matrix() -> None:
    data = example_analysis()
    shown = between_table(data)
    assert shown is not None
    first = shown.groups[0].rows[0]
    assert [cell.value for cell in first.cells] == ["0.700", "0.900"]
    apart = replace(data, between=((0.7, None), (None, 0.7)))
    assert between_table(apart) is None


def test_distances_that_are_of_a_sample_say_so() -> None:
    whole = read(render_analysis(example_analysis())).text
    assert "drawn at random" not in whole.partition("Distances between")[2][:600]
    runs = [replace(example_run(name), distances_of=40) for name in ("one", "other")]
    text = read(render_analysis(example_analysis(*runs))).text
    assert "one: distances of 40 questions drawn at random to all 400." in text
    assert "as many questions drawn at random are compared with those of other" in text


def test_drawings_are_announced_and_sound() -> None:
    data = example_analysis()
    run = data.runs[0]
    drawn = [bins_chart(run), rivals_chart(run.name, run.measures)]
    drawn.append(correlations_chart(data))
    for picture in drawn:
        root = ET.fromstring(picture)
        assert root.get("role") == "img"
        assert root[0].tag == "title"
        assert root[1].tag == "desc"
    assert len(re.findall(r'class="span after"', drawn[0])) == 10
    assert re.search(r"80 % at 90[45] neurons", drawn[0])
    assert "shortest" in drawn[1]
    assert "partial" in drawn[2]


def test_there_is_no_drawing_of_nothing() -> None:
    empty = replace(example_run(), bins={}, measures={})
    assert bins_chart(empty) == ""
    assert rivals_chart("empty", {}) == ""
    assert correlations_chart(example_analysis(example_run())) == ""
    assert bins_chart(blank(example_run())) == ""
    assert rivals_chart("blank", blank(example_run()).measures) == ""
