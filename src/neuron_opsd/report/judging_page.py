"""Page of a judgement, as one HTML file without network or scripts."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

from markupsafe import Markup

from neuron_opsd.records.scores import Interval
from neuron_opsd.report import wording
from neuron_opsd.report.charts.plot import (
    VOTES,
    Curve,
    bins_in_words,
    draw_reliability,
    drawable,
)
from neuron_opsd.report.html import (
    NO_CELL,
    Cell,
    Column,
    Table,
    render_template,
    row_of,
    said,
    table_of,
)
from neuron_opsd.report.measures import (
    ACCURACY,
    ERROR,
    ERRORS,
    METRIC_KINDS,
    MetricKind,
    in_words,
    judged,
    written,
    written_change,
)
from neuron_opsd.report.wording import one_line, percent, with_ends
from neuron_opsd.results.judging import (
    SOURCES,
    VOTE,
    Confidence,
    JudgedFile,
    JudgementData,
    Paired,
    Scaled,
)
from neuron_opsd.results.run import Least

ROLES = ("before", "after", "net")
"""Roles of a drawing's curves."""

SCALING_NAMES: Final = {
    "temperature": "temperature",
    "platt": "slope and offset (Platt)",
}
SHOWN: Final = (*ERRORS, "auroc", "overconfidence")
LEAST_P: Final = 0.001


def render_judgement(data: JudgementData) -> str:
    """Render the page deterministically."""
    return render_template("judging.html.jinja", context(data), "probe.css")


def context(data: JudgementData) -> dict[str, Any]:
    """Collect template variables."""
    known = {found.source for _, found in of_files(data)}
    return {
        "data": data,
        "outcome": outcome(data),
        "measures": measure_table(data),
        "pairs": [(pair, pair_table(pair, least_of(data))) for pair in data.pairs],
        "votes": vote_diagram(data),
        "stated": [
            (one.name, drawn) for one in data.files if (drawn := stated_diagram(one))
        ],
        "confidences": confidence_table(data),
        "scalings": scaling_table(data),
        "not_scaled": not_scaled(data),
        "words": word_table(data),
        "sources": {name: text for name, text in SOURCES.items() if name in known},
        "findings": [(one.name, one.findings) for one in data.files if one.findings],
        "checked": checked_lines(data),
    }


def least_of(data: JudgementData) -> Least:
    """Return the least differences that matter."""
    return Least(data.least_accuracy, data.least_calibration)


def outcome(data: JudgementData) -> str:
    """Summarise what was measured."""
    said = [file_sentence(one, data) for one in data.files]
    return " ".join([*said, *(pair_sentence(one, data) for one in data.pairs)])


def file_sentence(file: JudgedFile, data: JudgementData) -> str:
    """State a file's accuracy and calibration of its vote share."""
    fewest, most = file.samples
    k = str(most) if fewest == most else "k"
    count, total = file.num_questions, data.num_questions
    accuracy = with_ends(file.measures["avg_at_k"], percent)
    text = f"{one_line(file.name, 40)}: Avg@{k} is {accuracy} on {count:,} "
    if count != total:
        text += f"of {total:,} questions (the others have no sample)"
    else:
        text += "questions"
    if error := file.measures.get("ece"):
        value = written(ERROR, error.value)
        text += f"; the calibration error of its vote share is {value}"
    return f"{text}."


def pair_sentence(pair: Paired, data: JudgementData) -> str:
    """Say what the difference between two files shows."""
    change = pair.change["avg_at_k"]
    verdict = judged(ACCURACY, change, least_of(data)).removeprefix("got ")
    return (
        f"{one_line(pair.second, 40)} against {one_line(pair.first, 40)} on "
        f"{pair.num_questions:,} questions: {in_words(change, 'avg_at_k')} points of "
        f"accuracy, {verdict}; McNemar p = {p_text(pair.mcnemar)}."
    )


def vote_diagram(data: JudgementData) -> Markup:
    """Draw the vote shares of the first two files."""
    curves = [
        Curve(role, one.name, one.bins)
        for role, one in zip(ROLES, data.files[:2], strict=False)
        if drawable(one.bins)
    ]
    if not curves:
        return Markup("")
    said = " ".join(f"{one.name}: {bins_in_words(one.bins)}." for one in curves)
    return draw_reliability(
        f"Reliability of the vote on {one_line(data.test, 40)}",
        "Share of questions whose most frequent answer is right against the share of "
        f"samples that give it; on the dashed diagonal the two are equal. {said}",
        curves,
        VOTES.replace("rollouts", "samples"),
        [(one.role, one_line(one.name, 14)) for one in curves],
    )


def stated_diagram(file: JudgedFile) -> Markup:
    """Draw a file's confidences other than vote share."""
    found = [one for one in file.confidences if one.source != VOTE]
    curves = [
        Curve(role, one.source, one.bins, "sure", "answers")
        for role, one in zip(ROLES, found, strict=False)
    ]
    if not curves:
        return Markup("")
    said = " ".join(f"{one.name}: {bins_in_words(one.bins, 'sure')}." for one in curves)
    return draw_reliability(
        f"Reliability of the confidences of {one_line(file.name, 40)}",
        f"Share of answers that are right against their confidence. {said}",
        curves,
        "confidence",
        [(one.role, one.name) for one in curves],
    )


def p_text(p_value: float) -> str:
    """Format a p-value."""
    if not math.isfinite(p_value):
        return wording.NOT_MEASURED
    return "below 0.001" if p_value < LEAST_P else wording.number(p_value)


def kinds(found: Iterable[str]) -> list[MetricKind]:
    """Return the named measures in the usual order."""
    names = set(found)
    return [kind for kind in METRIC_KINDS if kind.name in names]


def level(kind: MetricKind, interval: Interval | None) -> Cell:
    """Format a measure with its interval below."""
    if interval is None or not math.isfinite(interval.value):
        return NO_CELL
    ends = f"{written(kind, interval.low)} to {written(kind, interval.high)}"
    return Cell(written(kind, interval.value), ends)


def measure_table(data: JudgementData) -> Table:
    """Return every measure of every file."""
    names = {name for one in data.files for name in one.measures}
    rows = [
        row_of(
            kind.label,
            *(level(kind, one.measures.get(kind.name)) for one in data.files),
        )
        for kind in kinds(names)
    ]
    columns = [Column(one_line(one.name, 40), size(one)) for one in data.files]
    return table_of("Measures", "measure", columns, rows)


def size(file: JudgedFile) -> str:
    """State a file's size."""
    fewest, most = file.samples
    each = f"{most}" if fewest == most else f"{fewest} to {most}"
    return f"{file.num_questions:,} questions, {each} samples each"


def pair_table(pair: Paired, least: Least) -> Table:
    """Return the differences of every measure between two files."""
    rows = []
    for kind in kinds(pair.change):
        interval = pair.change[kind.name]
        change, ends = written_change(kind, interval)
        rows.append(
            row_of(
                kind.label,
                Cell(change, ends, key=not interval.holds_zero),
                p_text(pair.p_values[kind.name]),
                said(judged(kind, interval, least)).replace("got ", ""),
            )
        )
    columns = [
        Column("difference", "95 % interval"),
        Column("p", "paired bootstrap"),
        Column("shows", text=True),
    ]
    title = f"{pair.second} minus {pair.first}"
    return table_of(title, "measure", columns, rows)


def of_files(data: JudgementData) -> list[tuple[str, Confidence]]:
    """Return every confidence with its file's name."""
    return [
        (one_line(one.name, 40), found)
        for one in data.files
        for found in one.confidences
    ]


def confidence_table(data: JudgementData) -> Table | None:
    """Return the calibration of each confidence."""
    rows = [
        row_of(
            found.source,
            Cell(f"{found.num_answers:,}", f"{found.num_questions:,} questions"),
            percent(found.mean),
            *(level(kind, found.measures.get(kind.name)) for kind in kinds(SHOWN)),
            note=name,
        )
        for name, found in of_files(data)
    ]
    columns = [Column("answers"), Column("mean"), *map(heading, kinds(SHOWN))]
    return table_of("Confidences", "confidence", columns, rows) if rows else None


def heading(kind: MetricKind) -> Column:
    """Return a calibration measure's short heading."""
    names = {"ece": "ECE", "adaptive_ece": "ECE, equal counts", "auroc": "AUROC"}
    return Column(names.get(kind.name, kind.label))


def scaling_table(data: JudgementData) -> Table | None:
    """Return each confidence's gain from scaling."""
    rows = [
        row_of(
            f"{found.source}, {SCALING_NAMES[scaled.name]}",
            parameters_text(scaled.name, scaled.parameters),
            *(scaled_cell(scaled, kind) for kind in kinds(ERRORS)),
            note=name,
        )
        for name, found in of_files(data)
        for scaled in found.scaled
    ]
    columns = [Column("fitted", "on each half"), *map(heading, kinds(ERRORS))]
    return table_of("Scaled confidences", "confidence", columns, rows) if rows else None


def scaled_cell(scaled: Scaled, kind: MetricKind) -> Cell:
    """Format an error after scaling, with the change below."""
    change = scaled.change[kind.name]
    value = written(kind, scaled.measures[kind.name].value)
    note = ", ".join(written_change(kind, change))
    return Cell(value, note, key=not change.holds_zero)


def parameters_text(
    name: str, parameters: tuple[tuple[float, ...], tuple[float, ...]]
) -> str:
    """Format each half's fit; a lone slope as a temperature."""
    if name != "temperature":
        return " and ".join(
            f"({', '.join(map(wording.two_digits, half))})" for half in parameters
        )
    return " and ".join(
        "infinite" if half[0] <= 0.0 else wording.two_digits(1.0 / half[0])
        for half in parameters
    )


def not_scaled(data: JudgementData) -> list[str]:
    """Say which confidences could not be scaled, and why."""
    return [
        f"{one.name}, {found.source}: not scaled, since {found.why_not_scaled}."
        for one in data.files
        for found in one.confidences
        if found.why_not_scaled
    ]


def word_table(data: JudgementData) -> Table | None:
    """Return what confidence words counted as, and their accuracy."""
    rows = [
        row_of(
            word.word,
            percent(word.share, 0),
            percent(word.accuracy),
            f"{word.num_samples:,}",
            note=name,
        )
        for name, found in of_files(data)
        for word in found.words
    ]
    columns = [Column("counts as"), Column("were right"), Column("samples")]
    return table_of("Words", "word", columns, rows) if rows else None


def checked_lines(data: JudgementData) -> list[str]:
    """Say how far the files' own scores agree with ours."""
    return [
        f"{one.name} has scores of its own: {one.agreement[0]:,} of "
        f"{one.agreement[1]:,} samples get the same score here."
        for one in data.files
        if one.agreement is not None
    ]
