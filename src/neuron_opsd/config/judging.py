"""Settings of how a teacher and a model are judged."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from neuron_opsd.section import (
    Fraction,
    NotNegative,
    Positive,
    Probability,
    Section,
    Temperature,
)

FORM_ONLY: Final = "form-only"
"""The method that every gain is stated net of, and its control in a run."""


class TeacherCheckConfig(Section):
    """What is asked of the teacher, without labels, before it teaches."""

    action: Literal["warn", "stop", "off"] = "warn"
    """What to do with a teacher that fails the check; `off` leaves it out."""
    one_answer: Literal["stop", "warn"] = "stop"
    """What to do, unless the check is off, where the student gives one answer to nearly
    everything and the teacher says the same, so that there is nothing to learn."""
    num_questions: Positive = 64
    """Selected questions that are checked."""
    max_agreement_loss: Probability = 0.4
    """How much lower the teacher's agreement with the student's vote may be than the
    student's own; sound teachers of a small model lose up to 0.25."""
    max_top_answer_gain: Probability = 0.2
    """How much more often than the student the teacher may give one same answer, and
    than in the pool it may be the model's own to the selected questions."""
    max_pool_share: Probability = 0.2
    """Share of the pool that one free-text answer may take."""
    max_answer_share: Probability = 0.95
    """Share of the student's answers to the pool from which one answer is nearly all;
    also of the teacher's."""
    min_divergence: Annotated[float, Field(ge=0.0)] = 0.01
    """Nats, of the choice or per token, below which the teacher says what the student
    says; sound teachers begin at 0.05 and more."""
    min_stability: Probability = 0.5
    """Share of answers that another context must leave as they are."""


class EvaluationConfig(Section):
    """How a model is tested; gold answers are read here and nowhere before."""

    in_domain: str = ""
    """Name of the test set of the pool's own domain; empty means the first."""
    num_samples: Positive = 8
    """Completions per test question."""
    temperature: Temperature = 0.6
    """Of the test rollouts."""
    max_new_tokens: NotNegative = 0
    """Longest test rollout; 0 takes `rollouts.max_new_tokens`."""
    num_bins: Positive = 15
    """Equal-width bins of the expected calibration error."""
    num_resamples: Positive = 10_000
    """Bootstrap resamples of the questions."""
    min_difference: Probability = 0.01
    """Least difference in accuracy that matters; a smaller one is called neither better
    nor worse, however narrow its interval."""
    min_calibration_difference: Probability = 0.01
    """The same of calibration errors."""
    prompted: bool = True
    """Also test the untrained model with its own demonstrations in the prompt."""
    form_only: bool = False
    """Also train and test the form-only control: the same steps on random choices."""
    max_overlap: Fraction = 0.9
    """Share of word 5-grams from which a test question counts as standing in the
    pool."""
