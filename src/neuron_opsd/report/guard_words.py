"""What the guard saw, in a table and in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from neuron_opsd.method.settings import SCORES
from neuron_opsd.records import Reading
from neuron_opsd.report import wording
from neuron_opsd.report.tables import Cell, Column, Table, TableRow, table_of
from neuron_opsd.results.run import GuardSummary, ReportData

Written = Callable[[float | None], str]

MEASURES: Final[Mapping[str, tuple[str, Written]]] = {
    "agreement": ("rollouts of a question that agree", wording.percent),
    "top_answer_share": ("most frequent answer, over all questions", wording.percent),
    "base_agreement": ("says what the base model says", wording.percent),
    "divergence": ("KL(student || base), nats", wording.number),
    "surprise": ("KL(base || student), nats", wording.number),
    "entropy": ("entropy, nats per token", wording.number),
    "information": ("information of an answer, nats", wording.number),
    "repetition": ("runs of tokens just written before", wording.percent),
    "truncated": ("cut at the longest length", wording.percent),
    "mean_length": ("tokens of a rollout", wording.number),
}
"""Fields of a reading, with what they are called and how they are written."""


def guard_table(summary: GuardSummary) -> Table:
    """Return what base and student are like on the guard's questions."""

    def cells(field: str, written: Written) -> tuple[Cell, ...]:
        models: tuple[Reading, ...] = (summary.base, summary.last)
        return tuple(Cell(written(getattr(one, field))) for one in models)

    return table_of(
        "The guard",
        f"{summary.num_looks} looks at the same questions of the pool",
        map(Column, ("base", "after the last step")),
        (
            TableRow(name, cells(field, written))
            for field, (name, written) in MEASURES.items()
        ),
    )


def kept_sentence(data: ReportData) -> str:
    """Say which step the adapter is of, and why; nothing where it is the last."""
    if data.guard is None or data.guard.kept is None or data.training is None:
        return ""
    kept, score = data.guard.kept, data.config.guard.score
    first, last = wording.number(kept.score), wording.number(kept.last)
    why = f"by {score} ({SCORES[score].help})"
    if kept.num_steps == 0:
        return (
            "Training collapsed, and the adapter changes nothing: on the guard's "
            f"questions no step scored above the untrained model {why}, {first} "
            f"against {last} after the last step. No label was read for that."
        )
    return (
        "Training collapsed, and the adapter is that after "
        f"{kept.num_steps} of {data.training.num_steps} steps: on the guard's "
        f"questions it scored highest {why}, {first} against {last} after the last "
        "step. No label was read for that."
    )
