"""Settings, one frozen record per stage; flags and the TOML file mirror them exactly.

Defaults are written only here; help and reference pages are made from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from neuron_opsd.answers.readers import AnswersConfig
from neuron_opsd.config.sections import (
    FORM_ONLY,
    ClusterConfig,
    EngineConfig,
    EvaluationConfig,
    ModelConfig,
    PromptsConfig,
    QuestionsConfig,
    RolloutsConfig,
    TeacherCheckConfig,
)
from neuron_opsd.method.contexts import CONTEXT_RULES, GIVEN, ContextsConfig
from neuron_opsd.method.contexts.search import Signal
from neuron_opsd.method.selection import (
    SELECTION_RULES,
    SelectionConfig,
    SelectionRule,
)
from neuron_opsd.method.settings import (
    DistillConfig,
    GuardConfig,
    NeuronsConfig,
    PolicyConfig,
)
from neuron_opsd.section import NotNegative, Section

__all__ = [
    "FORM_ONLY",
    "AnswersConfig",
    "ClusterConfig",
    "Config",
    "ContextsConfig",
    "DistillConfig",
    "EngineConfig",
    "EvaluationConfig",
    "GuardConfig",
    "ModelConfig",
    "NeuronsConfig",
    "PolicyConfig",
    "PromptsConfig",
    "QuestionsConfig",
    "RolloutsConfig",
    "SelectionConfig",
    "TeacherCheckConfig",
]


class Config(Section):
    """Everything that a run depends on, except its questions."""

    seed: NotNegative = 0
    """Every random draw of the run derives from this number."""
    method: str = "neuron-opsd"
    """What is trained, and towards what; `neuron-opsd methods` lists the names."""
    preset: Literal["equal", "paper"] = "equal"
    """`equal` trains every method with the same budget and rate; `paper` as its
    authors do in their paper or public code (docs/reference/methods.md). Settings given
    by name override both."""
    model: ModelConfig = ModelConfig()
    questions: QuestionsConfig = QuestionsConfig()
    prompts: PromptsConfig = PromptsConfig()
    answers: AnswersConfig = AnswersConfig()
    engine: EngineConfig = EngineConfig()
    cluster: ClusterConfig = ClusterConfig()
    rollouts: RolloutsConfig = RolloutsConfig()
    neurons: NeuronsConfig = NeuronsConfig()
    selection: SelectionConfig = SelectionConfig()
    contexts: ContextsConfig = ContextsConfig()
    distill: DistillConfig = DistillConfig()
    policy: PolicyConfig = PolicyConfig()
    guard: GuardConfig = GuardConfig()
    teacher_check: TeacherCheckConfig = TeacherCheckConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @property
    def training_tokens(self) -> int:
        """Longest training rollout."""
        return self.distill.max_new_tokens or self.rollouts.max_new_tokens

    @property
    def test_tokens(self) -> int:
        """Longest test rollout."""
        return self.evaluation.max_new_tokens or self.rollouts.max_new_tokens

    @property
    def most_new_tokens(self) -> int:
        """Longest completion of any stage."""
        return max(self.rollouts.max_new_tokens, self.training_tokens, self.test_tokens)

    @property
    def tests_prompted(self) -> bool:
        """Whether the untrained model is also tested prompted."""
        shown = self.contexts.num_demonstrations > 0 and not self.shows_given
        return self.evaluation.prompted and shown

    @property
    def shows_given(self) -> bool:
        """Whether the teacher sees only what is given with a question."""
        return self.contexts.rule == GIVEN and self.contexts.num_demonstrations > 0

    @property
    def selection_rule(self) -> SelectionRule:
        """The rule that selects questions."""
        return SELECTION_RULES[self.selection.rule]

    @property
    def selects_by_neurons(self) -> bool:
        """Whether selection needs neurons."""
        return self.selection_rule.reads_neurons

    @property
    def context_signals(self) -> frozenset[Signal]:
        """What finding demonstrations needs to know of questions."""
        if not self.contexts.num_demonstrations or self.shows_given:
            return frozenset()
        return CONTEXT_RULES[self.contexts.rule].reads

    @property
    def shows_by_neurons(self) -> bool:
        """Whether neurons of answers find demonstrations."""
        return Signal.ANSWER_NEURONS in self.context_signals

    def changed(self, **sections: Mapping[str, Any]) -> Config:
        """Return settings with some fields replaced, unchecked."""
        named = {n: getattr(self, n).model_copy(update=f) for n, f in sections.items()}
        return self.model_copy(update=named)
