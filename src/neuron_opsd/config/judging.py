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
    """How the teacher is checked, without labels, before it teaches."""

    action: Literal["warn", "stop", "off"] = "warn"
    """What to do with a teacher that fails the check; `off` skips the check."""
    one_answer: Literal["stop", "warn"] = "stop"
    """What to do if the student gives one answer to nearly everything and the teacher
    says the same, so that there is nothing to learn. Has no effect if the check is
    off."""
    num_questions: Positive = 64
    """How many selected questions are checked."""
    max_agreement_loss: Probability = 0.4
    """How much lower the teacher's agreement with the student's vote may be than the
    student's own; good teachers of a small model lose up to 0.25."""
    max_top_answer_gain: Probability = 0.2
    """How much more often the teacher may give one and the same answer than the student
    does, and how much more often an answer may be the model's own in the selection than
    in the pool."""
    max_pool_share: Probability = 0.2
    """Share of the pool that one free-text answer may take."""
    max_answer_share: Probability = 0.95
    """Share of the student's answers to the pool above which one answer counts as given
    to nearly everything; also for the teacher."""
    min_divergence: Annotated[float, Field(ge=0.0)] = 0.01
    """Divergence in nats, of the choice or per token, below which the teacher counts as
    equal to the student; good teachers start at 0.05 or more."""
    min_stability: Probability = 0.5
    """Share of answers that must stay the same with another context."""


class EvaluationConfig(Section):
    """How a model is tested; gold answers are read here and nowhere before."""

    in_domain: str = ""
    """Name of the test set of the pool's own domain; empty means the first."""
    num_samples: Positive = 8
    """Completions per test question."""
    temperature: Temperature = 0.6
    """Of the test rollouts."""
    max_new_tokens: NotNegative = 0
    """Longest test rollout; 0 means `rollouts.max_new_tokens`."""
    num_bins: Positive = 15
    """Equal-width bins of the expected calibration error."""
    num_resamples: Positive = 10_000
    """Bootstrap resamples of the questions."""
    min_difference: Probability = 0.01
    """Smallest difference in accuracy that matters; a smaller one is called neither
    better nor worse, however narrow its interval."""
    min_calibration_difference: Probability = 0.01
    """The same for calibration errors."""
    prompted: bool = True
    """Also test the untrained model with its own demonstrations in the prompt."""
    form_only: bool = False
    """Also train and test the form-only control: the same steps on random choices."""
    max_overlap: Fraction = 0.9
    """Share of word 5-grams above which a test question counts as being in the pool."""
