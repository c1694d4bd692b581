"""Does vLLM answer as our own decoder does, and how long does each take?

    python benchmarks/engines.py --model FOLDER --test FILE --questions 100

Both answer the same questions freely, from the same seeds, with weights and products of
the same precision, and take turns after a first question that is not timed. It prints a
table with the share of right answers, its difference with an interval over questions,
and the time of one beside the other. It needs vLLM: `make test-vllm` shows how.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from neuron_opsd.answers.readers import readers_for
from neuron_opsd.config import Config
from neuron_opsd.config.tables import load_config
from neuron_opsd.data.questions import QuestionFile, read_questions
from neuron_opsd.models.load import load_answering, load_tokenizer
from neuron_opsd.records import Rollout
from neuron_opsd.runs.context import resolve
from neuron_opsd.stages.rollouts import ask, sample_rollouts

ENGINES = ("transformers", "vllm")


@dataclass(frozen=True, slots=True)
class Answered:
    """What one engine did."""

    shares: NDArray[np.float64]
    """Of right answers, for every question."""
    seconds: list[float]
    tokens: int
    """That were written in one round."""


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compute", default="float32")
    parser.add_argument("--set", nargs="*", default=[], dest="assignments")
    given = parser.parse_args()
    found = measured(given)
    print(f"{given.questions} questions, {given.samples} samples, {given.compute}\n")
    print("| engine | right | tokens per second | time to ours |")
    print("|---|---|---|---|")
    ours = found["transformers"]
    for name, one in found.items():
        seconds = median(one.seconds)
        print(
            f"| {name} | {100 * one.shares.mean():.1f} % | {one.tokens / seconds:.0f} "
            f"| {seconds / median(ours.seconds):.2f} |"
        )
    print(f"\n{difference_text(found['vllm'].shares - ours.shares)}")


def measured(given: argparse.Namespace) -> dict[str, Answered]:
    """Have both engines answer, in turns."""
    file = read_questions(given.test)
    file = replace(file, questions=file.questions[: given.questions])
    configs = {name: config_of(given, name) for name in ENGINES}
    models = {name: load_answering(config) for name, config in configs.items()}
    shares, tokens = {}, {}
    seconds: dict[str, list[float]] = {name: [] for name in ENGINES}
    for turn in range(1 + given.rounds):
        for name in ENGINES if turn % 2 else ENGINES[::-1]:
            config = configs[name]
            asked = ask(file.questions, config)
            draws = [(config.evaluation.temperature, given.samples if turn else 1)]
            start = perf_counter()
            rollouts = sample_rollouts(models[name], asked, config, "engines", draws)
            if turn:
                seconds[name].append(perf_counter() - start)
                shares[name] = right_shares(file, rollouts, config)
                tokens[name] = sum(rollout.num_tokens for rollout in rollouts)
    return {n: Answered(shares[n], seconds[n], tokens[n]) for n in ENGINES}


def config_of(given: argparse.Namespace, engine: str) -> Config:
    """Return the settings with which one engine answers."""
    config = load_config(
        None,
        [
            f"model.name={given.model}",
            f"model.compute={given.compute}",
            f"engine.rollouts={engine}",
            f"rollouts.max_new_tokens={given.tokens}",
            "rollouts.mode=free",
            "prompts.form=plain",
            *given.assignments,
        ],
    )
    return resolve(config, load_tokenizer(config.model))


def right_shares(
    file: QuestionFile, rollouts: Sequence[Rollout], config: Config
) -> NDArray[np.float64]:
    """Return the share of right answers to every question."""
    readers = readers_for(file.questions, config.answers, config.prompts.list_choices)
    right: dict[str, list[bool]] = {question.id: [] for question in file.questions}
    for rollout in rollouts:
        name, answer = rollout.question_id, rollout.answer
        gold = file.gold.answer_of[name]
        right[name].append(answer is not None and readers[name].same(answer, gold))
    return np.array([np.mean(one) for one in right.values()])


def difference_text(differences: NDArray[np.float64]) -> str:
    """Say how far apart both are, with an interval over questions."""
    mean = 100 * differences.mean()
    half = 196 * differences.std(ddof=1) / np.sqrt(len(differences))
    return (
        f"vllm minus transformers: {mean:+.1f} points "
        f"({mean - half:+.1f} to {mean + half:+.1f})"
    )


if __name__ == "__main__":
    main()
