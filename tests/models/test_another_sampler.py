"""Another engine is one class: what only samples takes the place of our decoding.

Scores, gradients and neurons stay ours, and say that the engine draws as it should.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from loaded import learning, loaded
from neuron_opsd.config import Config
from neuron_opsd.config.tables import load_config
from neuron_opsd.methods import METHODS
from neuron_opsd.models.decoding.sampling import draw_tokens
from neuron_opsd.models.hf import HFModel
from neuron_opsd.models.roles import Finished, Sampling, ignore
from neuron_opsd.records import (
    Completion,
    Message,
    Prompt,
    Question,
    StepMetrics,
    TokenIds,
    TrainingExample,
)
from neuron_opsd.seeds import uniforms
from neuron_opsd.stages.rollouts import ask, sample_rollouts
from neuron_opsd.stages.training import train


class OneByOne:
    """Samples with whole passes of transformers' own network, one token at a time."""

    def __init__(self, model: HFModel) -> None:
        self.network: Any = model.network
        self.tokens = model.tokens
        self.asked = 0

    def sample(
        self,
        prompts: Sequence[TokenIds],
        seeds: Sequence[Sequence[int]],
        sampling: Sampling,
        finished: Finished = ignore,
    ) -> list[list[Completion]]:
        """Draw one completion per seed for every prompt."""
        self.asked += len(prompts)
        results = []
        for number, (prompt, row) in enumerate(zip(prompts, seeds, strict=True)):
            results.append([self.one(prompt, seed, sampling) for seed in row])
            finished(number, results[-1])
        return results

    def one(self, prompt: TokenIds, seed: int, sampling: Sampling) -> Completion:
        """Draw one completion."""
        ends = self.tokens.end_ids | self.tokens.newline_ids
        ids, logprob, entropy = list(prompt), 0.0, 0.0
        for number in uniforms(seed, sampling.max_new_tokens):
            with torch.no_grad():
                logits = self.network(input_ids=torch.tensor([ids])).logits[:, -1]
            draw = draw_tokens(logits, torch.tensor([number]).double(), sampling)
            ids.append(int(draw.tokens))
            logprob, entropy = logprob + float(draw.logprobs), float(draw.entropies)
            if ids[-1] in ends:
                break
        written = tuple(ids[len(prompt) :])
        text = self.tokens.decode(written)
        return Completion(written, text, ids[-1] in ends, logprob, entropy, 0)


@pytest.fixture
def config(tiny_llama_plain: Path) -> Config:
    return load_config(
        None,
        [
            f"model.name={tiny_llama_plain}",
            "prompts.form=plain",
            "rollouts.mode=free",
            "rollouts.max_new_tokens=6",
            "rollouts.top_p=1.0",
            "distill.batch_size=2",
            "distill.steps=2",
            "distill.learning_rate=0.01",
        ],
    )


QUESTIONS = [Question(f"q{n}", (Message("user", f"Is {n} odd?"),)) for n in range(3)]


def test_rollouts_come_from_another_engine_and_scores_from_ours(
    tiny_llama_plain: Path, config: Config
) -> None:
    model = loaded(tiny_llama_plain)
    asked = ask(QUESTIONS, config)
    ours = sample_rollouts(model, asked, config, "rollout", [(1.0, 3)])
    model.sampler = engine = OneByOne(model)
    theirs = sample_rollouts(model, asked, config, "rollout", [(1.0, 3)])
    assert engine.asked == len(QUESTIONS)
    assert [r.completion.token_ids for r in theirs] == [
        r.completion.token_ids for r in ours
    ]
    for rollout in theirs:
        (number,) = (i for i, q in enumerate(QUESTIONS) if q.id == rollout.question_id)
        ids = rollout.completion.token_ids
        whole = tuple(range(model.facts.vocab_size))
        pair = model.encode(asked[number].prompt), ids
        (rows,) = model.logits_at([pair], [[whole] * len(ids) + [()]])
        scored = sum(
            float(torch.tensor(row).log_softmax(-1)[token])
            for row, token in zip(rows, ids, strict=False)
        )
        assert rollout.completion.logprob == pytest.approx(scored, abs=1e-4)


def test_a_step_trains_on_what_another_engine_wrote(
    tiny_llama_plain: Path, config: Config
) -> None:
    examples = [
        TrainingExample(a.question, a.prompt, Prompt(f"1 {a.prompt.text}"))
        for a in ask(QUESTIONS, config)
    ]

    def steps(*, elsewhere: bool) -> list[StepMetrics]:
        learner = learning(tiny_llama_plain)
        engine = OneByOne(learner)
        if elsewhere:
            learner.sampler = engine
        found = list(train(learner, examples, METHODS["neuron-opsd"](config), config))
        assert engine.asked == (2 * len(found) if elsewhere else 0)
        return found

    ours, theirs = steps(elsewhere=False), steps(elsewhere=True)
    assert [m.num_tokens for m in theirs] == [m.num_tokens for m in ours]
    for own, other in zip(ours, theirs, strict=True):
        assert other.loss == pytest.approx(own.loss, rel=1e-3)
        assert other.grad_norm == pytest.approx(own.grad_norm, rel=1e-3)
