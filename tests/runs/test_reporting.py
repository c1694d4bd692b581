"""From results to `evaluation.json`, the report and the card."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest

from neuron_opsd.cli import main
from neuron_opsd.config import FORM_ONLY, Config, EvaluationConfig
from neuron_opsd.errors import DataError
from neuron_opsd.method.calibration import METRICS
from neuron_opsd.records import GoldAnswers
from neuron_opsd.records.scores import Interval, QuestionScore, TestResult
from neuron_opsd.results.run import PROMPTED
from neuron_opsd.runs.context import TestSet
from neuron_opsd.runs.findings import (
    Findings,
    compare_tests,
    comparison_entry,
    cross_domain,
)
from neuron_opsd.runs.reporting import REPORT, rebuild_report, title_of
from neuron_opsd.stages.scoring import summarise
from neuron_opsd.storage.codecs import without_nan
from tiny_runs import FinishedRun, files_of

CONFIG = Config(evaluation=EvaluationConfig(num_resamples=200))

TESTS = tuple(
    TestSet(name, (), GoldAnswers({}), in_domain=name == "law")
    for name in ("art", "law", "sea")
)


def result(name: str, *num_correct: int) -> TestResult:
    """Return a result with so many of 8 rollouts correct for each question."""
    scores = [
        QuestionScore(f"{name}-{n}", c, 8, "x", c > 4, max(c, 8 - c) / 8, 0, 0, 3.0)
        for n, c in enumerate(num_correct)
    ]
    return summarise(name, scores, CONFIG.evaluation)


def findings(*, controls: bool = True) -> Findings:
    """Return findings of three sets; the control was asked one of them alone."""
    before = {name: result(name, 4, 4, 4, 4) for name in ("art", "law", "sea")}
    after = {
        "art": result("art", 4, 4, 4, 4),
        "law": result("law", 6, 6, 6, 6),
        "sea": result("sea", 8, 4, 4, 4),
    }
    form = {FORM_ONLY: {name: result(name, 5, 5, 5, 5) for name in before}}
    own = {PROMPTED: {"law": result("law", 3, 3, 3, 3)}}
    return Findings(before, after, {**own, **form} if controls else {})


def test_differences_are_after_minus_before_and_net_of_form() -> None:
    art, law, sea = compare_tests(TESTS, findings(), CONFIG)
    assert [c.name for c in (art, law, sea)] == ["art", "law", "sea"]
    assert [c.in_domain for c in (art, law, sea)] == [False, True, False]
    delta = law.delta["avg_at_k"]
    assert (delta.value, delta.low, delta.high) == pytest.approx((0.25, 0.25, 0.25))
    assert law.net_of_form is not None
    assert law.net_of_form["avg_at_k"].value == pytest.approx(1 / 8)
    assert set(law.controls) == {PROMPTED, FORM_ONLY}
    assert set(art.controls) == {FORM_ONLY}
    assert sum(one.num_questions for one in law.after.bins) == 4
    (plain, _, _) = compare_tests(TESTS, findings(controls=False), CONFIG)
    assert plain.controls == {}
    assert plain.net_of_form is None


def test_the_cross_domain_mean_leaves_the_own_domain_out() -> None:
    mean = cross_domain(TESTS, findings(), CONFIG)["avg_at_k"]
    assert mean.value == pytest.approx((0 + 1 / 8) / 2)
    assert mean.low <= mean.value <= mean.high
    assert cross_domain(TESTS[1:2], findings(), CONFIG) == {}


def test_the_evaluation_is_json_without_numbers_that_are_none() -> None:
    comparisons = compare_tests(TESTS, findings(), CONFIG)
    table = {test.name: comparison_entry(test) for test in comparisons}
    assert json.loads(json.dumps(table, allow_nan=False)) == table
    law = table["law"]
    assert law["domain"] == "in"
    assert law["num_questions"] == 4
    assert set(law["before"]) == set(law["controls"][PROMPTED]) == set(METRICS)
    # All votes of `law` are right afterwards, so no AUROC exists.
    assert law["after"]["auroc"] is None
    assert law["delta"]["auroc"]["value"] is None
    assert law["net_of_form"]["avg_at_k"]["value"] == pytest.approx(1 / 8)


def test_what_json_has_no_word_for_is_null() -> None:
    assert without_nan((0.5, math.nan, math.inf, -math.inf)) == [0.5, None, None, None]
    assert without_nan({"a": Interval(1.0, math.nan, 2.0)}) == {
        "a": {"value": 1.0, "low": None, "high": 2.0}
    }


def test_a_run_is_named_after_its_method_and_domain() -> None:
    assert title_of(TESTS, "neuron-opsd") == "Neuron-OPSD on law"
    assert title_of(TESTS, "lmsi") == "lmsi on law"


def test_a_report_is_made_again_to_the_byte(
    finished_run: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished_run.folder, run)
    page = (run / "report.html").read_bytes()
    before = files_of(run)
    (run / "report.html").unlink()
    told: list[str] = []
    assert rebuild_report(run, told.append) == run / "report.html"
    assert (run / "report.html").read_bytes() == page
    (run / "report.html").write_text("an older page")
    assert main(["report", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"report": str(run / "report.html")}
    assert files_of(run) == before
    assert told == []


def test_what_the_report_is_made_from_is_kept_whole(
    finished_run: FinishedRun,
) -> None:
    kept = REPORT.load(finished_run.folder / "report.json")
    assert kept.config == finished_run.data.config
    assert kept.cases == finished_run.data.cases
    assert kept.training == finished_run.data.training
    assert kept.command == "a command"


def test_a_page_names_a_local_model_by_its_folder_alone(
    finished_run: FinishedRun,
) -> None:
    folder = Path(finished_run.data.config.model.name)
    assert folder.is_absolute()
    assert finished_run.data.model.name == folder.name


def test_a_run_that_is_not_finished_has_no_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DataError, match=r"has no report\.json: the run is not fin"):
        rebuild_report(tmp_path, print)
    assert main(["report", str(tmp_path)]) == 2
    assert "the same `neuron-opsd run` command resumes it" in capsys.readouterr().err


def test_the_card_tells_results_and_every_finding_once(
    finished_run: FinishedRun,
) -> None:
    card = (finished_run.folder / "adapter/README.md").read_text("utf-8")
    assert "parity (in-domain)" in card
    assert "SHA-256 of pool" in card
    assert "a command" not in card
    teacher_check = finished_run.data.teacher_check
    assert teacher_check is not None
    assert teacher_check.findings
    for finding in teacher_check.findings:
        assert card.count(finding[:60]) == 1
        assert finding not in finished_run.data.warnings
        assert finding in finished_run.warnings
