"""Page of a probe, as one HTML file without network or scripts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeVar

from markupsafe import Markup

from neuron_opsd.records.scores import Interval
from neuron_opsd.report import wording
from neuron_opsd.report.analysis_tables import Writers, written
from neuron_opsd.report.charts.intervals import IntervalChart, IntervalRow
from neuron_opsd.report.html import (
    Cell,
    Column,
    Table,
    named,
    render_template,
    row_of,
    table_of,
)
from neuron_opsd.report.measures import CHARTED
from neuron_opsd.report.wording import with_ends
from neuron_opsd.results import probe
from neuron_opsd.results.probe import (
    ContextResult,
    Measures,
    ProbeData,
    SelectionResult,
    Validity,
)

Result = TypeVar("Result", ContextResult, SelectionResult)

in_points = CHARTED["avg_at_k"].scaled
"""Convert a difference of shares to percentage points."""

MEASURES: Final[Writers] = {
    probe.ACCURACY: (Column("accuracy", "right"), wording.percent),
    probe.LEAD: (Column("above student", "points"), wording.points),
    probe.SCORE: (Column("score", "label-free"), wording.signed),
    probe.AGREEMENT: (Column("agreement", "with the vote"), wording.percent),
    probe.FIX: (Column("fix", "to the vote"), wording.percent),
    probe.BREAK: (Column("break", "away from it"), wording.percent),
    probe.SHIFT: (Column("shift", "nats"), wording.number),
    probe.ENTROPY: (Column("entropy", "nats"), wording.number),
    probe.STABILITY: (Column("stability", "same answer"), wording.percent),
    probe.DIVERGENCE: (Column("divergence", "nats"), wording.number),
    probe.SUPPORT: (Column("support", "of others"), wording.percent),
}

HEARD: Final = {
    "choices": "The exact distribution over the choices of each question, at the "
    "pool's temperature.",
    "scored": "The student's own free answers, scored under the teacher's prompt: the "
    "more probable an answer's completions are there, the more it counts for the "
    "teacher. Nothing new was written, so answers that the student never gave are not "
    "seen.",
    "written": "Free answers that each teacher wrote, the same number per question.",
    "mixed": "Where there are choices, the exact distribution over them; otherwise "
    "free answers: the student's, scored under the teacher's prompt, or the teacher's.",
}

UNLABELLED: Final = "No right answers were read: everything here is label-free."
LABELLED: Final = (
    "Right answers were given with --answers; only the accuracies use them."
)


def render_probe(data: ProbeData) -> str:
    """Render the page deterministically."""
    return render_template("probe.html.jinja", context(data), "probe.css")


def context(data: ProbeData) -> dict[str, Any]:
    """Collect template variables."""
    return {
        "data": data,
        "outcome": outcome(data),
        "labels": LABELLED if data.labelled else UNLABELLED,
        "contexts": context_table(data),
        "selections": selection_table(data) if data.selections else None,
        "pairs": pair_table(data),
        "accuracy": accuracy_plot(data),
        "scores": score_plot(data),
        "kept": selection_plot(data),
        "rules": [(f"contexts.rule={one.rule}", one.help) for one in data.contexts]
        + [(f"selection.rule={one.rule}", one.help) for one in data.selections],
        "measures": probe.HELP,
        "validity": validity_text(data.validity),
        "heard": HEARD[data.heard],
    }


def outcome(data: ProbeData) -> str:
    """Summarise what to do, and why."""
    labels = LABELLED if data.labelled else UNLABELLED
    return f"{data.recommendation.text} {labels}"


def validity_text(validity: Validity) -> str:
    """Say how well the score predicted training gains."""
    found = validity.correlation
    if found is None:
        return (
            "Whether the score predicts what training gains has not been measured yet, "
            "so nothing is recommended by it."
        )
    said = (
        f"Over {validity.num_arms} arms of {validity.num_sources} sources "
        f"({validity.model}) the rank correlation of the score with what training "
        f"gained was {with_ends(found, wording.signed_two_digits)}"
    )
    if validity.predicts:
        return f"{said}."
    return f"{said}: the score was not seen to predict it, so it recommends nothing."


def shown_of(rows: Iterable[Measures]) -> Writers:
    """Return the measures that any row has."""
    known = {name for measures in rows for name in measures}
    return {name: one for name, one in MEASURES.items() if name in known}


def cells(measures: Measures, shown: Writers) -> tuple[Cell, ...]:
    """Format measures with their intervals."""
    return tuple(written(measures.get(name), how) for name, (_, how) in shown.items())


def context_table(data: ProbeData) -> Table:
    """Return measures of each rule's teacher, the student first."""
    shown = shown_of(one.measures for one in data.contexts)
    rows = [row_of("student", *cells(data.student, shown), note="no demonstrations")]
    rows += [
        row_of(one.rule, *cells(one.measures, shown), note=draws(one.num_draws))
        for one in data.contexts
    ]
    columns = [column for column, _ in shown.values()]
    return table_of("The teacher of each context rule", "demonstrations", columns, rows)


def draws(count: int) -> str:
    """Say how many draws a number averages."""
    return f"mean of {count} draws" if count > 1 else ""


def selection_table(data: ProbeData) -> Table:
    """Return the teacher's measures on each selection."""
    shown = shown_of(one.measures for one in data.selections)
    rows = [
        row_of(
            one.rule,
            f"{one.num_kept:,}",
            wording.percent(one.top_answer_share),
            *cells(one.measures, shown),
            note=draws(one.num_draws),
        )
        for one in data.selections
    ]
    columns = [Column("kept", "questions"), Column("one answer", "top vote's share")]
    columns += [column for column, _ in shown.values()]
    return table_of(
        "The teacher on what each selection rule keeps", "selection", columns, rows
    )


def pair_table(data: ProbeData) -> Table | None:
    """Return scores of selection rules (rows) with context rules."""
    if not data.pairs:
        return None
    contexts = list(dict.fromkeys(pair.contexts for pair in data.pairs))
    found = {(pair.selection, pair.contexts): pair for pair in data.pairs}
    rows = [
        row_of(
            name,
            *(written(found[name, one].score, wording.signed) for one in contexts),
            note=f"{found[name, contexts[0]].num_questions:.0f} questions",
        )
        for name in dict.fromkeys(pair.selection for pair in data.pairs)
    ]
    return table_of(
        "Score of selection and contexts", "selection", named(contexts), rows
    )


def accuracy_plot(data: ProbeData) -> Markup:
    """Draw each teacher's accuracy gain; empty without gold answers."""
    rows = []
    for one in by_value(data.contexts, probe.ACCURACY):
        above = one.over_student.get(probe.ACCURACY)
        random = one.over_random.get(probe.ACCURACY)
        if above is not None:
            known = [above] if random is None else [above, random]
            names = (one.rule, "above random")
            lines = tuple(zip(names, map(said, known), strict=False))
            rows.append(IntervalRow(lines, tuple(map(in_points, known))))
    return IntervalChart(
        "Teachers' accuracy",
        "Probability of the right answer, minus the student's and minus that with "
        "random demonstrations, with 95 % intervals.",
        rows,
        "points",
        [("after", "above the student"), ("net", "above random demonstrations")],
    ).draw()


def score_plot(data: ProbeData) -> Markup:
    """Draw the label-free score of each context rule's teacher."""
    about = "The score of the teacher of each context rule"
    return forest("Label-free score of teachers", about, data.contexts, probe.SCORE)


def selection_plot(data: ProbeData) -> Markup:
    """Draw the teacher's gain, or score, on each selection."""
    name, what = probe.SCORE, "label-free score"
    if data.labelled:
        name, what = probe.LEAD, "points of accuracy above the student"
    about = f"The {what} on the questions that each selection rule keeps"
    return forest("The teacher on what is kept", about, data.selections, name)


def forest(title: str, about: str, results: Sequence[Result], name: str) -> Markup:
    """Draw one measure of several rules, highest first."""
    points = name == probe.LEAD
    rows = []
    for one in by_value(results, name):
        found = one.measures.get(name)
        if wording.finite(found):
            write = wording.points if points else wording.signed_two_digits
            drawn = in_points(found) if points else found
            lines = ((one.rule, with_ends(found, write)),)
            rows.append(IntervalRow(lines, (drawn,)))
    axis = "points" if points else name
    return IntervalChart(title, f"{about}, with 95 % intervals.", rows, axis).draw()


def by_value(results: Sequence[Result], name: str) -> list[Result]:
    """Sort by value, highest first, missing ones last."""

    def place(one: Result) -> float:
        found = one.measures.get(name)
        return -found.value if wording.finite(found) else float("inf")

    return sorted(results, key=place)


def said(interval: Interval) -> str:
    """Format a difference of shares in points, with its interval."""
    return with_ends(interval, wording.points)
