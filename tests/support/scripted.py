"""A language model that replays given answers, for tests that need no weights.

Its tokens are the bytes of a text, so a test can read what was asked and count tokens
in its head. A completion is a space, the answer and a line break, as in plain form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from neuron_opsd.answers.reasoning import ends_inside, final_start
from neuron_opsd.models.roles import (
    ContributionConsumer,
    Finished,
    ModelFacts,
    NeuronValue,
    Sampling,
    ignore,
)
from neuron_opsd.models.room import Room
from neuron_opsd.records import Completion, Pair, Prompt, TokenIds
from neuron_opsd.seeds import generator

FACTS = ModelFacts(
    name="scripted",
    family="scripted",
    num_parameters=135_000_000,
    num_layers=2,
    num_neurons=8,
    width=4,
    vocab_size=256,
    max_positions=4096,
    has_chat_template=False,
    device="cpu",
    compute="float32",
)


class ScriptedModel:
    """Fulfils `LanguageModel` by looking up what it is asked.

    Args:
        replies: Part of a prompt to the answers that it draws; where several parts
            stand in a prompt, the one that ends last counts, so demonstrations before
            the question do no harm. Greedy sampling takes the first answer, draw
            number i the one at i modulo their number.
        facts: What the model claims to be.
    """

    def __init__(
        self, replies: Mapping[str, Sequence[str]], facts: ModelFacts = FACTS
    ) -> None:
        self.replies = {part: tuple(answers) for part, answers in replies.items()}
        self.facts = facts
        self.room = Room(4096)
        self.asked: list[tuple[str, tuple[int, ...], Sampling]] = []
        """Every prompt that was sampled from, with its seeds, in order."""

    def encode(self, prompt: Prompt) -> TokenIds:
        """Return the bytes of the prompt, a conversation one turn a line."""
        turns = [f"{turn.role}: {turn.content}" for turn in prompt.messages]
        return tuple("\n".join([prompt.text, *turns]).strip("\n").encode())

    def encode_all(self, prompts: Sequence[Prompt]) -> list[TokenIds]:
        """Return what `encode` returns of each."""
        return [self.encode(prompt) for prompt in prompts]

    def refusal(self, prompt: Prompt) -> str:
        """Say nothing, for there are no control tokens."""
        del prompt
        return ""

    def encode_answer(self, prompt: Prompt, answer: str) -> TokenIds:
        """Return the bytes of a space, the answer and a line break."""
        del prompt
        return tuple(f" {answer}\n".encode())

    def encode_rendered(self, prompt: str, completion: str) -> Pair:
        """Return the bytes of both."""
        return tuple(prompt.encode()), tuple(completion.encode())

    def token_text(self, token: int) -> str:
        """Return the text of one byte."""
        return bytes([token]).decode("utf-8", "replace")

    def release(self) -> None:
        """Keep nothing, so free nothing."""

    def decode(self, token_ids: TokenIds) -> str:
        """Return the text of the bytes, stripped."""
        return bytes(token_ids).decode("utf-8", "replace").strip()

    def prompt_text(self, prompt: Prompt) -> str:
        """Return what `encode` reads."""
        return bytes(self.encode(prompt)).decode()

    def opens_reasoning(self, prompt: TokenIds) -> bool:
        """Whether the prompt's text ends with a mark that opens reasoning."""
        return ends_inside(bytes(prompt).decode())

    def sample(
        self,
        prompts: Sequence[TokenIds],
        seeds: Sequence[Sequence[int]],
        sampling: Sampling,
        finished: Finished = ignore,
    ) -> list[list[Completion]]:
        """Replay the answers of every prompt."""
        rows = []
        for number, (prompt, row) in enumerate(zip(prompts, seeds, strict=True)):
            self.asked.append((bytes(prompt).decode(), tuple(row), sampling))
            answers = self.answers_to(prompt)
            drawn = range(len(row)) if sampling.temperature > 0 else [0] * len(row)
            opened = self.opens_reasoning(prompt)
            rows.append(
                [
                    complete(answers[i % len(answers)], sampling, opened=opened)
                    for i in drawn
                ]
            )
            finished(number, rows[-1])
        return rows

    def answers_to(self, prompt: TokenIds) -> tuple[str, ...]:
        """Return the script of the part that ends last in the prompt."""
        text = bytes(prompt).decode()
        ends = {
            part: text.rfind(part) + len(part) for part in self.replies if part in text
        }
        if not ends:
            raise KeyError(f"no reply is written for {text!r}")
        return self.replies[max(ends, key=lambda part: ends[part])]

    def logits_at(
        self, pairs: Sequence[Pair], columns: Sequence[Sequence[TokenIds]]
    ) -> list[list[NDArray[np.float32]]]:
        """Return, for a token, the log of how many scripted answers go on with it.

        A token that none goes on with has the logit -6.
        """
        return [
            [
                np.array(
                    [self.logit(prompt, completion[:t], token) for token in wanted],
                    dtype=np.float32,
                )
                for t, wanted in enumerate(rows)
            ]
            for (prompt, completion), rows in zip(pairs, columns, strict=True)
        ]

    def divergences(self, pairs: Sequence[Pair], others: Sequence[Pair]) -> list[float]:
        """Return 0 for prompts with the same script, 1 for all others."""
        return [
            float(self.answers_to(one) != self.answers_to(other))
            for (one, _), (other, _) in zip(pairs, others, strict=True)
        ]

    def logprobs(self, pairs: Sequence[Pair]) -> list[float]:
        """Return the log of the share of scripted answers that are a completion."""
        found = []
        for prompt, completion in pairs:
            written = [tuple(f" {a}\n".encode()) for a in self.answers_to(prompt)]
            share = written.count(completion) / len(written)
            found.append(float(np.log(share)) if share else -6.0)
        return found

    def logit(self, prompt: TokenIds, so_far: TokenIds, token: int) -> float:
        """Return the logit of one token after a part of a completion."""
        begun = (*so_far, token)
        written = [f" {answer}\n".encode() for answer in self.answers_to(prompt)]
        count = sum(tuple(text[: len(begun)]) == begun for text in written)
        return float(np.log(count)) if count else -6.0

    def capture(
        self,
        pairs: Sequence[Pair],
        value: NeuronValue,
        consume: ContributionConsumer,
        *,
        half_projections: bool = False,
    ) -> None:
        """Hand on scores drawn from a normal distribution, fixed for each pair."""
        for layer in range(self.facts.num_layers):
            scores = [
                generator("scripted", layer, value, half_projections, *pair_text(pair))
                .standard_normal((len(pair[1]), self.facts.num_neurons))
                .astype(np.float32)
                for pair in pairs
            ]
            consume(layer, torch.from_numpy(np.concatenate(scores)))

    def mean_states(
        self, pairs: Sequence[Pair], layer: int
    ) -> list[NDArray[np.float32]]:
        """Return states drawn from a normal distribution, fixed for each pair."""
        return [
            generator("scripted states", layer, *pair_text(pair))
            .standard_normal(self.facts.width)
            .astype(np.float32)
            for pair in pairs
        ]


def complete(answer: str, sampling: Sampling, *, opened: bool = False) -> Completion:
    """Return the completion that gives an answer, cut where it is too long."""
    token_ids = tuple(f" {answer}\n".encode())
    finished = len(token_ids) <= sampling.max_new_tokens
    text = bytes(token_ids[: sampling.max_new_tokens]).decode(errors="replace").strip()
    return Completion(
        token_ids=token_ids[: sampling.max_new_tokens],
        text=text,
        finished=finished,
        logprob=-0.5 * len(token_ids),
        entropy=0.5,
        final_start=final_start(text, opened=opened),
    )


def pair_text(pair: Pair) -> tuple[str, str]:
    """Return prompt and completion as text, to seed by."""
    return str(pair[0]), str(pair[1])
