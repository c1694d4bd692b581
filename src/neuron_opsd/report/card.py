"""The model card: the README of the adapter, with the results that were measured."""

from __future__ import annotations

import json
from collections.abc import Sequence

from neuron_opsd.config import ModelConfig
from neuron_opsd.method.contexts import CONTEXT_RULES
from neuron_opsd.report.guard_words import kept_sentence
from neuron_opsd.report.html import environment
from neuron_opsd.report.run_outcome import ordered, outcome_sentence, result_table
from neuron_opsd.report.wording import one_line
from neuron_opsd.results.run import OURS, ReportData


def render_card(data: ReportData, base_model: str, source: str = "") -> str:
    """Return a model card in Markdown, its front matter in YAML.

    Nothing in it depends on how the run was called or stopped, so that the same run
    always ends with the same card. The license is left out, since it is not known.

    Args:
        data: What the report is made from.
        base_model: Hub id, or another name that says which model was trained.
        source: What transformers loads that model from, if not by its name.
    """
    made = environment(autoescape=False)
    made.filters.update({"quoted": quoted, "prose": prose, "code": code})
    revision, contexts = data.config.model.revision, data.config.contexts
    base = literal(source or base_model)
    if revision != ModelConfig().revision:  # which is transformers' default, too
        base += f", revision={literal(revision)}"
    signs = (f"Sign of collapse at step {s.step}: {s.sign}" for s in data.collapses)
    hashes = {f"SHA-256 of {name}": one for name, one in data.data_hashes.items()}
    return made.get_template("card.md.jinja").render(
        data=data,
        base_model=base_model,
        base=base,
        full=data.config.distill.tuning == "full",
        is_ours=data.config.method == OURS,
        outcome=outcome_sentence(data),
        kept=kept_sentence(data),
        demonstrations=contexts.num_demonstrations if data.reads_contexts else 0,
        given=data.config.shows_given,
        chosen="" if data.config.shows_given else CONTEXT_RULES[contexts.rule].help,
        results=results_table(data),
        found=[*(data.teacher_check.findings if data.teacher_check else ()), *signs],
        origins={"seed": str(data.config.seed), **hashes, **data.versions},
    )


def quoted(text: str) -> str:
    """Return a YAML string that holds the text and can hold nothing else.

    A JSON string is a double-quoted YAML string once no unseen character is left.
    """
    return json.dumps(one_line(text), ensure_ascii=False)


def prose(text: str) -> str:
    """Return text on one line that Markdown and HTML take for nothing but text."""
    line = one_line(text)
    for mark in "\\`*_[]<>|#~$":
        line = line.replace(mark, f"&#{ord(mark)};" if mark in "<>" else "\\" + mark)
    # Otherwise a bare address would become a link in most renderers.
    return line.replace("://", ":&#47;/").replace("www.", "www&#46;")


def code(text: str) -> str:
    """Return text as inline code, its backticks turned into apostrophes."""
    line = one_line(text).replace("`", "'")
    return f"`{line}`" if line else ""


def literal(text: str) -> str:
    """Return a Python string that is exactly the text, on one line of plain letters."""
    letters = text.encode("unicode_escape").decode("ascii").replace('"', '\\"')
    return f'"{letters}"'


def results_table(data: ReportData) -> str:
    """Return the table of results in Markdown."""
    if not data.tests:
        return "No test set was given."
    headings, written = result_table(data)
    rows: list[Sequence[str]] = [headings, ["---", *["---:"] * (len(headings) - 1)]]
    for test, (name, *cells) in zip(ordered(data.tests), written, strict=True):
        where = "in-domain" if test.in_domain else "cross-domain"
        cells = [cell.replace("[", "\\[").replace("]", "\\]") for cell in cells]
        rows.append([f"{prose(name)} ({where})", *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
