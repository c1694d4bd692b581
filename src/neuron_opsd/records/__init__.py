"""The records that pass from one stage to the next.

All are frozen and hold plain values, tuples and arrays, so any stage can restart from
what the previous one wrote. Only `GoldAnswers`, which go to evaluation alone, and its
scores (`records.scores`) hold gold answers, so training stays annotation-free.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from reprlib import Repr
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from neuron_opsd.records.steps import Collapse as Collapse
from neuron_opsd.records.steps import Kept as Kept
from neuron_opsd.records.steps import Look as Look
from neuron_opsd.records.steps import Reading as Reading
from neuron_opsd.records.steps import StepMetrics as StepMetrics

TokenIds: TypeAlias = tuple[int, ...]
Pair: TypeAlias = tuple[TokenIds, TokenIds]
"""A prompt and a completion."""

NeuronIds: TypeAlias = NDArray[np.uint32]
"""Sorted and unique; neuron i of layer l has the id ``l * F + i``."""

Role: TypeAlias = Literal["system", "user", "assistant"]


class Brief:
    """A record that prints in a few lines."""

    __slots__ = ()

    def __repr__(self) -> str:
        short = Repr()
        short.maxtuple = short.maxdict = short.maxlevel = 3
        short.maxother = short.maxstring = 60
        names = [one.name for one in fields(self)]  # type: ignore[arg-type]
        shown = [f"{name}={short.repr(getattr(self, name))}" for name in names]
        return f"{type(self).__name__}({', '.join(shown)})"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Question:
    """One unlabelled item of a pool or test set."""

    id: str
    messages: tuple[Message, ...]
    """The conversation that asks; nearly always a single user turn."""
    choices: tuple[str, ...] = ()
    """Texts to choose from; empty if the answer is free."""
    question_label: str = ""
    """Word before it in the plain form, if its set has its own."""
    answer_label: str = ""
    """Word before its answer."""
    given: str = ""
    """What its file gives the teacher to see with it (`contexts.rule=given`)."""

    @property
    def text(self) -> str:
        """The turns of the conversation, joined by blank lines."""
        return "\n\n".join(message.content for message in self.messages)


@dataclass(frozen=True, slots=True)
class GoldAnswers:
    """The true answers to a set of questions; only for evaluation."""

    answer_of: Mapping[str, str]
    """Question id to gold answer, a choice's text if the question has choices."""
    aliases_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Question id to other correct answers, if any."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is given: plain text, or turns for its chat template."""

    text: str = ""
    messages: tuple[Message, ...] = ()
    thinking: bool | None = None
    """Passed to chat templates that can switch reasoning on or off."""
    date: str = ""
    """Day for chat templates, as ``2026-11-29``; today if empty."""


@dataclass(frozen=True, slots=True, repr=False)
class Completion(Brief):
    """What a model adds to a prompt."""

    token_ids: TokenIds
    """The completion only, including its end token if `finished`."""
    text: str
    """Decoded without control tokens such as the end token."""
    finished: bool
    """False if cut at the maximum length."""
    logprob: float
    """Sum over tokens, in nats, under the distribution sampled from."""
    entropy: float
    """Mean entropy per token of that distribution, in nats; vLLM's is estimated by
    minus the tokens' log-probabilities."""
    final_start: int | None = 0
    """Where the final answer begins in `text`, after any reasoning; `None` if reasoning
    was never closed."""
    logprobs: tuple[float, ...] = ()
    """Per token, in nats, if the trainer compares another engine's; or empty."""

    @property
    def final(self) -> str | None:
        """The text after the reasoning; `None` if that was never closed."""
        if self.final_start is None:
            return None
        return self.text[self.final_start :].strip()


@dataclass(frozen=True, slots=True, repr=False)
class Rollout(Brief):
    """One completion of the plain prompt of one question."""

    question_id: str
    index: int
    """Place among rollouts of the same question and temperature, from 0."""
    temperature: float
    """0 for the greedy completion."""
    completion: Completion
    answer: str | None
    """Normalised final answer, `None` if the text has none."""

    @property
    def num_tokens(self) -> int:
        """Completion tokens, including the end token."""
        return len(self.completion.token_ids)

    @property
    def finished(self) -> bool:
        """Whether the completion was not cut."""
        return self.completion.finished

    @property
    def is_closed(self) -> bool:
        """Whether any reasoning was closed."""
        return self.completion.final_start is not None

    @property
    def logprob(self) -> float:
        """The completion's log-probability."""
        return self.completion.logprob

    @property
    def entropy(self) -> float:
        """The completion's mean entropy."""
        return self.completion.entropy


@dataclass(frozen=True, slots=True)
class StoredSummary:
    """A rollout without text and tokens, which take far more room.

    Fields are as in `Rollout` and its completion.
    """

    question_id: str
    index: int
    temperature: float
    answer: str | None
    num_tokens: int
    finished: bool
    is_closed: bool
    logprob: float
    entropy: float
    row: int
    """The rollout's row in its file, from 0."""


RolloutSummary: TypeAlias = Rollout | StoredSummary
"""What votes and measures need of a rollout."""


@dataclass(frozen=True, slots=True)
class Vote:
    """What a question's sampled rollouts agree on."""

    question_id: str
    pseudo_label: str | None
    """The answer with the most votes; never a true label."""
    counts: Mapping[str, int]
    num_rollouts: int
    spellings: Mapping[str, str] = field(default_factory=dict)
    """Every answer as given, to the one of `counts` it counted for."""
    medoid: int | None = None
    """Index of the rollout whose neurons are most like the others', if known."""

    def supported_by(self, answer: str | None) -> bool:
        """Return whether a voting answer is the pseudo-label, however spelled."""
        if answer is None or self.pseudo_label is None:
            return False
        return self.spellings.get(answer, answer) == self.pseudo_label

    @property
    def agreement(self) -> float:
        """Share of all rollouts, in [0, 1], that gave the pseudo-label."""
        return self.share_of(self.pseudo_label)

    def share_of(self, answer: str | None) -> float:
        """Return the share of all rollouts, in [0, 1], that gave an answer."""
        label = None if answer is None else self.spellings.get(answer, answer)
        if label is None or label not in self.counts:
            return 0.0
        return self.counts[label] / self.num_rollouts


@dataclass(frozen=True, slots=True, eq=False)
class NeuronSet:
    """The neurons that pushed the tokens of one completion."""

    question_id: str
    neuron_count: int | None
    """s(x): size of the counted set, before the cut; `None` if not read."""
    neuron_ids: NeuronIds
    """N(x): the strongest of the counted set with a positive score, sorted."""
    scores: NDArray[np.float32]
    """Contribution scores in logits, one per entry of `neuron_ids`."""
    num_tokens: int
    """Length of the scored completion."""


@dataclass(frozen=True, slots=True)
class SelectionEntry:
    """Whether to train on one question of the pool, and why."""

    question_id: str
    neuron_count: int | None
    """`None` if no neurons were read."""
    rank: int
    """Place in the rule's order, from 0 for the first to keep."""
    kept: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A pool question with the model's own answer, shown to the teacher."""

    question_id: str
    answer: str
    """What it says the assistant answered."""
    distance: float | None
    """Jaccard distance of neurons in [0, 1], or cosine distance of hidden states, as
    the rule compares them; `None` if neither was read."""
    reason: str


@dataclass(frozen=True, slots=True)
class TeacherContext:
    """The demonstrations of one question, farthest first and nearest last."""

    question_id: str
    demonstrations: tuple[Demonstration, ...]


@dataclass(frozen=True, slots=True)
class TrainingExample:
    """What the student and the teacher see of one selected question."""

    question: Question
    student_prompt: Prompt
    teacher_prompt: Prompt
    choices: tuple[str, ...] = ()
    """What the student writes per choice; empty for free answers."""
    num_dropped: int = 0
    """Demonstrations that did not fit the teacher's prompts."""
    other_prompts: tuple[Prompt, ...] = ()
    """The teacher's, with the question's further contexts."""

    @property
    def teacher_prompts(self) -> tuple[Prompt, ...]:
        """All of the teacher's prompts, one for each context."""
        return self.teacher_prompt, *self.other_prompts

    @property
    def question_id(self) -> str:
        """Id of the question."""
        return self.question.id


@dataclass(frozen=True, slots=True)
class TeacherCheck:
    """A label-free check of the teacher before it teaches."""

    num_questions: int
    student_agreement: float
    """Mean probability (or share of samples) the student gives the voted answer."""
    teacher_agreement: float
    """The same for the teacher, which sees the context."""
    student_entropy: float
    """Mean entropy of the student's answers, in nats."""
    teacher_entropy: float
    top_answer: str
    """The teacher's most frequent answer."""
    top_answer_share: float
    top_answer_share_student: float
    """Share of questions to which the student gives the teacher's top answer."""
    stability: float
    """Share of questions with the same answer under another, random context."""
    findings: tuple[str, ...] = ()
    """Objections to this teacher, with advice."""
    divergence: float | None = None
    """KL(student || teacher) before training, of the choice or per token, in nats."""
    pool_answer: str = ""
    """The student's most frequent answer to the pool."""
    pool_answer_share: float = 0.0
