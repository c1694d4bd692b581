"""Rows for TRL: what the run's teacher was shown, to the letter where that is possible.

`tests/exporting_trl` trains with them where TRL is installed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import neuron_opsd as no
from neuron_opsd.errors import ConfigError, DataError
from neuron_opsd.progress import Silent
from tiny_runs import (
    FinishedRun,
    tiny_config,
    tiny_request,
    tiny_run,
    write_rows,
)


def rows_of(
    run: FinishedRun, out: Path, **choices: Any
) -> tuple[list[dict[str, Any]], dict[str, Any], list[str]]:
    """Export a run's rows; return them, the settings and the warnings."""
    progress = Silent()
    choices = {"pool": run.request.pool} | choices
    no.export(run.folder, "trl", out, progress, **choices)
    lines = (out / "train.jsonl").read_text("utf-8").splitlines()
    settings = json.loads((out / "sdft.json").read_text("utf-8"))
    return [json.loads(line) for line in lines], settings, progress.warnings


def composed(row: dict[str, Any], template: str) -> str:
    """Return what TRL makes of a row whose prompt is a text."""
    text: str = template.format(
        prompt=row["prompt"], privileged_context=row["privileged_context"]
    )
    return text


def test_texts_give_the_very_prompts_that_the_run_showed(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    rows, settings, _ = rows_of(finished_run, tmp_path / "out")
    assert len(rows) == finished_run.data.num_selected
    template = settings["trainer"]["teacher_prompt_template"]
    by_id = {row["id"]: row for row in rows}
    for case in finished_run.data.cases:
        row = by_id[case.question_id]
        assert row["prompt"] == case.student_prompt
        assert row["teacher_prompt"] == case.teacher_prompt
        assert composed(row, template) == case.teacher_prompt
        assert row["privileged_context"]
    assert settings["trainer"]["max_prompt_length"] is None


def test_a_system_turn_keeps_demonstrations_in_the_last_one(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    model = Path(finished_run.config.model.name)
    config = tiny_config(model, "distill.steps=1", "prompts.system=Be brief.")
    run = tiny_run(tiny_request(tmp_path), config)
    rows, settings, warnings = rows_of(run, tmp_path / "out")
    assert any("into the last user turn" in text for text in warnings)
    for row in rows:
        assert [turn["role"] for turn in row["prompt"]] == ["system", "user"]
        assert row["privileged_context"].count("Question: ") == 2
        assert "Be brief." not in row["privileged_context"]
        for line in row["privileged_context"].splitlines():
            name, _, text = line.partition(": ")
            assert not text or name in {"Question", "Answer"}
            assert text in row["teacher_prompt"]
    trainer = settings["trainer"]
    assert trainer["teacher_prompt_template"] == "{privileged_context}\n\n{prompt}"


@pytest.mark.parametrize("system", ["", "Be brief."])
def test_every_context_of_a_question_has_a_row(
    system: str, finished_run: FinishedRun, tmp_path: Path
) -> None:
    model = Path(finished_run.config.model.name)
    config = tiny_config(
        model, "distill.steps=1", f"prompts.system={system}", "contexts.num_contexts=2"
    )
    run = tiny_run(tiny_request(tmp_path), config)
    rows, _, _ = rows_of(run, tmp_path / "out")
    assert len(rows) == 2 * run.data.num_selected
    contexts = {row["teacher_prompt"]: row["privileged_context"] for row in rows}
    assert len(contexts) == len(rows)
    for prompt, context in contexts.items():
        for line in context.splitlines():
            assert line.partition(": ")[2] in prompt
    firsts = {row["id"]: row for row in reversed(rows)}
    for case in run.data.cases:
        assert firsts[case.question_id]["teacher_prompt"] == case.teacher_prompt
        assert len(case.demonstrations) == config.contexts.num_demonstrations
        for shown in case.demonstrations:
            assert shown.question.splitlines()[-1] in case.teacher_prompt


@pytest.mark.parametrize("form", ["chat", "plain"])
def test_what_was_given_goes_back_as_it_came(
    form: str, finished_run: FinishedRun, tmp_path: Path
) -> None:
    rows = [
        {
            "id": f"g{n}",
            "prompt": [{"role": "user", "content": f"Is {n} odd?"}],
            "choices": ["yes", "no"],
            "privileged_context": f"Hint: look at the end of {n}.",
        }
        for n in range(20)
    ]
    model = Path(finished_run.config.model.name)
    told = ("contexts.rule=given", "contexts.num_demonstrations=1", "distill.steps=1")
    request = tiny_request(tmp_path)
    write_rows(tmp_path / "pool.jsonl", rows)
    run = tiny_run(request, tiny_config(model, f"prompts.form={form}", *told))
    made, settings, warnings = rows_of(run, tmp_path / "out")
    given = {row["id"]: row["privileged_context"] for row in rows}
    template = settings["trainer"]["teacher_prompt_template"]
    assert template == "{prompt}\n\n{privileged_context}"
    for row in made:
        assert row["privileged_context"] == given[row["id"]]
        asked = row["prompt"] if form == "plain" else row["prompt"][-1]["content"]
        told_so = composed(row | {"prompt": asked}, template)
        # A conversation's last turn is TRL's to make; a text ends with `Answer:`.
        assert (told_so in row["teacher_prompt"]) == (form == "chat")
    assert any("into the last user turn" in one for one in warnings) == (form != "chat")


def test_settings_mean_what_they_meant(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    model = Path(finished_run.config.model.name)
    config = tiny_config(
        model,
        *("distill.steps=1", "distill.divergence=forward-kl", "distill.top_k=7"),
        *("distill.teacher=periodic", "distill.teacher_period=3"),
    )
    _, settings, _ = rows_of(tiny_run(tiny_request(tmp_path), config), tmp_path / "out")
    trainer = settings["trainer"]
    assert trainer["distillation_alpha"] == 0.0
    assert (trainer["distillation_mode"], trainer["distillation_topk"]) == (
        *("topk_logits", 7),
    )
    assert trainer["teacher_model_kind"] == "ema"
    assert (trainer["teacher_update_rate"], trainer["teacher_sync_steps"]) == (1.0, 3)
    assert settings["adapter"]["r"] == config.distill.lora_rank


def test_the_pool_must_be_named_and_be_the_one(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="give it with --pool"):
        rows_of(finished_run, tmp_path / "a", pool="")
    other = [{"id": f"p{n}", "question": f"Is {n} big?"} for n in range(20)]
    file = write_rows(tmp_path / "other.jsonl", other)
    with pytest.raises(DataError, match="does not ask what the run was asked"):
        rows_of(finished_run, tmp_path / "b", pool=str(file))


def test_a_run_without_demonstrations_has_no_context(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    model = Path(finished_run.config.model.name)
    config = tiny_config(model, "method=ttrl", "distill.steps=1")
    run = tiny_run(tiny_request(tmp_path), config)
    with pytest.raises(ConfigError, match="there is no privileged context to write"):
        rows_of(run, tmp_path / "out")
