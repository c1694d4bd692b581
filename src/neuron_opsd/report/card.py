"""The model card: the README of the adapter, with the results that were measured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from huggingface_hub import EvalResult, ModelCardData

from neuron_opsd.config import ModelConfig
from neuron_opsd.method.contexts import CONTEXT_RULES
from neuron_opsd.records.scores import Interval
from neuron_opsd.report.html import environment
from neuron_opsd.report.measures import METRIC_KINDS
from neuron_opsd.report.run_outcome import (
    kept_sentence,
    ordered,
    outcome_sentence,
    result_table,
)
from neuron_opsd.report.wording import one_line
from neuron_opsd.results.run import OURS, POOL, ReportData, TestComparison

NAMES: Final = {"avg_at_k": "accuracy", "macro_f1": "f1", "brier": "brier_score"}
"""What the hub calls measures that it knows by a name of its own."""

UNKNOWN: Final = "unknown"

DIGITS: Final = 6
"""Of a measure in the front matter."""


@dataclass(frozen=True, slots=True)
class Publication:
    """What is not known until a model is published."""

    repo: str = ""
    """Hub id under which it is loaded; empty for the folder of the card."""
    license: str = ""
    """Identifier as the hub knows it; empty leaves it out."""
    datasets: Mapping[str, str] = field(default_factory=dict)
    """Ids of the hub's datasets, by ``pool`` and the test sets' names."""


HERE: Final = Publication()


def render_card(
    data: ReportData, base_model: str, source: str = "", public: Publication = HERE
) -> str:
    """Return a model card in Markdown, its front matter in YAML.

    Nothing in it depends on how the run was called or stopped, so that the same run
    always ends with the same card. The license is left out where it is not known.

    Args:
        data: What the report is made from.
        base_model: Hub id, or another name that says which model was trained.
        source: What transformers loads that model from, if not by its name.
        public: What is known once it is published.
    """
    made = environment(autoescape=False)
    made.filters.update({"prose": prose, "code": code})
    revision, contexts = data.config.model.revision, data.config.contexts
    base = literal(source or base_model)
    if revision != ModelConfig().revision:  # which is transformers' default, too
        base += f", revision={literal(revision)}"
    signs = (f"Sign of collapse at step {s.step}: {s.sign}" for s in data.collapses)
    hashes = {f"SHA-256 of {name}": one for name, one in data.data_hashes.items()}
    return made.get_template("card.md.jinja").render(
        data=data,
        front=front_matter(data, base_model, public),
        place=literal(public.repo or "."),
        is_published=bool(public.repo),
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


def front_matter(data: ReportData, base_model: str, public: Publication) -> str:
    """Return what the hub reads of a card, in YAML."""
    full = data.config.distill.tuning == "full"
    datasets = dict(data.datasets) | dict(public.datasets)
    pool = [place_of(datasets[POOL])[0]] if POOL in datasets else None
    results = [*eval_results(data, datasets)]
    found = ModelCardData(
        base_model=one_line(base_model) or UNKNOWN,
        base_model_relation="finetune" if full else "adapter",
        datasets=pool,
        library_name="transformers" if full else "peft",
        license=public.license or None,
        pipeline_tag="text-generation",
        tags=["neuron-opsd", "annotation-free"],
        model_name=(one_line(data.title) or "neuron-opsd") if results else None,
        eval_results=results or None,
    )
    return found.to_yaml().strip()


def eval_results(data: ReportData, datasets: Mapping[str, str]) -> Iterator[EvalResult]:
    """Yield every measure of every test set, as the hub's model index holds them.

    The value is that of the trained model; what it was before, and the difference with
    its interval, stand beside it.
    """
    samples = data.config.evaluation.num_samples
    for test in ordered(data.tests):
        name, configuration, split = place_of(datasets.get(test.name, ""))
        for kind in METRIC_KINDS:
            before, after = values_of(test, kind.name)
            if after is None:
                continue
            yield EvalResult(
                task_type="text-generation",
                dataset_type=name or one_line(test.name),
                dataset_name=one_line(test.name),
                dataset_config=configuration or one_line(test.name),
                dataset_split=split or None,
                dataset_args={"num_questions": test.num_questions},
                metric_type=NAMES.get(kind.name, kind.name),
                metric_name=kind.label.replace("@k", f"@{samples}"),
                metric_value=after,
                metric_args={
                    "before": before,
                    "difference": interval_table(test.delta.get(kind.name)),
                    "net_of_form": interval_table(
                        (test.net_of_form or {}).get(kind.name)
                    ),
                },
            )


def place_of(source: str) -> tuple[str, str, str]:
    """Return dataset, configuration and split of a hub id, empty where it has none.

    It may end in ``:split`` or ``:configuration:split``, as on the command line.
    """
    name, *rest = map(one_line, source.split(":"))
    configuration, split = ["", "", *rest][-2:]
    return name, configuration, split


def values_of(test: TestComparison, metric: str) -> tuple[float | None, float | None]:
    """Return a measure before and after; `None` where it is no number."""
    both: tuple[float | None, ...] = test.both(metric)
    if metric == "top_answer_share":
        both = test.before.top_answer_share, test.after.top_answer_share
    before, after = map(rounded, both)
    return before, after


def rounded(value: float | None) -> float | None:
    """Return a number as the front matter holds it; `None` for what is none."""
    if value is None or not math.isfinite(value):
        return None
    return round(value, DIGITS)


def interval_table(interval: Interval | None) -> dict[str, Any] | None:
    """Return a difference with the ends of its 95 % interval; `None` for what is none.

    The hub's class drops what is `None`.
    """
    if interval is None or rounded(interval.value) is None:
        return None
    return {
        "value": rounded(interval.value),
        "ci_95": [rounded(interval.low), rounded(interval.high)],
    }


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
