"""Test scores of a run's models as tables, and a dozen pool answers in full."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

from neuron_opsd.answers.votes import sampled_rollouts
from neuron_opsd.config import FORM_ONLY, Config
from neuron_opsd.method.contexts import deal
from neuron_opsd.models.roles import Answerer, Tokenizer
from neuron_opsd.pipeline import BIAS_NAME, Prepared
from neuron_opsd.records import Rollout, TeacherContext
from neuron_opsd.records.scores import Interval, TestResult
from neuron_opsd.report.condense import baseline_of, measured, num_levels
from neuron_opsd.results.run import (
    AnswerCount,
    Case,
    CaseDemonstration,
    TestComparison,
)
from neuron_opsd.runs.context import RunContext, TestSet
from neuron_opsd.stages.rollouts import OWN, ask, sample_rollouts
from neuron_opsd.stages.scoring import above_baseline, mean_of_tests, score_differences
from neuron_opsd.storage.codecs import ROLLOUTS, without_nan
from neuron_opsd.storage.stored_rollouts import in_full, summaries_of

NUM_CASES = 12

Results = Mapping[str, TestResult]
"""By test set name."""


@dataclass(frozen=True, slots=True)
class Findings:
    """Test results of a run's models."""

    before: Results
    after: Results
    controls: Mapping[str, Results]
    """By name; a control may lack some sets."""


def compare_tests(
    tests: Sequence[TestSet], findings: Findings, config: Config
) -> tuple[TestComparison, ...]:
    """Compare the models on every test set, in order."""
    return tuple(compare_test(test, findings, config) for test in tests)


def compare_test(test: TestSet, findings: Findings, config: Config) -> TestComparison:
    """Compare the models on one test set."""
    settings, seed, name = config.evaluation, config.seed, test.name
    before, after = findings.before[name], findings.after[name]
    controls = {
        label: results[name]
        for label, results in findings.controls.items()
        if name in results
    }
    form = controls.get(FORM_ONLY)
    levels = num_levels(s.num_rollouts for s in chain(before.scores, after.scores))
    told = partial(measured, num_bins=settings.num_bins, levels=levels)
    return TestComparison(
        name=name,
        in_domain=test.in_domain,
        num_questions=len(before.scores),
        before=told(before),
        after=told(after),
        delta=score_differences(before, after, settings, seed),
        controls={label: told(result) for label, result in controls.items()},
        net_of_form=None
        if form is None
        else score_differences(form, after, settings, seed),
        above_baseline=above_baselines(before, after, config),
        baseline=baseline_of(before.scores),
    )


def above_baselines(
    before: TestResult, after: TestResult, config: Config
) -> dict[str, Interval]:
    """Return by how much models beat the most frequent gold answer."""
    found = {
        "before": above_baseline(before, config.evaluation, config.seed),
        "after": above_baseline(after, config.evaluation, config.seed),
    }
    return {name: one for name, one in found.items() if one is not None}


def cross_domain(
    tests: Sequence[TestSet], findings: Findings, config: Config
) -> Mapping[str, Interval]:
    """Return mean differences over cross-domain test sets."""
    names = [test.name for test in tests if not test.in_domain]
    if not names:
        return {}
    return mean_of_tests(
        [findings.before[name] for name in names],
        [findings.after[name] for name in names],
        config.evaluation,
        config.seed,
    )


def comparison_entry(comparison: TestComparison) -> dict[str, Any]:
    """Return a test set's entry in `evaluation.json`."""
    entry: dict[str, Any] = {
        "domain": "in" if comparison.in_domain else "cross",
        "num_questions": comparison.num_questions,
        "before": without_nan(comparison.before.metrics),
        "after": without_nan(comparison.after.metrics),
        "delta": without_nan(comparison.delta),
        "controls": {
            label: without_nan(result.metrics)
            for label, result in comparison.controls.items()
        },
    }
    if comparison.above_baseline:
        entry["above_baseline"] = without_nan(comparison.above_baseline)
    if comparison.net_of_form is not None:
        entry["net_of_form"] = without_nan(comparison.net_of_form)
    return entry


def unsettled_entry(comparison: TestComparison, config: Config) -> dict[str, Any]:
    """Count each model's unresolved comparisons, for the reader of expressions."""
    if not config.answers.may_leave_open:
        return {}
    models = {"before": comparison.before, "after": comparison.after}
    models |= comparison.controls
    counts = {label: result.num_unsettled for label, result in models.items()}
    return {"unsettled_comparisons": counts}


def answer_cases(
    run: RunContext, model: Answerer, prepared: Prepared, made_from: Sequence[str]
) -> Mapping[str, Sequence[Rollout]]:
    """Answer a dozen questions with the trained model."""
    config, known = run.config, prepared.library.questions
    asked = ask([known[c.question_id] for c in choose_cases(prepared)], config)
    draws = [(config.rollouts.temperature, config.rollouts.num_samples)]
    sample = partial(sample_rollouts, config=config, stage=OWN, draws=draws)
    rollouts = run.directory.once(
        "cases",
        ROLLOUTS.named("cases"),
        lambda: run.work.employed(model).each(sample, [asked])[0],
        made_from=[BIAS_NAME, *made_from],
    )
    return sampled_rollouts(rollouts)


def choose_cases(prepared: Prepared) -> tuple[TeacherContext, ...]:
    """Return the contexts of a dozen selected questions of all ranks."""
    rank = {entry.question_id: entry.rank for entry in prepared.selection}
    ordered = sorted(prepared.contexts, key=lambda c: rank[c.question_id])
    step = max(1, len(ordered) // NUM_CASES)
    return tuple(ordered[::step][:NUM_CASES])


def build_cases(
    model: Tokenizer,
    prepared: Prepared,
    after: Mapping[str, Sequence[Rollout]],
    num_contexts: int,
) -> tuple[Case, ...]:
    """Build a dozen full examples, each with the first of its contexts."""
    known = prepared.library.questions
    examples = {example.question_id: example for example in prepared.examples}
    reasons = {entry.question_id: entry.reason for entry in prepared.selection}
    shown = {context.question_id: context for context in choose_cases(prepared)}
    before = sampled_rollouts(of_questions(prepared.rollouts, shown.keys()))
    return tuple(
        Case(
            question_id=name,
            question=examples[name].question.text,
            choices=examples[name].question.choices,
            student_prompt=model.prompt_text(examples[name].student_prompt),
            teacher_prompt=model.prompt_text(examples[name].teacher_prompt),
            reason=reasons[name],
            demonstrations=tuple(
                CaseDemonstration(
                    known[d.question_id].text, d.answer, d.distance, d.reason
                )
                for d in deal(context.demonstrations, num_contexts)[0]
            ),
            rollouts_before=answer_counts(before[name]),
            rollouts_after=answer_counts(after.get(name, ())),
        )
        for name, context in shown.items()
    )


def of_questions(rollouts: Sequence[Rollout], ids: Set[str]) -> list[Rollout]:
    """Return the full rollouts of some questions."""
    some = [one for one in summaries_of(rollouts) if one.question_id in ids]
    return in_full(rollouts, some)


def answer_counts(rollouts: Sequence[Rollout]) -> tuple[AnswerCount, ...]:
    """Count the answers of rollouts, most frequent first."""
    counts = Counter(rollout.answer for rollout in rollouts)
    text_of = {rollout.answer: rollout.completion.text for rollout in rollouts}
    return tuple(
        AnswerCount(answer, count, text_of[answer])
        for answer, count in counts.most_common()
    )
