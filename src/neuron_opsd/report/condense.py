"""Condense rows per question, rollout or step into report-sized numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from markupsafe import escape

from neuron_opsd.method.calibration import has_votes, reliability_bins
from neuron_opsd.method.labels import baseline_answer, gold_counts, top_answer
from neuron_opsd.method.selection import num_left_out
from neuron_opsd.method.statistics import FloatArray, spearman
from neuron_opsd.records import Kept, SelectionEntry, StepMetrics, Vote
from neuron_opsd.records.scores import Point, QuestionScore, TestResult
from neuron_opsd.report.html import LONGEST_PROMPT, LONGEST_TEXT, clip
from neuron_opsd.report.run_charts import GUARD_LINES
from neuron_opsd.report.wording import one_line, visible
from neuron_opsd.results import run as results

MOST_LEVELS = 16
MOST_STEPS = 240
COUNT_BINS = 30

MOST_ANSWERS = 16
"""Distinct answers shown per question."""
MOST_CHOICES = 26
MOST_DEMONSTRATIONS = 16

LIMITS: Final = {
    "prompt": LONGEST_PROMPT,
    "text": LONGEST_TEXT,
    "answer": 300,
    "brief": 200,
}
"""In characters, per case; `brief` is for choices and demonstrations."""

CASES_ROOM: Final = 500_000
"""Bytes for the texts of all cases."""
LEAST_SHARE: Final = 1 / 64


def measured(result: TestResult, num_bins: int, levels: int) -> results.Measured:
    """Return one model's scores on a test set, without its questions."""
    if not result.scores:
        return results.Measured(result.metrics, num_unsettled=result.num_unsettled)
    return results.Measured(
        metrics=result.metrics,
        top_answer_share=top_answer(result.scores)[1],
        agreement=tuple(level_shares(result.scores, levels)),
        bins=tuple(reliability_bins(result.scores, num_bins)),
        num_unsettled=result.num_unsettled,
    )


def num_levels(num_rollouts: Iterable[int]) -> int:
    """Return the number of agreement levels."""
    return max(1, min(MOST_LEVELS, max(num_rollouts, default=1)))


def level_shares(scores: Sequence[QuestionScore], levels: int) -> list[float]:
    """Return the share of questions at each agreement level, from 0 upwards.

    Empty without votes.
    """
    if not has_votes(scores):
        return []
    counts = Counter(round(score.agreement * levels) for score in scores)
    return [counts[level] / len(scores) for level in range(levels + 1)]


def baseline_of(scores: Sequence[QuestionScore]) -> results.Baseline | None:
    """Return the most frequent gold answer; `None` if answers do not repeat."""
    answer = baseline_answer(scores)
    if answer is None:
        return None
    return results.Baseline(answer, gold_counts(scores)[answer] / len(scores))


def pool_summary(
    selection: Sequence[SelectionEntry], votes: Mapping[str, Vote]
) -> results.PoolSummary:
    """Summarise a pool.

    With one rollout per question there is no vote to compare with.
    """
    if all(vote.num_rollouts == 1 for vote in votes.values()):
        votes = {}
    shares = tuple(
        pool_share(entries, votes)
        for kept in (True, False)
        if (entries := [entry for entry in selection if entry.kept is kept])
    )
    summary = results.PoolSummary(num_left_out(selection), shares)
    known = [
        (entry.kept, entry.neuron_count, votes[entry.question_id].agreement)
        for entry in selection
        if entry.question_id in votes and entry.neuron_count is not None
    ]
    if not known:
        return summary
    counts = np.array([count for _, count, _ in known], dtype=np.float64)
    agreements = np.array([agreement for _, _, agreement in known])
    varied = min(len(np.unique(counts)), len(np.unique(agreements))) > 1
    ends = (int(counts.min()), int(counts.max()))
    return replace(
        summary,
        neurons=ends,
        correlation=spearman(counts, agreements) if varied else None,
        bubbles=tuple(bubbles(known, *ends)),
        tenths=tuple(tenths(counts, agreements)),
    )


def pool_share(
    entries: Sequence[SelectionEntry], votes: Mapping[str, Vote]
) -> results.PoolShare:
    """Summarise the selected or the unselected questions."""
    counts = sorted(e.neuron_count for e in entries if e.neuron_count is not None)
    held = [votes.get(entry.question_id) for entry in entries]
    shares = [vote.agreement for vote in held if vote is not None]
    return results.PoolShare(
        kept=entries[0].kept,
        num_questions=len(entries),
        neurons=(counts[0], counts[len(counts) // 2], counts[-1]) if counts else None,
        agreement=sum(shares) / len(shares) if shares else None,
    )


def bubbles(
    known: Sequence[tuple[bool, int, float]], low: int, high: int
) -> list[results.Bubble]:
    """Bin `kept`, neuron count and vote share on a grid."""
    cell = (high - low) / COUNT_BINS or 1.0
    grid: Counter[tuple[bool, float, float]] = Counter()
    for kept, count, share in known:
        place = min(COUNT_BINS - 1, int((count - low) / cell))
        level = round(share * MOST_LEVELS) / MOST_LEVELS
        grid[kept, low + (place + 0.5) * cell, level] += 1
    return [results.Bubble(*place, num) for place, num in sorted(grid.items())]


def tenths(counts: FloatArray, agreements: FloatArray) -> list[Point]:
    """Return means over each tenth of questions by neuron count."""
    if len(counts) < 20:
        return []
    order = np.argsort(counts, kind="stable")
    return [
        (float(counts[some].mean()), float(agreements[some].mean()))
        for some in np.array_split(order, 10)
    ]


def training_summary(steps: Sequence[StepMetrics]) -> results.TrainingSummary | None:
    """Summarise training steps; `None` without any."""
    if not steps:
        return None
    taken = [step for step in steps if not step.skipped]
    return results.TrainingSummary(
        num_steps=len(steps),
        num_tokens=sum(step.num_tokens for step in steps),
        first=steps[0],
        last=steps[-1],
        losses=tuple(thinned([(float(m.step), m.loss) for m in taken])),
        entropies=tuple(thinned([(float(m.step), m.entropy) for m in taken])),
    )


def guard_summary(
    steps: Sequence[StepMetrics], kept: Kept | None
) -> results.GuardSummary | None:
    """Summarise the guard's readings; `None` without any."""
    looks = [(step.step + 1.0, step.look) for step in steps if step.look is not None]
    if not looks:
        return None
    base = looks[0][1].base
    readings = [(0.0, base), *((at, look.student) for at, look in looks)]
    curves = {
        name: tuple(thinned([(at, getattr(one, name) or 0.0) for at, one in readings]))
        for name, *_ in GUARD_LINES
    }
    return results.GuardSummary(len(looks), base, looks[-1][1].student, curves, kept)


def thinned(values: Sequence[Point]) -> list[Point]:
    """Return the finite points, averaged in groups if very many."""
    known = [point for point in values if math.isfinite(point[1])]
    if len(known) <= MOST_STEPS:
        return known
    groups = np.array_split(np.array(known), MOST_STEPS)
    means = [group.mean(axis=0) for group in groups]
    return [(float(step), float(value)) for step, value in means]


def fitted_cases(cases: Sequence[results.Case]) -> tuple[results.Case, ...]:
    """Cut texts of cases to fit the page.

    First to `LIMITS`; if that is too much (long reasoning, multi-byte characters), all
    by the same factor. Idempotent for texts that fit.
    """
    share = 1.0
    found = tuple(shortened(case, share) for case in cases)
    while (size := sum(map(shown_size, found))) > CASES_ROOM and share > LEAST_SHARE:
        share *= 0.9 * CASES_ROOM / size
        found = tuple(shortened(case, share) for case in cases)
    return found


def shown_size(case: results.Case) -> int:
    """Return the bytes of a case's texts on the page."""
    sides = (case.rollouts_before, case.rollouts_after)
    answers = [one for side in sides for one in ranked(side)[:MOST_ANSWERS]]
    texts = (
        *(case.question, case.student_prompt, case.teacher_prompt, *case.choices),
        *(text for d in case.demonstrations for text in (d.question, d.answer)),
        *(text for a in answers for text in (a.answer or "", a.text)),
    )
    return sum(len(escape(visible(text)).encode()) for text in texts)


def shortened(case: results.Case, share: float) -> results.Case:
    """Cut a case's texts to a share of their limits."""

    def cut(text: str, what: str) -> str:
        return clip(text, int(share * LIMITS[what]))

    def brief(text: str) -> str:
        limit = int(share * LIMITS["brief"])
        return one_line(clip(text, 4 * limit), limit)

    def answers(some: Sequence[results.AnswerCount]) -> tuple[results.AnswerCount, ...]:
        told = set(map(id, ranked(some)[:MOST_ANSWERS]))
        return tuple(
            replace(
                one,
                answer=None if one.answer is None else cut(one.answer, "answer"),
                text=cut(one.text, "text") if id(one) in told else "",
            )
            for one in some
        )

    return replace(
        case,
        question=cut(case.question, "text"),
        choices=tuple(map(brief, case.choices[:MOST_CHOICES])),
        student_prompt=cut(case.student_prompt, "prompt"),
        teacher_prompt=cut(case.teacher_prompt, "prompt"),
        demonstrations=tuple(
            replace(one, question=brief(one.question), answer=brief(one.answer))
            for one in case.demonstrations[:MOST_DEMONSTRATIONS]
        ),
        rollouts_before=answers(case.rollouts_before),
        rollouts_after=answers(case.rollouts_after),
    )


def ranked(answers: Iterable[results.AnswerCount]) -> list[results.AnswerCount]:
    """Sort answers, most rollouts first."""
    return sorted(answers, key=lambda answer: -answer.count)
