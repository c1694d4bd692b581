"""The model card: the adapter's README, with measured results."""

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
"""The hub's names of measures."""

UNKNOWN: Final = "unknown"

DIGITS: Final = 6
"""In the front matter."""


@dataclass(frozen=True, slots=True)
class Publication:
    """Facts known only at publication."""

    repo: str = ""
    """Hub id to load from; empty means the card's own folder."""
    license: str = ""
    """The hub's identifier; empty omits it."""
    datasets: Mapping[str, str] = field(default_factory=dict)
    """Hub ids, keyed by ``pool`` and the test sets' names."""


HERE: Final = Publication()


def render_card(
    data: ReportData, base_model: str, source: str = "", public: Publication = HERE
) -> str:
    """Render a model card: Markdown with YAML front matter.

    It does not depend on how the run was called or interrupted, so the same run always
    yields the same card. An unknown licence is omitted.

    Args:
        data: Contents of the report.
        base_model: Hub id or other name of the base model.
        source: Where transformers loads that from, if not by name.
        public: Facts known once published.
    """
    made = environment(autoescape=False)
    made.filters.update({"prose": prose, "code": code})
    revision, contexts = data.config.model.revision, data.config.contexts
    base = literal(source or base_model)
    if revision != ModelConfig().revision:  # transformers' default too
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
        num_contexts=contexts.num_contexts,
        given=data.config.shows_given,
        chosen="" if data.config.shows_given else CONTEXT_RULES[contexts.rule].help,
        results=results_table(data),
        found=[*(data.teacher_check.findings if data.teacher_check else ()), *signs],
        origins={"seed": str(data.config.seed), **hashes, **data.versions},
    )


def front_matter(data: ReportData, base_model: str, public: Publication) -> str:
    """Return the YAML that the hub reads."""
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
    """Yield every measure of every test set for the hub's model index.

    The value is the trained model's, with the one before and the difference alongside.
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
    """Split a hub id into dataset, configuration and split, empty if absent.

    It may end in ``:split`` or ``:configuration:split``.
    """
    name, *rest = map(one_line, source.split(":"))
    configuration, split = ["", "", *rest][-2:]
    return name, configuration, split


def values_of(test: TestComparison, metric: str) -> tuple[float | None, float | None]:
    """Return a measure before and after; `None` if not a number."""
    both: tuple[float | None, ...] = test.both(metric)
    if metric == "top_answer_share":
        both = test.before.top_answer_share, test.after.top_answer_share
    before, after = map(rounded, both)
    return before, after


def rounded(value: float | None) -> float | None:
    """Round for the front matter; return `None` if not a number."""
    if value is None or not math.isfinite(value):
        return None
    return round(value, DIGITS)


def interval_table(interval: Interval | None) -> dict[str, Any] | None:
    """Return a difference with its 95 % interval; `None` if not a number.

    The hub's class drops `None`.
    """
    if interval is None or rounded(interval.value) is None:
        return None
    return {
        "value": rounded(interval.value),
        "ci_95": [rounded(interval.low), rounded(interval.high)],
    }


def prose(text: str) -> str:
    """Put text on one line, escaped for Markdown and HTML."""
    line = one_line(text)
    for mark in "\\`*_[]<>|#~$":
        line = line.replace(mark, f"&#{ord(mark)};" if mark in "<>" else "\\" + mark)
    # Most renderers would turn a bare address into a link.
    return line.replace("://", ":&#47;/").replace("www.", "www&#46;")


def code(text: str) -> str:
    """Return text as inline code, its backticks as apostrophes."""
    line = one_line(text).replace("`", "'")
    return f"`{line}`" if line else ""


def literal(text: str) -> str:
    """Return the text as a one-line ASCII Python literal."""
    letters = text.encode("unicode_escape").decode("ascii").replace('"', '\\"')
    return f'"{letters}"'


def results_table(data: ReportData) -> str:
    """Return the results table in Markdown."""
    if not data.tests:
        return "No test set was given."
    headings, written = result_table(data)
    rows: list[Sequence[str]] = [headings, ["---", *["---:"] * (len(headings) - 1)]]
    for test, (name, *cells) in zip(ordered(data.tests), written, strict=True):
        where = "in-domain" if test.in_domain else "cross-domain"
        cells = [cell.replace("[", "\\[").replace("]", "\\]") for cell in cells]
        rows.append([f"{prose(name)} ({where})", *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
