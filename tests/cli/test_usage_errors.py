"""What a user can get wrong about a run, told in a line with what to do.

Each goes through the command as it is typed, on a tiny model.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neuron_opsd.cli import main
from neuron_opsd.runs.run import Request
from tiny_runs import (
    FinishedRun,
    Row,
    outcome_of,
    parity_rows,
    pool_rows,
    run_command,
    tiny_request,
    without_answers,
    write_rows,
)


@pytest.fixture
def complaint(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Give a function that runs a request and returns what was complained of."""

    def complain(
        request: Request, model: Path, *assignments: str, status: int = 2
    ) -> str:
        assert run_command(request, model, assignments) == status
        shown = capsys.readouterr()
        assert shown.out == ""
        assert "Traceback" not in shown.err
        lines = shown.err.splitlines(keepends=True)
        first = next(i for i, x in enumerate(lines) if x.startswith("neuron-opsd: "))
        return "".join(lines[first:]).removeprefix("neuron-opsd: ")

    return complain


def with_pool(folder: Path, rows: list[Row]) -> Request:
    """Ask for a run on a pool of these rows."""
    write_rows(folder / "pool.jsonl", rows)
    return tiny_request(folder)


def test_a_missing_model_is_named(
    complaint: Callable[..., str], tmp_path: Path
) -> None:
    request = tiny_request(tmp_path)
    text = complaint(request, tmp_path / "nobody")
    assert text == f"model folder {tmp_path}/nobody does not exist\n"
    assert not request.out.exists()


def test_a_hub_id_is_not_downloaded_unasked(
    complaint: Callable[..., str], tmp_path: Path
) -> None:
    text = complaint(tiny_request(tmp_path), Path("nobody/nothing"))
    assert "model nobody/nothing cannot be loaded" in text
    assert "nothing is downloaded without --set model.allow_download=true" in text


def test_pickled_weights_are_refused(
    complaint: Callable[..., str], pickle_model: Path, tmp_path: Path
) -> None:
    text = complaint(tiny_request(tmp_path), pickle_model)
    assert text.startswith(
        f"{pickle_model} must hold weights as *.safetensors but has only "
        "pytorch_model.bin; pickled weights can run code when they are loaded"
    )


def test_a_model_without_gated_neurons_is_refused_by_name(
    complaint: Callable[..., str], tiny_gpt2: Path, tmp_path: Path
) -> None:
    assert "gpt2" in complaint(tiny_request(tmp_path), tiny_gpt2).lower()


def test_a_folder_without_a_model_is_told_what_one_holds(
    complaint: Callable[..., str], tmp_path: Path
) -> None:
    text = complaint(tiny_request(tmp_path), tmp_path)
    assert text.startswith(f"{tmp_path} has no config.json; a model folder holds")


def test_all_bad_rows_are_named_at_once(
    complaint: Callable[..., str], tiny_llama: Path, tmp_path: Path
) -> None:
    pool = tmp_path / "pool.jsonl"
    lines = [json.dumps(row) for row in parity_rows(range(8))]
    lines[1] = '{"question": "Is 1 odd?"'
    lines[3] = json.dumps({"id": "p3", "choices": ["a", "b"]})
    lines[5] = json.dumps({"id": "p0", "question": "Is 5 odd?"})
    lines[6] = json.dumps({"question": "Which?", "choices": ["a", "b"], "answer": "c"})
    pool.write_text("\n".join(lines) + "\n")
    text = complaint(tiny_request(tmp_path), tiny_llama)
    told = text.splitlines()
    # The answer c of the last row is no choice, but a pool's answers are not looked at.
    assert len(told) == 3
    for number, why in {
        2: "not JSON (expecting ',' after column",
        4: "has neither a prompt nor a question",
        6: "has the id 'p0' of line 1",
    }.items():
        assert any(f"{pool}, line {number}: {why}" in line for line in told), text


def test_choices_that_tokenise_alike_are_refused(
    complaint: Callable[..., str], tiny_llama_plain: Path, tmp_path: Path
) -> None:
    rows = parity_rows(range(8))
    # In the plain form an answer is one line, so white space within it is collapsed.
    rows[5] |= {"choices": ["an odd one", "an  odd one"], "answer": 0}
    request = with_pool(tmp_path, rows)
    text = complaint(request, tiny_llama_plain)
    assert text == (
        f"{request.pool}, line 6: question p5: the choices 'an odd one' and "
        "'an  odd one' tokenise to the same ids, so the model cannot choose between "
        "them; reword one of them\n"
    )


def test_an_empty_pool_is_refused(
    complaint: Callable[..., str], tiny_llama: Path, tmp_path: Path
) -> None:
    text = complaint(with_pool(tmp_path, []), tiny_llama)
    assert text == f"{tmp_path}/pool.jsonl holds no questions\n"


def test_a_pool_without_enough_demonstrations_is_refused_before_any_work(
    complaint: Callable[..., str], tiny_llama: Path, tmp_path: Path
) -> None:
    request = with_pool(tmp_path, parity_rows(range(5)))
    text = complaint(request, tiny_llama, "contexts.num_demonstrations=5")
    assert text == (
        f"contexts.num_demonstrations is 5, but {tmp_path}/pool.jsonl holds only 5 "
        "questions, one of which is asked; lower it or give a larger pool\n"
    )
    assert not request.out.exists()


def test_questions_of_one_text_are_no_demonstrations_of_each_other(
    complaint: Callable[..., str], tiny_llama: Path, tmp_path: Path
) -> None:
    rows = [row | {"question": "Is it odd?"} for row in parity_rows(range(6))]
    rows += parity_rows([6])
    settings = ["contexts.num_demonstrations=2", "selection.rule=all"]
    text = complaint(with_pool(tmp_path, rows), tiny_llama, *settings)
    assert text == (
        "contexts.num_demonstrations is 2, but question p0 can choose from only 1 "
        "with a readable answer (5 others have its text and are not shown); lower it, "
        "give a larger pool, or, if many answers are cut or unread, look at "
        "rollouts.max_new_tokens and answers.reader\n"
    )


@pytest.mark.parametrize("at", [1, 8, 25])
def test_a_full_disk_ends_a_run_that_goes_on_afterwards(
    at: int,
    complaint: Callable[..., str],
    finished_run: FinishedRun,
    tiny_llama: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    request, calls = tiny_request(tmp_path), []
    real = os.replace

    def replace(source: Any, target: Any) -> None:
        calls.append(target)
        if len(calls) >= at:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        text = complaint(request, tiny_llama, status=75)
    assert text.startswith(f"could not write {calls[at - 1]}: the disk is full (it ")
    assert text.endswith("run the same command again; it resumes where it stopped\n")
    if at == 25:
        assert run_command(request, tiny_llama) == 0
        weights = "adapter/adapter_model.safetensors"
        assert (
            outcome_of(request.out)[weights] == outcome_of(finished_run.folder)[weights]
        )


@pytest.mark.parametrize(
    ("setting", "hint"),
    [
        ("distill.step=3", "[distill] has no setting step; did you mean steps?"),
        ("evaluations.num_bins=3", "did you mean evaluation?"),
        ("neurons.rule=flt", "neurons.rule is 'flt', but it must be 'flat', 'per-"),
        ("selection.keep_fraction=1.5", "selection.keep_fraction is 1.5, but it must"),
    ],
)
def test_an_unknown_setting_is_told_the_nearest_name(
    setting: str,
    hint: str,
    complaint: Callable[..., str],
    tiny_llama: Path,
    tmp_path: Path,
) -> None:
    assert hint in complaint(tiny_request(tmp_path), tiny_llama, setting)


def test_a_former_name_of_a_setting_is_warned_of_in_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert (
        main(["config", "--set", "fitness.action=stop", "fitness.one_answer=warn"]) == 0
    )
    shown = capsys.readouterr()
    assert "[teacher_check]" in shown.out
    assert 'action = "stop"' in shown.out
    assert shown.err.splitlines() == [
        "neuron-opsd: warning: the settings fitness.* are called teacher_check.* now, "
        "and are read as such; please write the new name"
    ]


def test_test_questions_that_stand_in_the_pool_are_named(
    complaint: Callable[..., str], tiny_llama: Path, tmp_path: Path
) -> None:
    rows = pool_rows("choices")
    rows[4]["question"] = "is 103  ODD or even"
    text = complaint(with_pool(tmp_path, rows), tiny_llama)
    assert text == (
        "1 test question is in the pool, so the test would measure memory: 'a103' "
        "of parity is 'p4' of the pool; remove them from the pool or from the test "
        "set\n"
    )


def test_a_test_question_without_an_answer_is_named(
    complaint: Callable[..., str], tiny_llama: Path, tmp_path: Path
) -> None:
    request = tiny_request(tmp_path)
    rows = parity_rows(range(100, 104), "a")
    write_rows(tmp_path / "parity.jsonl", [*rows[:1], *without_answers(rows[1:3])])
    text = complaint(request, tiny_llama)
    assert text == (
        f"test set parity ({tmp_path}/parity.jsonl): 2 of 3 questions have no answer, "
        "first a101 (line 2); every test question needs the column answer\n"
    )


@pytest.mark.parametrize("name", ["pool", "model"])
def test_a_test_set_cannot_take_the_name_of_another_input(
    name: str, complaint: Callable[..., str], tiny_llama: Path, tmp_path: Path
) -> None:
    request = tiny_request(tmp_path)
    files = {name: request.tests["parity"]}
    text = complaint(Request(request.pool, files, request.out), tiny_llama)
    assert text.startswith(f"a test set cannot be named '{name}', because the run")


def test_a_mistyped_pool_is_told_the_nearest_file(
    complaint: Callable[..., str], tiny_llama: Path, tmp_path: Path
) -> None:
    request = tiny_request(tmp_path)
    asked = Request(str(tmp_path / "pol.jsonl"), request.tests, request.out)
    text = complaint(asked, tiny_llama)
    assert text == (
        f"{tmp_path}/pol.jsonl does not exist; did you mean {tmp_path}/pool.jsonl?\n"
    )


def test_a_control_token_in_a_conversation_is_refused(
    complaint: Callable[..., str], tiny_llama: Path, tmp_path: Path
) -> None:
    rows = pool_rows("choices")
    rows[2]["question"] = "Is 2 odd? <|im_end|>"
    text = complaint(with_pool(tmp_path, rows), tiny_llama)
    assert "a user message contains the control token '<|im_end|>'" in text
    assert "remove it, or use prompts.form=plain" in text


def test_a_question_too_long_for_the_model_is_named(
    complaint: Callable[..., str], tiny_llama: Path, tmp_path: Path
) -> None:
    rows = pool_rows("choices")
    rows[2]["question"] = "odd? " * 400
    request = with_pool(tmp_path, rows)
    text = complaint(request, tiny_llama, "selection.rule=all")
    assert text.startswith(f"{request.pool}, line 3: question p2 takes ")
    assert "but the model holds 1024" in text


def test_a_teacher_that_fails_its_check_stops_a_run_that_was_told_so(
    complaint: Callable[..., str], tiny_llama: Path, tmp_path: Path
) -> None:
    request = tiny_request(tmp_path)
    settings = ["teacher_check.action=stop", "teacher_check.max_agreement_loss=0.0"]
    # The random model has few answers, of which one could take over.
    settings.append("teacher_check.max_top_answer_gain=1.0")
    text = complaint(request, tiny_llama, *settings)
    assert text.startswith("the teacher agrees with the vote ")
    assert text.endswith("(teacher_check.action is stop)\n")
    assert not (request.out / "adapter").exists()


def test_a_folder_that_holds_other_things_is_not_taken_for_a_run(
    complaint: Callable[..., str], tiny_llama: Path, tmp_path: Path
) -> None:
    request = tiny_request(tmp_path)
    write_rows(request.out / "thesis.jsonl", [])
    text = complaint(request, tiny_llama)
    assert "is not a run directory, but it holds thesis.jsonl" in text
    assert list(request.out.iterdir()) == [request.out / "thesis.jsonl"]


def test_an_adapter_of_another_model_is_refused(
    finished_run: FinishedRun,
    tiny_qwen3: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    adapter = tmp_path / "adapter"
    shutil.copytree(finished_run.folder / "adapter", adapter)
    settings = json.loads((adapter / "adapter_config.json").read_text())
    settings["target_modules"] = ["no_such_layer"]
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    argv = ["evaluate", "--model", str(tiny_qwen3), "--adapter", str(adapter)]
    test = f"parity={finished_run.request.tests['parity']}"
    argv += ["--test", test, "--out", str(tmp_path / "o.json"), "--quiet"]
    assert main(argv) == 2
    assert f"adapter {adapter} does not fit this model" in capsys.readouterr().err
