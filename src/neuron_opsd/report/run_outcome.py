"""The result as a sentence and a table, for page, card and terminal."""

from __future__ import annotations

from collections.abc import Iterable

from neuron_opsd.config import FORM_ONLY, EvaluationConfig
from neuron_opsd.method.settings import SCORES
from neuron_opsd.records.scores import Interval
from neuron_opsd.report import wording
from neuron_opsd.report.measures import (
    ACCURACY,
    AT_BASELINE,
    ERROR,
    LABEL_MEASURES,
    baseline_clause,
    judged,
    label_texts,
    no_gain_at_baseline,
    standing,
)
from neuron_opsd.results.run import PROMPTED, ReportData, TestComparison, least_of

NO_VOTES = " (one answer to a question has no vote)"


def ordered(tests: Iterable[TestComparison]) -> list[TestComparison]:
    """Return the test sets, in-domain first."""
    return sorted(tests, key=lambda test: not test.in_domain)


def result_table(data: ReportData) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return headings and a text row per test set, dashes for what was not run.

    If gold answers of a set repeat, label measures come last.
    """
    tests = ordered(data.tests)
    k = data.config.evaluation.num_samples
    headings: tuple[str, ...] = (
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
    rows: list[tuple[str, ...]] = [
        (
            wording.one_line(test.name),
            *accuracies(test),
            interval_cell(test.delta.get("avg_at_k")),
            interval_cell((test.net_of_form or {}).get("avg_at_k")),
            *map(wording.number, test.both("ece")),
        )
        for test in tests
    ]
    if all(test.baseline is None for test in tests):
        return headings, rows
    labelled = [
        (*row, *label_texts(test)) for row, test in zip(rows, tests, strict=True)
    ]
    return (*headings, "baseline", *LABEL_MEASURES.values()), labelled


def accuracies(test: TestComparison) -> list[str]:
    """Format accuracies: base, its vote, with demonstrations, form-only, trained."""
    results = (
        (test.before, "avg_at_k"),
        (test.before, "maj_at_k"),
        (test.controls.get(PROMPTED), "avg_at_k"),
        (test.controls.get(FORM_ONLY), "avg_at_k"),
        (test.after, "avg_at_k"),
    )
    return [
        wording.percent(None if result is None else result.metrics.get(name))
        for result, name in results
    ]


def interval_cell(interval: Interval | None) -> str:
    """Format a difference of shares with its interval in brackets."""
    if not wording.finite(interval):
        return wording.NOT_MEASURED
    ends = wording.ends(interval, wording.points)
    return f"{wording.points(interval.value)} [{ends}]"


def in_domain_test(data: ReportData) -> TestComparison | None:
    """Return the in-domain test set, if any."""
    return next(iter(ordered(data.tests)), None)


def outcome_sentence(data: ReportData) -> str:
    """Say in one sentence whether the model got better, with every interval.

    "No difference seen": the interval holds zero. "No difference that matters": it does
    not, but the difference is small. "Got worse": it is on the wrong side. A model that
    gives one answer to nearly everything and is right as often as that is true did not
    get better, whatever it was before.
    """
    test = in_domain_test(data)
    if test is None:
        return "No test set was given, so it is not known whether the model got better."
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
    """Say how accuracy changed on one test set."""
    where = wording.one_line(test.name) + (" (in-domain)" if test.in_domain else "")
    interval = test.delta.get("avg_at_k")
    if not wording.finite(interval):
        return f"On {where} the accuracy was not measured"
    before, after = map(wording.percent, test.both("avg_at_k"))
    said = as_clause("the model", accuracy_verdict(test, interval, config))
    step = f"Avg@{config.num_samples} went from {before} to {after}"
    change = wording.points(interval.value)
    ends = wording.ends(interval, wording.points)
    return f"On {where} {said}: {step}, {change} points (95 % interval {ends})"


def accuracy_verdict(
    test: TestComparison, difference: Interval | None, config: EvaluationConfig
) -> str:
    """Judge a difference in accuracy; one answer to all is no gain."""
    said = judged(ACCURACY, difference, least_of(config))
    return no_gain_at_baseline(said, standing(test, config.min_difference))


def as_clause(subject: str, said: str, what: str = "") -> str:
    """Turn a verdict into a clause.

    `what` follows "no difference" if the subject is unclear.
    """
    if said in (wording.NO_DIFFERENCE, wording.NO_MATTER):
        tail = " that matters" if said == wording.NO_MATTER else ""
        return f"no difference{f' in {what}' if what else ''} was seen{tail}"
    return f"{subject} {'is ' if said == AT_BASELINE else ''}{said}"


def form_clause(test: TestComparison, config: EvaluationConfig) -> str:
    """Say what remains of the gain, net of form."""
    if test.net_of_form is None:
        return ""
    net = test.net_of_form.get("avg_at_k")
    if not wording.finite(net):
        return "the gain net of form-only training was not measured"
    said = as_clause("it", accuracy_verdict(test, net, config))
    return f"net of form-only training {said}, {point_numbers(net)}"


def cross_domain_clause(data: ReportData) -> str:
    """Say what happened on other sources, on average."""
    others = sum(not test.in_domain for test in data.tests)
    accuracy, ece = data.cross_domain.get("avg_at_k"), data.cross_domain.get("ece")
    if not others or accuracy is None:
        return ""
    where = f"on average over {others} cross-domain sets"
    if others == 1:
        where = "on the cross-domain set"
    if not wording.finite(accuracy):
        return f"{where} it was not measured"
    config = data.config.evaluation
    said = judged(ACCURACY, accuracy, least_of(config))
    clause = f"{where} {as_clause('it', said)}, {point_numbers(accuracy)}"
    if not wording.finite(ece):
        return clause
    calibration = calibration_verdict("calibration", ece, config)
    return f"{clause}, and {calibration}, {error_numbers(ece)}"


def calibration_clause(test: TestComparison, config: EvaluationConfig) -> str:
    """Say how calibration error changed (lower is better)."""
    interval = test.delta.get("ece")
    where = "in-domain calibration" if test.in_domain else "calibration"
    if not wording.finite(interval):
        return f"{where} was not measured{no_votes(config)}"
    before, after = map(wording.number, test.both("ece"))
    said = calibration_verdict(where, interval, config)
    return f"{said}: ECE went from {before} to {after}, {error_numbers(interval)}"


def no_votes(config: EvaluationConfig) -> str:
    """Explain missing calibration with one rollout per question."""
    return NO_VOTES if config.num_samples == 1 else ""


def calibration_verdict(what: str, ece: Interval, config: EvaluationConfig) -> str:
    """Judge a difference in calibration error."""
    return as_clause(what, judged(ERROR, ece, least_of(config)), what)


def point_numbers(interval: Interval) -> str:
    """Format a difference of shares with its interval."""
    return wording.with_ends(interval, wording.points, " points")


def error_numbers(interval: Interval) -> str:
    """Format a difference of calibration errors with its interval."""
    return wording.with_ends(interval, wording.signed)


def kept_sentence(data: ReportData) -> str:
    """Say which step the adapter is from, and why; empty if the last."""
    if data.guard is None or data.guard.kept is None or data.training is None:
        return ""
    kept, score = data.guard.kept, data.config.guard.score
    first, last = wording.number(kept.score), wording.number(kept.last)
    why = f"by {score} ({SCORES[score].help})"
    if kept.num_steps == 0:
        what = "leaves the model unchanged"
        found = f"no step scored above the untrained model {why}"
    else:
        what = f"is the one after {kept.num_steps} of {data.training.num_steps} steps"
        found = f"it scored highest {why}"
    return (
        f"Training collapsed, so the adapter {what}: on the guard's questions "
        f"{found}, {first} against {last} after the last step. No label was read for "
        "this."
    )
