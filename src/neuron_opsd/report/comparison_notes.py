"""How a comparison was measured, in the words of the page."""

from __future__ import annotations

from neuron_opsd.report.baseline import BASELINE_NOTE, difference_note
from neuron_opsd.results.comparison import ComparisonData


def comparison_notes(data: ComparisonData) -> list[tuple[str, str]]:
    """Return terms and what they mean here."""
    return [
        (
            "In-domain, cross-domain",
            "A model is tested on the test set of the source that it was trained on, "
            "in-domain, and on all other test sets; cross-domain is their mean, each "
            "set with the same weight.",
        ),
        (
            "Accuracy",
            f"Avg@{data.num_samples} is the share of {data.num_samples} sampled "
            f"answers that are right, Maj@{data.num_samples} the share of questions "
            "whose commonest answer is.",
        ),
        (
            "Baseline, balanced accuracy, macro F1",
            BASELINE_NOTE,
        ),
        ("Differences that matter", difference_note(data.least)),
        (
            "ECE",
            "Expected calibration error: the gap between the share of answers that "
            "agree and the share of commonest answers that are right. It can be low "
            "for a model that is seldom right, so it stands beside accuracy.",
        ),
        (
            "Net of form only",
            "Form-only training imitates random choices for as many steps. What a "
            "method gains beyond it is more than learning what an answer looks like; "
            "no other gain is called one.",
        ),
        (
            "Intervals",
            "95 % intervals of a paired bootstrap over questions and seeds: both "
            "models answered the same questions. With one seed they say nothing of "
            "what another training would give. Where an interval holds zero, no "
            "difference was seen.",
        ),
        (
            "p-values",
            "Two-sided, after Holm's correction over all contrasts of the same "
            "measure, kind of test set and reference; means over sources are "
            "corrected among themselves. A star marks those below .05. None is below "
            "2 / (resamples + 1) times the number corrected together, so a large "
            "comparison needs a larger evaluation.num_resamples.",
        ),
        (
            "Source specificity",
            "The in-domain gain less the mean gain, on the same test set, of the "
            "models that the method trained on other sources. Near zero, training on "
            "any source would have done.",
        ),
        (
            "Result",
            "The model after the last step of training, for all methods: no step was "
            "chosen by its test result.",
        ),
    ]
