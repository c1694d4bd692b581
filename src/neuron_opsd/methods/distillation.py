"""Methods that follow a teacher that is shown more than the student is."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from torch import Tensor

from neuron_opsd.config import Config
from neuron_opsd.method.losses import distillation_loss
from neuron_opsd.methods.method import (
    GROUPS,
    SHORT_ANSWERS,
    WHOLE_POOL,
    Method,
    Oracle,
    Preset,
    sections,
)
from neuron_opsd.models.roles import Learner
from neuron_opsd.records import TrainingExample
from neuron_opsd.stages.engine_gap import token_weights
from neuron_opsd.stages.sequences import student_pairs, teacher_pairs
from neuron_opsd.stages.teaching import shown_text, with_solution
from neuron_opsd.stages.training import (
    Batch,
    RolloutGroup,
    RolloutGroups,
    Sequences,
)
from neuron_opsd.stages.training_rollouts import (
    VotedGroup,
    check_group,
    on_policy,
    vote_on_policy,
)


class Distillation(Method):
    """Distillation on the student's own rollouts towards the teacher's distribution."""

    acts_on = "the whole vocabulary at every token, also where choices were sampled"

    def roll_out(self, learner: Learner, batch: Batch) -> RolloutGroups:
        """Return the student's own rollouts, all of which are trained on."""
        return on_policy(learner, batch, self.config)

    def loss(self, learner: Learner, sequences: Sequences) -> Tensor:
        """Return the divergence of the student from the teacher.

        The student answers without the context that the teacher sees; the divergence is
        taken at every token of its answer, the end token included.

        Source: Eq. 10 of arXiv:2607.02460.
        """
        config = self.config.distill
        # The teacher goes first, while nothing of the student's graph is alive.
        teacher = learner.teacher(teacher_pairs(learner, sequences))
        student = learner.student(student_pairs(learner, sequences))
        weights = token_weights(student, sequences, config, of_drawn=False)
        return distillation_loss(student, teacher, config, weights)

    def shown(
        self, learner: Learner, example: TrainingExample, solution: str
    ) -> TrainingExample:
        """Return an example whose teacher is shown a solution."""
        prompt = with_solution(learner, example, solution, self.config)
        return replace(example, teacher_prompt=prompt, other_prompts=())


PROTOTYPE: Final = Preset(
    1e-5,
    {
        "learning rate": "not stated; 1e-5 in the first author's prototype (full)",
        "schedule": "not stated; constant after 10 steps in the prototype",
        "sampling": "not stated; temperature 0.7 in the prototype",
        "samples": "not stated; 1 in the prototype",
        "steps": "150",
        "questions": "16",
    },
    settings=sections(
        selection={"keep_fraction": 0.2},
        distill={
            "num_samples": 1,
            "temperature": 0.7,
            "batch_size": 16,
            "schedule": "constant",
            "warmup_steps": 10,
            "divergence": "reverse-kl",
            "teacher": "ema",
            "ema_rate": 0.01,
        },
    ),
)
"""How neuron-opsd and its controls are trained, whatever they select and show."""


class NeuronOPSD(Distillation):
    """Distils a teacher that sees the demonstrations with the nearest neurons."""

    name = "neuron-opsd"
    source = "Chen and Li, arXiv:2607.02460"
    notes = (
        "the prototype shows demonstrations filtered by true answers; here no true "
        "answer is read, as the paper claims",
        "a question whose own answer cannot be read is not used as a demonstration, "
        "since it would show the teacher no answer; a run says how many. The paper "
        "leaves none out",
        "a question's neurons are those of the completion that a demonstration shows: "
        "the first sample as in the paper, or the greedy one with `contexts.answer = "
        "greedy`; where none can be shown, the first sample. The whole completion "
        "counts, including reasoning, even with `contexts.content = final`",
    )
    preset = replace(
        PROTOTYPE,
        said={
            **PROTOTYPE.said,
            "selection": "the fifth with the fewest neurons",
            "demonstrations": "10, the nearest by neurons",
        },
        settings=sections(
            PROTOTYPE.settings,
            selection={"rule": "fewest-neurons", "balance": False},
            contexts={
                "rule": "nearest",
                "num_demonstrations": 10,
                "num_contexts": 1,
                "answer": "first",
            },
        ),
    )
    short_answers = SHORT_ANSWERS
    without_neurons = sections()
    reads_contexts = True


class RandomOPSD(Distillation):
    """Neuron-opsd with random questions and random demonstrations."""

    name = "random-opsd"
    source = "control; its demonstrations are those of table 2 of arXiv:2607.02460"
    settings = sections(selection={"rule": "random"}, contexts={"rule": "random"})
    short_answers = SHORT_ANSWERS
    essential = ("selection.rule", "contexts.rule")
    preset = PROTOTYPE
    reads_contexts = True


class EmaOnly(Distillation):
    """Neuron-opsd whose teacher sees no demonstrations."""

    name = "ema-only"
    source = "control: what a slow copy teaches by itself"
    notes = (
        "its questions are chosen as neuron-opsd's are: by the fewest neurons, all "
        "where answers are chosen among choices, or at random where the model's "
        "neurons cannot be read",
    )
    settings = sections(contexts={"num_demonstrations": 0})
    short_answers = SHORT_ANSWERS
    essential = ("contexts.num_demonstrations",)
    preset = PROTOTYPE
    reads_contexts = True


class UOPSD(Distillation):
    """Distils a teacher that sees the shortest rollout that gives the voted answer.

    It is trained on all rollouts that do not give that answer, also those without a
    readable one. A question whose rollouts all agree teaches nothing in that step.
    """

    name = "u-opsd"
    source = (
        "U-OPSD, arXiv:2608.06296, which trains on the longest of them, without its "
        "filter on the share of votes"
    )
    notes = (
        "the solution is shown as an earlier turn in which the same question was "
        "answered, the form of a demonstration, which needs no chat template and no "
        "instruction in any language. OPSD, which the paper builds on, writes it into "
        "the user's turn and asks for an answer in the model's own words",
        "its reasoning loses its marks there, since chat templates cut marked "
        "reasoning out of earlier turns; the paper finds that a whole trace is needed",
        "all rollouts that disagree are trained on, even those without a readable "
        "answer: the teacher says what to write instead, and nothing in them is "
        "imitated. The paper takes the longest",
        "the paper's rate is not known to us; the preset keeps the default for an "
        "adapter, which the paper trains too, and a tenth of it for full tuning",
    )
    preset = Preset(
        1e-5,
        {
            "learning rate": "not known to us (adapter)",
            "sampling": "not known to us",
            "samples": "8 to 12; more gain nothing",
            "votes": "the same",
        },
        settings=sections(distill={"num_samples": 12, "teacher": "ema"}),
    )
    settings = sections(GROUPS, contexts={"content": "full"})
    votes = True

    @classmethod
    def check(cls, config: Config) -> None:
        """Refuse a group of a single rollout."""
        check_group(config)

    def roll_out(self, learner: Learner, batch: Batch) -> RolloutGroups:
        """Return rollouts that disagree, with a teacher that is shown what agrees."""
        groups = vote_on_policy(learner, batch, self.config)
        return [self.split(learner, group) for group in groups]

    def split(self, learner: Learner, group: VotedGroup) -> RolloutGroup:
        """Split a group into what the teacher is shown and what is trained on."""
        agreeing = [s.completion for s in group.sequences(group.agrees)]
        if not agreeing:
            return RolloutGroup((), group.completions, agreement=0.0)
        shortest = min(agreeing, key=lambda completion: len(completion.token_ids))
        solution = shown_text(shortest, self.config)
        trained = replace(
            group.first(self.config.distill.num_samples),
            example=self.shown(learner, group.example, solution),
        )
        others = trained.sequences(lambda answer: not group.agrees(answer))
        agreement = group.vote.agreement
        return RolloutGroup(others, group.completions, agreement=agreement)


class OracleOPSD(Oracle, Distillation):
    """Distils a teacher that sees the gold answer."""

    name = "oracle-opsd"
    source = "OPSD, arXiv:2601.18734: upper bound of neuron-opsd"
    notes = (
        "the answer is shown as u-opsd shows its solution, in an earlier turn; OPSD "
        "writes a whole solution into the user's turn and asks for it in the model's "
        "own words",
        "the public scripts have rates of 2e-5 to 2e-4 and later work takes 5e-6, all "
        "for an adapter; the preset has the last, and a tenth of it for full tuning, "
        "which the source does not do",
    )
    preset = Preset(
        5e-7,
        {
            "learning rate": "2e-5 to 2e-4, later 5e-6 (adapter of rank 64)",
            "sampling": "temperature 1.1 or 1.2, top-p 0.95, top-k 20",
            "steps": "100",
            "questions": "32",
        },
        settings=sections(
            distill={
                "divergence": "forward-kl",
                "entry_clip": 0.05,
                "teacher": "frozen",
                "lora_rank": 64,
                "lora_alpha": 128,
                "batch_size": 32,
                "temperature": 1.1,
                "sampling_top_p": 0.95,
                "sampling_top_k": 20,
            }
        ),
    )
    settings = WHOLE_POOL

    def roll_out(self, learner: Learner, batch: Batch) -> RolloutGroups:
        """Return own rollouts, with a teacher that is shown the answer."""
        told = [
            self.shown(learner, example, self.targets[example.question_id].written)
            for example in batch.examples
        ]
        return on_policy(learner, replace(batch, examples=told), self.config)


METHODS: Final = (NeuronOPSD, RandomOPSD, EmaOnly, UOPSD, OracleOPSD)
