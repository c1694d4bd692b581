"""Whole runs on tiny models: what they leave, what changes them and what must not."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from neuron_opsd.cli import main
from neuron_opsd.config.tables import load_config
from neuron_opsd.errors import ConfigError
from neuron_opsd.method.calibration import METRICS
from neuron_opsd.models import probing as trial
from neuron_opsd.planning.estimate import estimate
from neuron_opsd.progress import Silent
from neuron_opsd.runs.context import QUIET_ANSWERS
from neuron_opsd.runs.run import Request, run
from neuron_opsd.runs.testing import evaluate
from neuron_opsd.storage.codecs import NEURONS, ROLLOUTS, SELECTION
from tiny_runs import (
    POOL_SIZE,
    SETTINGS,
    TEST_SIZES,
    FinishedRun,
    files_of,
    pool_rows,
    read_json,
    run_command,
    tiny_config,
    tiny_request,
    tiny_run,
    write_rows,
)

PROMISED = {
    "config.toml",
    "manifest.json",
    "rollouts.parquet",
    "neurons.parquet",
    "selection.json",
    "contexts.json",
    "teacher_check.json",
    "train/metrics.jsonl",
    "adapter/adapter_config.json",
    "adapter/adapter_model.safetensors",
    "adapter/README.md",
    "evaluation.json",
    "report.json",
    "report.html",
}

NAMES = {
    "avg_at_k",
    "maj_at_k",
    "ece",
    "adaptive_ece",
    "brier",
    "auroc",
    "overconfidence",
    "unanimity",
    "parse_failure",
    "truncation",
    "mean_length",
}

VARIANTS: dict[str, tuple[str, str, list[str]]] = {
    "free answers in a chat, forward KL, frozen teacher, greedy demonstrations": (
        "free",
        "chat",
        [
            "distill.divergence=forward-kl",
            "distill.teacher=frozen",
            "contexts.answer=greedy",
            "neurons.rule=per-token",
            "distill.schedule=linear",
        ],
    ),
    "free answers in plain form, JSD, live teacher, full tuning": (
        "free",
        "plain",
        [
            "distill.divergence=jsd",
            "distill.teacher=live",
            "distill.tuning=full",
            "distill.learning_rate=0.001",
            "neurons.rule=flat",
            "neurons.chunk_tokens=3",
            "contexts.rule=random",
        ],
    ),
    "choices in plain form, periodic teacher, voted demonstrations": (
        "choices",
        "plain",
        [
            "distill.teacher=periodic",
            "distill.teacher_period=2",
            "contexts.answer=voted",
            "contexts.source=selected",
            "neurons.value=gated",
            "prompts.list_choices=texts",
            "selection.rule=most-neurons",
            "evaluation.form_only=true",
        ],
    ),
    "letters of choices in a chat, full tuning, all questions": (
        "choices",
        "chat",
        [
            "prompts.list_choices=letters",
            "distill.tuning=full",
            "distill.learning_rate=0.001",
            "selection.rule=all",
            "distill.schedule=cosine",
            "teacher_check.action=off",
            "neurons.rule=neufs",
            "prompts.system='Answer.'",
        ],
    ),
    "choices that are answered freely, random selection, no demonstrations": (
        "choices",
        "plain",
        [
            "rollouts.mode=free",
            "selection.rule=random",
            "contexts.num_demonstrations=0",
            "distill.divergence=jsd",
            "distill.beta=0.0",
        ],
    ),
    "free answers with the form-only control": (
        "free",
        "plain",
        ["evaluation.form_only=true", "distill.steps=2", "evaluation.prompted=false"],
    ),
}


def model_of(form: str, tiny_llama: Path, tiny_llama_plain: Path) -> Path:
    return tiny_llama if form == "chat" else tiny_llama_plain


def test_a_run_leaves_every_promised_file(finished_run: FinishedRun) -> None:
    files = set(files_of(finished_run.folder))
    assert files >= PROMISED
    tests = {
        f"tests/{test}/{label}.parquet"
        for test in TEST_SIZES
        for label in ("before", "after", "form-only")
    }
    assert files >= tests | {"tests/parity/prompted.parquet"}
    assert "tests/sums/prompted.parquet" not in files
    assert not [name for name in files if name.startswith("parts/")]
    assert "controls/form-only/adapter/adapter_model.safetensors" in files


def test_the_evaluation_holds_the_promised_names(finished_run: FinishedRun) -> None:
    table = finished_run.evaluation()
    assert list(table) == ["parity", "sums"]
    assert set(METRICS) >= NAMES
    for name, size in TEST_SIZES.items():
        entry = table[name]
        assert entry["num_questions"] == size
        assert entry["domain"] == ("in" if name == "parity" else "cross")
        assert set(entry["before"]) == set(entry["after"]) == set(METRICS)
        for metric in NAMES:
            check_interval(entry["delta"][metric], entry, metric)
            assert set(entry["net_of_form"][metric]) == {"value", "low", "high"}
    assert set(table["parity"]["controls"]) == {"prompted", "form-only"}
    assert set(table["sums"]["controls"]) == {"form-only"}
    summary = read_json(finished_run.folder / "summary.json")
    assert summary["in_domain"] == "parity"
    assert "Avg@" in summary["outcome"]
    mean = summary["cross_domain_mean_delta"]["avg_at_k"]
    assert mean["value"] == pytest.approx(table["sums"]["delta"]["avg_at_k"]["value"])


def check_interval(delta: dict[str, float | None], entry: Any, metric: str) -> None:
    """Check one difference against the two measures that it is made of."""
    assert set(delta) == {"value", "low", "high"}
    before, after = entry["before"][metric], entry["after"][metric]
    if before is None or after is None:
        assert delta["value"] is None
        return
    value, low, high = delta["value"], delta["low"], delta["high"]
    assert value == pytest.approx(after - before)
    assert low is None or high is None or low <= high


def test_answers_among_choices_are_never_unread_or_cut(
    finished_run: FinishedRun,
) -> None:
    entry = finished_run.evaluation()["parity"]
    for label in ("before", "after"):
        assert entry[label]["parse_failure"] == entry[label]["truncation"] == 0.0


def test_a_run_without_a_test_set_trains_and_measures_nothing(
    tmp_path: Path, tiny_llama_plain: Path
) -> None:
    pool = write_rows(tmp_path / "pool.jsonl", pool_rows("choices"))
    request = Request(pool=str(pool), tests={}, out=tmp_path / "run")
    data = run(request, tiny_config(tiny_llama_plain, "distill.steps=2"), Silent())
    assert data.title == "Neuron-OPSD"
    assert "No test set was given" in (request.out / "report.html").read_text()
    assert (request.out / "adapter/adapter_model.safetensors").is_file()
    assert "No test set was given" in (request.out / "adapter/README.md").read_text()
    assert read_json(request.out / "evaluation.json") == {}
    planned = estimate(str(pool), {}, data.config, Silent())
    assert planned.seconds


def test_the_settings_of_a_run_can_be_read_back(finished_run: FinishedRun) -> None:
    read = load_config(finished_run.folder / "config.toml")
    asked_prompts = {"form": "auto", "list_choices": "auto"}
    switches = {"student_thinking": None, "teacher_thinking": None}
    prompts = read.prompts.model_copy(update=asked_prompts | switches)
    assert (read.prompts.form, read.prompts.list_choices) == ("chat", "no")
    assert read.prompts.student_thinking is False
    assert QUIET_ANSWERS in finished_run.warnings
    assert read.evaluation.in_domain == "parity"
    evaluation = read.evaluation.model_copy(update={"in_domain": ""})
    assert read.rollouts.mode == "constrained"
    rollouts = read.rollouts.model_copy(update={"mode": "auto"})
    assert read.contexts.answer == "greedy"  # where answers are chosen among choices
    contexts = read.contexts.model_copy(update={"answer": "first"})
    asked = {"prompts": prompts, "evaluation": evaluation, "rollouts": rollouts}
    asked |= {"contexts": contexts}
    assert read.model_copy(update=asked) == finished_run.config


def test_the_manifest_says_what_the_run_was_made_from(
    finished_run: FinishedRun,
) -> None:
    manifest = read_json(finished_run.folder / "manifest.json")
    assert set(manifest["inputs"]) == {"pool", "parity", "sums", "model"}
    assert manifest["settings"]["distill.steps"] == 4
    assert {"adapter", "controls/form-only/adapter"} < set(manifest["outputs"])
    assert manifest["facts"]["tokens"]["distillation"] > 0
    assert manifest["facts"]["seconds"]["distillation"] > 0
    costs = {cost.name: cost for cost in finished_run.data.stage_costs}
    assert costs["distillation"].seconds > 0
    assert costs["rollouts"].tokens > 0


def test_every_step_is_in_the_metrics(finished_run: FinishedRun) -> None:
    lines = (finished_run.folder / "train/metrics.jsonl").read_text().splitlines()
    metrics = [json.loads(line) for line in lines]
    assert [entry["step"] for entry in metrics] == [0, 1, 2, 3]
    assert all(math.isfinite(entry["loss"]) for entry in metrics)
    assert finished_run.data.training is not None
    assert finished_run.data.training.num_steps == 4


def test_the_pool_is_answered_chosen_from_and_taught(finished_run: FinishedRun) -> None:
    rollouts = ROLLOUTS.load(finished_run.folder / "rollouts.parquet")
    neurons = NEURONS.load(finished_run.folder / "neurons.parquet")
    assert len(rollouts) == 5 * POOL_SIZE  # four samples and the greedy answer
    assert [entry.question_id for entry in neurons] == [
        f"p{n}" for n in range(POOL_SIZE)
    ]
    selection = SELECTION.load(finished_run.folder / "selection.json")
    kept = {entry.question_id for entry in selection if entry.kept}
    assert len(kept) >= POOL_SIZE / 2
    contexts = read_json(finished_run.folder / "contexts.json")
    assert {context["question_id"] for context in contexts} == kept
    assert all(len(context["demonstrations"]) == 2 for context in contexts)


def test_the_report_shows_a_dozen_questions_at_most(finished_run: FinishedRun) -> None:
    cases = finished_run.data.cases
    assert 0 < len(cases) <= 12
    for case in cases:
        assert case.question in case.student_prompt
        assert case.teacher_prompt.endswith(case.student_prompt[-30:])
        assert len(case.demonstrations) == 2
        for demonstration in case.demonstrations:
            assert demonstration.question in case.teacher_prompt
        assert sum(answer.count for answer in case.rollouts_before) == 4
        assert sum(answer.count for answer in case.rollouts_after) == 4
    page = (finished_run.folder / "report.html").read_text("utf-8")
    assert cases[0].question in page


def test_the_command_does_what_the_library_does(
    finished_run: FinishedRun,
    tiny_llama: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    request = tiny_request(tmp_path)
    assert run_command(request, tiny_llama) == 0
    assert "no difference was seen" in capsys.readouterr().out
    weights = "adapter_model.safetensors"
    assert files_of(request.out / "adapter")[weights] == finished_run.adapter()[weights]
    table = read_json(request.out / "evaluation.json")
    for name in TEST_SIZES:
        for label in ("before", "after", "delta"):
            assert table[name][label] == finished_run.evaluation()[name][label]


@pytest.mark.parametrize("name", VARIANTS)
def test_every_way_of_running_ends(
    name: str, tiny_llama: Path, tiny_llama_plain: Path, tmp_path: Path
) -> None:
    kind, form, assignments = VARIANTS[name]
    model = model_of(form, tiny_llama, tiny_llama_plain)
    request = tiny_request(tmp_path, kind=kind)
    done = tiny_run(request, tiny_config(model, *assignments))
    training = done.data.training
    assert training is not None
    assert len(training.losses) == training.num_steps == done.config.distill.steps
    table = done.evaluation()
    assert all(0 <= table[test]["after"]["avg_at_k"] <= 1 for test in TEST_SIZES)
    whole = done.config.distill.tuning == "full"
    weights = "model.safetensors" if whole else "adapter_model.safetensors"
    assert weights in done.adapter()
    asked = done.data.config.prompts.form
    assert asked == form
    prompted = done.config.contexts.num_demonstrations > 0
    prompted &= done.config.evaluation.prompted
    assert ("prompted" in table[next(iter(request.tests))]["controls"]) == prompted


def test_a_run_says_when_it_cannot_share_prompts(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "decodes_alike", lambda _model: False)
    config = tiny_config(tiny_llama, "distill.steps=2")
    done = tiny_run(tiny_request(tmp_path), config)
    assert any("attention cannot be followed" in text for text in done.warnings)


def test_a_live_teacher_without_a_context_has_nothing_to_teach(
    tiny_llama: Path, tmp_path: Path
) -> None:
    config = tiny_config(
        tiny_llama,
        "contexts.num_demonstrations=0",
        "distill.teacher=live",
        "distill.steps=2",
    )
    done = tiny_run(tiny_request(tmp_path), config)
    assert done.data.training is not None
    assert all(abs(loss) < 1e-6 for _, loss in done.data.training.losses)
    assert done.data.teacher_check is None


def test_one_seed_gives_one_adapter_and_another_another(
    finished_run: FinishedRun, tiny_llama: Path, tmp_path: Path
) -> None:
    request = tiny_request(tmp_path)
    again = tiny_run(request, tiny_config(tiny_llama, "evaluation.form_only=true"))
    assert again.adapter() == finished_run.adapter()
    assert again.evaluation() == finished_run.evaluation()
    request = tiny_request(tmp_path, "other")
    other = tiny_run(request, tiny_config(tiny_llama, "seed=1"))
    weights = "adapter_model.safetensors"
    assert other.adapter()[weights] != again.adapter()[weights]


def test_the_same_call_on_a_finished_run_changes_no_file(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished_run.folder, out)
    before = files_of(out)
    request = tiny_request(tmp_path)
    again = tiny_run(request, finished_run.config)
    assert again.warnings == finished_run.warnings
    assert files_of(out) == before


def test_an_output_that_was_lost_or_changed_is_made_again(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished_run.folder, out)
    (out / "rollouts.parquet").unlink()
    (out / "adapter/adapter_model.safetensors").write_bytes(b"damaged")
    (out / "tests/parity/after.parquet").write_bytes(b"damaged")
    again = tiny_run(tiny_request(tmp_path), finished_run.config)
    assert again.evaluation() == finished_run.evaluation()
    weights = "adapter_model.safetensors"
    assert again.adapter()[weights] == finished_run.adapter()[weights]
    assert any("rollouts.parquet is gone" in text for text in again.warnings)
    changed = "after.parquet was changed or damaged"
    assert any(changed in text for text in again.warnings)


def test_other_settings_or_questions_are_refused_in_a_run_that_was_begun(
    finished_run: FinishedRun,
    tiny_llama: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished_run.folder, out)
    request = tiny_request(tmp_path)
    same = ["evaluation.form_only=true"]
    assert run_command(request, tiny_llama, [*same, "distill.steps=5"]) == 2
    assert "distill.steps was 4, now 5; resume with the old" in capsys.readouterr().err
    rows = Path(request.pool).read_text().replace("Is 3 ", "Is 33 ")
    Path(request.pool).write_text(rows)
    assert run_command(request, tiny_llama, same) == 2
    assert "pool was changed; give the old files" in capsys.readouterr().err
    assert files_of(out) == files_of(finished_run.folder)


def test_evaluate_gives_the_numbers_of_the_run(
    finished_run: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = finished_run.config.model.name
    tests = [f"{name}={file}" for name, file in finished_run.request.tests.items()]
    out = tmp_path / "metrics.json"
    argv = ["evaluate", "--model", model, "--test", *tests, "--out", str(out)]
    argv += ["--set", *SETTINGS, "--quiet"]
    adapter = str(finished_run.folder / "adapter")
    table = finished_run.evaluation()
    for label, flags in {"before": [], "after": ["--adapter", adapter]}.items():
        assert main([*argv, *flags, "--json"]) == 0
        shown = json.loads(capsys.readouterr().out)
        assert shown == read_json(out)
        assert shown == {name: table[name][label] for name in TEST_SIZES}


def test_evaluate_tests_a_model_that_was_tuned_as_a_whole(
    tiny_llama_plain: Path, tmp_path: Path
) -> None:
    assignments = ["distill.tuning=full", "distill.learning_rate=0.001"]
    request = tiny_request(tmp_path)
    done = tiny_run(request, tiny_config(tiny_llama_plain, *assignments))
    found = evaluate(
        request.tests, done.config, None, Silent(), request.out / "adapter"
    )
    table = done.evaluation()
    assert found == {name: table[name]["after"] for name in TEST_SIZES}


def test_another_in_domain_set_can_be_named(tiny_llama: Path, tmp_path: Path) -> None:
    request = tiny_request(tmp_path)
    settings = ["evaluation.in_domain=sums", "distill.steps=1"]
    done = tiny_run(request, tiny_config(tiny_llama, *settings))
    assert done.data.title == "Neuron-OPSD on sums"
    assert done.evaluation()["sums"]["domain"] == "in"
    other = tiny_config(tiny_llama, "evaluation.in_domain=none")
    with pytest.raises(ConfigError, match="in_domain is 'none', but the test sets are"):
        tiny_run(request, other)
