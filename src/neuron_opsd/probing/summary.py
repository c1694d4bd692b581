"""Turn what teachers said into a probe's results, advice and files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from neuron_opsd.comparison.tables import TableRow, csv_text
from neuron_opsd.method.probing import consensus
from neuron_opsd.method.statistics import FloatArray
from neuron_opsd.probing.arms import STUDENT, Arm
from neuron_opsd.probing.columns import (
    Columns,
    Judge,
    Teacher,
    look_at,
    score,
    student_columns,
    support,
)
from neuron_opsd.probing.measuring import (
    NUM_RESAMPLES,
    Kept,
    context_results,
    pair_results,
    selection_results,
)
from neuron_opsd.probing.validity import known_validity
from neuron_opsd.records.scores import Interval
from neuron_opsd.report.probe_page import render_probe
from neuron_opsd.report.wording import ends, points, signed_two_digits
from neuron_opsd.results.probe import (
    ACCURACY,
    SCORE,
    SUPPORT,
    ContextResult,
    Measures,
    PairResult,
    ProbeData,
    Recommendation,
    SelectionResult,
    Validity,
)
from neuron_opsd.stages.probing import Heard, Subject
from neuron_opsd.storage.codecs import encode, save_json, without_nan
from neuron_opsd.storage.files import write_atomic
from neuron_opsd.storage.folders import PROBE_PAGE
from neuron_opsd.storage.manifest import installed_versions
from neuron_opsd.storage.output_paths import check_file_place

JSON: Final = "probe.json"
CSV: Final = "probe.csv"
QUESTIONS: Final = "questions.csv"
"""Measures per question and context rule."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked, and the answers."""

    subjects: tuple[Subject, ...]
    """All, including the sample."""
    sample: frozenset[str]
    """Ids of those that context rules were tried on."""
    student: Mapping[str, Heard]
    arms: Mapping[str, Arm]
    """By context rule; the base's was asked all questions."""
    kept: Mapping[str, Kept]
    """By selection rule, over all questions."""
    base: str
    """Context rule of the settings."""

    @property
    def places(self) -> list[int]:
        """Positions of the sample."""
        return [
            i for i, one in enumerate(self.subjects) if one.question.id in self.sample
        ]

    @property
    def heard(self) -> Literal["choices", "scored", "written", "mixed"]:
        """How teachers were asked."""
        base = self.arms[self.base].draws[0].values()
        kinds: set[Literal["choices", "scored", "written"]] = {
            "choices" if one.plain else "written" if one.answers else "scored"
            for one in base
        }
        return kinds.pop() if len(kinds) == 1 else "mixed"


@dataclass(frozen=True, slots=True, eq=False)
class Summary:
    """A probe's results, and the values per question behind them."""

    data: ProbeData
    """The request's fields are still blank."""
    subjects: tuple[Subject, ...]
    """The sample."""
    columns: Mapping[str, Columns]
    """``(Q,)`` over the sample, by context rule, and for the student."""


def summarise(asked: Asked, judge: Judge | None, pool: str) -> Summary:
    """Compile a probe's results.

    Args:
        asked: What was heard.
        judge: Says which answers are right, given gold answers.
        pool: Hash of the questions; seeds the resamples.
    """
    few = [asked.subjects[i] for i in asked.places]
    teachers = {
        rule: look_at(arm, few, asked.student, judge)
        for rule, arm in asked.arms.items()
    }
    scored = with_scores(teachers)
    columns = {rule: columns for rule, (columns, _) in scored.items()}
    view = teachers[asked.base].views[0]
    own = student_columns(view, few, judge)
    student, contexts = context_results(scored, own, pool)
    here = {name: kept.at(asked.places) for name, kept in asked.kept.items()}
    pairs = pair_results(here, {r: one[SCORE] for r, one in columns.items()}, pool)
    selections = selections_of(asked, judge, pool)
    validity = known_validity()
    data = ProbeData(
        title="",
        model="",
        num_pool=0,
        num_library=0,
        num_demonstrations=0,
        taught={},
        num_ranked=len(asked.subjects),
        num_questions=len(few),
        heard=asked.heard,
        labelled=judge is not None,
        base_rule=asked.base,
        student=student,
        contexts=contexts,
        selections=selections,
        pairs=pairs,
        validity=validity,
        recommendation=recommend(contexts, pairs, validity),
        num_resamples=NUM_RESAMPLES,
        versions=installed_versions(),
    )
    return Summary(data, tuple(few), {STUDENT: own, **columns})


def selections_of(
    asked: Asked, judge: Judge | None, pool: str
) -> tuple[SelectionResult, ...]:
    """Measure the settings' teacher on what selection rules keep."""
    everyone = asked.subjects
    base = look_at(asked.arms[asked.base], everyone, asked.student, judge)
    columns = {**base.columns, SCORE: score(base.columns)}
    own = student_columns(base.views[0], everyone, judge)
    votes = [subject.vote for subject in everyone]
    return selection_results(asked.kept, columns, own, votes, pool)


def with_scores(
    teachers: Mapping[str, Teacher],
) -> dict[str, tuple[Columns, int]]:
    """Return every teacher's columns with its score, and number of draws."""
    answers = {rule: teacher.answers() for rule, teacher in teachers.items()}
    found: dict[str, tuple[Columns, int]] = {}
    for rule, teacher in teachers.items():
        own = {
            **teacher.columns,
            SUPPORT: support(teacher, others_of(rule, answers, teacher)),
        }
        found[rule] = ({**own, SCORE: score(own)}, len(teacher.views))
    return found


def others_of(
    rule: str, answers: Mapping[str, Sequence[FloatArray]], teacher: Teacher
) -> list[FloatArray]:
    """Return each question's mean answer of student and other teachers."""
    student = [view.student for view in teacher.views[0]]
    lists = [own for name, own in answers.items() if name != rule]
    return [consensus(all_of) for all_of in zip(student, *lists, strict=True)]


WITH_ANSWERS = "With --answers, a hundred known answers show which teacher is right"


def recommend(
    contexts: Sequence[ContextResult], pairs: Sequence[PairResult], validity: Validity
) -> Recommendation:
    """Recommend by right answers if any are known, else by the score.

    The latter only if it is known to predict what training gains.
    """
    if any(ACCURACY in one.measures for one in contexts):
        return by_accuracy(contexts)
    if validity.predicts and pairs:
        return by_score(pairs, validity)
    return Recommendation(f"{why_not(validity)}. {WITH_ANSWERS}.")


def why_not(validity: Validity) -> str:
    """Say why the score recommends nothing."""
    if validity.correlation is None:
        return (
            "No rule is recommended: whether the score predicts what training gains "
            "has not been measured yet"
        )
    found = validity.correlation
    return (
        "No rule is recommended: the score was not seen to predict what training "
        f"gains (rank correlation {signed_two_digits(found.value)}, "
        f"{ends(found, signed_two_digits)}, over {validity.num_arms} arms of "
        f"{validity.num_sources} sources)"
    )


def by_accuracy(contexts: Sequence[ContextResult]) -> Recommendation:
    """Recommend the context rule whose teacher is most often right, if evident."""
    best = max(contexts, key=lambda one: one.measures[ACCURACY].value)
    above = best.over_student[ACCURACY]
    said = (
        f"The teacher with demonstrations {best.help} is right most often, "
        f"{points_above(above)} above the student"
    )
    if ACCURACY in best.over_random:
        said += f" and {points_above(best.over_random[ACCURACY])} above random ones"
    said += f"; it is the best of {len(contexts)}, which flatters it."
    if above.low <= 0.0:
        return Recommendation(
            f"{said} No teacher is seen to be better than the student, so training "
            "towards one is not expected to make it right more often.",
            by="accuracy",
        )
    reference = best.over_random.get(ACCURACY)
    if reference is not None and reference.holds_zero:
        said += " No rule is seen to be better than random demonstrations."
    return Recommendation(said, best.settings, "accuracy")


def points_above(interval: Interval) -> str:
    """Format a difference in points with its interval."""
    return f"{points(interval.value)} points ({ends(interval, points)})"


def by_score(pairs: Sequence[PairResult], validity: Validity) -> Recommendation:
    """Recommend the rules with the highest score."""
    best = max(pairs, key=lambda one: one.score.value)
    found = validity.correlation
    known = (
        ""
        if found is None
        else (
            f" (rank correlation with the gain {signed_two_digits(found.value)}, "
            f"{ends(found, signed_two_digits)}, over {validity.num_arms} arms)"
        )
    )
    return Recommendation(
        f"By the score{known}, take the selection rule {best.selection} with "
        f"demonstrations by the rule {best.contexts}.",
        (f"selection.rule={best.selection}", f"contexts.rule={best.contexts}"),
        "score",
    )


def check_files(out: Path) -> None:
    """Refuse a folder where the probe cannot be written."""
    for name in (JSON, CSV, QUESTIONS, PROBE_PAGE):
        check_file_place(out / name)


def write_probe(found: Summary, out: Path) -> None:
    """Write a probe as JSON, CSV and a page."""
    data = found.data
    save_json(without_nan(data), out / JSON)
    write_atomic(out / CSV, encode(csv_text([*table_rows(data)])))
    write_atomic(out / QUESTIONS, encode(csv_text([*question_rows(found)])))
    write_atomic(out / PROBE_PAGE, encode(render_probe(data)))


def table_rows(data: ProbeData) -> Iterator[TableRow]:
    """Yield every number as a row: of what, rule, quantity, value, low, high."""
    for name, interval in data.student.items():
        yield table_row("student", "", name, interval)
    for one in data.contexts:
        yield from rows_of("contexts", one.rule, "", one.measures)
        yield from rows_of("contexts", one.rule, " over student", one.over_student)
        yield from rows_of("contexts", one.rule, " over random", one.over_random)
    for kept in data.selections:
        yield from rows_of("selection", kept.rule, "", kept.measures)
        yield from rows_of("selection", kept.rule, " over random", kept.over_random)
    for pair in data.pairs:
        rules = f"{pair.selection} with {pair.contexts}"
        yield table_row("pair", rules, "score", pair.score)


def question_rows(found: Summary) -> Iterator[TableRow]:
    """Yield a row per question and rule; the student's have fewer measures."""
    names = list(dict.fromkeys(n for one in found.columns.values() for n in one))
    for rule, columns in found.columns.items():
        for place, subject in enumerate(found.subjects):
            yield {
                "question_id": subject.question.id,
                "rule": rule,
                "vote_share": subject.vote.agreement,
                **{
                    name: float(columns[name][place]) if name in columns else None
                    for name in names
                },
            }


def rows_of(of: str, rule: str, more: str, measures: Measures) -> Iterator[TableRow]:
    """Yield the numbers of one rule."""
    for name, interval in measures.items():
        yield table_row(of, rule, name + more, interval)


def table_row(of: str, rule: str, quantity: str, interval: Interval) -> TableRow:
    """Return a number with its interval."""
    row = {"of": of, "rule": rule, "quantity": quantity}
    return {**row, **without_nan(interval)}
