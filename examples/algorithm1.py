"""Algorithm 1 of arXiv:2607.02460, step by step, from questions to an adapter.

    python examples/algorithm1.py MODEL questions.jsonl adapter [distill.steps=100 ...]

`neuron-opsd run` does the same in a folder that resumes, and checks and measures
besides; with equal settings it ends with the same adapter, byte for byte.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import neuron_opsd as no


def algorithm1(model_name: str, file: str, out: Path, assignments: list[str]) -> None:
    """Train an adapter from a file of unlabelled questions."""
    settings = no.load_config(assignments=[f"model.name={model_name}", *assignments])
    model = no.load_model(settings.model)

    # D: the pool of questions. Answers in the file are not read.
    pool = no.read_questions(file, labelled=False).questions
    config = no.resolve(settings, model, pool)

    # y ~ pi(. | x): the model answers every question; its majority is a pseudo-label.
    rollouts = no.sample_rollouts(model, pool, config)
    counted = no.tally_votes(pool, rollouts, config)
    votes = no.with_medoids(model, pool, rollouts, counted, config)
    agreement = sum(vote.agreement for vote in votes.values()) / len(votes)
    print(f"{len(rollouts)} rollouts, which agree with their vote {agreement:.0%}")

    # N(x): the neurons that pushed the answer which stands for each question.
    chosen = no.representatives(rollouts, votes, config)
    neurons = no.capture_neurons(model, pool, chosen, config)

    # S = {x : s(x) <= the b-th percentile}, where s(x) is the size of N(x). Other rules
    # read other signals.
    known = no.look_up(model, pool, neurons, chosen, votes, config)
    signals = no.read_signals(model, pool, rollouts, votes, known, config)
    selection = no.select_questions(neurons, chosen, votes, config, signals=signals)
    print(f"{sum(entry.kept for entry in selection)} of {len(pool)} questions selected")

    # C_K(x): the K questions with the most similar neurons, with the model's answers.
    answers = no.answers_to_show(model, pool, rollouts, votes, config)
    contexts = no.build_contexts(pool, known, selection, answers, config)
    examples = no.build_examples(model, pool, contexts, config)

    # The student, who sees x, learns to answer as the teacher does, who sees C_K(x), x.
    # After each step the teacher follows: theta' <- (1 - tau) theta' + tau theta.
    learner = no.make_learner(model, config)
    for step in no.train(learner, examples, config):
        print(f"step {step.step + 1}: loss {step.loss:.4f}")
    learner.save_adapter(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="folder, GGUF file or hub id")
    parser.add_argument("questions", help="file of unlabelled questions")
    parser.add_argument("out", type=Path, help="folder for the adapter")
    parser.add_argument("settings", nargs="*", help="section.field=value")
    given = parser.parse_args()
    algorithm1(given.model, given.questions, given.out, given.settings)
