"""What is written of a run does not grow with its questions, rollouts or steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from neuron_opsd.config import Config, EvaluationConfig
from neuron_opsd.errors import DataError
from neuron_opsd.records import GoldAnswers
from neuron_opsd.records.scores import QuestionScore, TestResult
from neuron_opsd.report.condense import (
    CASES_ROOM,
    fitted_cases,
    pool_summary,
    shown_size,
    training_summary,
)
from neuron_opsd.report.run_page import render_page
from neuron_opsd.results.run import AnswerCount, Case, ReportData
from neuron_opsd.runs.context import TestSet
from neuron_opsd.runs.findings import Findings, compare_tests, comparison_entry
from neuron_opsd.runs.reporting import REPORT
from neuron_opsd.stages.scoring import summarise
from neuron_opsd.storage.codecs import to_json
from neuron_opsd.storage.score_rows import save_run_scores
from report_examples import example_case, example_pool, example_report, example_training
from tiny_runs import FinishedRun, read_json

CONFIG = Config(evaluation=EvaluationConfig(num_resamples=20))


def scored(num_questions: int, shift: int) -> TestResult:
    """Return a result of so many questions of eight rollouts, with labels."""
    scores = []
    for n in range(num_questions):
        right = (n * 7 + shift) % 9
        gold, other = ("yes", "no") if n % 3 else ("no", "yes")
        given = ((gold, right), (other, 8 - right))
        answers = tuple((answer, count) for answer, count in given if count)
        best = gold if right > 4 else other
        share = max(right, 8 - right) / 8
        scores.append(
            QuestionScore(
                *(f"q{n}", right, 8, best, right > 4, share, 0, 0, 3.0, gold, answers)
            )
        )
    return summarise("law", scores, CONFIG.evaluation)


def report_of(size: int) -> ReportData:
    """Return the report of a run whose pool, test set and steps are so many."""
    test = TestSet("law", (), GoldAnswers({}), in_domain=True)
    before, after = {"law": scored(size, 0)}, {"law": scored(size, 1)}
    selection, votes = example_pool(size)
    return replace(
        example_report(),
        tests=compare_tests([test], Findings(before, after, {}), CONFIG),
        pool=pool_summary(selection, votes),
        training=training_summary(example_training(size)),
    )


def test_report_page_and_measures_do_not_grow(tmp_path: Path) -> None:
    sizes = []
    for size in (1000, 4000):
        data = report_of(size)
        path = tmp_path / f"{size}.json"
        REPORT.save(data, path)
        assert render_page(REPORT.load(path)) == render_page(data)
        measures = to_json({one.name: comparison_entry(one) for one in data.tests})
        page = len(render_page(data).encode())
        assert page < 1_000_000
        sizes.append((path.stat().st_size, page, len(measures)))
    for less, more in zip(*sizes, strict=True):
        assert more < 1.1 * less


MARKS = {
    "plain": "a film, with some words. ",
    "escaped": "<i>&'\"</i>",
    "wide": "\N{CJK UNIFIED IDEOGRAPH-6BD4}\N{GRINNING FACE}",
    "unseen": "\x1b\x00\u202e",
}


def long_case(mark: str, num_answers: int) -> Case:
    """Return a case all of whose texts are long."""
    text = mark * (14_000 // len(mark))
    answers = tuple(AnswerCount(f"{n}{text}", 1, text) for n in range(num_answers))
    case = example_case(0)
    return replace(
        case,
        question=text,
        choices=(text,) * 30,
        student_prompt=text,
        teacher_prompt=text,
        demonstrations=tuple(
            replace(one, question=text, answer=text) for one in case.demonstrations * 4
        ),
        rollouts_before=answers,
        rollouts_after=answers,
    )


@pytest.mark.parametrize("kind", MARKS)
def test_long_cases_of_any_marks_fit(kind: str, tmp_path: Path) -> None:
    cases = [long_case(MARKS[kind], 40)] * 6
    shown = fitted_cases(cases)
    assert sum(map(shown_size, shown)) <= CASES_ROOM
    assert fitted_cases(shown) == shown
    data = replace(example_report(), cases=shown)
    assert len(render_page(data).encode()) < 1_000_000
    assert len(render_page(replace(data, cases=tuple(cases))).encode()) < 1_000_000
    REPORT.save(data, tmp_path / "report.json")
    assert (tmp_path / "report.json").stat().st_size < 1_500_000
    for one in shown:
        assert [a.count for a in one.rollouts_before] == [1] * 40
        assert "more characters]" in one.teacher_prompt


def test_what_was_cut_says_how_much_is_missing() -> None:
    (case,) = fitted_cases([replace(example_case(0), question="x" * 5000)])
    kept, _, said = case.question.partition("\n")
    assert said == f"[{5000 - len(kept):,} more characters]"
    assert len(case.question) <= 2000


def test_the_scores_of_every_question_stand_in_a_table(
    finished_run: FinishedRun,
) -> None:
    table = pq.read_table(finished_run.folder / "scores.parquet").to_pylist()
    found = {(row["model"], row["test"]) for row in table}
    assert {("before", "parity"), ("after", "sums"), ("form-only", "parity")} <= found
    kept = read_json(finished_run.folder / "evaluation.json")
    for model, test in found:
        rows = [r for r in table if (r["model"], r["test"]) == (model, test)]
        entry = kept[test]
        told = entry[model] if model in entry else entry["controls"][model]
        shares = [row["num_correct"] / row["num_rollouts"] for row in rows]
        assert len(rows) == entry["num_questions"]
        assert sum(shares) / len(shares) == pytest.approx(told["avg_at_k"])


def test_scores_are_written_a_group_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []
    taken = pq.ParquetWriter.write_batch

    def count(writer: pq.ParquetWriter, batch: Sequence[object], **more: int) -> None:
        held.append(len(batch))
        taken(writer, batch, **more)

    monkeypatch.setattr(pq.ParquetWriter, "write_batch", count)
    save_run_scores({"before": {"law": scored(9000, 0)}}, tmp_path / "s.parquet")
    assert held == [8192, 9000 - 8192]


def test_a_report_in_another_form_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    for text, form in (("{}", "1"), ('{"format": 3}', "3"), ("[]", "1")):
        path.write_text(text)
        with pytest.raises(DataError, match=f"has report format {form}, but"):
            REPORT.load(path)
