"""Which completions give no answer, and what is said of a selection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from neuron_opsd.errors import DataError
from neuron_opsd.method.selection import rank_questions, selection_warnings
from neuron_opsd.outlines import RolloutFacts
from neuron_opsd.records import NeuronSet
from neuron_opsd.runs.context import RunContext


def unread_of(chosen: Mapping[str, RolloutFacts]) -> dict[str, str]:
    """Return why some questions' own completions give no answer.

    Args:
        chosen: Question id to the rollout that stands for it.

    Returns:
        Question id to the reason, only of completions that were cut or cannot be read.
    """
    why = {}
    for question_id, rollout in chosen.items():
        if not rollout.finished:
            why[question_id] = "its own completion was cut"
        elif rollout.answer is None:
            why[question_id] = "its own completion holds no answer that can be read"
    return why


def warn_of_selection(
    run: RunContext,
    neurons: Sequence[NeuronSet],
    own: Mapping[str, str | None],
    unread: Mapping[str, str],
) -> None:
    """Say what a selection left out, and where a draw decided.

    Raises:
        DataError: If nothing is left to train on.
    """
    config = run.config.selection
    ranking = rank_questions(neurons, config, run.config.seed, own, unread)
    if not ranking.kept.any():
        raise DataError(
            f"none of the {len(neurons)} questions can be selected, since every own "
            "completion was cut or holds no answer that can be read; raise "
            "rollouts.max_new_tokens, look at answers.reader, or set "
            "selection.include_unread to true"
        )
    for text in selection_warnings(ranking, config):
        run.directory.warn(text)
