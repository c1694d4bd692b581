"""What the method needs from a model: one protocol per role.

A stage uses the smallest role it can, so an engine that only samples is a `Sampler` and
needs no scores, gradients or neurons.

Axes: N completion tokens of a batch, F neurons of one layer, D residual width, V
vocabulary. A *pair* is a prompt and a completion, both as token ids; its completion
token t is predicted at the position before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from neuron_opsd.method.fused_loss import HiddenStates
from neuron_opsd.method.truncation import Truncation
from neuron_opsd.models.room import Room
from neuron_opsd.records import Completion, Pair, Prompt, TokenIds

NeuronValue: TypeAlias = Literal["gate", "gated"]

ContributionConsumer: TypeAlias = Callable[[int, Tensor], None]
"""Takes a layer's index and its contribution scores ``(N, F)``."""


Finished: TypeAlias = Callable[[int, Sequence[Completion]], None]
"""Takes a prompt's index and all its completions."""


def ignore(prompt: int, completions: Sequence[Completion]) -> None:
    """Take finished completions and do nothing."""
    del prompt, completions


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Facts about a model, for settings that scale with it and for the manifest."""

    name: str
    family: str
    """For example ``llama``."""
    num_parameters: int
    num_layers: int
    num_neurons: int
    """F: neurons of one layer; 0 if they cannot be read."""
    width: int
    """D: residual width."""
    vocab_size: int
    max_positions: int
    has_chat_template: bool
    device: str
    compute: str
    """``float32`` or ``bfloat16``, for matrix products."""
    shares_prompts: bool = False
    """Whether samples share one copy of their prompt; found on loading."""
    why_no_neurons: str = ""
    """Empty if neurons can be read."""
    prints_date: bool = False
    closes_answers: bool = True
    """Whether the chat template, if any, ends an answer with a token."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How completions are sampled."""

    temperature: float
    """0 takes the most probable token."""
    top_p: float = 1.0
    max_new_tokens: int = 512
    stop_at_newline: bool = False
    """Whether a line break ends a completion, as in the plain form."""
    top_k: int = 0
    """Keep this many of the most probable tokens; 0 keeps all."""
    min_p: float = 0.0
    """Keep tokens at least this share as probable as the most probable one."""
    stop: tuple[str, ...] = ()
    """Texts that end a completion, excluded from it."""

    @property
    def truncation(self) -> Truncation:
        """How the distribution is cut, for a temperature above 0."""
        return Truncation(self.temperature, self.top_p, self.top_k, self.min_p)


class Described(Protocol):
    """Has facts about its model."""

    @property
    def facts(self) -> ModelFacts:
        """Facts about the model."""


class Tokenizer(Described, Protocol):
    """Converts text to tokens and back; needs no weights."""

    def encode(self, prompt: Prompt) -> TokenIds:
        """Return the prompt's token ids, including chat template and first token.

        Raises:
            DataError: If a turn of a conversation contains a control token.
            ModelError: If the chat template refuses such turns or loses one.
        """

    def encode_all(self, prompts: Sequence[Prompt]) -> list[TokenIds]:
        """Encode several prompts, faster than one by one."""

    def encode_answer(self, prompt: Prompt, answer: str) -> TokenIds:
        """Return the completion that gives this answer, including the end token.

        In the plain form that is a space, the answer and a line break.
        """

    def encode_rendered(self, prompt: str, completion: str) -> Pair:
        """Return the ids of rendered texts with control tokens."""

    def refusal(self, prompt: Prompt) -> str:
        """Say which control token a turn contains; return "" for none.

        `encode` raises for such a prompt; the plain form has none.
        """

    def decode(self, token_ids: TokenIds) -> str:
        """Return a completion's text, stripped, without control tokens.

        Reasoning marks are kept.
        """

    def token_text(self, token: int) -> str:
        """Return the text of one token, control tokens included."""

    def prompt_text(self, prompt: Prompt) -> str:
        """Return a prompt as the chat template writes it."""

    def opens_reasoning(self, prompt: TokenIds) -> bool:
        """Return whether a prompt ends inside a reasoning block."""


class Sampler(Protocol):
    """Writes completions; all that a sampling engine has to do."""

    def sample(
        self,
        prompts: Sequence[TokenIds],
        seeds: Sequence[Sequence[int]],
        sampling: Sampling,
        finished: Finished = ignore,
    ) -> list[list[Completion]]:
        """Sample one completion per seed for every prompt; equal seeds give equal ones.

        Args:
            prompts: As `Tokenizer.encode` returns them.
            seeds: Of each prompt's completions; may be empty.
            sampling: Temperature, length in tokens, and what ends a completion.
            finished: Called with a prompt's index and completions as soon as all are
                written, in any order of prompts, so that they can be saved.

        Returns:
            Each prompt's completions in the order of their seeds, with the sum of
            log-probabilities and the mean entropy per token, in nats, of the sampling
            distribution.

        Raises:
            NotFiniteError: If a logit is not finite; its places are prompts.
            TryAgainError: If memory has no room for a single completion.
        """


class Scorer(Protocol):
    """Computes how probable given completions are."""

    def logits_at(
        self, pairs: Sequence[Pair], columns: Sequence[Sequence[TokenIds]]
    ) -> list[list[NDArray[np.float32]]]:
        """Return the logits of a few tokens at a few positions.

        Args:
            pairs: Prompts and completions.
            columns: For pair ``i`` and ``t`` from 0 to the completion's length, the
                tokens wanted at the position that predicts token ``t``; the last
                position predicts what would come next.

        Returns:
            The logits, in the shape of `columns`.

        Raises:
            TryAgainError: If memory has no room for a single pair.
        """

    def divergences(self, pairs: Sequence[Pair], others: Sequence[Pair]) -> list[float]:
        """Return KL(pair || other) per completion token in nats, over the vocabulary.

        Args:
            pairs: Prompts and completions.
            others: The same completions after other prompts.

        Raises:
            NotFiniteError: If one is not finite; its places are pairs.
        """

    def logprobs(self, pairs: Sequence[Pair]) -> list[float]:
        """Return each completion's log-probability after its prompt, in nats.

        The sum over its tokens, at temperature 1.

        Raises:
            NotFiniteError: If one is not finite; its places are pairs.
            TryAgainError: If memory has no room for a single pair.
        """


class Capturer(Described, Protocol):
    """Finds which neurons pushed the tokens of given completions."""

    @property
    def room(self) -> Room:
        """How many tokens a pass may hold, and how passes are formed."""

    def capture(
        self,
        pairs: Sequence[Pair],
        value: NeuronValue,
        consume: ContributionConsumer,
        *,
        half_projections: bool = False,
    ) -> None:
        """Run one forward pass and hand over every layer's contribution scores.

        Args:
            pairs: Prompts and completions.
            value: Which activation counts.
            consume: Called once per layer, in order, with ``(N, F)`` scores in the
                order of pairs and tokens.
            half_projections: Round projections to float16, as the NeuFS code does.

        Raises:
            ModelError: If the model's neurons cannot be read.
        """

    def mean_states(
        self, pairs: Sequence[Pair], layer: int
    ) -> list[NDArray[np.float32]]:
        """Run one forward pass and return each completion's mean state ``(D,)``.

        Args:
            pairs: Prompts and completions; the mean is over the completion's own
                positions, not over those that predict it.
            layer: From 1.

        Raises:
            NotFiniteError: If one is not finite; its places are pairs.
        """


class TextScorer(Tokenizer, Scorer, Protocol):
    """Scores tokenised texts."""


class Answerer(TextScorer, Sampler, Protocol):
    """Answers questions: samples freely, or scores given choices."""


class LanguageModel(Answerer, Capturer, Protocol):
    """All that the method needs from a frozen model."""

    def release(self) -> None:
        """Free caches; they are rebuilt when needed."""


class Learner(Answerer, Protocol):
    """The trainable student, with a second set of weights for its teacher."""

    @property
    def room(self) -> Room:
        """How many tokens a pass without gradient may hold."""

    @property
    def frozen(self) -> Answerer:
        """The model at the start of training."""

    def student(self, pairs: Sequence[Pair]) -> HiddenStates:
        """Return ``(N, D)`` states that predict the completions, with gradient.

        The head may require gradients too.
        """

    def teacher(self, pairs: Sequence[Pair]) -> HiddenStates:
        """Return the same with the teacher's weights, without gradient."""

    def reference(self, pairs: Sequence[Pair]) -> HiddenStates:
        """Return the same for the starting model, without gradient."""

    def step(self, learning_rate: float) -> float:
        """Apply the accumulated gradients; return their norm before clipping.

        Raises:
            NotFiniteError: If the norm is not finite; then no weight has moved.
        """

    @property
    def weights(self) -> Mapping[str, nn.Parameter]:
        """The trained weights, in the same order in every process."""

    def drop_gradients(self) -> None:
        """Discard the accumulated gradients."""

    def zero_gradients(self) -> None:
        """Set all gradients to 0, so that a step still decays the moments."""

    def check(self) -> None:
        """Refuse weights or moments that are not finite, before they are saved.

        Raises:
            NotFiniteError: Naming the first one in student, optimiser or teacher.
        """

    def update_teacher(self, rate: float) -> None:
        """Move the teacher's weights by the share `rate` towards the student's."""

    def state(self) -> dict[str, Tensor]:
        """Return all that a checkpoint must hold: student, teacher and optimiser."""

    def digest(self) -> str:
        """Return a hash of the state, to compare between processes.

        It also tells different frozen weights apart.
        """

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned."""

    @property
    def num_bytes(self) -> int:
        """Size of the trained weights."""

    def save_adapter(self, folder: Path) -> None:
        """Write what was trained: a PEFT adapter, or a whole model after `full`."""
