"""The model card: the README of the adapter, with the results that were measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from neuron_opsd.config import ModelConfig
from neuron_opsd.method.contexts import CONTEXT_RULES
from neuron_opsd.report.run_outcome import (
    ordered,
    outcome_sentence,
    result_table,
)
from neuron_opsd.report.wording import one_line
from neuron_opsd.results.run import OURS, ReportData

TAGS = ("neuron-opsd", "annotation-free")

NEWEST = ModelConfig().revision
"""What transformers, too, takes of a hub id where nothing is said."""

LIMITS = (
    "The model taught itself from its own answers. It can have learned its own "
    "mistakes; no answer was checked during training.",
    "The intervals are over test questions of one training run. They do not include "
    "the spread between training seeds.",
    "Nothing is known about sources other than the test sets named above.",
    "What exceeds the form-only control is more than learning what an answer looks "
    "like; where that control was not run, this part of the gain is not known.",
)


def render_card(data: ReportData, base_model: str, source: str = "") -> str:
    """Return a model card in Markdown, its front matter in YAML.

    Args:
        data: What the report is made from.
        base_model: Hub id, or another name that says which model was trained.
        source: What transformers loads that model from, if not by its name.
    """
    full = data.config.distill.tuning == "full"
    parts = [
        front_matter(base_model, full=full),
        f"# {prose(data.title)}",
        prose(outcome_sentence(data)),
        training_text(data, base_model),
        "## Results",
        results_table(data),
        "Avg is the mean accuracy of all sampled answers, Maj that of their majority "
        "vote; differences are in percentage points with 95 % bootstrap intervals. "
        "Baseline is the share of the most frequent gold answer, where answers repeat.",
        "## How to load it",
        "Run this in the folder of this card:",
        load_text(source or base_model, data.config.model.revision, full=full),
        "## Limits",
        "\n".join(f"- {limit}" for limit in limits(data)),
        "## Where it comes from",
        provenance(data),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def front_matter(base_model: str, *, full: bool) -> str:
    """Return what a hub reads; the license is left out, since it is not known."""
    lines = [
        f"base_model: {quoted(base_model)}",
        f"library_name: {'transformers' if full else 'peft'}",
        "pipeline_tag: text-generation",
        "tags:",
        *(f"- {tag}" for tag in TAGS),
    ]
    return "\n".join(["---", *lines, "---"])


def quoted(text: str) -> str:
    """Return a YAML string that holds the text and can hold nothing else.

    A JSON string is a double-quoted YAML string once no unseen character is left.
    """
    return json.dumps(one_line(text), ensure_ascii=False)


def prose(text: str) -> str:
    """Return text on one line that Markdown and HTML take for nothing but text."""
    line = one_line(text)
    for mark in "\\`*_[]<>|#~$":
        line = line.replace(mark, "\\" + mark if mark not in "<>" else entity(mark))
    # Otherwise a bare address would become a link in most renderers.
    return line.replace("://", ":&#47;/").replace("www.", "www&#46;")


def entity(mark: str) -> str:
    """Return the HTML entity of a character."""
    return f"&#{ord(mark)};"


def code(text: str) -> str:
    """Return text as inline code, its backticks turned into apostrophes."""
    line = one_line(text).replace("`", "'")
    return f"`{line}`" if line else ""


def training_text(data: ReportData, base_model: str) -> str:
    """Say what was trained, on what and for how long."""
    distill = data.config.distill
    kind = "A low-rank adapter" if distill.tuning == "lora" else "All weights"
    method = data.config.method
    how = "on-policy self-distillation" if method == OURS else code(method)
    what = f" ({prose(data.method_summary)})" if method != OURS else ""
    num_steps = 0 if data.training is None else data.training.num_steps
    text = (
        f"{kind} of {code(base_model)}, trained for {num_steps} steps by "
        f"{how}{what} on {data.num_selected:,} of {data.pool_size:,} "
        "unlabelled questions. No gold answer was read before the evaluation."
    )
    return f"{text} {teacher_text(data)}".strip()


def teacher_text(data: ReportData) -> str:
    """Say what the teacher saw that the student did not."""
    contexts = data.config.contexts
    if not contexts.num_demonstrations:
        alone = "The teacher was the same model without any demonstrations."
        return alone if data.config.method == OURS else ""
    return (
        f"The teacher was the same model with {contexts.num_demonstrations} other "
        f"questions and its own answers to them in its prompt, "
        f"{CONTEXT_RULES[contexts.rule].help}."
    )


def results_table(data: ReportData) -> str:
    """Return the table of results in Markdown."""
    if not data.tests:
        return "No test set was given."
    headings, written = result_table(data)
    lines = [table_line(headings), table_line(["---", *["---:"] * (len(headings) - 1)])]
    for test, (name, *cells) in zip(ordered(data.tests), written, strict=True):
        where = "in-domain" if test.in_domain else "cross-domain"
        cells = [cell.replace("[", "\\[").replace("]", "\\]") for cell in cells]
        lines.append(table_line([f"{prose(name)} ({where})", *cells]))
    return "\n".join(lines)


def table_line(cells: Sequence[str]) -> str:
    """Return one line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def load_text(source: str, revision: str = NEWEST, *, full: bool) -> str:
    """Return the few lines of Python that load what was trained.

    Args:
        source: What the base is loaded from.
        revision: Of the base on the hub.
        full: Whether the folder holds a whole model, which needs no base.
    """
    auto = "from transformers import AutoModelForCausalLM, AutoTokenizer"
    if full:
        lines = [
            auto,
            "",
            'tokenizer = AutoTokenizer.from_pretrained(".")',
            'model = AutoModelForCausalLM.from_pretrained(".")',
        ]
    else:
        base = literal(source)
        if revision != NEWEST:
            base += f", revision={literal(revision)}"
        lines = [
            "from peft import PeftModel",
            auto,
            "",
            f"tokenizer = AutoTokenizer.from_pretrained({base})",
            f"base = AutoModelForCausalLM.from_pretrained({base})",
            'model = PeftModel.from_pretrained(base, ".")',
        ]
    return "\n".join(["```python", *lines, "```"])


def literal(text: str) -> str:
    """Return a Python string that is exactly the text, on one line of plain letters."""
    letters = text.encode("unicode_escape").decode("ascii").replace('"', '\\"')
    return f'"{letters}"'


def limits(data: ReportData) -> list[str]:
    """Return what a user must not expect, and what this run found out.

    Nothing in it depends on how the run was called or stopped, so that the same run
    always ends with the same card.
    """
    findings = data.teacher_check.findings if data.teacher_check else ()
    collapses = [
        f"Sign of collapse at step {one.step}: {one.sign}" for one in data.collapses
    ]
    return [*LIMITS, *(prose(said) for said in (*findings, *collapses))]


def provenance(data: ReportData) -> str:
    """Return seed, hashes of the data and versions."""
    facts: Mapping[str, str] = {
        "seed": str(data.config.seed),
        **{f"SHA-256 of {name}": one for name, one in data.data_hashes.items()},
        **data.versions,
    }
    return "\n".join(
        f"- {prose(name)}: {code(value)}" for name, value in facts.items() if value
    )
