"""A dozen questions of the pool in full, before and after training, for the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from functools import partial

from neuron_opsd.answers.votes import sampled_rollouts
from neuron_opsd.models.roles import Answerer, Tokenizer
from neuron_opsd.pipeline import BIAS_NAME, Prepared
from neuron_opsd.records import Rollout, TeacherContext
from neuron_opsd.results.run import AnswerCount, Case, CaseDemonstration
from neuron_opsd.runs.context import RunContext
from neuron_opsd.stages.rollouts import OWN, ask, sample_rollouts
from neuron_opsd.storage.codecs import ROLLOUTS
from neuron_opsd.storage.stored_rollouts import in_full, summaries_of

NUM_CASES = 12


def answer_cases(
    run: RunContext, model: Answerer, prepared: Prepared, made_from: Sequence[str]
) -> Mapping[str, Sequence[Rollout]]:
    """Answer a dozen questions with the trained model; return rollouts by id."""
    config, known = run.config, prepared.library.questions
    asked = ask([known[c.question_id] for c in choose_cases(prepared)], config)
    draws = [(config.rollouts.temperature, config.rollouts.num_samples)]
    sample = partial(sample_rollouts, config=config, stage=OWN, draws=draws)
    rollouts = run.directory.once(
        "cases",
        ROLLOUTS.named("cases"),
        lambda: run.work.employed(model).each(sample, [asked])[0],
        made_from=[BIAS_NAME, *made_from],
    )
    return sampled_rollouts(rollouts)


def choose_cases(prepared: Prepared) -> tuple[TeacherContext, ...]:
    """Return the contexts of a dozen selected questions of all ranks."""
    rank = {entry.question_id: entry.rank for entry in prepared.selection}
    ordered = sorted(prepared.contexts, key=lambda c: rank[c.question_id])
    step = max(1, len(ordered) // NUM_CASES)
    return tuple(ordered[::step][:NUM_CASES])


def build_cases(
    model: Tokenizer, prepared: Prepared, after: Mapping[str, Sequence[Rollout]]
) -> tuple[Case, ...]:
    """Show a dozen questions in full."""
    known = prepared.library.questions
    examples = {example.question_id: example for example in prepared.examples}
    reasons = {entry.question_id: entry.reason for entry in prepared.selection}
    shown = {context.question_id: context for context in choose_cases(prepared)}
    before = sampled_rollouts(of_questions(prepared.rollouts, shown.keys()))
    return tuple(
        Case(
            question_id=name,
            question=examples[name].question.text,
            choices=examples[name].question.choices,
            student_prompt=model.prompt_text(examples[name].student_prompt),
            teacher_prompt=model.prompt_text(examples[name].teacher_prompt),
            reason=reasons[name],
            demonstrations=tuple(
                CaseDemonstration(
                    known[d.question_id].text, d.answer, d.distance, d.reason
                )
                for d in context.demonstrations
            ),
            rollouts_before=answer_counts(before[name]),
            rollouts_after=answer_counts(after.get(name, ())),
        )
        for name, context in shown.items()
    )


def of_questions(rollouts: Sequence[Rollout], ids: Set[str]) -> list[Rollout]:
    """Return the rollouts of some questions in full."""
    some = [one for one in summaries_of(rollouts) if one.question_id in ids]
    return in_full(rollouts, some)


def answer_counts(rollouts: Sequence[Rollout]) -> tuple[AnswerCount, ...]:
    """Count the answers of a question's rollouts, most frequent first."""
    counts = Counter(rollout.answer for rollout in rollouts)
    text_of = {rollout.answer: rollout.completion.text for rollout in rollouts}
    return tuple(
        AnswerCount(answer, count, text_of[answer])
        for answer, count in counts.most_common()
    )
