"""The page of a probe: one HTML file that needs no network and no script."""

from __future__ import annotations

from typing import Any, Final

from neuron_opsd.report import probe_tables as tables
from neuron_opsd.report.html import render_template
from neuron_opsd.report.wording import ends, signed_two_digits
from neuron_opsd.results import probe
from neuron_opsd.results.probe import ProbeData, Validity

HEARD: Final = {
    "choices": "The exact distribution over the choices of each question, at the "
    "pool's temperature.",
    "scored": "The student's own free answers, scored under the teacher's prompt: an "
    "answer counts as much more for the teacher as its completions are more probable "
    "there. Nothing was written anew, so an answer that the student never gave is not "
    "seen.",
    "written": "Free answers that each teacher wrote anew, as many for each question.",
    "mixed": "Where there are choices, the exact distribution over them; else the "
    "student's own free answers, scored under the teacher's prompt or written anew.",
}
"""How teachers were asked."""

FORMULA: Final = "score = mean over questions of (fix - break)"

UNLABELLED: Final = "No answer was read: all of this is label-free."
LABELLED: Final = (
    "Right answers were given with --answers; only what is called accuracy knows them."
)


def render_probe(data: ProbeData) -> str:
    """Return the whole page; equal data give equal bytes."""
    return render_template("probe.html.jinja", context(data), "probe.css")


def context(data: ProbeData) -> dict[str, Any]:
    """Return what the template names."""
    return {
        "data": data,
        "outcome": outcome(data),
        "labels": LABELLED if data.labelled else UNLABELLED,
        "contexts": tables.context_table(data),
        "selections": tables.selection_table(data) if data.selections else None,
        "pairs": tables.pair_table(data),
        "accuracy": tables.accuracy_plot(data),
        "scores": tables.score_plot(data),
        "kept": tables.selection_plot(data),
        "rules": tables.help_table(data),
        "measures": probe.HELP,
        "formula": FORMULA,
        "validity": validity_text(data.validity),
        "heard": HEARD[data.heard],
    }


def outcome(data: ProbeData) -> str:
    """Say in a few sentences what to do, and by what."""
    labels = LABELLED if data.labelled else UNLABELLED
    return f"{data.recommendation.text} {labels}"


def validity_text(validity: Validity) -> str:
    """Say how well the score predicted what training gained."""
    found = validity.correlation
    if found is None:
        return (
            "Whether the score predicts what training gains has not been measured yet, "
            "so nothing is recommended by it."
        )
    said = (
        f"Over {validity.num_arms} arms of {validity.num_sources} sources "
        f"({validity.model}) the rank correlation of the score with what training "
        f"gained was {signed_two_digits(found.value)} "
        f"({ends(found, signed_two_digits)})"
    )
    if validity.predicts:
        return f"{said}."
    return f"{said}: it was not seen to predict it, so nothing is recommended by it."
