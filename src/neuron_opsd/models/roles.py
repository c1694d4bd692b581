"""What the method asks of a model: one protocol for each role that a stage may need.

A stage asks for the smallest role that it uses, so another engine is one class: what
only samples is a `Sampler` and needs no scores, gradients or neurons.

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
"""Takes a layer's number and its contribution scores ``(N, F)``."""


Finished: TypeAlias = Callable[[int, Sequence[Completion]], None]
"""Takes the number of a prompt and all its completions."""


def ignore(prompt: int, completions: Sequence[Completion]) -> None:
    """Take finished completions and do nothing."""
    del prompt, completions


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a model is, for settings that scale with it and for the manifest."""

    name: str
    family: str
    """`model_type` of its configuration, for example ``llama``."""
    num_parameters: int
    num_layers: int
    num_neurons: int
    """F: neurons of one layer, the width between up- and down-projection; 0 where they
    cannot be read."""
    width: int
    """D: residual width."""
    vocab_size: int
    max_positions: int
    has_chat_template: bool
    device: str
    compute: str
    """Precision of matrix products, ``float32`` or ``bfloat16``."""
    shares_prompts: bool = False
    """Whether samples are decoded over one copy of their prompt; loading finds out."""
    why_no_neurons: str = ""
    """Why the model's neurons cannot be read; empty where they can."""
    prints_date: bool = False
    """Whether the chat template prints today's date."""
    closes_answers: bool = True
    """Whether the chat template, where there is one, ends an answer with a token."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How completions are drawn."""

    temperature: float
    """0 takes the most probable token."""
    top_p: float = 1.0
    max_new_tokens: int = 512
    stop_at_newline: bool = False
    """Whether a line break ends a completion, as it does in the plain form."""
    top_k: int = 0
    """Keep the most probable tokens, so many of them; 0 keeps all."""
    min_p: float = 0.0
    """Keep tokens at least this many times as probable as the most probable one."""
    stop: tuple[str, ...] = ()
    """Texts that end a completion; they are no part of its text."""

    @property
    def truncation(self) -> Truncation:
        """How the distribution is cut; the temperature must be above 0."""
        return Truncation(self.temperature, self.top_p, self.top_k, self.min_p)


class Described(Protocol):
    """Knows what the model is."""

    @property
    def facts(self) -> ModelFacts:
        """What the model is."""


class Tokenizer(Described, Protocol):
    """Texts to tokens and back, for which no weights are needed."""

    def encode(self, prompt: Prompt) -> TokenIds:
        """Return the prompt's token ids, chat template and first token included.

        Raises:
            DataError: If a turn of a conversation contains a control token.
            ModelError: If the chat template refuses such turns or loses one.
        """

    def encode_all(self, prompts: Sequence[Prompt]) -> list[TokenIds]:
        """Return what `encode` returns of each, sooner."""

    def encode_answer(self, prompt: Prompt, answer: str) -> TokenIds:
        """Return what would complete the prompt with this answer, end token included.

        In the plain form that is a space, the answer and a line break.
        """

    def encode_rendered(self, prompt: str, completion: str) -> Pair:
        """Return the ids of texts that are rendered already, control tokens and all."""

    def refusal(self, prompt: Prompt) -> str:
        """Say which control token a turn of a prompt contains; empty if none does.

        `encode` raises over such a prompt; the plain form has none.
        """

    def decode(self, token_ids: TokenIds) -> str:
        """Return the text of a completion without control tokens, stripped.

        The marks of reasoning stay in it.
        """

    def token_text(self, token: int) -> str:
        """Return the text of one token, control tokens included."""

    def prompt_text(self, prompt: Prompt) -> str:
        """Return a prompt as text, as the chat template writes it."""

    def opens_reasoning(self, prompt: TokenIds) -> bool:
        """Whether a prompt ends inside a block of reasoning."""


class Sampler(Protocol):
    """Writes completions: all that an engine for sampling has to do."""

    def sample(
        self,
        prompts: Sequence[TokenIds],
        seeds: Sequence[Sequence[int]],
        sampling: Sampling,
        finished: Finished = ignore,
    ) -> list[list[Completion]]:
        """Draw one completion per seed for every prompt; equal seeds draw alike.

        Args:
            prompts: As `Tokenizer.encode` returns them.
            seeds: For each prompt those of its completions, which may be none.
            sampling: Temperature, length in tokens, and what ends a completion.
            finished: Called with a prompt's number and its completions as soon as all
                of them are written, in any order of prompts, so that they can be kept
                while others are still being written.

        Returns:
            For each prompt its completions in the order of their seeds, with the sum
            of log-probabilities and the mean entropy per token, both in nats, of the
            distribution that was drawn from.

        Raises:
            NotFiniteError: If a logit is not finite; its places are prompts'.
            TryAgainError: If there is no room in memory for a single completion.
        """


class Scorer(Protocol):
    """Says how probable given completions are."""

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
            TryAgainError: If there is no room in memory for a single pair.
        """

    def divergences(self, pairs: Sequence[Pair], others: Sequence[Pair]) -> list[float]:
        """Return KL(pair || other) per completion token in nats, over the vocabulary.

        Args:
            pairs: Prompts and completions.
            others: The same completions after other prompts.

        Raises:
            NotFiniteError: If one is not finite; its places are pairs'.
        """

    def logprobs(self, pairs: Sequence[Pair]) -> list[float]:
        """Return the log-probability of each completion after its prompt, in nats.

        It is the sum over its tokens, at temperature 1.

        Raises:
            NotFiniteError: If one is not finite; its places are pairs'.
            TryAgainError: If there is no room in memory for a single pair.
        """


class Capturer(Described, Protocol):
    """Reads off which neurons pushed the tokens of given completions."""

    @property
    def room(self) -> Room:
        """How many tokens a pass may hold, and how pairs become passes."""

    def capture(
        self,
        pairs: Sequence[Pair],
        value: NeuronValue,
        consume: ContributionConsumer,
        *,
        half_projections: bool = False,
    ) -> None:
        """Run one forward pass and pass on every layer's contribution scores.

        Args:
            pairs: Prompts and completions; N is the number of completion tokens.
            value: Which activation counts.
            consume: Called once per layer, in order, with ``(N, F)`` scores, the
                tokens of the first pair first.
            half_projections: Round projections to float16, as the NeuFS code does.

        Raises:
            ModelError: If the model's neurons cannot be read.
        """

    def mean_states(
        self, pairs: Sequence[Pair], layer: int
    ) -> list[NDArray[np.float32]]:
        """Run one forward pass and return the mean state ``(D,)`` of each completion.

        Args:
            pairs: Prompts and completions; a mean is over the completion's own
                positions, not over those that predict it.
            layer: Whose output counts, from 1.

        Raises:
            NotFiniteError: If one is not finite; its places are pairs'.
        """


class TextScorer(Tokenizer, Scorer, Protocol):
    """Scores what texts become."""


class Answerer(TextScorer, Sampler, Protocol):
    """Answers questions: samples freely, and scores choices where they are given."""


class LanguageModel(Answerer, Capturer, Protocol):
    """All that the method asks of a model whose weights stay as they are."""

    def release(self) -> None:
        """Free what is kept to be faster; it is made again when it is needed."""


class Learner(Answerer, Protocol):
    """The student, which can move, with a second set of weights for its teacher."""

    @property
    def room(self) -> Room:
        """How many tokens a pass without gradient may hold."""

    @property
    def frozen(self) -> Answerer:
        """The model where training began."""

    def student(self, pairs: Sequence[Pair]) -> HiddenStates:
        """Return ``(N, D)`` states that predict the completions, with gradient.

        The head that reads them out may ask for a gradient too.
        """

    def teacher(self, pairs: Sequence[Pair]) -> HiddenStates:
        """Return the same under the teacher's weights, without gradient."""

    def reference(self, pairs: Sequence[Pair]) -> HiddenStates:
        """Return the same of the model where training began, without gradient."""

    def step(self, learning_rate: float) -> float:
        """Apply the gradients gathered so far; return their norm before clipping.

        Raises:
            NotFiniteError: If the norm is not finite; no weight has moved then.
        """

    @property
    def weights(self) -> Mapping[str, nn.Parameter]:
        """What is trained, in the same order in every process."""

    def drop_gradients(self) -> None:
        """Forget the gradients gathered so far."""

    def zero_gradients(self) -> None:
        """Give every trained weight a gradient of 0, which still ages its moments."""

    def check(self) -> None:
        """Refuse to be kept with a weight or a moment that is not finite.

        Raises:
            NotFiniteError: Naming the first one of student, optimiser or teacher.
        """

    def update_teacher(self, rate: float) -> None:
        """Move the teacher's weights the share `rate` of the way to the student's."""

    def state(self) -> dict[str, Tensor]:
        """Return all that a checkpoint must hold: student, teacher and optimiser."""

    def digest(self) -> str:
        """Return a hash of the same, to compare it with another process's.

        Of frozen weights it holds enough to tell others from them.
        """

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go back to what `state` returned."""

    @property
    def num_bytes(self) -> int:
        """Size of what is trained."""

    def save_adapter(self, folder: Path) -> None:
        """Write what training made: a PEFT adapter, or a whole model after `full`."""
