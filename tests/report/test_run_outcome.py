"""The sentence of outcome by hand in every branch, and the table beside it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_opsd.config import FORM_ONLY, Config
from neuron_opsd.config.tables import load_config
from neuron_opsd.records import GoldAnswers
from neuron_opsd.records.scores import Interval, QuestionScore, TestResult
from neuron_opsd.report.card import render_card
from neuron_opsd.report.html import said as coloured
from neuron_opsd.report.run_outcome import (
    outcome_sentence,
    result_table,
)
from neuron_opsd.report.run_page import render_page, stats
from neuron_opsd.report.run_tables import metric_table
from neuron_opsd.report.wording import duration, number, signed, size, verdict, visible
from neuron_opsd.results.run import (
    PROMPTED,
    Measured,
    ModelSummary,
    ReportData,
    TestComparison,
)
from neuron_opsd.runs.context import TestSet
from neuron_opsd.runs.findings import Findings, compare_tests
from neuron_opsd.stages.scoring import summarise

CONFIG = Config().evaluation
BETTER, WORSE = Interval(0.05, 0.02, 0.08), Interval(-0.05, -0.08, -0.02)
NOTHING = Interval(0.01, -0.02, 0.04)
UNKNOWN = Interval(math.nan, math.nan, math.nan)
MINUS = "\N{MINUS SIGN}"


def result(accuracy: float, ece: float) -> Measured:
    """Return a result of which only the two headline metrics are known."""
    metrics = {"avg_at_k": accuracy, "maj_at_k": accuracy + 0.01, "ece": ece}
    return Measured(metrics)


def comparison(
    name: str,
    accuracy: Interval,
    ece: Interval,
    net: Interval | None = None,
    *,
    in_domain: bool = True,
) -> TestComparison:
    """Return a test set of which only the differences matter."""
    return TestComparison(
        name=name,
        in_domain=in_domain,
        num_questions=0,
        before=result(0.6, 0.2),
        after=result(0.65, 0.15),
        delta={"avg_at_k": accuracy, "ece": ece},
        net_of_form=None if net is None else {"avg_at_k": net},
    )


def report(
    *tests: TestComparison,
    accuracy: Interval | None = None,
    ece: Interval | None = None,
) -> ReportData:
    """Return a report about these test sets and these cross-domain means."""
    means = {"avg_at_k": accuracy, "ece": ece}
    return ReportData(
        title="t",
        model=ModelSummary("m", "llama", 10, 1, 4, "cpu", "float32"),
        config=Config(),
        pool_size=10,
        num_selected=2,
        tests=tests,
        cross_domain={name: one for name, one in means.items() if one is not None},
    )


def test_everything_better_in_one_sentence() -> None:
    data = report(
        comparison("sst2", BETTER, WORSE, BETTER),
        comparison("arc", BETTER, WORSE, in_domain=False),
        comparison("piqa", BETTER, WORSE, in_domain=False),
        accuracy=BETTER,
        ece=WORSE,
    )
    assert outcome_sentence(data) == (
        "On sst2 (in-domain) the model got better: Avg@8 went from 60.0 % to 65.0 %, "
        "+5.0 points (95 % interval +2.0 to +8.0); net of form-only training it got "
        "better, +5.0 points (+2.0 to +8.0); on average over 2 cross-domain sets it "
        "got better, +5.0 points (+2.0 to +8.0), and calibration got better, "
        f"{MINUS}0.050 ({MINUS}0.080 to {MINUS}0.020); in-domain calibration got "
        f"better: ECE went from 0.200 to 0.150, {MINUS}0.050 ({MINUS}0.080 to "
        f"{MINUS}0.020)."
    )


def test_no_difference_is_said_wherever_an_interval_holds_zero() -> None:
    data = report(
        comparison("sst2", NOTHING, NOTHING, NOTHING),
        comparison("arc", NOTHING, NOTHING, in_domain=False),
        accuracy=NOTHING,
        ece=NOTHING,
    )
    assert outcome_sentence(data) == (
        "On sst2 (in-domain) no difference was seen: Avg@8 went from 60.0 % to 65.0 %, "
        f"+1.0 points (95 % interval {MINUS}2.0 to +4.0); net of form-only training no "
        f"difference was seen, +1.0 points ({MINUS}2.0 to +4.0); on the cross-domain "
        f"set no difference was seen, +1.0 points ({MINUS}2.0 to +4.0), and no "
        f"difference in calibration was seen, +0.010 ({MINUS}0.020 to +0.040); no "
        "difference in in-domain calibration was seen: ECE went from 0.200 to 0.150, "
        f"+0.010 ({MINUS}0.020 to +0.040)."
    )


def test_worse_is_said_where_it_got_worse() -> None:
    data = report(
        comparison("sst2", WORSE, BETTER, WORSE),
        comparison("arc", WORSE, BETTER, in_domain=False),
        accuracy=WORSE,
        ece=BETTER,
    )
    said = outcome_sentence(data)
    assert said.startswith("On sst2 (in-domain) the model got worse: ")
    assert "; net of form-only training it got worse, " in said
    assert "; on the cross-domain set it got worse, " in said
    assert ", and calibration got worse, +0.050 " in said
    assert "; in-domain calibration got worse: " in said


def test_what_was_not_run_is_not_mentioned() -> None:
    said = outcome_sentence(report(comparison("sst2", BETTER, WORSE)))
    assert "form-only" not in said
    assert "cross-domain" not in said


def test_what_is_not_a_number_was_not_measured() -> None:
    data = report(
        comparison("sst2", UNKNOWN, UNKNOWN, UNKNOWN),
        comparison("arc", UNKNOWN, UNKNOWN, in_domain=False),
        accuracy=UNKNOWN,
        ece=UNKNOWN,
    )
    assert outcome_sentence(data) == (
        "On sst2 (in-domain) the accuracy was not measured; the gain net of form-only "
        "training was not measured; on the cross-domain set it was not measured; "
        "in-domain calibration was not measured."
    )


def test_a_cross_domain_calibration_that_is_missing_is_left_out() -> None:
    other = comparison("arc", BETTER, WORSE, in_domain=False)
    said = outcome_sentence(report(other, accuracy=BETTER))
    assert "it got better, +5.0 points (+2.0 to +8.0); calibration" in said


SMALL = Interval(0.003, 0.001, 0.006)


def test_a_difference_that_does_not_matter_is_called_that() -> None:
    data = report(
        comparison("sst2", SMALL, SMALL, SMALL),
        comparison("arc", SMALL, SMALL, in_domain=False),
        accuracy=SMALL,
        ece=SMALL,
    )
    assert outcome_sentence(data) == (
        "On sst2 (in-domain) no difference was seen that matters: Avg@8 went from 60.0 "
        "% to 65.0 %, +0.3 points (95 % interval +0.1 to +0.6); net of form-only "
        "training no difference was seen that matters, +0.3 points (+0.1 to +0.6); on "
        "the cross-domain set no difference was seen that matters, +0.3 points (+0.1 "
        "to +0.6), and no difference in calibration was seen that matters, +0.003 "
        "(+0.001 to +0.006); no difference in in-domain calibration was seen that "
        "matters: ECE went from 0.200 to 0.150, +0.003 (+0.001 to +0.006)."
    )


def test_what_matters_is_a_setting() -> None:
    fine = load_config(
        None,
        [
            "evaluation.min_difference=0.003",
            "evaluation.min_calibration_difference=0.002",
        ],
    )
    data = replace(report(comparison("sst2", SMALL, SMALL)), config=fine)
    said = outcome_sentence(data)
    assert said.startswith("On sst2 (in-domain) the model got better: ")
    assert "; in-domain calibration got worse: " in said


def labelled(num_said: int) -> TestResult:
    """Return 70 questions `no` and 30 `yes`; so many are answered `no`."""
    scores = []
    for n in range(100):
        gold, given = ("no" if n < 70 else "yes"), ("no" if n < num_said else "yes")
        right = gold == given
        scores.append(
            QuestionScore(
                str(n), right, 1, given, right, 1.0, 0, 0, 1.0, gold, ((given, 1),)
            )
        )
    return summarise("edu", scores, Config().evaluation)


def told(before: int, after: int) -> ReportData:
    """Return a report on models that answer `no` to so many questions."""
    test = TestSet("edu", (), GoldAnswers({}), in_domain=True)
    findings = Findings({"edu": labelled(before)}, {"edu": labelled(after)}, {})
    (found,) = compare_tests([test], findings, Config())
    return report(found)


def test_a_model_that_says_one_thing_is_at_the_baseline() -> None:
    data = told(99, 100)
    assert outcome_sentence(data).startswith(
        "On edu (in-domain) no difference was seen: Avg@8 went from 71.0 % to 70.0 %, "
        f"{MINUS}1.0 points (95 % interval {MINUS}3.0 to 0.0); the model, both "
        "untrained and trained, is at the baseline (70.0 %, 'no' to every question; "
        "the model's most frequent answer takes 99.0 % of its answers before and "
        "100.0 % after); "
    )


def test_to_rise_to_the_baseline_is_not_to_get_better() -> None:
    data = told(0, 100)
    said = outcome_sentence(data)
    assert said.startswith(
        "On edu (in-domain) the model is at the baseline: Avg@8 went from 30.0 % to "
        "70.0 %, +40.0 points"
    )
    assert "; the trained model is at the baseline (70.0 %, 'no' to every " in said
    assert "the model got better" not in said
    page = render_page(data)
    assert "Avg@8 went from 30.0\u00a0% to 70.0\u00a0%" in page
    first = stats(data)[0]
    assert first.said == "at the baseline"
    assert "; 30.0\u00a0% before, 70.0\u00a0% after" in page
    (group,) = metric_table(data.tests[0], CONFIG).groups
    rows = {row.name: row.cells[-1].value for row in group.rows}
    assert rows["Avg@8, mean accuracy"] == coloured("at the baseline")
    assert rows["Maj@8, accuracy of the vote"] == coloured("at the baseline")


def test_a_model_that_leaves_the_baseline_got_better() -> None:
    said = outcome_sentence(told(100, 72))
    assert said.startswith(
        "On edu (in-domain) the model got better: Avg@8 went from 70"
    )
    assert "; the untrained model is at the baseline (70.0 %, 'no' to every" in said


def test_a_model_below_what_one_answer_gives_is_called_that() -> None:
    assert "; the trained model is below the baseline (70.0 %, " in outcome_sentence(
        told(0, 10)
    )
    said = outcome_sentence(told(60, 80))
    assert "baseline" not in said


def test_tables_hold_what_accuracy_hides_where_answers_repeat() -> None:
    data = told(0, 100)
    headings, (row,) = result_table(data)
    shown = dict(zip(headings, row, strict=True))
    assert shown["baseline"] == "70.0 %"
    assert shown["balanced accuracy"] == "50.0 % to 50.0 %"
    assert shown["macro F1"] == "23.1 % to 41.2 %"
    assert shown["most frequent answer"] == "100.0 % to 100.0 %"
    card = render_card(data, "base")
    assert "most frequent answer" in card
    assert "50.0 % to 50.0 %" in card
    page = render_page(data)
    assert "macro F1" in page
    other = comparison("arc", BETTER, WORSE, in_domain=False)
    headings, rows = result_table(replace(data, tests=(*data.tests, other)))
    assert [len(one) for one in rows] == [len(headings)] * 2
    assert rows[1][-4:] == ("\N{EM DASH}",) * 4
    plain, _ = result_table(report(other))
    assert "baseline" not in plain


def test_without_test_sets_nothing_is_claimed() -> None:
    assert "not known" in outcome_sentence(report())


def test_a_name_cannot_break_the_line() -> None:
    said = outcome_sentence(report(comparison("a\nb\x1b[2J", BETTER, WORSE)))
    assert said.startswith("On a b[U+001B][2J (in-domain) ")


def test_the_table_puts_the_in_domain_set_first_with_its_controls() -> None:
    own = replace(
        comparison("sst2", BETTER, WORSE, NOTHING),
        controls={PROMPTED: result(0.63, 0.2), FORM_ONLY: result(0.62, 0.2)},
    )
    data = report(comparison("arc", UNKNOWN, UNKNOWN, in_domain=False), own)
    headings, (first, second) = result_table(data)
    assert first == (
        "sst2",
        "60.0 %",
        "61.0 %",
        "63.0 %",
        "62.0 %",
        "65.0 %",
        "+5.0 [+2.0 to +8.0]",
        f"+1.0 [{MINUS}2.0 to +4.0]",
        "0.200",
        "0.150",
    )
    dash = "\N{EM DASH}"
    assert second[3:5] == (dash, dash)
    assert second[6:8] == (dash, dash)
    assert len(headings) == len(first)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.00004, "0.000"),
        (-0.00004, "0.000"),
        (0.05, "+0.050"),
        (-1.5, f"{MINUS}1.500"),
    ],
)
def test_signs(value: float, written: str) -> None:
    assert signed(value) == written


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0.04, "0.0 s"), (59.6, "1 min 00 s"), (42, "42 s"), (3725, "1 h 02 min")],
)
def test_durations(seconds: float, written: str) -> None:
    assert duration(seconds) == written


def test_sizes() -> None:
    assert [size(999), size(134_515_008), size(8_030_000_000)] == [
        "999",
        "135 M",
        "8.03 B",
    ]


def test_unseen_characters_are_written_out_and_words_left_alone() -> None:
    assert visible("a\x00\x9b\u202e\u2066\ufeff\U000e0041\ud800") == (
        "a[U+0000][U+009B][U+202E][U+2066][U+FEFF][U+E0041][U+D800]"
    )
    assert visible(
        "na\u00efve \u0645\u06cc\u200c\u062e \U0001f469\u200d\U0001f52c"
    ) == ("na\u00efve \u0645\u06cc\u200c\u062e \U0001f469\u200d\U0001f52c")
    assert visible("a\r\nb\rc") == "a\nb[U+000D]c"


@given(st.text())
def test_visible_text_can_be_written_to_a_file_and_stays_as_it_is(text: str) -> None:
    seen = visible(text)
    seen.encode("utf-8")
    assert visible(seen) == seen


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(-1, 1), st.floats(0, 0.5))
def test_a_verdict_turns_round_with_the_difference(
    a: float, b: float, c: float, least: float
) -> None:
    low, value, high = sorted([a, b, c])
    forward = verdict(Interval(value, low, high), higher_is_better=True, least=least)
    turned = verdict(Interval(-value, -high, -low), higher_is_better=False, least=least)
    assert forward == turned


@given(st.floats())
def test_a_number_is_never_written_as_nan(value: float) -> None:
    assert "n" not in number(value)
