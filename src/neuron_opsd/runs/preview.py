"""One question as student and teacher see it before training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from neuron_opsd.config import Config
from neuron_opsd.errors import DataError
from neuron_opsd.method.contexts import SHOWN_ANSWERS
from neuron_opsd.method.contexts.search import Signal
from neuron_opsd.method.selection import SELECTION_RULES
from neuron_opsd.models.load import load_answering, load_tokenizer
from neuron_opsd.models.roles import Tokenizer
from neuron_opsd.pipeline import Prepared, centred, prepare
from neuron_opsd.progress import Progress
from neuron_opsd.records import Question
from neuron_opsd.runs.context import have_choices, remarks, resolve_method
from neuron_opsd.runs.inputs import POOL, check_given, read_pool
from neuron_opsd.runs.model_checks import check_sets
from neuron_opsd.runs.resolution import for_model, with_method
from neuron_opsd.stages.rollouts import ask, reading_of
from neuron_opsd.storage.caching import Workspace
from neuron_opsd.storage.stored_rollouts import in_full

KEEPING_ALL: Final = next(n for n, one in SELECTION_RULES.items() if one.keeps_all)
NUM_NEIGHBOURS = 64
"""Questions asked for a preview, the shown one included."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What student and teacher see of one question, and where the loss acts."""

    question_id: str
    student_prompt: str
    teacher_prompt: str
    demonstrations: int
    completion_example: str
    answer: str | None
    """`None` if it holds no answer."""
    answer_why: str
    """What the answer was read from, or why there is none."""
    num_student_tokens: int
    num_teacher_tokens: int
    num_completion_tokens: int
    num_dropped: int
    mask: str
    """The end of the student's tokens, trained ones in brackets."""


def preview(
    pool: str, question_id: str | None, config: Config, progress: Progress
) -> Preview:
    """Show one question as the student and as the teacher see it.

    To be quick, demonstrations come from the first questions of the pool only, each
    asked once where votes do not matter.
    """
    config = with_method(config)
    questions = read_pool(pool, config, warn=progress.warn).questions
    check_given(pool, questions, [config], progress.warn)
    chosen = find_question(questions, question_id, pool)
    others = [q for q in questions if q.id != chosen.id]
    some = [chosen, *others[: NUM_NEIGHBOURS - 1]]
    tokenizer = load_tokenizer(config.model)
    own = hastened(for_model(config, tokenizer.facts))
    resolved = resolve_method(own, tokenizer, questions, chooses=have_choices(some))
    check_sets(tokenizer, {POOL: some}, resolved, {POOL: pool})
    model = load_answering(resolved, tokenizer=tokenizer)
    work = centred(Workspace(resolved, progress=progress), model, some)
    prepared = prepare(work, model, some, only={chosen.id})
    work.warn(remarks(model.facts, resolved, own))
    return show(model, chosen, prepared, work)


def hastened(config: Config) -> Config:
    """Return settings that skip what a preview does not show."""
    config = config.changed(contexts={"num_contexts": 1})
    if config.contexts.source == "pool":
        config = config.changed(selection={"rule": KEEPING_ALL})
    contexts = SHOWN_ANSWERS[config.contexts.answer].reads_samples
    surest = Signal.CERTAINTY in config.context_signals
    if contexts or surest or config.selection_rule.reads_votes:
        return config
    return config.changed(rollouts={"num_samples": 1})


def find_question(
    questions: Sequence[Question], question_id: str | None, pool: str
) -> Question:
    """Return the question with this id, or the first."""
    for question in questions:
        if question_id in (None, question.id):
            return question
    raise DataError(
        f"{pool} has no question {question_id!r}; its ids begin with "
        f"{', '.join(question.id for question in questions[:3])}"
    )


def show(
    model: Tokenizer, question: Question, prepared: Prepared, work: Workspace
) -> Preview:
    """Build the preview of a question."""
    (context,), (example,) = prepared.contexts, prepared.examples
    (asked,) = ask([question], work.config)
    chosen = prepared.representatives[question.id]
    (rollout,) = in_full(prepared.rollouts, [chosen])
    reading = reading_of(asked, rollout.completion, work.config)
    student = model.encode(example.student_prompt)
    completion = rollout.completion.token_ids
    before = [token_text(model, token) for token in student[-6:]]
    trained = [f"[{token_text(model, token)}]" for token in completion]
    return Preview(
        question_id=question.id,
        student_prompt=model.prompt_text(example.student_prompt),
        teacher_prompt=model.prompt_text(example.teacher_prompt),
        demonstrations=len(context.demonstrations) - example.num_dropped,
        completion_example=rollout.completion.text,
        answer=reading.answer,
        answer_why=reading.why,
        num_student_tokens=len(student),
        num_teacher_tokens=len(model.encode(example.teacher_prompt)),
        num_completion_tokens=len(completion),
        num_dropped=example.num_dropped,
        mask=" ".join([*before, *trained]),
    )


def token_text(model: Tokenizer, token: int) -> str:
    """Return a token's text with special characters visible."""
    return repr(model.token_text(token))[1:-1]
