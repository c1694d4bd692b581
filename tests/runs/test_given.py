"""Runs whose teacher sees what the file gives with each question: TRL's rows."""

from __future__ import annotations

from html import unescape
from pathlib import Path
from typing import Any

import pytest

import neuron_opsd as no
from neuron_opsd.config import Config, PromptsConfig
from neuron_opsd.data.questions import read_questions, write_questions
from neuron_opsd.errors import ConfigError, DataError
from neuron_opsd.progress import Silent
from neuron_opsd.prompts import student_prompt, teacher_prompt
from neuron_opsd.records import Message, Question
from neuron_opsd.runs.inputs import check_given, questions_hash
from neuron_opsd.runs.preview import preview
from neuron_opsd.runs.resolution import settled
from neuron_opsd.stages.teacher_check import limits_of
from tiny_runs import (
    POOL_SIZE,
    FinishedRun,
    parity_rows,
    read_json,
    tiny_config,
    tiny_request,
    tiny_run,
    write_rows,
)

GIVEN = "contexts.rule=given"
ONE = ("contexts.num_demonstrations=1",)


def given_rows() -> list[dict[str, Any]]:
    """Return rows as TRL's SDFT takes them, with choices besides."""
    return [
        {
            "id": row["id"],
            "prompt": [{"role": "user", "content": row["question"]}],
            "choices": row["choices"],
            "privileged_context": f"Hint: {row['question'].split()[1]} ends so.",
        }
        for row in parity_rows(range(POOL_SIZE))
    ]


def given_config(model: Path, *more: str) -> Config:
    """Return settings of a short run that shows what is given."""
    return tiny_config(model, GIVEN, *ONE, "distill.steps=2", *more)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> FinishedRun:
    folder = tmp_path_factory.mktemp("given")
    request = tiny_request(folder)
    write_rows(folder / "pool.jsonl", given_rows())
    return tiny_run(request, given_config(tiny_llama))


def test_what_is_given_comes_after_the_question_as_in_trl() -> None:
    asked = Question(
        "q",
        (
            Message("system", "Be brief."),
            Message("user", "Sky?"),
            Message("assistant", "Which?"),
            Message("user", "Ours."),
        ),
        ("blue", "red"),
        given="It is not red.",
    )
    config = PromptsConfig(form="chat", list_choices="letters", instruction="Think.")
    student = student_prompt(asked, config)
    assert "not red" not in str(student)
    teacher = teacher_prompt(asked, (), config, asked.given)
    *before, last = student.messages
    assert teacher.messages == (
        *before,
        Message("user", f"{last.content}\n\nIt is not red."),
    )
    assert last.content == "Ours.\nA. blue\nB. red\nThink."


def test_the_plain_form_has_it_before_the_answer() -> None:
    asked = Question("q", (Message("user", "Sky?"),), given="It is not red.")
    config = PromptsConfig(form="plain", list_choices="no")
    assert teacher_prompt(asked, (), config, asked.given).text == (
        "Question: Sky?\n\nIt is not red.\nAnswer:"
    )


def test_every_teacher_saw_its_own_text_and_no_student_did(
    finished: FinishedRun,
) -> None:
    contexts = read_json(finished.folder / "contexts.json")
    assert len(contexts) >= POOL_SIZE // 2
    given = {row["id"]: row["privileged_context"] for row in given_rows()}
    for context in contexts:
        (shown,) = context["demonstrations"]
        assert shown["question_id"] == context["question_id"]
        assert shown["answer"] == given[context["question_id"]]
        assert shown["reason"] == "given with the question"
    cases = finished.data.cases
    assert cases
    for case in cases:
        assert "Hint:" not in case.student_prompt


def test_the_report_and_the_card_say_what_the_teacher_saw(
    finished: FinishedRun,
) -> None:
    page = unescape((finished.folder / "report.html").read_text("utf-8"))
    assert "its text from the pool's column privileged_context" in page
    card = (finished.folder / "adapter" / "README.md").read_text("utf-8")
    assert "if those texts contain answers, this training was not without" in card
    assert not any("prompted" in test.controls for test in finished.data.tests)


def test_the_teachers_text_makes_the_adapter(tmp_path: Path, tiny_llama: Path) -> None:
    request = tiny_request(tmp_path)
    rows = given_rows()
    rows[0]["privileged_context"] += " And more."
    write_rows(tmp_path / "pool.jsonl", rows)
    config = given_config(tiny_llama, "selection.rule=all", "distill.batch_size=20")
    other = tiny_run(request, config)
    write_rows(tmp_path / "same" / "pool.jsonl", given_rows())
    same = tiny_run(tiny_request(tmp_path / "same"), config)
    weights = "adapter_model.safetensors"
    assert other.adapter()[weights] != same.adapter()[weights]
    assert other.data.data_hashes["pool"] != same.data.data_hashes["pool"]


@pytest.mark.parametrize("rule", ["belief-shift", "divergence"])
def test_selection_rules_that_ask_the_teacher_ask_it_with_the_text(
    rule: str, tmp_path: Path, tiny_llama: Path
) -> None:
    asked = []
    for folder, end in (("a", ""), ("b", " And more.")):
        rows = [
            row | {"privileged_context": row["privileged_context"] + end}
            for row in given_rows()
        ]
        write_rows(tmp_path / folder / "pool.jsonl", rows)
        config = given_config(tiny_llama, f"selection.rule={rule}")
        run = tiny_run(tiny_request(tmp_path / folder), config)
        asked.append(read_json(run.folder / "beliefs.json"))
    for one, other in zip(*asked, strict=True):
        assert one["student"] == other["student"]
        assert one["teacher"] != other["teacher"]


def test_a_preview_shows_it(tmp_path: Path, tiny_llama: Path) -> None:
    pool = write_rows(tmp_path / "pool.jsonl", given_rows())
    seen = preview(str(pool), "p3", given_config(tiny_llama), Silent())
    assert "Hint: 3 ends so." in seen.teacher_prompt
    assert "Hint" not in seen.student_prompt
    assert seen.num_teacher_tokens > seen.num_student_tokens


def test_a_question_without_it_is_refused_before_anything_is_loaded(
    tmp_path: Path, tiny_llama: Path
) -> None:
    request = tiny_request(tmp_path)
    rows = given_rows()
    rows[7]["privileged_context"] = " "
    write_rows(tmp_path / "pool.jsonl", rows)
    with pytest.raises(DataError, match="but 1 of 20 questions have no privileged_con"):
        tiny_run(request, given_config(tiny_llama))
    with pytest.raises(DataError, match="p7 first"):
        preview(request.pool, None, given_config(tiny_llama), Silent())


def test_a_rule_that_ignores_it_says_so(tmp_path: Path, tiny_llama: Path) -> None:
    request = tiny_request(tmp_path)
    write_rows(tmp_path / "pool.jsonl", given_rows())
    run = tiny_run(request, tiny_config(tiny_llama, "distill.steps=1"))
    (said,) = [one for one in run.warnings if "privileged_context" in one]
    assert "not shown to any teacher, as contexts.rule is nearest" in said
    cases = [case.teacher_prompt for case in run.data.cases]
    assert "Hint" not in str(cases)


def test_methods_without_a_teacher_do_not_need_it_but_it_is_said() -> None:
    asked = Question("q", (Message("user", "Sky?"),), given="Blue.")
    said: list[str] = []
    config = Config.model_validate({"contexts": {"rule": "given"}, "method": "ttrl"})
    check_given("pool.jsonl", [asked], [config], said.append)
    assert "the method is ttrl" in said[0]
    none = Question("q", (Message("user", "Sky?"),))
    check_given("pool.jsonl", [none], [config], said.append)
    both = [config, config.model_copy(update={"method": "neuron-opsd"})]
    check_given("pool.jsonl", [asked], both, said.append)
    assert len(said) == 1
    with pytest.raises(DataError, match="1 of 1 questions"):
        check_given("pool.jsonl", [none], both, said.append)


def test_the_rule_alone_is_enough_and_several_are_refused() -> None:
    chosen = Config.model_validate({"contexts": {"rule": "given"}})
    assert settled(chosen).contexts.num_demonstrations == 1
    assert settled(chosen).shows_given
    assert not settled(chosen).tests_prompted
    form = settled(chosen, {"method": "form-only"})
    assert form.contexts.num_demonstrations == 0
    assert not form.shows_given
    two = Config.model_validate(
        {"contexts": {"rule": "given", "num_demonstrations": 2}}
    )
    with pytest.raises(ConfigError, match="num_demonstrations is 2; leave it out"):
        settled(two)


def test_a_probe_of_it_is_refused(tmp_path: Path, tiny_llama: Path) -> None:
    pool = write_rows(tmp_path / "pool.jsonl", given_rows())
    with pytest.raises(ConfigError, match="finds no demonstrations, but a probe"):
        no.probe(pool, tmp_path / "probe", given_config(tiny_llama))
    assert not (tmp_path / "probe").exists()


def test_a_teacher_that_is_told_may_differ_from_the_vote() -> None:
    config = Config.model_validate({"contexts": {"rule": "given"}})
    assert limits_of(config).max_agreement_loss == 1.0
    assert limits_of(config).min_stability == 0.0
    assert limits_of(Config()) == Config().teacher_check


def test_a_text_that_does_not_fit_is_an_error_of_its_question(
    tmp_path: Path, tiny_llama: Path
) -> None:
    request = tiny_request(tmp_path)
    rows = given_rows()
    rows[4]["privileged_context"] = "long " * 3000
    write_rows(tmp_path / "pool.jsonl", rows)
    with pytest.raises(DataError, match="question p4 as the teacher is asked it takes"):
        tiny_run(request, given_config(tiny_llama))


def test_it_may_be_messages_and_is_written_back(tmp_path: Path) -> None:
    told = [
        {"role": "user", "content": "An example."},
        {"role": "assistant", "content": "Its answer."},
    ]
    rows = [{"prompt": "Why?", "privileged_context": told}]
    file = read_questions(write_rows(tmp_path / "p.jsonl", rows), labelled=False)
    (question,) = file.questions
    assert question.given == "An example.\nIts answer."
    write_questions(tmp_path / "again.jsonl", file.questions)
    again = read_questions(tmp_path / "again.jsonl", labelled=False).questions
    assert again == file.questions
    assert questions_hash(again) != questions_hash(
        (Question(question.id, question.messages),)
    )


def test_a_text_of_another_kind_is_a_bad_row(tmp_path: Path) -> None:
    rows = [{"prompt": "Why?", "privileged_context": 7}]
    path = write_rows(tmp_path / "p.jsonl", rows)
    with pytest.raises(DataError, match="privileged_context must be text, not a num"):
        read_questions(path, labelled=False)
