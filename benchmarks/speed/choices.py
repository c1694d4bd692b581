"""Constrained answers: ours, and every choice in a sequence of its own.

All give the same numbers: the log-probability of each choice when only tokens that lead
on to some choice are possible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from benchmarks.speed.job import Facts, Job, Turns
from benchmarks.speed.rollouts import load_network, model_settings
from neuron_opsd.models.decoding.choices import (
    choice_logprobs,
    find_branches,
    score_choices,
)
from neuron_opsd.models.load import load_model


def ours(job: Job, turns: Turns) -> None:
    """Serve `score_choices`."""
    model = load_model(model_settings(job))
    prompts = [tuple(prompt) for prompt in job.work.prompts]
    choices = [[tuple(ids) for ids in group] for group in job.work.completions]

    def score() -> Facts:
        scores = score_choices(model, prompts, choices)
        values = [x for one in scores for x in choice_logprobs(one, 1.0).tolist()]
        return {"amount": len(prompts), "values": values}

    turns.repeat(score)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One choice after its prompt."""

    prompt: list[int]
    completion: list[int]
    allowed: list[list[int]]
    """At each token of the completion, those that lead on to some choice."""


def candidates(job: Job) -> list[Candidate]:
    """Return every choice of every question."""
    found = []
    for prompt, group in zip(job.work.prompts, job.work.completions, strict=True):
        branches = find_branches([tuple(ids) for ids in group])
        tokens = {branch.prefix: list(branch.tokens) for branch in branches}
        found += [
            Candidate(
                prompt,
                ids,
                [tokens.get(tuple(ids[:t]), [ids[t]]) for t in range(len(ids))],
            )
            for ids in group
        ]
    return found


def naive(job: Job, turns: Turns) -> None:
    """Serve one sequence per choice, a few of them in a batch."""
    network = load_network(job)
    size = job.options["batch"]
    found = candidates(job)
    # Like lengths together, which spares the peer padding.
    order = sorted(
        range(len(found)), key=lambda i: len(found[i].prompt + found[i].completion)
    )
    batches = [order[start : start + size] for start in range(0, len(order), size)]

    def score() -> Facts:
        values = [0.0] * len(found)
        for batch in batches:
            chosen = [found[i] for i in batch]
            for i, logits, one in zip(
                batch, completion_logits(network, chosen), chosen, strict=True
            ):
                values[i] = logprob(logits, one)
        return {"amount": len(job.work.prompts), "values": values}

    with torch.inference_mode():
        turns.repeat(score)


def completion_logits(
    network: torch.nn.Module, chosen: Sequence[Candidate]
) -> list[torch.Tensor]:
    """Return for each candidate the float32 logits that predict its completion."""
    longest = max(len(one.prompt) + len(one.completion) for one in chosen)
    ids = torch.zeros(len(chosen), longest, dtype=torch.long)
    for row, one in enumerate(chosen):
        whole = one.prompt + one.completion
        ids[row, : len(whole)] = torch.tensor(whole)
    start = min(len(one.prompt) for one in chosen) - 1
    device = next(network.parameters()).device
    logits = network(
        input_ids=ids.to(device), use_cache=False, logits_to_keep=longest - start
    ).logits
    return [
        logits[row, len(one.prompt) - 1 - start :][: len(one.completion)].float()
        for row, one in enumerate(chosen)
    ]


def logprob(logits: torch.Tensor, candidate: Candidate) -> float:
    """Return the log-probability of a choice among those that are allowed."""
    total = 0.0
    for row, token, allowed in zip(
        logits, candidate.completion, candidate.allowed, strict=True
    ):
        among = row[torch.tensor(allowed, device=row.device)].log_softmax(0)
        total += float(among[allowed.index(token)])
    return total
