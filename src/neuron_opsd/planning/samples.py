"""A pool block with answers, neurons, contexts and examples as in a run.

Timed by a plan once it has answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from neuron_opsd.answers.readers import readers_for
from neuron_opsd.answers.votes import tally_votes
from neuron_opsd.method.contexts.search import Known
from neuron_opsd.method.selection import PoolSignals, kept_ids, select_questions
from neuron_opsd.planning.trials import Answered, Trial, affordable, spread
from neuron_opsd.records import (
    Completion,
    Demonstration,
    NeuronSet,
    Rollout,
    TeacherContext,
    TrainingExample,
)
from neuron_opsd.stages.capture import capture_neurons, not_read, pairs_of
from neuron_opsd.stages.rollouts import PromptedQuestion, read
from neuron_opsd.stages.teaching import (
    DemonstrationPool,
    fitted_prompts,
    representatives,
    shown_text,
)

CAPTURE_SECONDS = 3.0
SHOWING_SECONDS = 3.0
"""Budget for reading neurons and answering with demonstrations."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Questions of the pool with their representative answers."""

    asked: tuple[PromptedQuestion, ...]
    rollouts: tuple[Rollout, ...]
    """One per question, uncut or as long as it may become."""

    @property
    def completions(self) -> tuple[Completion, ...]:
        """The completions of the rollouts."""
        return tuple(rollout.completion for rollout in self.rollouts)


def make_sample(
    trial: Trial,
    pool: Sequence[PromptedQuestion],
    answered: Sequence[Answered],
    rest: float,
) -> Sample:
    """Give pool questions answers, borrowed if they have none."""
    ordered = sorted(pool, key=trial.length)
    sample = spread(ordered, min(len(ordered), trial.config.rollouts.block_size))
    own = own_rollouts(trial, answered)
    written = {a.question.id for a in pool if a.written}
    free = [one.completion for name, one in own.items() if name not in written]
    rollouts = [
        own.get(a.question.id) or borrowed(trial, a, free, place)
        for place, a in enumerate(sample)
    ]
    return Sample(
        tuple(sample),
        tuple(replace(r, completion=grown(r.completion, rest)) for r in rollouts),
    )


def own_rollouts(trial: Trial, answered: Sequence[Answered]) -> dict[str, Rollout]:
    """Return each answered question's representative rollout."""
    questions = [a.question for one in answered for a in one.asked]
    rollouts = [rollout for one in answered for rollout in one.rollouts]
    config = trial.config
    readers = readers_for(questions, config.answers, config.prompts.list_choices)
    return representatives(rollouts, tally_votes(rollouts, readers), config)


def borrowed(
    trial: Trial, asked: PromptedQuestion, free: Sequence[Completion], place: int
) -> Rollout:
    """Return a choice of the question, or another question's free answer."""
    if asked.written:
        text = asked.written[place % len(asked.written)]
        ids = trial.model.encode_answer(asked.prompt, text)
        made = Completion(ids, text, finished=True, logprob=0.0, entropy=0.0)
    else:
        made = free[place % len(free)]
    return Rollout(asked.question.id, 0, 0.0, made, read(asked, made, trial.config))


def grown(completion: Completion, rest: float) -> Completion:
    """Extend a cut completion to its expected length."""
    ids = completion.token_ids
    if completion.finished or rest < 1.0:
        return completion
    length = len(ids) + round(rest)
    copies = -(-length // len(ids))
    text = " ".join([completion.text] * copies)
    return replace(completion, token_ids=(ids * copies)[:length], text=text)


def try_capture(
    trial: Trial, sample: Sample, reading: float
) -> tuple[float, tuple[NeuronSet, ...]]:
    """Read a sample's neurons, if the run does.

    Returns:
        Seconds per token (0 if none are read), and the sets.
    """
    if not trial.reads_neurons:
        return 0.0, tuple(not_read([a.question.id for a in sample.asked]))
    neurons = trial.config.neurons
    pairs = pairs_of(trial.model, sample.asked, sample.completions, neurons)
    total = sum(len(prompt) + len(made) for prompt, made in pairs)
    count = affordable(total / len(pairs) * reading, CAPTURE_SECONDS, len(pairs))
    places = spread(range(len(pairs)), count)

    def capture(chosen: Sequence[int]) -> list[NeuronSet]:
        ids = [sample.asked[i].question.id for i in chosen]
        batch = trial.config.model.tokens_per_batch
        some = [pairs[i] for i in chosen]
        return capture_neurons(trial.model, ids, some, neurons, batch)

    capture(places[:1])
    sets, seconds = trial.timed(partial(capture, places))
    read = sum(len(pairs[i][0]) + len(pairs[i][1]) for i in places)
    return seconds / read, tuple(sets)


def selected(
    trial: Trial, sample: Sample, neurons: Sequence[NeuronSet]
) -> frozenset[str]:
    """Return the ids of sampled questions that a run would train on.

    Completions cut only by the sample are assumed to end in the run.
    """
    config = trial.config
    everyone = frozenset(a.question.id for a in sample.asked)
    uncounted = any(entry.neuron_count is None for entry in neurons)
    if config.selects_by_neurons and uncounted:
        return everyone
    chosen = {rollout.question_id: rollout for rollout in sample.rollouts}
    cut_early = trial.limit() < config.rollouts.max_new_tokens
    ended = {n: r for n, r in chosen.items() if r.finished or not cut_early}
    entries = select_questions(
        PoolSignals(neurons, ended), config.selection, config.seed
    )
    return frozenset(kept_ids(entries)) or everyone


def make_examples(trial: Trial, sample: Sample) -> list[TrainingExample]:
    """Return the training examples of a sample's questions.

    Each shows the questions after it, at the same cost as any others.
    """
    config = trial.config
    ids = [a.question.id for a in sample.asked]
    texts = [shown_text(c, config) for c in sample.completions]
    if config.shows_given:
        texts = [a.question.given for a in sample.asked]
    library = DemonstrationPool(
        questions={a.question.id: a.question for a in sample.asked},
        answers=dict(zip(ids, texts, strict=True)),
        known=Known(()),
        excluded={},
    )
    count = config.contexts.num_found
    examples = []
    for place, a in enumerate(sample.asked):
        turned = [ids[(place + k) % len(ids)] for k in range(1, count + 1)]
        shown = [Demonstration(i, library.answers[i], 0.0, "") for i in turned]
        context = TeacherContext(a.question.id, tuple(shown))
        fitted = fitted_prompts(trial.model, a.question, context, library, config)
        first, *others = (prompt for prompt, _ in fitted)
        examples.append(
            TrainingExample(
                a.question, a.prompt, first, a.written, other_prompts=tuple(others)
            )
        )
    return examples


def try_shown(
    trial: Trial, sample: Sample, examples: Sequence[TrainingExample], rate: float
) -> tuple[list[PromptedQuestion], list[Rollout], float]:
    """Answer about a batch of tokens of questions with demonstrations.

    Returns:
        Questions, answers and seconds.
    """
    question_of = {a.question.id: a.question for a in sample.asked}
    asked = [
        PromptedQuestion(question_of[e.question_id], e.teacher_prompt, e.choices)
        for e in examples
    ]
    asked.sort(key=trial.length)
    mean = trial.tokens(asked) / len(asked)
    room = max(1, int(trial.config.model.tokens_per_batch // mean))
    count = affordable(mean * rate, SHOWING_SECONDS, min(room, len(asked)))
    some = spread(asked, count)
    return some, *trial.answered(some)
