"""The page of a judgement: one HTML file that needs no network and no script."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from neuron_opsd.report import judging_tables as tables
from neuron_opsd.report.charts.reliability import (
    VOTES,
    Curve,
    bins_in_words,
    draw_reliability,
    drawable,
)
from neuron_opsd.report.html import render_template
from neuron_opsd.report.measures import KINDS, in_words, judged, written
from neuron_opsd.report.wording import one_line
from neuron_opsd.results.judging import (
    SOURCES,
    VOTE,
    Confidence,
    JudgedFile,
    JudgementData,
    Paired,
)
from neuron_opsd.results.run import Least

ROLES = ("before", "after", "net")
"""Of the curves of one drawing."""


def render_judgement(data: JudgementData) -> str:
    """Return the whole page; equal data give equal bytes."""
    return render_template("judging.html.jinja", context(data), "probe.css")


def context(data: JudgementData) -> dict[str, Any]:
    """Return what the template names."""
    return {
        "data": data,
        "outcome": outcome(data),
        "measures": tables.measure_table(data),
        "pairs": [
            (pair, tables.pair_table(pair, least_of(data))) for pair in data.pairs
        ],
        "votes": vote_diagram(data),
        "stated": [
            (one.name, drawn) for one in data.files if (drawn := stated_diagram(one))
        ],
        "confidences": tables.confidence_table(data),
        "scalings": tables.scaling_table(data),
        "not_scaled": tables.not_scaled(data),
        "words": tables.word_table(data),
        "sources": {name: SOURCES[name] for name in tables.sources_in(data)},
        "findings": [(one.name, one.findings) for one in data.files if one.findings],
        "checked": tables.checked_lines(data),
    }


def least_of(data: JudgementData) -> Least:
    """Return the least differences that matter."""
    return Least(data.least_accuracy, data.least_calibration)


def outcome(data: JudgementData) -> str:
    """Say in a few sentences what was measured."""
    said = [file_sentence(one, data) for one in data.files]
    return " ".join([*said, *(pair_sentence(one, data) for one in data.pairs)])


def file_sentence(file: JudgedFile, data: JudgementData) -> str:
    """Say how often a file is right, and how well its vote share is calibrated."""
    fewest, most = file.samples
    accuracy, error = file.measures["avg_at_k"], file.measures.get("ece")
    k = str(most) if fewest == most else "k"
    text = f"{one_line(file.name, 40)}: Avg@{k} is {level('avg_at_k', accuracy.value)}"
    text += (
        f" ({level('avg_at_k', accuracy.low)} to {level('avg_at_k', accuracy.high)})"
    )
    text += f" on {of_all(file.num_questions, data.num_questions)}"
    if error is not None:
        text += f", the calibration error of its vote share {level('ece', error.value)}"
    return f"{text}."


def level(measure: str, value: float) -> str:
    """Write a measure."""
    return written(KINDS[measure], value)


def of_all(count: int, total: int) -> str:
    """Say on how many of the questions something was measured."""
    if count == total:
        return f"{count:,} questions"
    return f"{count:,} of {total:,} questions, the others having no sample"


def pair_sentence(pair: Paired, data: JudgementData) -> str:
    """Say what the difference of two files shows."""
    change = pair.change["avg_at_k"]
    verdict = judged(KINDS["avg_at_k"], change, least_of(data))
    return (
        f"{one_line(pair.second, 40)} against {one_line(pair.first, 40)} on "
        f"{pair.num_questions:,} questions: {in_words(change, 'avg_at_k')} points of "
        f"accuracy, {said_of(verdict)}; McNemar p = {tables.p_text(pair.mcnemar)}."
    )


def said_of(verdict: str) -> str:
    """Turn what training would have done into what a comparison shows."""
    return {"got better": "better", "got worse": "worse"}.get(verdict, verdict)


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
    """Draw the confidences of one file that are not its vote share."""
    found = [one for one in file.confidences if one.source != VOTE]
    curves = [curve(*pair) for pair in zip(ROLES, found, strict=False)]
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


def curve(role: str, found: Confidence) -> Curve:
    """Return the curve of one confidence."""
    return Curve(role, found.source, found.bins, "sure", "answers")
