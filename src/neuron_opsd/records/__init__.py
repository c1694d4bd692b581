"""The records that pass from one stage to the next.

All are frozen and hold plain values, tuples and arrays, so any stage can restart from
what the stage before it wrote. Gold answers travel apart, as `GoldAnswers`, to
evaluation alone, whose scores (`records.scores`) hold them; no other record has a field
for one, and so training stays annotation-free.
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
"""Sorted, without repeats; neuron i of layer l has the id ``l * F + i``."""

Role: TypeAlias = Literal["system", "user", "assistant"]


class Brief:
    """A record that fits on a few lines when it is shown, whatever it holds."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Return the fields, long texts and sequences cut."""
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
    """One unlabelled item of a pool or of a test set."""

    id: str
    messages: tuple[Message, ...]
    """The conversation that asks; nearly always a single user turn."""
    choices: tuple[str, ...] = ()
    """The texts to choose from; empty where the answer is free."""
    question_label: str = ""
    """Word before it in the plain form, where its set has one of its own."""
    answer_label: str = ""
    """The same before its answer."""
    given: str = ""
    """What its file gives the teacher to see with it (`contexts.rule=given`)."""

    @property
    def text(self) -> str:
        """What is asked, the turns of a conversation joined by blank lines."""
        return "\n\n".join(message.content for message in self.messages)


@dataclass(frozen=True, slots=True)
class GoldAnswers:
    """The true answers of a set of questions; for evaluation only."""

    answer_of: Mapping[str, str]
    """Question id to gold answer, a choice's text where the question has choices."""
    aliases_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Question id to other answers that are right too, of those that have any."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is given: a text as it stands, or turns for its chat template."""

    text: str = ""
    messages: tuple[Message, ...] = ()
    thinking: bool | None = None
    """Passed to chat templates that can switch reasoning on or off."""
    date: str = ""
    """Day that chat templates print, as ``2026-11-29``; today where it is empty."""


@dataclass(frozen=True, slots=True, repr=False)
class Completion(Brief):
    """What a model adds to a prompt."""

    token_ids: TokenIds
    """The completion only, its end token included when it `finished`."""
    text: str
    """Decoded without the end token and other control tokens."""
    finished: bool
    """False when sampling stopped at the longest length allowed."""
    logprob: float
    """Sum over tokens, in nats, under the distribution that was sampled from."""
    entropy: float
    """Mean over tokens of the same distribution's entropy, in nats; vLLM's is estimated
    by minus the log-probabilities of the tokens."""
    final_start: int | None = 0
    """Where the final answer begins in `text`, after any reasoning; `None` where
    reasoning was still open at the end, so that there is no answer."""
    logprobs: tuple[float, ...] = ()
    """Of each token, in nats, where the trainer compares another engine's; or empty."""

    @property
    def final(self) -> str | None:
        """The text after the reasoning; `None` where that was never closed."""
        if self.final_start is None:
            return None
        return self.text[self.final_start :].strip()


@dataclass(frozen=True, slots=True, repr=False)
class Rollout(Brief):
    """One completion of the plain prompt of one question."""

    question_id: str
    index: int
    """Place among the rollouts of the same question and temperature, from 0."""
    temperature: float
    """0 for the greedy completion."""
    completion: Completion
    answer: str | None
    """Normalised final answer, `None` when the text holds none."""

    @property
    def num_tokens(self) -> int:
        """Tokens of the completion, its end token included."""
        return len(self.completion.token_ids)

    @property
    def finished(self) -> bool:
        """Whether the completion came to its end."""
        return self.completion.finished

    @property
    def is_closed(self) -> bool:
        """Whether any reasoning was closed."""
        return self.completion.final_start is not None

    @property
    def logprob(self) -> float:
        """That of the completion."""
        return self.completion.logprob

    @property
    def entropy(self) -> float:
        """That of the completion."""
        return self.completion.entropy


@dataclass(frozen=True, slots=True)
class StoredSummary:
    """A rollout without its text and its tokens, which take far more room.

    The fields are those of `Rollout`, and of its completion.
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
    """Where the rollout stands in its file, from 0."""


RolloutSummary: TypeAlias = Rollout | StoredSummary
"""What votes and measures need of a rollout: neither its text nor its tokens."""


@dataclass(frozen=True, slots=True)
class Vote:
    """What the sampled rollouts of one question agree on."""

    question_id: str
    pseudo_label: str | None
    """The answer with most votes; never a true label."""
    counts: Mapping[str, int]
    num_rollouts: int
    spellings: Mapping[str, str] = field(default_factory=dict)
    """Every answer as it was given, to the one of `counts` that it counted for."""
    medoid: int | None = None
    """Index of the rollout whose neurons are most like the others', if it is known."""

    def supported_by(self, answer: str | None) -> bool:
        """Say whether an answer that voted is the pseudo-label, however spelled."""
        if answer is None or self.pseudo_label is None:
            return False
        return self.spellings.get(answer, answer) == self.pseudo_label

    @property
    def agreement(self) -> float:
        """Share of all rollouts, in [0, 1], that gave the pseudo-label."""
        if self.pseudo_label is None:
            return 0.0
        return self.counts[self.pseudo_label] / self.num_rollouts


@dataclass(frozen=True, slots=True, eq=False)
class NeuronSet:
    """Which neurons pushed the tokens of one completion."""

    question_id: str
    neuron_count: int | None
    """s(x): size of the counted set, before the cut; `None` where nobody read it."""
    neuron_ids: NeuronIds
    """N(x): the strongest of the counted set with a positive score, sorted."""
    scores: NDArray[np.float32]
    """Contribution scores in logits, one for each of `neuron_ids`."""
    num_tokens: int
    """Length of the completion that was scored."""


@dataclass(frozen=True, slots=True)
class SelectionEntry:
    """Whether one question of the pool is trained on, and why."""

    question_id: str
    neuron_count: int | None
    """`None` where no neurons were read."""
    rank: int
    """Place in the order of the rule, from 0 for the first to be kept."""
    kept: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A question of the pool with the model's own answer, shown to the teacher."""

    question_id: str
    answer: str
    """What the demonstration says the assistant answered."""
    distance: float | None
    """Jaccard distance of neurons in [0, 1], or cosine distance of hidden states, as
    the rule compares them; `None` where neither was read."""
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
    """What the student writes to give each choice; empty where the answer is free."""
    num_dropped: int = 0
    """Demonstrations left out because the teacher's prompt would have been too long."""

    @property
    def question_id(self) -> str:
        """Id of the question."""
        return self.question.id


@dataclass(frozen=True, slots=True)
class TeacherCheck:
    """What can be said without labels about a teacher before it teaches."""

    num_questions: int
    student_agreement: float
    """Mean probability (or share of samples) the student gives the voted answer."""
    teacher_agreement: float
    """The same for the teacher, which sees the context."""
    student_entropy: float
    """Mean entropy of the student's answers, in nats."""
    teacher_entropy: float
    top_answer: str
    """The answer the teacher gives most often."""
    top_answer_share: float
    top_answer_share_student: float
    """Share of questions to which the student gives the teacher's top answer."""
    stability: float
    """Share of questions answered alike with another, random context."""
    findings: tuple[str, ...] = ()
    """What speaks against this teacher, each with advice; empty when nothing does."""
    divergence: float | None = None
    """KL(student || teacher) before training, of the choice or per token, in nats."""
    pool_answer: str = ""
    """The answer that the student's samples give most often to the pool."""
    pool_answer_share: float = 0.0
