"""The report: one HTML page that needs no network and no script.

Every word that comes from a model, a data set or a user passes through two gates that
no part of the template can go round: `presentable` writes out control characters, and
Jinja's autoescape makes the rest harmless. Only SVG from our own code is markup.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from neuron_opsd.report import wording
from neuron_opsd.report.data import ReportData, TestComparison
from neuron_opsd.report.figures import (
    agreement_histogram,
    neuron_chart,
    reliability_diagram,
    training_chart,
)
from neuron_opsd.report.forest import forest_plot
from neuron_opsd.report.notes import method_notes
from neuron_opsd.report.outcome import (
    comparison_table,
    in_domain_test,
    outcome_sentence,
)
from neuron_opsd.report.svg import PALETTE
from neuron_opsd.report.views import (
    cost_rows,
    fitness_rows,
    metric_rows,
    rollout_sides,
    selection_facts,
    stats,
)
from neuron_opsd.settings import changed_settings, toml_value

LONGEST_PROMPT = 12_000
LONGEST_TEXT = 2_000
MOST_CASES = 24


def render_page(data: ReportData) -> str:
    """Return the whole page; equal data give equal bytes."""
    environment = Environment(
        autoescape=True,
        finalize=presentable,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        {
            "brief": wording.one_line,
            "clip": clip,
            "number": wording.number,
            "percent": wording.percent,
            "points": wording.points,
            "point_range": wording.point_range,
            "size": wording.size,
        }
    )
    template = environment.from_string(resource("page.html.jinja"))
    return template.render(context(data))


def resource(name: str) -> str:
    """Return a file of this package."""
    return files("neuron_opsd.report").joinpath(name).read_text(encoding="utf-8")


def presentable(value: object) -> object:
    """Make the unseen characters of a plain string seen; leave our markup alone."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return wording.visible(value)
    return value


def clip(text: str, limit: int) -> str:
    """Cut a very long text, and say how much is missing."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}\n[{len(text) - limit:,} more characters]"


def style_sheet() -> str:
    """Return the style sheet with the palette's colours written once before it."""
    light, dark = (
        "".join(f"--{role}:{pair[scheme]};" for role, pair in PALETTE.items())
        for scheme in (0, 1)
    )
    return (
        f":root{{color-scheme:light dark;{light}}}\n"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"
        f"{resource('page.css')}"
    )


def security_policy(style: str) -> str:
    """Return a policy that allows this style sheet and nothing else."""
    digest = base64.b64encode(hashlib.sha256(style.encode("utf-8")).digest())
    return (
        f"default-src 'none'; style-src 'sha256-{digest.decode('ascii')}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def context(data: ReportData) -> dict[str, Any]:
    """Return what the template names."""
    style = style_sheet()
    k = data.config.evaluation.num_samples
    return {
        "data": data,
        "policy": security_policy(style),
        "style": Markup(style),
        "outcome": outcome_sentence(data),
        "stats": stats(data),
        "rows": comparison_table(data),
        "k": k,
        "figures": page_figures(data),
        "test_metrics": [(test, metric_rows(test, k)) for test in ordered(data)],
        "selection_facts": selection_facts(data),
        "cases": [(case, rollout_sides(case)) for case in data.cases[:MOST_CASES]],
        "fitness_rows": fitness_rows(data.fitness) if data.fitness else [],
        "concerns": num_concerns(data),
        "settings": written_settings(data),
        "costs": cost_rows(data.stage_costs),
        "notes": method_notes(data),
        "longest_prompt": LONGEST_PROMPT,
        "longest_text": LONGEST_TEXT,
    }


def ordered(data: ReportData) -> list[TestComparison]:
    """Return the test sets, the in-domain ones first."""
    return sorted(data.tests, key=lambda test: not test.in_domain)


def written_settings(data: ReportData) -> dict[str, str]:
    """Return the settings that differ from the defaults, as `config.toml` has them."""
    return {
        name: "unset" if value is None else toml_value(value)
        for name, value in changed_settings(data.config).items()
    }


def num_concerns(data: ReportData) -> int:
    """Count what a reader should know before believing the outcome."""
    findings = data.fitness.findings if data.fitness else ()
    return len(findings) + len(data.collapses) + len(data.warnings)


def page_figures(data: ReportData) -> dict[str, Any]:
    """Return every drawing of the page; empty where there is nothing to draw."""
    own = in_domain_test(data)
    return {
        "forest": forest_plot(data.tests, data.cross_domain, "avg_at_k"),
        "forest_ece": forest_plot(data.tests, data.cross_domain, "ece"),
        "agreement": Markup("")
        if own is None
        else agreement_histogram(own.name, own.before.scores, own.after.scores),
        "reliability": [
            (test, drawing)
            for test in ordered(data)
            if (
                drawing := reliability_diagram(
                    test.name, test.bins_before, test.bins_after
                )
            )
        ],
        "neurons": neuron_chart(data.selection, data.votes),
        "training": training_chart(data.training, data.collapses),
    }
