"""One question as the student and as the teacher see it, before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neuron_opsd.answers.readers import readers_for
from neuron_opsd.answers.votes import tally_votes
from neuron_opsd.config import Config
from neuron_opsd.config.needs import needs_neurons
from neuron_opsd.errors import DataError
from neuron_opsd.method.selection import select_questions
from neuron_opsd.models.load import load_model, load_tokenizer
from neuron_opsd.models.roles import LanguageModel, Tokenizer
from neuron_opsd.progress import Progress
from neuron_opsd.records import NeuronSet, Question, Rollout, TokenIds
from neuron_opsd.runs.context import remarks, resolve
from neuron_opsd.runs.inputs import POOL, read_pool
from neuron_opsd.runs.model_checks import check_sets
from neuron_opsd.runs.pool_rollouts import remarks_on_rollouts
from neuron_opsd.runs.prepare import (
    make_demonstration_pool,
    own_answers,
    representatives,
)
from neuron_opsd.runs.resolution import for_model, with_method
from neuron_opsd.runs.selection import unread_of
from neuron_opsd.stages.capture import capture_neurons, not_read, pair_of
from neuron_opsd.stages.centring import choice_bias, is_centring, with_bias
from neuron_opsd.stages.rollouts import (
    PromptedQuestion,
    ask,
    reading_of,
    sample_rollouts,
)
from neuron_opsd.stages.teaching import (
    DemonstrationPool,
    build_contexts,
    demonstrable,
    fitted_prompt,
    shown_answers,
    shown_draws,
)

NUM_NEIGHBOURS = 64
"""Questions of the pool, the previewed one among them, that a preview asks."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What student and teacher see of one question, and where the loss acts."""

    question_id: str
    student_prompt: str
    teacher_prompt: str
    demonstrations: int
    completion_example: str
    answer: str | None
    """What is read from it; `None` where it holds no answer."""
    answer_why: str
    """What the answer was read from, or why there is none."""
    num_student_tokens: int
    num_teacher_tokens: int
    num_completion_tokens: int
    num_dropped: int
    """Demonstrations that do not fit."""
    mask: str
    """The end of the student's tokens, each trained one in brackets."""


def preview(
    pool: str, question_id: str | None, config: Config, progress: Progress
) -> Preview:
    """Show one question as the student and as the teacher see it.

    To be quick it looks for demonstrations among the first questions of the pool only.

    Args:
        pool: File or dataset of questions.
        question_id: Which one; the first if none is named.
        config: Model, prompts and contexts.
        progress: Told of the questions asked.

    Raises:
        NeuronOpsdError: For anything that the user can mend.
    """
    config = with_method(config)
    questions = read_pool(pool, config)
    for note in questions.notes:
        progress.warn(note)
    chosen = find_question(questions.questions, question_id, pool)
    others = [q for q in questions.questions if q.id != chosen.id]
    some = [chosen, *others[: NUM_NEIGHBOURS - 1]]
    tokenizer = load_tokenizer(config.model)
    own = for_model(config, tokenizer.facts)
    resolved = resolve(own, tokenizer, chooses=any(q.choices for q in some))
    check_sets(tokenizer, {POOL: some}, resolved, {POOL: pool})
    model = load_model(config.model, tokenizer=tokenizer)
    asked = ask(some, resolved)
    if is_centring(resolved.rollouts):
        resolved = with_bias(resolved, choice_bias(model, asked, len(asked)))
        asked = ask(some, resolved)
    draws = [(resolved.rollouts.temperature, resolved.rollouts.num_samples)]
    draws += shown_draws(resolved.contexts)
    with progress.stage("preview", len(some), "questions") as done:
        rollouts = sample_rollouts(model, asked, resolved, "rollout", draws)
        done(len(some))
    cut = remarks_on_rollouts(rollouts, resolved.rollouts.max_new_tokens)
    for text in (*cut, *remarks(model.facts, resolved, own)):
        progress.warn(text)
    return show_first(model, asked, rollouts, resolved)


def show_first(
    model: LanguageModel,
    asked: Sequence[PromptedQuestion],
    rollouts: Sequence[Rollout],
    config: Config,
) -> Preview:
    """Show the first of some questions, with demonstrations from the others."""
    some = [a.question for a in asked]
    readers = readers_for(some, config.answers, config.prompts.list_choices)
    votes = tally_votes(rollouts, readers)
    shown = representatives(rollouts, votes, config)
    neurons = neurons_of(model, asked, shown, config)
    own, unread = own_answers(shown), unread_of(shown)
    selection = select_questions(neurons, config.selection, config.seed, own, unread)
    shown_texts = demonstrable(
        model,
        {question.id: question for question in some},
        shown_answers(rollouts, votes, config),
        config,
    )
    library = make_demonstration_pool(some, shown_texts, neurons, selection, config)
    return show(model, asked[0], shown[some[0].id], neurons[0], library, config)


def neurons_of(
    model: LanguageModel,
    asked: Sequence[PromptedQuestion],
    shown: Mapping[str, Rollout],
    config: Config,
) -> list[NeuronSet]:
    """Return the neurons of some questions, as a run would read them, or none."""
    ids = [a.question.id for a in asked]
    if not needs_neurons(config):
        return not_read(ids)
    pairs = [
        pair_of(
            model,
            model.encode(a.prompt),
            shown[a.question.id].completion,
            config.neurons,
        )
        for a in asked
    ]
    tokens = config.model.tokens_per_batch
    return capture_neurons(model, ids, pairs, config.neurons, tokens)


def find_question(
    questions: Sequence[Question], question_id: str | None, pool: str
) -> Question:
    """Return the question of an id, or the first.

    Raises:
        DataError: If the pool has no such question.
    """
    for question in questions:
        if question_id in (None, question.id):
            return question
    raise DataError(
        f"{pool} has no question {question_id!r}; its ids begin with "
        f"{', '.join(question.id for question in questions[:3])}"
    )


def show(
    model: Tokenizer,
    asked: PromptedQuestion,
    rollout: Rollout,
    neurons: NeuronSet,
    library: DemonstrationPool,
    config: Config,
) -> Preview:
    """Put together what is shown of a question."""
    (context,) = build_contexts([neurons], library, config)
    prompt, dropped = fitted_prompt(model, asked.question, context, library, config)
    reading = reading_of(asked, rollout.completion, config)
    student = model.encode(asked.prompt)
    completion = rollout.completion.token_ids
    return Preview(
        question_id=asked.question.id,
        student_prompt=model.prompt_text(asked.prompt),
        teacher_prompt=model.prompt_text(prompt),
        demonstrations=len(context.demonstrations) - dropped,
        completion_example=rollout.completion.text,
        answer=reading.answer,
        answer_why=reading.why,
        num_student_tokens=len(student),
        num_teacher_tokens=len(model.encode(prompt)),
        num_completion_tokens=len(completion),
        num_dropped=dropped,
        mask=mask_text(model, student, completion),
    )


def mask_text(model: Tokenizer, prompt: TokenIds, completion: TokenIds) -> str:
    """Write the join of prompt and completion token by token, trained ones marked."""
    before = [token_text(model, token) for token in prompt[-6:]]
    trained = [f"[{token_text(model, token)}]" for token in completion]
    return " ".join([*before, *trained])


def token_text(model: Tokenizer, token: int) -> str:
    """Return one token's text, control tokens and line breaks made visible."""
    return repr(model.token_text(token))[1:-1]
