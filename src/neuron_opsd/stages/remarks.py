"""Remarks for users on a pool's answers, a line each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from neuron_opsd.config import Config
from neuron_opsd.method.contexts import SHOWN_ANSWERS
from neuron_opsd.method.contexts.drawn import FILLED
from neuron_opsd.method.contexts.overlap import EXACT_PAIRS, stated_recall
from neuron_opsd.models.roles import Tokenizer
from neuron_opsd.records import RolloutSummary, TeacherContext, TrainingExample
from neuron_opsd.stages.teaching import DemonstrationPool, misread


def on_rollouts(rollouts: Iterable[RolloutSummary], longest: int) -> list[str]:
    """Say how many rollouts were cut, or never reached an answer."""
    found = []
    facts = Counter((rollout.finished, rollout.is_closed) for rollout in rollouts)
    cut = sum(count for (finished, _), count in facts.items() if not finished)
    if cut:
        found.append(
            f"{cut} of {facts.total()} rollouts were cut at {longest} tokens; raise "
            "rollouts.max_new_tokens"
        )
    thinking = sum(count for (_, closed), count in facts.items() if not closed)
    if thinking:
        found.append(
            f"{thinking} of {facts.total()} rollouts never closed their reasoning and "
            "have no answer: they do not vote, and are neither shown nor imitated"
        )
    return found


def on_shown(
    model: Tokenizer,
    found: Mapping[str, str],
    short: Mapping[str, str],
    config: Config,
    pool_size: int,
) -> list[str]:
    """Say how many questions of a pool cannot be demonstrations, and why."""
    contexts, remarks = config.contexts, []
    if len(found) < pool_size:
        remarks.append(
            f"{pool_size - len(found)} of {pool_size} questions of the pool cannot be "
            f"demonstrations, because {SHOWN_ANSWERS[contexts.answer].lacks}"
        )
    spelled = sum(misread(model, answer, config) for answer in found.values())
    if spelled:
        remarks.append(
            f"{spelled} questions cannot be demonstrations, since their answers "
            "contain a control token, which a conversation would read as one"
        )
    if long := len(found) - spelled - len(short):
        remarks.append(
            f"{long} questions cannot be demonstrations, since with their answers they "
            "are longer than contexts.max_demonstration_tokens "
            f"{contexts.max_demonstration_tokens}"
        )
    return remarks


def on_dropped(examples: Sequence[TrainingExample]) -> list[str]:
    """Say how many demonstrations did not fit into the teacher's prompt."""
    dropped = [example.num_dropped for example in examples if example.num_dropped]
    if not dropped:
        return []
    return [
        f"{sum(dropped)} demonstrations of {len(dropped)} questions were left out "
        "because the teacher's prompt would have been too long; the farthest went first"
    ]


def on_search(
    contexts: Sequence[TeacherContext], library: DemonstrationPool
) -> list[str]:
    """Say if a search did not compare all pairs, or did not find enough."""
    return [*on_recall(contexts, library), *on_filled(contexts)]


def on_filled(contexts: Sequence[TeacherContext]) -> list[str]:
    """Say how many demonstrations have another answer than the rule wants."""
    filled = [
        sum(shown.reason.endswith(FILLED) for shown in context.demonstrations)
        for context in contexts
    ]
    short = sum(count > 0 for count in filled)
    if not short:
        return []
    return [
        f"{short} of {len(contexts)} questions share their own answer with too few "
        f"others of the pool: {sum(filled)} of their demonstrations were drawn at "
        "random from those with other answers (contexts.rule is same-answer)"
    ]


def on_recall(
    contexts: Sequence[TeacherContext], library: DemonstrationPool
) -> list[str]:
    """Say if not all pairs of question and demonstration were compared."""
    first = next((c.demonstrations[0] for c in contexts if c.demonstrations), None)
    recall = None if first is None else stated_recall(first.reason)
    if recall is None:
        return []
    return [
        f"the demonstrations of {len(contexts):,} questions were searched among "
        f"{len(library.known.neurons):,} by sketches, since at most {EXACT_PAIRS:,} "
        f"pairs are compared one by one: {recall:.1%} of the nearest were found in a "
        "sample, with some farther ones in place of the others"
    ]
