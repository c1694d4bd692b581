"""Rollouts of a training step: sampled, read, voted on, and made into sequences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from neuron_opsd.answers.readers import reader_for
from neuron_opsd.answers.votes import tally
from neuron_opsd.config import Config
from neuron_opsd.errors import ConfigError
from neuron_opsd.models.roles import Answerer, Learner, Sampling
from neuron_opsd.records import Completion, TokenIds, TrainingExample, Vote
from neuron_opsd.seeds import derive_seed
from neuron_opsd.stages.rollouts import Draw, PromptedQuestion, bias_of, complete, read
from neuron_opsd.stages.training import (
    Batch,
    Examples,
    RolloutGroup,
    RolloutGroups,
    TrainingSequence,
)


@dataclass(frozen=True, slots=True)
class VotedGroup:
    """The rollouts of one question in one step, and their vote."""

    example: TrainingExample
    completions: tuple[Completion, ...]
    answers: tuple[str | None, ...]
    """`None` if unreadable."""
    vote: Vote
    same: Callable[[str, str], bool]

    def first(self, count: int) -> VotedGroup:
        """Drop the rollouts that only vote; keep the vote."""
        return replace(
            self, completions=self.completions[:count], answers=self.answers[:count]
        )

    def agrees(self, answer: str | None) -> bool:
        """Tell whether an answer has the most votes."""
        label = self.vote.pseudo_label
        return answer is not None and label is not None and self.same(answer, label)

    def sequences(
        self, wanted: Callable[[str | None], bool]
    ) -> tuple[TrainingSequence, ...]:
        """Return training sequences for the rollouts with wanted answers."""
        pairs = zip(self.completions, self.answers, strict=True)
        return sequences_of(self.example, [c for c, answer in pairs if wanted(answer)])


def draw(
    model: Answerer,
    batch: Batch,
    count: int,
    config: Config,
    *,
    with_context: bool = False,
) -> list[tuple[Completion, ...]]:
    """Sample completions of a batch's questions as in training.

    The first ones do not depend on `count`. With context, the model sees the teacher's
    prompt.
    """
    seeds = []
    for place, example in batch.placed:
        parts = (config.seed, "train", batch.step, place, example.question_id)
        others = (derive_seed(*parts, k) for k in range(1, count))
        seeds.append([derive_seed(*parts), *others])
    questions = [
        replace(
            asked(e, with_context=with_context),
            bias=bias_of(e.question, config.rollouts),
        )
        for e in batch.examples
    ]
    (groups,) = complete(model, questions, [Draw(training_sampling(config), seeds)])
    return [tuple(group) for group in groups]


def training_sampling(config: Config) -> Sampling:
    """Return how the student's rollouts are sampled in training."""
    tuning = config.distill
    return Sampling(
        temperature=tuning.temperature,
        top_p=tuning.sampling_top_p,
        top_k=tuning.sampling_top_k,
        min_p=tuning.sampling_min_p,
        stop=config.rollouts.stop,
        max_new_tokens=config.training_tokens,
        stop_at_newline=config.prompts.form == "plain",
    )


def asked(example: TrainingExample, *, with_context: bool = False) -> PromptedQuestion:
    """Return an example as a question for student or teacher."""
    prompt = example.teacher_prompt if with_context else example.student_prompt
    return PromptedQuestion(example.question, prompt, example.choices)


def voted(
    examples: Examples, groups: Sequence[tuple[Completion, ...]], config: Config
) -> list[VotedGroup]:
    """Read the answers of a batch's rollouts and vote on each question."""
    found = []
    for example, completions in zip(examples, groups, strict=True):
        answers = tuple(read(asked(example), c, config) for c in completions)
        listed = config.prompts.list_choices
        reader = reader_for(example.question, config.answers, listed)
        vote = tally(example.question_id, answers, reader.same)
        found.append(VotedGroup(example, completions, answers, vote, reader.same))
    return found


def num_voting(config: Config) -> int:
    """Return how many rollouts of a question vote, trained on or not."""
    return max(config.distill.num_samples, config.policy.num_votes)


def vote_on_policy(learner: Learner, batch: Batch, config: Config) -> list[VotedGroup]:
    """Sample the student's rollouts and vote on each question."""
    drawn = draw(learner, batch, num_voting(config), config)
    return voted(batch.examples, drawn, config)


def on_policy(learner: Learner, batch: Batch, config: Config) -> RolloutGroups:
    """Sample the student's rollouts and train on all."""
    groups = draw(learner, batch, config.distill.num_samples, config)
    return [
        RolloutGroup(in_turn(example, group, batch.step, config), group)
        for example, group in zip(batch.examples, groups, strict=True)
    ]


def in_turn(
    example: TrainingExample,
    completions: Sequence[Completion],
    step: int,
    config: Config,
) -> tuple[TrainingSequence, ...]:
    """Return training sequences that take turns with the question's contexts.

    Which context the first one gets is drawn anew in every step. The mean of reverse KL
    divergences to several teachers is, up to a constant, that to their normalised
    geometric mean.
    """
    prompts = example.teacher_prompts
    if len(prompts) == 1:
        return sequences_of(example, completions)
    first = derive_seed(config.seed, "contexts-in-turn", step, example.question_id)
    taught = [replace(example, teacher_prompt=p, other_prompts=()) for p in prompts]
    shares = [
        sequences_of(one, completions[(place - first) % len(prompts) :: len(prompts)])
        for place, one in enumerate(taught)
    ]
    return tuple(sequence for share in shares for sequence in share)


def sequences_of(
    example: TrainingExample, completions: Sequence[Completion]
) -> tuple[TrainingSequence, ...]:
    """Return each distinct completion once, with its count."""
    first: dict[TokenIds, TrainingSequence] = {}
    for completion in completions:
        known = first.get(completion.token_ids)
        first[completion.token_ids] = (
            TrainingSequence(example, completion)
            if known is None
            else replace(known, count=known.count + 1)
        )
    return tuple(first.values())


def check_group(config: Config) -> None:
    """Raise ConfigError for groups of a single rollout, which compare with nothing."""
    if config.distill.num_samples < 2:
        raise ConfigError(
            f"{config.method} compares the rollouts of a question, but "
            f"distill.num_samples is {config.distill.num_samples}; set it to 2 or more"
        )
    check_votes(config)


def check_votes(config: Config) -> None:
    """Raise ConfigError for votes of one rollout, or of fewer than are trained on."""
    trained, votes = config.distill.num_samples, config.policy.num_votes
    if max(trained, votes) < 2:
        raise ConfigError(
            f"{config.method} holds a vote among the rollouts of a question, but "
            f"distill.num_samples is {trained} and policy.num_votes is {votes}; set "
            "one of them to 2 or more"
        )
    if 0 < votes < trained:
        raise ConfigError(
            f"policy.num_votes is {votes}, but all {trained} rollouts of "
            f"distill.num_samples vote; set it to {trained} or more, or to 0 where no "
            "others vote"
        )
