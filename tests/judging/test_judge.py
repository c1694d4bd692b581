"""A judgement as a whole: its numbers, pairs, files, page and command."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import brier_score_loss, roc_auc_score

import neuron_opsd as no
from neuron_opsd.cli import main
from neuron_opsd.errors import ConfigError
from neuron_opsd.judging.judge import page_of
from neuron_opsd.progress import Silent
from neuron_opsd.report.judging_page import outcome, render_judgement
from neuron_opsd.results.judging import JudgementData
from pages import HOSTILE, check_inert, check_links, read
from sample_files import Row, answered, sums, write_rows

SETTINGS = {"evaluation.num_resamples": 200, "answers.reader": "number"}
SIZE = 60


def made(seed: int, skill: float) -> list[Row]:
    """Return samples of which a share is right, with words and numbers for it."""
    rng = np.random.default_rng(seed)
    rights = rng.binomial(4, np.clip(rng.normal(skill, 0.3, SIZE), 0.02, 0.98))
    rows = answered(sums(SIZE), rights.tolist())
    for row in rows:
        right = "100" not in row["completion"]
        sure = rng.choice(["high", "90%", "very likely"] if right else ["high", "low"])
        row["confidence"] = str(sure)
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a test set and the samples of two models."""
    path = tmp_path_factory.mktemp("judged")
    write_rows(path / "exam.jsonl", sums(SIZE))
    write_rows(path / "base.jsonl", made(1, 0.4))
    write_rows(path / "tuned.jsonl", made(2, 0.7)[4 * 5 :])
    return path


@pytest.fixture(scope="module")
def data(folder: Path) -> JudgementData:
    """Give the judgement of both."""
    return judged(folder)


def judged(folder: Path, settings: Mapping[str, Any] = SETTINGS) -> JudgementData:
    """Judge both models."""
    files = {name: folder / f"{name}.jsonl" for name in ("base", "tuned")}
    tests = {"exam": folder / "exam.jsonl"}
    return no.judge(files, settings, tests, progress=Silent())


def votes(folder: Path, name: str) -> tuple[list[float], list[bool]]:
    """Return vote share and correctness of each question, counted by hand.

    Wrong answers all differ, so that two right ones have the vote; of four different
    ones the first has it.
    """
    by_id: dict[str, list[str]] = {}
    for line in (folder / f"{name}.jsonl").read_text().splitlines():
        row = json.loads(line)
        by_id.setdefault(row["id"], []).append(row["completion"])
    gold = {row["id"]: row["answer"] for row in sums(SIZE)}
    shares, right = [], []
    for key, texts in by_id.items():
        count = sum(text == f"It is {gold[key]}." for text in texts)
        shares.append(max(count, 1) / len(texts))
        right.append(count > 0)
    return shares, right


def test_measures_are_those_of_scikit_learn(folder: Path, data: JudgementData) -> None:
    for one in data.files:
        shares, right = votes(folder, one.name)
        told = {name: interval.value for name, interval in one.measures.items()}
        assert told["maj_at_k"] == pytest.approx(np.mean(right))
        assert told["brier"] == pytest.approx(brier_score_loss(right, shares))
        assert told["auroc"] == pytest.approx(roc_auc_score(right, shares))
        assert told["unanimity"] == pytest.approx(np.mean(np.array(shares) == 1.0))
        by_vote = {c.source: c for c in one.confidences}["vote share"]
        for name, interval in by_vote.measures.items():
            assert interval == one.measures[name], name


def test_intervals_hold_their_values(data: JudgementData) -> None:
    for one in data.files:
        found = one.measures["avg_at_k"]
        assert found.low < found.value < found.high
        assert found.high - found.low < 0.3


def test_two_files_are_paired_on_the_questions_of_both(
    folder: Path, data: JudgementData
) -> None:
    (pair,) = data.pairs
    assert (pair.first, pair.second) == ("base", "tuned")
    assert pair.num_questions == SIZE - 5
    assert pair.left_out == (5, 0)
    _, base = votes(folder, "base")
    _, tuned = votes(folder, "tuned")
    only_base = sum(a and not b for a, b in zip(base[5:], tuned, strict=True))
    only_tuned = sum(b and not a for a, b in zip(base[5:], tuned, strict=True))
    assert (pair.only_first, pair.only_second) == (only_base, only_tuned)
    wanted = binomtest(only_base, only_base + only_tuned).pvalue
    assert pair.mcnemar == pytest.approx(wanted)
    gap = np.mean(tuned) - np.mean(base[5:])
    assert pair.change["maj_at_k"].value == pytest.approx(gap)
    assert pair.change["avg_at_k"].low > 0
    assert pair.p_values["avg_at_k"] == pytest.approx(2 / 201)


def test_a_file_against_itself_differs_in_nothing(folder: Path) -> None:
    files = dict.fromkeys(("one", "other"), folder / "base.jsonl")
    tests = {"exam": folder / "exam.jsonl"}
    found = no.judge(files, SETTINGS, tests, progress=Silent())
    (pair,) = found.pairs
    assert {(i.value, i.low, i.high) for i in pair.change.values()} == {(0, 0, 0)}
    assert (pair.only_first, pair.only_second, pair.mcnemar) == (0, 0, 1.0)


def test_stated_confidences_are_measured_beside_the_vote(data: JudgementData) -> None:
    base = data.files[0]
    assert [one.source for one in base.confidences] == [
        "vote share",
        "stated",
        "stated, mean",
    ]
    stated = base.confidences[1]
    assert stated.num_answers == 4 * SIZE
    assert {word.word: word.share for word in stated.words} == {
        "low": 0.3,
        "high": 0.7,
        "very likely": 0.9,
    }
    accuracy = {word.word: word.accuracy for word in stated.words}
    assert (accuracy["low"], accuracy["very likely"]) == (0.0, 1.0)
    assert 0.0 < accuracy["high"] < 1.0


def test_scaling_is_measured_against_leaving_confidences_as_they_are(
    data: JudgementData,
) -> None:
    by_source = {one.source: one for one in data.files[0].confidences}
    stated = by_source["stated"]
    assert [one.name for one in stated.scaled] == ["temperature", "platt"]
    for scaled in stated.scaled:
        for name, change in scaled.change.items():
            gap = scaled.measures[name].value - stated.measures[name].value
            assert change.value == pytest.approx(gap, abs=1e-12)
    platt = stated.scaled[1]
    assert platt.measures["brier"].value < stated.measures["brier"].value


def test_equal_calls_give_equal_bytes_and_other_seeds_other_draws(
    folder: Path, data: JudgementData
) -> None:
    assert render_judgement(judged(folder)) == render_judgement(data)
    other = judged(folder, SETTINGS | {"seed": 5}).files[0].measures["avg_at_k"]
    mine = data.files[0].measures["avg_at_k"]
    assert (other.value, other.low) != (mine.value, mine.low)
    assert other.value == mine.value


def test_the_order_of_rows_changes_no_accuracy(
    folder: Path, tmp_path: Path, data: JudgementData
) -> None:
    rows = [json.loads(r) for r in (folder / "base.jsonl").read_text().splitlines()]
    turned = write_rows(tmp_path / "turned.jsonl", reversed(rows))
    found = no.judge(
        {"base": turned}, SETTINGS, {"exam": folder / "exam.jsonl"}, progress=Silent()
    )
    # Samples have numbers, so that even the vote of four different ones is the same.
    assert found.files[0].measures == data.files[0].measures


def test_one_sample_a_question_has_no_vote(folder: Path, tmp_path: Path) -> None:
    rows = [
        {**row, "confidence": 0.4}
        for row in made(1, 0.5)
        if row["sample"] == 0 and row.pop("sample") == 0
    ]
    path = write_rows(tmp_path / "greedy.jsonl", rows)
    found = no.judge(
        {"greedy": path}, SETTINGS, {"exam": folder / "exam.jsonl"}, progress=Silent()
    )
    (one,) = found.files
    assert "ece" not in one.measures
    assert one.bins == ()
    assert [c.source for c in one.confidences] == ["stated"]
    assert "Avg@1" in outcome(found)
    read(render_judgement(found))


def test_what_cannot_be_judged_is_refused(folder: Path, tmp_path: Path) -> None:
    file, exam = folder / "base.jsonl", folder / "exam.jsonl"
    with pytest.raises(ConfigError, match="no file of samples"):
        no.judge({}, SETTINGS)
    with pytest.raises(ConfigError, match="one test set, but 2"):
        no.judge({"a": file}, SETTINGS, {"one": exam, "two": exam})
    with pytest.raises(ConfigError, match="reads that"):
        no.judge({"a": file}, SETTINGS, {"exam": exam}, file)
    with pytest.raises(ConfigError, match=r"end it in \.json"):
        no.judge({"a": file}, SETTINGS, {"exam": exam}, tmp_path / "out.html")


def test_the_page_says_all_of_it(data: JudgementData) -> None:
    page = render_judgement(data)
    reader = read(page)
    check_inert(page)
    check_links(page)
    assert page.count("<svg") == 3
    for said in (
        "tuned minus base, on the 55 questions that both answer",
        "5 that only base answers",
        "exact McNemar test",
        "stated, mean, slope and offset (Platt)",
        "5 questions have no sample and are left out of every measure",
        "very likely",
        "0.010 better",
        "on 55 of 60 questions (the others have no sample)",
    ):
        assert said in reader.text


def test_no_text_breaks_the_page(data: JudgementData) -> None:
    files = tuple(
        replace(
            one,
            name=HOSTILE,
            file=HOSTILE,
            shapes=(HOSTILE,),
            findings=tuple(
                replace(f, text=HOSTILE, first=(HOSTILE,)) for f in one.findings
            ),
            confidences=tuple(
                replace(
                    c,
                    why_not_scaled=HOSTILE,
                    words=tuple(replace(w, word=HOSTILE) for w in c.words),
                )
                for c in one.confidences
            ),
        )
        for one in data.files
    )
    pairs = tuple(replace(one, first=HOSTILE, second=HOSTILE) for one in data.pairs)
    broken = replace(
        data,
        files=files,
        pairs=pairs,
        test=HOSTILE,
        title=HOSTILE,
        command=HOSTILE,
        reader=HOSTILE,
    )
    page = render_judgement(broken)
    assert not read(page).tags & {"script", "img", "b", "iframe"}
    check_inert(page.replace("http:", ""))
    assert "[U+202E]" in page


def test_the_command(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "exam.json"
    argv = ["evaluate", "--completions", f"new={folder / 'tuned.jsonl'}"]
    argv += ["--against", str(folder / "base.jsonl")]
    argv += ["--test", f"exam={folder / 'exam.jsonl'}", "--out", str(out)]
    for name, value in SETTINGS.items():
        argv += ["--set", f"{name}={value}"]
    assert main(argv) == 0
    said = capsys.readouterr()
    assert "new minus base" in said.out
    assert "stated, platt" in said.out
    assert "new: 5 questions have no sample" in said.err
    assert page_of(out).read_text().startswith("<!DOCTYPE html>")
    assert main([*argv, "--json", "--quiet"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["report"] == str(page_of(out))
    assert told["files"][0]["name"] == "base"
    kept = json.loads(out.read_text())
    assert {name: told[name] for name in kept} == kept


def test_the_command_loads_no_model(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("neuron_opsd.models.load.load_model", refuse)
    argv = ["evaluate", "--completions", str(folder / "base.jsonl"), "--quiet"]
    argv += ["--test", str(folder / "exam.jsonl"), "--set", "answers.reader=number"]
    argv += ["--set", "evaluation.num_resamples=20"]
    assert main(argv) == 0
    assert main([*argv, "--model", "some-model"]) == 2
    assert main([*argv, "--adapter", str(folder)]) == 2


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--model", "m", "--test", "a=b.jsonl"], "--out is missing"),
        (
            ["--model", "m", "--out", "x.json", "--confidence", "sure"],
            "is a column of --completions",
        ),
        (["--completions", "a.jsonl", "b/a.jsonl"], "names 'a' twice"),
    ],
)
def test_flags_that_do_not_go_together(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", *argv]) == 2
    assert said in capsys.readouterr().err
