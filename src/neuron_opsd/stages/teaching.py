"""From neuron sets to what each teacher sees: demonstrations with own answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from neuron_opsd.answers import reasoning
from neuron_opsd.config import Config, ContextsConfig
from neuron_opsd.errors import DataError
from neuron_opsd.method.contexts import (
    GIVEN,
    SHOWN_ANSWERS,
    deal,
    find_demonstrations,
)
from neuron_opsd.method.contexts.search import Known, Search
from neuron_opsd.models.roles import Tokenizer
from neuron_opsd.prompts import student_prompt, teacher_prompt
from neuron_opsd.records import (
    Completion,
    Demonstration,
    Message,
    Prompt,
    Question,
    Rollout,
    RolloutSummary,
    TeacherContext,
    TrainingExample,
    Vote,
)
from neuron_opsd.stages.rollouts import written

R = TypeVar("R", bound=RolloutSummary)
"""A rollout or its summary."""


@dataclass(frozen=True, slots=True)
class DemonstrationPool:
    """Questions that may become demonstrations, with the answers to show."""

    questions: Mapping[str, Question]
    answers: Mapping[str, str]
    """What each shows; questions without a readable answer are left out."""
    known: Known
    """Of these questions alone, in pool order."""
    excluded: Mapping[str, frozenset[str]]
    """By question id, the ids with the same text, perhaps including its own."""


def check_enough(
    ids: Iterable[str], library: DemonstrationPool, config: ContextsConfig
) -> None:
    """Raise DataError if a question has too few demonstrations."""
    count = config.num_found
    usable = set(library.known.ids)
    none = frozenset[str]()
    num_barred: dict[frozenset[str], int] = {none: 0}
    for own in ids:
        barred = library.excluded.get(own, none)
        if barred not in num_barred:  # once per text
            num_barred[barred] = len(usable & barred)
        is_own = own in usable and own not in barred
        have = len(usable) - num_barred[barred] - is_own
        if have < count:
            alike = num_barred[barred] - (own in usable and own in barred)
            also = f" ({alike} others have its text and are not shown)" if alike else ""
            raise DataError(
                f"{config.asks_for}, but question {own} can choose from only {have} "
                f"with a readable answer{also}; lower it, give a larger pool, or, if "
                "many answers are cut or unread, look at rollouts.max_new_tokens and "
                "answers.reader"
            )


def shown_rollouts(
    rollouts: Iterable[Rollout], votes: Mapping[str, Vote], config: ContextsConfig
) -> Iterator[Rollout]:
    """Yield the rollout of each question that a demonstration would show.

    Questions whose rollout has no readable answer, or no text, have none.
    """
    shown: set[str] = set()
    for rollout in rollouts:
        if rollout.question_id in shown or not fits(rollout, votes, config):
            continue
        if rollout.completion.final:
            shown.add(rollout.question_id)
            yield rollout


def shown_answers(
    rollouts: Iterable[Rollout], votes: Mapping[str, Vote], config: Config
) -> dict[str, str]:
    """Return the assistant's answer in each question's demonstration."""
    return {
        rollout.question_id: shown_text(rollout.completion, config)
        for rollout in shown_rollouts(rollouts, votes, config.contexts)
    }


def demonstrable(
    model: Tokenizer,
    questions: Mapping[str, Question],
    answers: Mapping[str, str],
    config: Config,
) -> dict[str, str]:
    """Return the answers that can be shown: short ones without control tokens."""
    answers = {n: a for n, a in answers.items() if not misread(model, a, config)}
    most = config.contexts.max_demonstration_tokens
    if not most:
        return answers

    def length(question_id: str) -> int:
        text = f"{questions[question_id].text}\n{answers[question_id]}"
        return len(model.encode(Prompt(text=text)))

    return {name: answer for name, answer in answers.items() if length(name) <= most}


def misread(model: Tokenizer, answer: str, config: Config) -> bool:
    """Tell whether a conversation could not hold an answer as plain text."""
    if config.prompts.form != "chat":
        return False
    return bool(model.refusal(Prompt(messages=(Message("assistant", answer),))))


def shown_text(completion: Completion, config: Config) -> str:
    """Return what a demonstration shows of a completion; empty without an answer.

    With `contexts.content=full` this includes the reasoning, as plain text.
    """
    if completion.final is None or config.contexts.content == "final":
        return completion.final or ""
    model = config.model
    return reasoning.without_marks(
        completion.text, reasoning.all_marks(model.reasoning_start, model.reasoning_end)
    )


def fits(
    rollout: RolloutSummary, votes: Mapping[str, Vote], config: ContextsConfig
) -> bool:
    """Whether a demonstration shows this rollout."""
    if rollout.answer is None:
        return False
    if config.answer == "greedy":
        return rollout.temperature == 0.0
    if rollout.temperature == 0.0:
        return False
    if config.answer == "first":
        return rollout.index == 0
    if SHOWN_ANSWERS[config.answer].reads_all_neurons:
        return rollout.index == votes[rollout.question_id].medoid
    return votes[rollout.question_id].supported_by(rollout.answer)


def representatives(
    rollouts: Iterable[R], votes: Mapping[str, Vote], config: Config
) -> dict[str, R]:
    """Return each question's own rollout, whose neurons represent it.

    It is the one a demonstration would show, or the first if none can be shown.
    """
    chosen: dict[str, R] = {}
    first: dict[str, R] = {}
    for rollout in rollouts:
        first.setdefault(rollout.question_id, rollout)
        if fits(rollout, votes, config.contexts):
            chosen.setdefault(rollout.question_id, rollout)
    return {**first, **chosen}


def own_answers(chosen: Mapping[str, RolloutSummary]) -> dict[str, str | None]:
    """Return each question's own answer."""
    return {question_id: rollout.answer for question_id, rollout in chosen.items()}


def build_contexts(
    questions: Known,
    library: DemonstrationPool,
    config: Config,
    *,
    rule: str | None = None,
) -> tuple[TeacherContext, ...]:
    """Choose the demonstrations of some questions, the nearest one last.

    `rule` overrides the settings'. All that it reads must be known of the library and
    of the questions, which need not be in it.

    Raises:
        DataError: If there are fewer demonstrations to choose from than asked for.
    """
    count, answers = config.contexts.num_found, library.answers
    rule = rule or config.contexts.rule
    if rule != GIVEN:
        check_enough(questions.ids, library, config.contexts)
    search = Search(questions, library.known, count, library.excluded, config.seed)
    found = find_demonstrations(rule, search)
    return tuple(
        TeacherContext(
            name,
            tuple(
                Demonstration(
                    n.question_id, answers[n.question_id], n.distance, n.reason
                )
                for n in reversed(found[name])
            ),
        )
        for name in questions.ids
    )


def context_prompt(
    question: Question,
    demonstrations: Sequence[Demonstration],
    library: DemonstrationPool,
    config: Config,
) -> Prompt:
    """Return the prompt of a question with its demonstrations or given context."""
    if config.shows_given:
        given = "\n\n".join(d.answer for d in demonstrations)
        return teacher_prompt(question, (), config.prompts, given)
    shown = [(library.questions[d.question_id], d.answer) for d in demonstrations]
    return teacher_prompt(question, shown, config.prompts)


def fitted_prompt(
    model: Tokenizer,
    question: Question,
    context: TeacherContext,
    library: DemonstrationPool,
    config: Config,
    place: int = 0,
) -> tuple[Prompt, int]:
    """Return the teacher's prompt and how many demonstrations were dropped.

    It is that of the first of the question's contexts, or of the one at `place`. The
    farthest are dropped to fit, but the question is never cut.

    Raises:
        DataError: If the question alone is too long, or the chat template leaves out
            what a demonstration shows.
    """
    most = room(model, config)
    wanted = min(most, config.contexts.max_tokens or most)
    dealt = deal(context.demonstrations, config.contexts.num_contexts)[place]
    for dropped in range(len(dealt)):
        shown = dealt[dropped:]
        prompt = context_prompt(question, shown, library, config)
        if len(model.encode(prompt)) <= wanted:
            check_shown(model, prompt, question, shown)
            return prompt, dropped
    alone = context_prompt(question, (), library, config)
    length = len(model.encode(alone))
    if length <= most:
        return alone, len(dealt)
    raise DataError(
        f"question {question.id} takes {length} tokens, but the model holds "
        f"{model.facts.max_positions} and max_new_tokens keeps "
        f"{config.most_new_tokens} of them; lower that or drop the question"
    )


def fitted_prompts(
    model: Tokenizer,
    question: Question,
    context: TeacherContext,
    library: DemonstrationPool,
    config: Config,
) -> list[tuple[Prompt, int]]:
    """Return the same with each of the question's contexts."""
    places = range(config.contexts.num_contexts if context.demonstrations else 1)
    own = model, question, context, library, config
    return [fitted_prompt(*own, place) for place in places]


def room(model: Tokenizer, config: Config) -> int:
    """Return how many tokens a prompt may have next to the longest answer."""
    return model.facts.max_positions - config.most_new_tokens


def check_shown(
    model: Tokenizer, prompt: Prompt, question: Question, shown: Sequence[Demonstration]
) -> None:
    """Raise DataError if the chat template drops part of a demonstration."""
    if not prompt.messages:
        return
    text = " ".join(model.prompt_text(prompt).split())
    for demonstration in shown:
        if " ".join(demonstration.answer.split()) not in text:
            raise DataError(
                f"question {question.id}: the chat template of {model.facts.name} does "
                "not show the teacher the whole answer of its demonstration "
                f"{demonstration.question_id}, {demonstration.answer[:60]!r}; set "
                "contexts.content=final, name its marks by model.reasoning_start and "
                "model.reasoning_end, or set prompts.form=plain"
            )


def with_solution(
    model: Tokenizer, example: TrainingExample, solution: str, config: Config
) -> Prompt:
    """Return the prompt of a teacher who has seen the question solved.

    A solution that does not fit or spells a control token is left out.
    """
    alone = teacher_prompt(example.question, (), config.prompts)
    if misread(model, solution, config):
        return alone
    most = room(model, config)
    shown = (example.question, solution)
    prompt = teacher_prompt(example.question, [shown], config.prompts)
    if len(model.encode(prompt)) > min(most, config.contexts.max_tokens or most):
        return alone
    own = Demonstration(example.question_id, solution, None, "its own solution")
    check_shown(model, prompt, example.question, [own])
    return prompt


def build_examples(
    model: Tokenizer,
    contexts: Sequence[TeacherContext],
    library: DemonstrationPool,
    config: Config,
    *,
    on_done: Callable[[int], None],
) -> tuple[TrainingExample, ...]:
    """Build the student's and the teacher's prompts of every selected question."""
    examples = []
    for context in contexts:
        question = library.questions[context.question_id]
        fitted = fitted_prompts(model, question, context, library, config)
        (prompt, _), *others = fitted
        examples.append(
            TrainingExample(
                question=question,
                student_prompt=student_prompt(question, config.prompts),
                teacher_prompt=prompt,
                choices=written(question, config),
                num_dropped=sum(dropped for _, dropped in fitted),
                other_prompts=tuple(other for other, _ in others),
            )
        )
        on_done(1)
    return tuple(examples)
