"""Sample among a question's choices: a trie over their tokens, renormalised.

At each step the distribution is renormalised over the tokens that lead to a choice.
Only *branches*, where choices diverge, cost anything: one pass over the prompt (and
shared tokens) gives the exact distribution over all choices and any number of samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from neuron_opsd.errors import DataError, NotFiniteError
from neuron_opsd.models.roles import Scorer
from neuron_opsd.records import Pair, TokenIds

Logits: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Branch:
    """A node of the trie with more than one next token."""

    prefix: TokenIds
    """Completion tokens before it."""
    tokens: TokenIds
    """Possible next tokens, in order of first appearance."""


@dataclass(frozen=True, slots=True, eq=False)
class ChoiceScores:
    """One question's choices with the logits at every branch."""

    completions: tuple[TokenIds, ...]
    """Including the end token."""
    branches: tuple[Branch, ...]
    logits: tuple[Logits, ...]
    """Per branch, one logit per token."""
    bias: tuple[float, ...] = ()
    """Subtracted from each choice's log-probability, in nats; may be empty."""


def find_branches(completions: Sequence[TokenIds]) -> tuple[Branch, ...]:
    """Return the trie's branches, shorter prefixes first.

    Raises:
        ValueError: If two completions are equal or one is a prefix of another.
    """
    following: dict[TokenIds, list[int]] = {}
    for tokens in completions:
        for t, token in enumerate(tokens):
            children = following.setdefault(tokens[:t], [])
            if token not in children:
                children.append(token)
    if len(set(completions)) < len(completions) or any(
        tokens in following for tokens in completions
    ):
        raise ValueError("completions of a trie must differ and none begin another")
    tries = [Branch(prefix, tuple(tokens)) for prefix, tokens in following.items()]
    branches = (branch for branch in tries if len(branch.tokens) > 1)
    return tuple(sorted(branches, key=lambda branch: len(branch.prefix)))


def allowed_tokens(completions: Sequence[TokenIds], chosen: TokenIds) -> list[TokenIds]:
    """Return the tokens that each token of `chosen` was sampled from.

    A forced token is listed alone.
    """
    at = {branch.prefix: branch.tokens for branch in find_branches(completions)}
    return [at.get(chosen[:t], (token,)) for t, token in enumerate(chosen)]


def check_choices(
    question_id: str, choices: Sequence[str], completions: Sequence[TokenIds]
) -> None:
    """Raise `DataError` if two choices have the same tokens."""
    seen: dict[TokenIds, str] = {}
    for choice, tokens in zip(choices, completions, strict=True):
        if tokens in seen:
            raise DataError(
                f"question {question_id}: the choices {seen[tokens]!r} and {choice!r} "
                "tokenise to the same ids, so the model cannot choose between them; "
                "reword one of them"
            )
        seen[tokens] = choice


def score_choices(
    model: Scorer,
    prompts: Sequence[TokenIds],
    completions: Sequence[Sequence[TokenIds]],
) -> list[ChoiceScores]:
    """Score the choices of many questions in one pass over their prompts.

    `completions` are each question's choices, including the end token.

    Raises:
        NotFiniteError: If a logit is not finite; its places are questions.
    """
    branches = [find_branches(group) for group in completions]
    rows = [
        (question, row)
        for question, found in enumerate(branches)
        for row in longest_prefixes(found)
    ]
    pairs: list[Pair] = [(prompts[question], row) for question, row in rows]
    columns = [tokens_along(row, branches[question]) for question, row in rows]
    logits = model.logits_at(pairs, columns)
    found_at: list[dict[TokenIds, Logits]] = [{} for _ in prompts]
    wrong = []
    for (question, row), values in zip(rows, logits, strict=True):
        if not all(np.isfinite(value).all() for value in values):
            wrong.append(question)
        for t, value in enumerate(values):
            if value.size:
                found_at[question].setdefault(row[:t], value)
    if wrong:
        raise NotFiniteError("the logits of its choices are not finite", wrong)
    return [
        ChoiceScores(tuple(group), found, tuple(at[branch.prefix] for branch in found))
        for group, found, at in zip(completions, branches, found_at, strict=True)
    ]


def tokens_along(row: TokenIds, branches: Sequence[Branch]) -> list[TokenIds]:
    """Return the possible tokens along a row, none where forced."""
    at = {branch.prefix: branch.tokens for branch in branches}
    return [at.get(row[:t], ()) for t in range(len(row) + 1)]


def longest_prefixes(branches: Sequence[Branch]) -> list[TokenIds]:
    """Return the prefixes that no other extends; they cover all branches."""
    prefixes = [branch.prefix for branch in branches]
    return [
        prefix
        for prefix in prefixes
        if not any(is_prefix(prefix, other) and prefix != other for other in prefixes)
    ]


def is_prefix(start: TokenIds, whole: TokenIds) -> bool:
    """Return whether `whole` starts with or equals `start`."""
    return whole[: len(start)] == start


def choice_logprobs(scores: ChoiceScores, temperature: float) -> NDArray[np.float64]:
    """Return each choice's log-probability in nats; the probabilities sum to one.

    A temperature of 0 follows the most probable token at every branch. With a bias, the
    temperature divides whole choices' log-probabilities minus the bias.
    """
    if scores.bias:
        plain = choice_logprobs(replace(scores, bias=()), 1.0)
        return tempered_log_softmax(plain - np.array(scores.bias), temperature)
    result = np.zeros(len(scores.completions))
    for branch, logits in zip(scores.branches, scores.logits, strict=True):
        step = tempered_log_softmax(logits.astype(np.float64), temperature)
        depth = len(branch.prefix)
        for c, tokens in enumerate(scores.completions):
            if is_prefix(branch.prefix, tokens) and len(tokens) > depth:
                result[c] += step[branch.tokens.index(tokens[depth])]
    return result


def tempered_log_softmax(
    logits: NDArray[np.float64], temperature: float
) -> NDArray[np.float64]:
    """Return the log-softmax of ``logits / temperature``, or its limit at 0."""
    if temperature == 0.0:
        certain = np.full_like(logits, -np.inf)
        certain[int(np.argmax(logits))] = 0.0
        return certain
    scaled: NDArray[np.float64] = (logits - logits.max()) / temperature
    scaled -= np.log(np.exp(scaled).sum())
    return scaled


def draw_choices(
    logprobs: NDArray[np.float64], uniform: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Sample one choice per uniform number, by inverting the CDF."""
    cumulative = np.exp(logprobs).cumsum()
    # Scaling makes the last value exactly 1.
    drawn = np.searchsorted(cumulative / cumulative[-1], uniform, side="right")
    return np.minimum(drawn, len(logprobs) - 1)


def entropy(logprobs: NDArray[np.float64]) -> float:
    """Return the entropy of a distribution in nats."""
    possible = logprobs[np.isfinite(logprobs)]
    return float(-(np.exp(possible) * possible).sum())
