"""U-OPSD: the teacher is shown one of the student's own rollouts as a solution."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from neuron_opsd.config import Config
from neuron_opsd.methods.method import GROUPS, WHOLE_POOL, Method, Targets
from neuron_opsd.methods.preset import preset
from neuron_opsd.models.roles import Learner
from neuron_opsd.stages.distill import distillation
from neuron_opsd.stages.teaching import shown_text, with_solution
from neuron_opsd.stages.training import Examples, Objective, RolloutGroup
from neuron_opsd.stages.writing import Group, check_group, sequences_of, vote_on_policy


def objective(config: Config, targets: Targets) -> Objective:
    """Return distillation of what disagrees with the vote towards who saw what agrees.

    The teacher's context is the shortest rollout that gives the voted answer, its
    reasoning with it; trained on are all rollouts that do not give it, also those
    without a readable answer. A question whose rollouts all agree teaches nothing in
    that step.
    """
    del targets
    check_group(config)

    def write(learner: Learner, batch: Examples, step: int) -> list[RolloutGroup]:
        groups = vote_on_policy(learner, batch, step, config)
        return [lesson(learner, group, config) for group in groups]

    return distillation(config, write)


def lesson(learner: Learner, group: Group, config: Config) -> RolloutGroup:
    """Split a group into what is shown to the teacher and what is trained on."""
    pairs = zip(group.completions, group.answers, strict=True)
    agreeing = [completion for completion, a in pairs if group.agrees(a)]
    if not agreeing:
        return RolloutGroup((), group.completions, agreement=0.0)
    shortest = min(agreeing, key=lambda completion: len(completion.token_ids))
    solution = shown_text(shortest, config)
    example = replace(
        group.example,
        teacher_prompt=with_solution(learner, group.example, solution, config),
    )
    trained = zip(group.trained.completions, group.trained.answers, strict=True)
    others = [completion for completion, a in trained if not group.agrees(a)]
    return RolloutGroup(
        sequences_of(example, others),
        group.completions,
        agreement=group.vote.agreement,
    )


PRESET: Final = preset(
    1e-5,
    {
        "learning rate": "not known to us (adapter)",
        "sampling": "not known to us",
        "samples": "8 to 12; more gain nothing",
        "votes": "the same",
    },
    settings={"distill": {"num_samples": 12, "teacher": "ema"}},
)

METHOD = Method(
    name="u-opsd",
    summary="distils a teacher who sees the shortest rollout that gives the voted "
    "answer, on the rollouts that do not",
    acts_on="the whole vocabulary at every token, also where choices were sampled",
    source="U-OPSD, arXiv:2608.06296, which trains on the longest of them, without its "
    "filter on the share of votes",
    objective=objective,
    preset=PRESET,
    notes=(
        "the solution is shown as an earlier turn, in which the same question was "
        "answered: the same form as a demonstration's, also where there is no chat "
        "template, and without an instruction, which would be in one language. OPSD, "
        "which the paper builds on, writes it into the user's turn and asks for an "
        "answer in the model's own words",
        "its reasoning loses its marks there, since chat templates cut marked "
        "reasoning out of earlier turns; the paper finds that a whole trace is needed",
        "all rollouts that disagree are trained on; the paper takes the longest. "
        "Those without a readable answer are among them: the teacher then says what "
        "else to write, and nothing of them is imitated",
        "the paper's rate is not known to us; the preset keeps the default for an "
        "adapter, which the paper trains too, and a tenth of it for full tuning",
    ),
    settings={**GROUPS, "contexts": {**WHOLE_POOL["contexts"], "content": "full"}},
)
