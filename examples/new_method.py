"""A method of one's own, trained beside the others and measured like them.

    python examples/new_method.py MODEL questions.jsonl exam.jsonl runs/compared

The method imitates the shortest of the rollouts that give the majority's answer, so
that a model that reasons at length learns to come to the point.
"""

from __future__ import annotations

import argparse

import neuron_opsd as no
from neuron_opsd.methods.imitation import LMSI, Imitation
from neuron_opsd.models.roles import Learner
from neuron_opsd.stages.training import Batch, RolloutGroup, RolloutGroups
from neuron_opsd.stages.training_rollouts import VotedGroup, vote_on_policy


@no.add_method
class ShortestAgreeing(Imitation):
    """Imitates the shortest rollout that gives the majority's answer."""

    name = "shortest-agreeing"
    acts_on = LMSI.acts_on
    source = "an example"
    preset = LMSI.preset
    settings = LMSI.settings
    votes = True

    def roll_out(self, learner: Learner, batch: Batch) -> RolloutGroups:
        """Return the rollout to imitate for each question, none without a vote."""
        groups = vote_on_policy(learner, batch, self.config)
        return [self.shortest(group) for group in groups]

    def shortest(self, group: VotedGroup) -> RolloutGroup:
        """Return the shortest that agrees, with all that were drawn for the metrics."""
        agreeing = group.sequences(group.agrees)
        best = sorted(agreeing, key=lambda one: len(one.completion.token_ids))[:1]
        agreement = group.vote.agreement
        return RolloutGroup(tuple(best), group.completions, agreement=agreement)


def compare(model: str, questions: str, exam: str, out: str, more: list[str]) -> None:
    """Train the method beside LMSI, once each, and print what both reach."""
    settings = no.load_config(assignments=[f"model.name={model}", *more])
    sources, tests = {"own": questions}, {"own": exam}
    methods = ["lmsi", ShortestAgreeing.name]
    data = no.compare(sources, tests, out, settings, methods=methods, seeds=1)
    for found in data.measurements:
        place = found.place
        if (place.source, place.target, place.metric) == ("own", "own", "avg_at_k"):
            print(f"{place.method}: Avg@{data.num_samples} {found.value:.3f}")
    print(f"the whole comparison: {out}/comparison.html")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="folder, GGUF file or hub id")
    parser.add_argument("questions", help="file of unlabelled questions")
    parser.add_argument("exam", help="file of questions with answers")
    parser.add_argument("out", help="folder of the comparison")
    parser.add_argument("settings", nargs="*", help="section.field=value")
    given = parser.parse_args()
    compare(given.model, given.questions, given.exam, given.out, given.settings)
