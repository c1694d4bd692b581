"""A whole `ReportData` for tests: plausible numbers, every section filled."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from neuron_opsd.config import FORM_ONLY, Config
from neuron_opsd.config.tables import config_from_table
from neuron_opsd.records import (
    Collapse,
    Kept,
    Look,
    Reading,
    SelectionEntry,
    StepMetrics,
    TeacherCheck,
    Vote,
)
from neuron_opsd.records.scores import Bin, Interval, QuestionScore, TestResult
from neuron_opsd.report.condense import (
    baseline_of,
    guard_summary,
    measured,
    pool_summary,
    training_summary,
)
from neuron_opsd.results.run import (
    PROMPTED,
    AnswerCount,
    Case,
    CaseDemonstration,
    Measured,
    ModelSummary,
    ReportData,
    StageCost,
    TestComparison,
)
from neuron_opsd.seeds import generator
from neuron_opsd.stages.scoring import above_baseline, summarise

REVIEWS = (
    "an utterly charming film that never once outstays its welcome",
    "too slow , too long and too little happens",
    "the script is a mess , but the cast sells every line of it",
    "it 's a lovely film with lovely performances by buy and accorsi",
    "no one goes unindicted here , which is probably for the best",
)


def interval(value: float, half: float) -> Interval:
    """Return an interval that reaches `half` to both sides."""
    return Interval(value, value - half, value + half)


def example_scores(
    name: str, accuracy: float, sharpness: float
) -> tuple[QuestionScore, ...]:
    """Return 400 answered questions of eight rollouts each."""
    rng = generator(0, "example", name)
    scores = []
    for index in range(400):
        votes = int(np.clip(round(8 * rng.beta(sharpness, 1.6)), 3, 8))
        right = bool(rng.random() < accuracy + 0.5 * (votes / 8 - 0.75))
        scores.append(
            QuestionScore(
                question_id=f"{name}-{index}",
                num_correct=votes if right else 8 - votes,
                num_rollouts=8,
                majority_answer="positive",
                majority_correct=right,
                agreement=votes / 8,
                num_unread=0,
                num_truncated=0,
                mean_length=2.0,
                **labelled(name, index, votes if right else 8 - votes),
            )
        )
    return tuple(scores)


def labelled(name: str, index: int, num_correct: int) -> dict[str, Any]:
    """Return gold answer and answers where the set has labels, which sst2 alone has."""
    if not name.startswith("sst2"):
        gold = f"{name} {index}"
        return {"gold_answer": gold, "answers": ((gold, num_correct),)}
    kinds = ("positive", "negative") if index % 5 < 3 else ("negative", "positive")
    counts = zip(kinds, (num_correct, 8 - num_correct), strict=True)
    return {
        "gold_answer": kinds[0],
        "answers": tuple((kind, count) for kind, count in counts if count),
    }


def example_bins(scores: tuple[QuestionScore, ...]) -> tuple[Bin, ...]:
    """Return the calibration bins of some scores, one per level of agreement."""
    bins = []
    for level in range(1, 9):
        here = [score for score in scores if score.agreement == level / 8]
        accuracy = sum(s.majority_correct for s in here) / len(here) if here else 0.0
        bins.append(
            Bin((level - 1) / 8, level / 8, level / 8, accuracy or math.nan, len(here))
        )
    return tuple(bins)


def example_result(name: str, accuracy: float, ece: float, sharp: float) -> TestResult:
    """Return one model on one test set, all metrics by their contract's names."""
    metrics = {
        "avg_at_k": accuracy,
        "maj_at_k": accuracy + 0.012,
        "pass_at_k": min(1.0, accuracy + 0.2),
        "ece": ece,
        "adaptive_ece": ece - 0.004,
        "brier": 0.19,
        "auroc": math.nan if name == "piqa" else 0.71,
        "overconfidence": ece,
        "unanimity": 0.31,
        "parse_failure": 0.0,
        "truncation": 0.0,
        "mean_length": 2.0,
    }
    scores = example_scores(f"{name}{sharp}", accuracy, sharp)
    known = summarise(name, scores, example_config().evaluation).metrics
    return TestResult(name, {**known, **metrics}, scores)


def example_delta(before: TestResult, after: TestResult) -> Mapping[str, Interval]:
    """Return a difference for every metric."""
    half = {"avg_at_k": 0.031, "ece": 0.027, "mean_length": 0.0}
    return {
        name: interval(after.metrics[name] - value, half.get(name, 0.03))
        for name, value in before.metrics.items()
    }


def example_test(
    name: str,
    accuracies: tuple[float, float],
    eces: tuple[float, float],
    *,
    in_domain: bool = False,
) -> TestComparison:
    """Return one test set with both controls."""
    before = example_result(name, accuracies[0], eces[0], 3.0)
    after = example_result(name, accuracies[1], eces[1], 6.0)
    form = example_result(name, accuracies[1] - 0.045, eces[1] + 0.03, 4.0)
    prompted = example_result(name, accuracies[0] + 0.06, eces[0], 5.0)
    return TestComparison(
        name=name,
        in_domain=in_domain,
        num_questions=len(before.scores),
        before=example_measured(before),
        after=example_measured(after),
        delta=example_delta(before, after),
        controls={
            PROMPTED: example_measured(prompted),
            FORM_ONLY: example_measured(form),
        },
        net_of_form=example_delta(form, after),
        above_baseline=example_standing(before, after),
        baseline=baseline_of(before.scores),
    )


def example_measured(result: TestResult) -> Measured:
    """Return what one model scored, with a bin per level of agreement."""
    return replace(measured(result, 15, 8), bins=example_bins(result.scores))


def example_standing(before: TestResult, after: TestResult) -> dict[str, Interval]:
    """Return by how much both models exceed the most frequent gold answer."""
    config = example_config().evaluation.model_copy(update={"num_resamples": 200})
    found = {
        name: above_baseline(one, config, 0)
        for name, one in (("before", before), ("after", after))
    }
    return {name: one for name, one in found.items() if one is not None}


def example_training(num_steps: int = 60) -> tuple[StepMetrics, ...]:
    """Return a divergence that falls and an entropy that follows it."""
    rng = generator(0, "example", "training")
    return tuple(
        StepMetrics(
            step=step,
            loss=0.16 + 2.6 * math.exp(-step / 9) + 0.05 * rng.random(),
            grad_norm=1.2,
            learning_rate=1e-4,
            num_tokens=32,
            mean_length=2.0,
            truncated=0.0,
            entropy=0.42 + 0.5 * math.exp(-step / 15) + 0.06 * rng.random(),
            top_answer_share=0.6,
            look=example_look(step + 1) if step % 10 == 9 else None,
        )
        for step in range(num_steps)
    )


def example_look(num_steps: int) -> Look:
    """Return a look at a student that grows surer and, late, gives one answer more."""
    base = Reading(
        mean_length=2.0,
        truncated=0.0,
        repetition=0.0,
        entropy=0.42,
        agreement=0.7,
        top_answer_share=0.58,
        information=0.21,
        base_agreement=0.61,
        divergence=0.0,
        surprise=0.0,
    )
    student = replace(
        base,
        agreement=1.0 - 0.3 * math.exp(-num_steps / 15),
        top_answer_share=0.58 + 0.25 * (num_steps / 60) ** 3,
        base_agreement=0.66 - 0.1 * (num_steps / 60) ** 3,
        divergence=0.1,
        surprise=0.2,
    )
    return Look(student, base)


def example_pool(size: int = 600) -> tuple[tuple[SelectionEntry, ...], dict[str, Vote]]:
    """Return a pool of which the fifth with the fewest neurons is selected."""
    rng = generator(0, "example", "pool")
    counts = np.sort(rng.normal(5200, 420, size).astype(int))
    entries = []
    votes = {}
    for rank, count in enumerate(counts):
        kept = rank < size // 5
        name = f"pool-{rank}"
        reason = f"among the {size // 5} with the fewest neurons" if kept else "rank"
        entries.append(SelectionEntry(name, int(count), rank, kept, reason))
        share = int(np.clip(round(8 * (rng.beta(5, 1.6) - rank / size / 5)), 3, 8))
        split = {"positive": share, "negative": 8 - share}
        votes[name] = Vote(name, "positive", split, 8)
    return tuple(entries), votes


def example_case(index: int) -> Case:
    """Return one question with five demonstrations."""
    review = REVIEWS[index % len(REVIEWS)]
    demonstrations = tuple(
        CaseDemonstration(
            question=f"Review: {REVIEWS[(index + place) % len(REVIEWS)]}",
            answer="positive" if place % 2 else "negative",
            distance=0.61 - 0.04 * place,
            reason=f"{5 - place} nearest in the pool",
        )
        for place in range(5)
    )
    shots = "\n\n".join(f"{d.question}\nSentiment: {d.answer}" for d in demonstrations)
    return Case(
        question_id=f"sst2-train-{index:05}",
        question=f"Review: {review}",
        choices=("positive", "negative"),
        student_prompt=f"Review: {review}\nSentiment:",
        teacher_prompt=f"{shots}\n\nReview: {review}\nSentiment:",
        reason="Among the 120 of 600 questions with the fewest neurons (rank 14).",
        demonstrations=demonstrations,
        rollouts_before=(AnswerCount("negative", 3), AnswerCount("positive", 5)),
        rollouts_after=(
            AnswerCount("positive", 7, "positive, since it is charming\nthroughout"),
            AnswerCount(None, 1, "I think"),
        ),
    )


def example_config() -> Config:
    """Return settings of which some differ from the defaults."""
    return config_from_table(
        {
            "seed": 3,
            "prompts": {"form": "plain", "question_label": "Review"},
            "contexts": {"answer": "greedy", "num_demonstrations": 5},
            "distill": {"steps": 60, "tuning": "lora"},
            "evaluation": {"form_only": True},
        }
    )


def example_teacher_check() -> TeacherCheck:
    """Return a check with one finding."""
    return TeacherCheck(
        num_questions=64,
        student_agreement=0.712,
        teacher_agreement=0.768,
        student_entropy=0.52,
        teacher_entropy=0.41,
        top_answer="positive",
        top_answer_share=0.61,
        top_answer_share_student=0.55,
        stability=0.86,
        divergence=0.184,
        pool_answer="positive",
        pool_answer_share=0.57,
        findings=("The teacher gives one answer to 61 % of the questions.",),
    )


@cache
def example_report() -> ReportData:
    """Return a run that got better in-domain, with every section filled."""
    selection, votes = example_pool()
    return ReportData(
        title="SmolLM2-135M-Instruct teaches itself film reviews",
        model=ModelSummary(
            "SmolLM2-135M-Instruct", "llama", 134_515_008, 30, 1536, "cpu", "bfloat16"
        ),
        config=example_config(),
        pool_size=600,
        num_selected=120,
        tests=(
            example_test("arc_easy", (0.512, 0.519), (0.367, 0.352)),
            example_test("sst2", (0.691, 0.783), (0.164, 0.091), in_domain=True),
            example_test("piqa", (0.607, 0.598), (0.2, 0.22)),
            example_test("social_iqa", (0.421, 0.383), (0.31, 0.34)),
        ),
        cross_domain={
            "avg_at_k": Interval(-0.0133, -0.031, 0.004),
            "ece": Interval(0.012, -0.004, 0.027),
        },
        training=training_summary(example_training()),
        guard=guard_summary(example_training(), Kept(30, 0.65, 0.56)),
        teacher_check=example_teacher_check(),
        collapses=(Collapse(41, "share of the top answer", 0.83, 0.8),),
        pool=pool_summary(selection, votes),
        cases=tuple(example_case(index) for index in range(12)),
        stage_costs=(
            StageCost("rollouts", 61.2, 48_000),
            StageCost("neurons", 22.0, 12_400),
            StageCost("contexts", 0.4, 0),
            StageCost("teacher check", 9.1, 8_960),
            StageCost("training", 271.5, 96_300),
            StageCost("evaluation", 143.8, 91_000),
        ),
        warnings=("3 demonstrations were left out: the prompt would be too long.",),
        versions={"neuron-opsd": "0.1.0", "torch": "2.13.0+cpu", "python": "3.11.9"},
        command="neuron-opsd run --model smollm2 --pool sst2.jsonl --out runs/sst2",
        neurons_per_layer=316,
        neurons_kept=658,
        data_hashes={"pool": "9f86d081" * 8, "sst2": "60303ae2" * 8},
    )
