"""The result in one sentence and in one table, for page, card and terminal alike."""

from __future__ import annotations

from dataclasses import dataclass

from neuron_opsd.config import EvaluationConfig
from neuron_opsd.report.baseline import (
    AT_BASELINE,
    LABEL_HEADINGS,
    LabelCells,
    baseline_clause,
    label_cells,
    label_texts,
    no_gain_at_baseline,
    standing,
)
from neuron_opsd.report.wording import (
    NO_DIFFERENCE,
    NO_MATTER,
    finite,
    number,
    one_line,
    percent,
    point_range,
    points,
    signed,
    signed_range,
    verdict,
)
from neuron_opsd.results.run import (
    FORM_ONLY,
    PROMPTED,
    Measured,
    ReportData,
    TestComparison,
)
from neuron_opsd.results.scores import Interval


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """One test set in the table of results; shares in [0, 1], `None` where not run."""

    name: str
    in_domain: bool
    num_questions: int
    base: float | None
    base_majority: float | None
    """Majority vote of the untrained model: what a user has for k times the cost."""
    base_prompted: float | None
    form_only: float | None
    trained: float | None
    delta: Interval | None
    net_of_form: Interval | None
    ece_before: float | None
    ece_after: float | None
    ece_delta: Interval | None
    labels: LabelCells | None
    """What belongs beside accuracy where gold answers repeat."""


def comparison_table(data: ReportData) -> list[ComparisonRow]:
    """Return one row per test set, the in-domain ones first."""
    ordered = sorted(data.tests, key=lambda test: not test.in_domain)
    return [comparison_row(test) for test in ordered]


def comparison_row(test: TestComparison) -> ComparisonRow:
    """Gather what the table says about one test set."""
    net = test.net_of_form
    return ComparisonRow(
        name=test.name,
        in_domain=test.in_domain,
        num_questions=test.num_questions,
        base=test.before.metrics.get("avg_at_k"),
        base_majority=test.before.metrics.get("maj_at_k"),
        base_prompted=metric(test.controls.get(PROMPTED), "avg_at_k"),
        form_only=metric(test.controls.get(FORM_ONLY), "avg_at_k"),
        trained=test.after.metrics.get("avg_at_k"),
        delta=test.delta.get("avg_at_k"),
        net_of_form=None if net is None else net.get("avg_at_k"),
        ece_before=test.before.metrics.get("ece"),
        ece_after=test.after.metrics.get("ece"),
        ece_delta=test.delta.get("ece"),
        labels=label_cells(test),
    )


def metric(result: Measured | None, name: str) -> float | None:
    """Return one metric of a result that may not have been run."""
    return None if result is None else result.metrics.get(name)


def result_table(data: ReportData) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return headings and rows as text, with labels where some set has them."""
    rows = comparison_table(data)
    headings, cells = comparison_headings(data), [row_cells(row) for row in rows]
    if all(row.labels is None for row in rows):
        return headings, cells
    return (
        headings + LABEL_HEADINGS,
        [c + label_texts(row.labels) for c, row in zip(cells, rows, strict=True)],
    )


def comparison_headings(data: ReportData) -> tuple[str, ...]:
    """Return the headings over the cells of `row_cells`."""
    k = data.config.evaluation.num_samples
    return (
        "test set",
        f"base Avg@{k}",
        f"base Maj@{k}",
        "base + own demos",
        "form-only",
        "trained",
        "difference (points)",
        "net of form (points)",
        "ECE before",
        "ECE after",
    )


def row_cells(row: ComparisonRow) -> tuple[str, ...]:
    """Write one row as text, a dash for what was not run."""
    return (
        one_line(row.name),
        percent(row.base),
        percent(row.base_majority),
        percent(row.base_prompted),
        percent(row.form_only),
        percent(row.trained),
        interval_cell(row.delta),
        interval_cell(row.net_of_form),
        number(row.ece_before),
        number(row.ece_after),
    )


def interval_cell(interval: Interval | None) -> str:
    """Write a difference of shares with its interval in brackets."""
    if interval is None or not finite(interval):
        return points(None)
    return f"{points(interval.value)} [{point_range(interval)}]"


def in_domain_test(data: ReportData) -> TestComparison | None:
    """Return the test set of the pool's own domain, or `None` without test sets."""
    own = [test for test in data.tests if test.in_domain]
    return next(iter(own or data.tests), None)


def outcome_sentence(data: ReportData) -> str:
    """Say in one sentence whether the model got better, with every interval.

    "No difference seen" is said wherever an interval holds zero, "no difference that
    matters" where it does not but the difference is small, and "got worse" where it
    lies on the wrong side. A model that gives one answer to nearly everything and is
    right as often as that answer is true did not get better, whatever it was before.
    """
    test = in_domain_test(data)
    if test is None:
        return "No test set was given, so whether the model got better is not known."
    config = data.config.evaluation
    clauses = [
        accuracy_clause(test, config),
        baseline_clause(standing(test, config.min_difference)),
        form_clause(test, config),
        cross_domain_clause(data),
        calibration_clause(test, config),
    ]
    return "; ".join(clause for clause in clauses if clause) + "."


def accuracy_clause(test: TestComparison, config: EvaluationConfig) -> str:
    """Say what happened to the accuracy on one test set."""
    k = config.num_samples
    where = one_line(test.name) + (" (in-domain)" if test.in_domain else "")
    interval = test.delta.get("avg_at_k")
    if interval is None or not finite(interval):
        return f"On {where} the accuracy was not measured"
    before = percent(test.before.metrics.get("avg_at_k"))
    after = percent(test.after.metrics.get("avg_at_k"))
    said = accuracy_verdict(test, config)
    if said not in (NO_DIFFERENCE, NO_MATTER):
        said = f"the model {'is ' if said == AT_BASELINE else ''}{said}"
    numbers = f"{points(interval.value)} points (95 % interval {point_range(interval)})"
    return f"On {where} {said}: Avg@{k} went from {before} to {after}, {numbers}"


def accuracy_verdict(test: TestComparison, config: EvaluationConfig) -> str:
    """Say what the difference in accuracy shows; one answer to all is no gain."""
    least = config.min_difference
    interval = test.delta.get("avg_at_k")
    said = verdict(interval, higher_is_better=True, least=least)
    return no_gain_at_baseline(said, standing(test, least))


def form_clause(test: TestComparison, config: EvaluationConfig) -> str:
    """Say what is left of the gain when learning the answers' form is taken off."""
    if test.net_of_form is None:
        return ""
    net = test.net_of_form.get("avg_at_k")
    if net is None or not finite(net):
        return "net of form-only training it was not measured"
    said = net_verdict(test, config)
    if said not in (NO_DIFFERENCE, NO_MATTER):
        said = f"it {'is ' if said == AT_BASELINE else ''}{said}"
    return f"net of form-only training {said}, {point_numbers(net)}"


def net_verdict(test: TestComparison, config: EvaluationConfig) -> str:
    """Say what the difference in accuracy to form-only training shows."""
    least = config.min_difference
    net = (test.net_of_form or {}).get("avg_at_k")
    said = verdict(net, higher_is_better=True, least=least)
    return no_gain_at_baseline(said, standing(test, least))


def cross_domain_clause(data: ReportData) -> str:
    """Say what happened on the other sources, in the mean over them."""
    others = sum(not test.in_domain for test in data.tests)
    accuracy, ece = data.cross_domain.get("avg_at_k"), data.cross_domain.get("ece")
    if not others or accuracy is None:
        return ""
    where = f"in the mean of {others} cross-domain sets"
    if others == 1:
        where = "on the cross-domain set"
    if not finite(accuracy):
        return f"{where} it was not measured"
    config = data.config.evaluation
    said = claim("it", accuracy, higher_is_better=True, least=config.min_difference)
    clause = f"{where} {said}, {point_numbers(accuracy)}"
    if ece is None or not finite(ece):
        return clause
    least = config.min_calibration_difference
    calibration = claim(
        "calibration", ece, higher_is_better=False, least=least, what="calibration"
    )
    return f"{clause}, and {calibration}, {error_numbers(ece)}"


def calibration_clause(test: TestComparison, config: EvaluationConfig) -> str:
    """Say what happened to the expected calibration error, which is better low."""
    interval = test.delta.get("ece")
    where = "in-domain calibration" if test.in_domain else "calibration"
    if interval is None or not finite(interval):
        return f"{where} was not measured"
    before = number(test.before.metrics.get("ece"))
    after = number(test.after.metrics.get("ece"))
    least = config.min_calibration_difference
    said = claim(where, interval, higher_is_better=False, least=least, what=where)
    return f"{said}: ECE went from {before} to {after}, {error_numbers(interval)}"


def claim(
    subject: str,
    interval: Interval,
    *,
    higher_is_better: bool,
    least: float,
    what: str = "",
) -> str:
    """Say what an interval allows to say of a subject.

    Args:
        subject: What got better or worse.
        interval: The difference, all three numbers finite.
        higher_is_better: Which side of zero is the good one.
        least: The least difference that matters.
        what: Named after "no difference ..." where the subject is not clear.
    """
    said = verdict(interval, higher_is_better=higher_is_better, least=least)
    if said == NO_MATTER and what:
        return f"no difference in {what} that matters"
    if said in (NO_DIFFERENCE, NO_MATTER):
        return f"{said} in {what}" if what else said
    return f"{subject} {said}"


def point_numbers(interval: Interval) -> str:
    """Write a difference of shares with its interval."""
    return f"{points(interval.value)} points ({point_range(interval)})"


def error_numbers(interval: Interval) -> str:
    """Write a difference of calibration errors with its interval."""
    return f"{signed(interval.value)} ({signed_range(interval)})"
